"""Spell the blocks of a checkpoint: the plain bytes of chunks that hold rows, or name other blocks.

The rows of a table, in the order of their keys, lie in blocks of some ten KiB; so a reader fetches
those that it needs, and a new checkpoint names those that did not change again. A block of
level 0 holds rows, one of a higher level refers to blocks of lower ones:

    [version, [[key, row], ...]]
    [version, [pack name, ...], [ref, ...]]        MessagePack

    ref:  [level, first key, last key, rows, chunk]

A ref says what it covers: no row of its table lies between its first and its last key but in
that block, and none between two neighbours. So a key that no ref covers is known to be absent.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from blobfs.errors import BlobfsError
from blobfs.formats.chunk import Buffer
from blobfs.formats.refusal import damaged, newer
from blobfs.formats.rows import MOST_CHUNK_BYTES, Extent, PackNameField
from blobfs.formats.tables import CountField, Row, Table, row_check
from blobfs.formats.wire import Malformed, WireChunk, number_packs, read_chunk, spell_chunk
from blobfs.types import MIB, PackName

VERSION = 1

MOST_REFS = 1024
"""In a block of them."""

MOST_REFS_BYTES = 1 * MIB
"""Of the plain bytes of a block of refs; one of rows is bounded as a chunk."""

MOST_LEVEL = 15

MOST_KEY_BYTES = 510
"""Of a row's key: what a table on the local disk takes."""

RowKeyField = Annotated[bytes, Meta(min_length=8, max_length=MOST_KEY_BYTES)]
LevelField = Annotated[int, Meta(ge=0, le=MOST_LEVEL)]


class BlockRef(msgspec.Struct, frozen=True, array_like=True):
    """Where a block lies, and what it covers: all rows from key `first` to `last`, inclusive."""

    level: int
    """0: it holds rows; n: it holds refs of lower levels."""
    first: bytes
    last: bytes
    rows: int
    """In it, or in all blocks below it."""
    chunk: Extent


