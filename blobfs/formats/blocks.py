"""Cut lists that are too long for an entry into blocks, the plain bytes of chunks (L7).

Each block is decoded alone, so that an entry of millions of operations takes the memory of one
block. Operations number packs across the whole table: those in the entry, then those in its
blocks of packs.

    [version, [operation, ...]]          MessagePack, as in an entry
    [version, [[pack name, brought bytes], ...]]
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from blobfs.errors import BlobfsError
from blobfs.formats.chunk import Buffer
from blobfs.formats.commit import Operation, UsedPack
from blobfs.formats.operations import (
    WireOperation,
    read_operations,
    spell_operations,
    unknown_operation,
)
from blobfs.formats.refusal import damaged, newer
from blobfs.formats.wire import Malformed, decode_anything
from blobfs.types import MIB, PackName

VERSION = 1

MOST_BLOCK_BYTES = 1 * MIB
"""Of a block's plain bytes."""

_OPERATIONS_IN_A_BLOCK = 4096
_PACKS_IN_A_BLOCK = 16384

Item = TypeVar("Item")


class _OperationBlock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    operations: tuple[WireOperation, ...]


class _PackBlock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    packs: tuple[UsedPack, ...]


_OPERATION_BLOCK = msgspec.msgpack.Decoder(_OperationBlock)
_PACK_BLOCK = msgspec.msgpack.Decoder(_PackBlock)


def encode_operation_blocks(
    operations: Sequence[Operation], packs: Sequence[PackName]
) -> list[bytes]:
    """Return the blocks that together hold `operations`, whose packs are all in `packs`.

    Raises ValueError when no reader would take them.
    """

    def encode(some: Sequence[Operation]) -> bytes:
        return msgspec.msgpack.encode(
            _OperationBlock(VERSION, tuple(spell_operations(some, packs)))
        )

    blocks = _cut(operations, _OPERATIONS_IN_A_BLOCK, encode)
    if [op for block in blocks for op in _read_operations(block, packs)] != list(operations):
        raise ValueError(f"operations would not be read as they are. count={len(operations)}")
    return blocks


def decode_operation_block(
    data: Buffer, *, packs: Sequence[PackName], key: str
) -> tuple[Operation, ...]:
    """Return the operations of a block; `data` was verified as a chunk, `key` is the entry's.

    Raises Damaged, Unsupported.
    """
    try:
        return _read_operations(data, packs)
    except (ValueError, RecursionError) as error:
        raise _refusal("block of operations", data, error, key) from error


def encode_pack_blocks(packs: Sequence[UsedPack]) -> list[bytes]:
    """Return the blocks that together hold `packs`. Raises ValueError if none would be read."""
    blocks = _cut(packs, _PACKS_IN_A_BLOCK, lambda some: msgspec.msgpack.encode((VERSION, some)))
    if [pack for block in blocks for pack in _read_packs(block)] != list(packs):
        raise ValueError(f"packs would not be read as they are. count={len(packs)}")
    return blocks


def decode_pack_block(data: Buffer, *, key: str) -> tuple[UsedPack, ...]:
    """Return the packs of a block; `data` was verified as a chunk, `key` is the entry's.

    Raises Damaged, Unsupported.
    """
    try:
        return _read_packs(data)
    except (ValueError, RecursionError) as error:
        raise _refusal("block of packs", data, error, key) from error


def _cut(
    items: Sequence[Item], at_most: int, encode: Callable[[Sequence[Item]], bytes]
) -> list[bytes]:
    """Encode in runs of `at_most`, halving those that would be too long."""
    if len(items) <= at_most:
        block = encode(items)
        if len(block) <= MOST_BLOCK_BYTES:
            return [block]
        if len(items) == 1:
            raise ValueError(f"one item alone is too long for a block. length={len(block)}")
    half = at_most if len(items) > at_most else len(items) // 2
    runs = (items[at : at + half] for at in range(0, len(items), half))
    return [block for run in runs for block in _cut(run, at_most, encode)]


def _read_operations(data: Buffer, packs: Sequence[PackName]) -> tuple[Operation, ...]:
    block = _OPERATION_BLOCK.decode(_bounded(data))
    _check_version(block.version)
    return read_operations(block.operations, packs)


def _read_packs(data: Buffer) -> tuple[UsedPack, ...]:
    block = _PACK_BLOCK.decode(_bounded(data))
    _check_version(block.version)
    return block.packs


def _bounded(data: Buffer) -> Buffer:
    if len(data) > MOST_BLOCK_BYTES:
        raise Malformed(f"{len(data)} bytes are too many")
    return data


def _check_version(version: int) -> None:
    if version != VERSION:
        raise Malformed(f"version {version}")


def _refusal(what: str, data: Buffer, error: Exception, key: str) -> BlobfsError:
    """Tell a newer version from damage. Chunks are verified, so what is unknown is newer."""
    block = decode_anything(data, MOST_BLOCK_BYTES)
    if isinstance(block, list) and block and isinstance(block[0], int) and block[0] > VERSION:
        return newer(what, f"version {block[0]}", key)
    unknown = unknown_operation(block[1]) if isinstance(block, list) and len(block) > 1 else None
    return newer(what, unknown, key) if unknown else damaged(what, str(error), key)
