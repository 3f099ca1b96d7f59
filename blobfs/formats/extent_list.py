"""Spell a part of a long list of extents: the plain bytes of a chunk that a file's row names.

A part stands for itself, with its own table of packs, so a part that a change of the file left
alone keeps its bytes and is not stored again.

    [version, [pack name, ...], [extent, ...]]          MessagePack; extents as in `formats.wire`
"""

from collections.abc import Sequence

import msgspec

from blobfs.errors import BlobfsError
from blobfs.formats.chunk import Buffer
from blobfs.formats.refusal import damaged, newer
from blobfs.formats.rows import Extent, PackNameField
from blobfs.formats.wire import (
    Malformed,
    WireExtent,
    decode_anything,
    number_packs,
    read_extent,
    spell_extent,
)
from blobfs.types import MIB, PackName

VERSION = 1

MOST_PART_BYTES = 1 * MIB
"""Of a part's plain bytes: about 20,000 extents."""

_WHAT = "extent list"


class _Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    packs: tuple[PackNameField, ...]
    extents: tuple[WireExtent, ...]


_PART = msgspec.msgpack.Decoder(_Part)


def encode_extent_list(extents: Sequence[Extent]) -> bytes:
    """Return the plain bytes of a part that holds these extents.

    Raises ValueError when they are too many, or no reader would take them.
    """
    names = tuple(dict.fromkeys(extent.pack for extent in extents if not extent.is_hole))
    numbers = number_packs(names)
    wire = tuple(spell_extent(extent, numbers) for extent in extents)
    data = msgspec.msgpack.encode(_Part(VERSION, names, wire))
    if _read(data) != tuple(extents):
        raise ValueError(f"extents would not be read as they are. extents={len(extents)}")
    return data


def decode_extent_list(data: Buffer, *, covered_bytes: int, key: str) -> tuple[Extent, ...]:
    """Return the extents of a part that covers `covered_bytes` of its file.

    `data` was verified as a chunk, so what is not understood is newer. Raises Damaged,
    Unsupported; `key` says whose list it is.
    """
    try:
        extents = _read(data)
    except (ValueError, RecursionError) as error:
        raise _refusal(data, error, key) from error
    covered = sum(extent.length_bytes for extent in extents)
    if covered != covered_bytes:
        raise damaged(_WHAT, f"it covers {covered} bytes, wanted {covered_bytes}", key)
    return extents


def _read(data: Buffer) -> tuple[Extent, ...]:
    if len(data) > MOST_PART_BYTES:
        raise Malformed(f"{len(data)} bytes are too many")
    part = _PART.decode(data)
    if part.version != VERSION:
        raise Malformed(f"version {part.version}")
    names: tuple[PackName, ...] = part.packs
    return tuple(read_extent(wire, names) for wire in part.extents)


def _refusal(data: Buffer, error: Exception, key: str) -> BlobfsError:
    """Tell a newer version from damage."""
    part = decode_anything(data, MOST_PART_BYTES)
    if isinstance(part, list) and part and isinstance(part[0], int) and part[0] > VERSION:
        return newer(_WHAT, f"version {part[0]}", key)
    return damaged(_WHAT, str(error), key)