class WireRef(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A ref whose pack is a number in a table of packs."""

    level: LevelField
    first: RowKeyField
    last: RowKeyField
    rows: CountField
    chunk: WireChunk


class _RowBlock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    rows: list[tuple[bytes, bytes]]


class _RefBlock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    packs: tuple[PackNameField, ...]
    refs: tuple[WireRef, ...]


_ROW_BLOCK = msgspec.msgpack.Decoder(_RowBlock)
_REF_BLOCK = msgspec.msgpack.Decoder(_RefBlock)


class Leaf(msgspec.Struct, frozen=True):
    """The rows of a block, as bytes, and what each says."""

    rows: list[Row]
    values: list[Any]
    """In the order of `rows`: InodeRow, DirentRow, Seq, ClientState or GrantedRange."""


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Return the plain bytes of a block with these rows.

    Raises ValueError when no reader would take them.
    """
    check_order([key for key, _ in rows])
    data = msgspec.msgpack.encode((VERSION, rows))
    if not rows or len(data) > MOST_CHUNK_BYTES:
        raise ValueError(f"rows do not make a block. rows={len(rows)} length={len(data)}")
    return data


def decode_rows(data: Buffer, *, table: Table, ref: BlockRef, key: str) -> Leaf:
    """Return the rows of the block of level 0 that `ref` names.

    `data` was verified as its chunk. Raises Damaged, Unsupported; `key` is the checkpoint's.
    """
    try:
        block = _ROW_BLOCK.decode(data)
        _check_version(block.version)
        leaf = check_rows(table, block.rows)
        _check_covered(ref, block.rows[0][0], block.rows[-1][0], len(block.rows))
    except (ValueError, IndexError, RecursionError) as error:
        raise _refusal("block of rows", data, error, key) from error
    return leaf


def encode_refs(refs: Sequence[BlockRef]) -> bytes:
    """Return the plain bytes of a block with these refs.

    Raises ValueError when no reader would take them.
    """
    names = tuple(dict.fromkeys(ref.chunk.pack for ref in refs))
    data = msgspec.msgpack.encode(_RefBlock(VERSION, names, spell_refs(refs, names)))
    if _read_refs(data) != tuple(refs):
        raise ValueError(f"refs would not be read as they are. refs={len(refs)}")
    return data


def decode_refs(data: Buffer, *, ref: BlockRef, key: str) -> tuple[BlockRef, ...]:
    """Return what lies below the block of refs that `ref` names, in order.

    `data` was verified as its chunk. Raises Damaged, Unsupported; `key` is the checkpoint's.
    """
    try:
        refs = _read_refs(data)
        _check_covered(ref, refs[0].first, refs[-1].last, sum(each.rows for each in refs))
        if max(each.level for each in refs) >= ref.level:
            raise Malformed("a block lies as high as the one that it lies below")
    except (ValueError, IndexError, RecursionError) as error:
        raise _refusal("block of refs", data, error, key) from error
    return refs


def spell_refs(refs: Iterable[BlockRef], packs: Sequence[PackName]) -> tuple[WireRef, ...]:
    """Return what the encoder takes. Raises ValueError when `packs` lacks one."""
    numbers = number_packs(packs)
    return tuple(
        WireRef(ref.level, ref.first, ref.last, ref.rows, spell_chunk(ref.chunk, numbers))
        for ref in refs
    )


def read_refs(wire: Sequence[WireRef], packs: Sequence[PackName]) -> tuple[BlockRef, ...]:
    """Return refs that follow each other. Raises Malformed."""
    check_order([key for ref in wire for key in _ends(ref)])
    return tuple(
        BlockRef(ref.level, ref.first, ref.last, ref.rows, read_chunk(ref.chunk, packs))
        for ref in wire
    )


def check_rows(table: Table, rows: list[Row]) -> Leaf:
    """Return rows and their values, once it is sure that they may stand in that table.

    Raises Malformed, and other ValueErrors, for what no writer writes.
    """
    check_order([key for key, _ in rows])
    check = row_check(table)
    return Leaf(rows, [check(key, row) for key, row in rows])


def check_order(keys: Sequence[bytes]) -> None:
    """Raises Malformed unless each key is greater than the one before."""
    for one, other in pairwise(keys):
        if one >= other:
            raise Malformed(f"keys are not in order. one={one.hex()} next={other.hex()}")


def _ends(ref: WireRef) -> tuple[bytes, ...]:
    return (ref.first,) if ref.first == ref.last else (ref.first, ref.last)


def _read_refs(data: Buffer) -> tuple[BlockRef, ...]:
    if len(data) > MOST_REFS_BYTES:
        raise Malformed(f"{len(data)} bytes are too many")
    block = _REF_BLOCK.decode(data)
    _check_version(block.version)
    if not 1 <= len(block.refs) <= MOST_REFS:
        raise Malformed(f"{len(block.refs)} refs do not make a block")
    return read_refs(block.refs, block.packs)


def _check_covered(ref: BlockRef, first: bytes, last: bytes, rows: int) -> None:
    if (ref.first, ref.last, ref.rows) != (first, last, rows):
        raise Malformed(
            f"it covers {rows} rows from {first.hex()} to {last.hex()}, not {ref.rows} "
            f"from {ref.first.hex()} to {ref.last.hex()}"
        )


def _check_version(version: int) -> None:
    if version != VERSION:
        raise Malformed(f"version {version}")


def _refusal(what: str, data: Buffer, error: Exception, key: str) -> BlobfsError:
    """Tell a newer version from damage. Chunks are verified, so what is unknown is newer."""
    version = _version_of(data)
    if version is not None and version > VERSION:
        return newer(what, f"version {version}", key)
    return damaged(what, str(error), key)


def _version_of(data: Buffer) -> int | None:
    try:
        block = msgspec.msgpack.decode(data, type=list[Any])
    except (ValueError, RecursionError):
        return None
    return block[0] if block and isinstance(block[0], int) else None
