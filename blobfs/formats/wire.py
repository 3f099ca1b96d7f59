"""Spell extents with numbers in place of packs' names, and check what they claim.

A name of 40 bytes for each chunk would double what a commit weighs. So whatever holds extents
also holds a table of packs, and an extent gives a place in that table. A hole is spelled as its
length alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from blobfs.formats.chunk import Buffer
from blobfs.formats.rows import (
    MOST_INLINE_BYTES,
    MOST_PACK_BYTES,
    ChunkBytesField,
    ChunkIdField,
    Extent,
    ExtentList,
    Extents,
    FileContent,
    Inline,
    KeyField,
    ListPart,
    Native,
    SizeField,
    VersionField,
)
from blobfs.types import PackName

HoleField = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
NumberField = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
OffsetField = Annotated[int, Meta(ge=0, le=MOST_PACK_BYTES)]
InlineField = Annotated[bytes, Meta(max_length=MOST_INLINE_BYTES)]


class Malformed(ValueError):
    """Values that fit the types, and yet cannot be right."""


class WireChunk(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """An extent that is a chunk."""

    length_bytes: ChunkBytesField
    chunk: ChunkIdField
    pack: NumberField
    offset: OffsetField
    stored_bytes: ChunkBytesField


WireExtent = WireChunk | HoleField


class WirePart(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A part of a long list of extents."""

    covered_bytes: HoleField
    chunk: WireChunk


class WireInline(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    data: InlineField


class WireExtents(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    extents: tuple[WireExtent, ...]


class WireList(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    parts: tuple[WirePart, ...]


class WireNative(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    key: KeyField
    size_bytes: SizeField
    version: VersionField


WireContent = WireInline | WireExtents | WireList | WireNative

CONTENT_FIELDS = {1: 2, 2: 2, 3: 2, 4: 4}
"""How many elements each kind of content has, its tag included."""


def number_packs(names: Iterable[PackName]) -> dict[PackName, int]:
    """Return the place of each pack in a table of them."""
    return {name: number for number, name in enumerate(names)}


def spell_extent(extent: Extent, numbers: Mapping[PackName, int]) -> WireExtent:
    """Raises ValueError when the table lacks the pack."""
    return extent.length_bytes if extent.is_hole else spell_chunk(extent, numbers)


def spell_chunk(extent: Extent, numbers: Mapping[PackName, int]) -> WireChunk:
    """Raises ValueError when the table lacks the pack."""
    if extent.pack not in numbers:
        raise ValueError(f"pack is not listed. pack={extent.pack.hex()}")
    return WireChunk(
        extent.length_bytes,
        extent.chunk,
        numbers[extent.pack],
        extent.offset,
        extent.stored_bytes,
    )


def spell_content(content: FileContent, numbers: Mapping[PackName, int]) -> WireContent:
    """Raises ValueError when the table lacks a pack."""
    match content:
        case Inline(data):
            return WireInline(data)
        case Extents(extents):
            return WireExtents(tuple(spell_extent(extent, numbers) for extent in extents))
        case ExtentList(parts):
            return WireList(
                tuple(WirePart(p.covered_bytes, spell_chunk(p.chunk, numbers)) for p in parts)
            )
        case Native(key, size_bytes, version):
            return WireNative(key, size_bytes, version)


def read_extent(wire: WireExtent, packs: Sequence[PackName]) -> Extent:
    """Raises Malformed."""
    return Extent(wire) if isinstance(wire, int) else read_chunk(wire, packs)


def read_chunk(wire: WireChunk, packs: Sequence[PackName]) -> Extent:
    """Raises Malformed."""
    if wire.stored_bytes > wire.length_bytes:
        raise Malformed(f"{wire.stored_bytes} stored bytes for {wire.length_bytes} plain ones")
    if wire.offset + wire.stored_bytes > MOST_PACK_BYTES:
        raise Malformed(f"a chunk at {wire.offset} lies outside of any pack")
    if wire.pack >= len(packs):
        raise Malformed(f"pack number {wire.pack} of {len(packs)}")
    return Extent(wire.length_bytes, wire.chunk, packs[wire.pack], wire.offset, wire.stored_bytes)


def read_content(wire: WireContent, size_bytes: int, packs: Sequence[PackName]) -> FileContent:
    """Raises Malformed, also when the content is not of `size_bytes`."""
    content = _read_content(wire, packs)
    covered = covered_bytes(content)
    if covered != size_bytes:
        raise Malformed(f"content of {covered} bytes in a file of {size_bytes}")
    return content


def covered_bytes(content: FileContent) -> int:
    """Return of how large a file this is the content."""
    # A million of these are asked when a large volume is walked through: the most frequent first.
    if isinstance(content, Extents):
        return sum([extent.length_bytes for extent in content.extents])
    if isinstance(content, Inline):
        return len(content.data)
    if isinstance(content, Native):
        return content.size_bytes
    return sum(part.covered_bytes for part in content.parts)


def _read_content(wire: WireContent, packs: Sequence[PackName]) -> FileContent:
    match wire:
        case WireInline(data):
            return Inline(data)
        case WireExtents(extents):
            return Extents(tuple(read_extent(extent, packs) for extent in extents))
        case WireList(parts):
            return ExtentList(
                tuple(ListPart(p.covered_bytes, read_chunk(p.chunk, packs)) for p in parts)
            )
        case WireNative(key, size_bytes, version):
            return Native(key, size_bytes, version)


def decode_anything(data: Buffer, most_bytes: int) -> Any:
    """Return whatever MessagePack `data` is, None if none that is fit to be looked at.

    For telling a newer version from damage, after the proper decoder refused.
    """
    if len(data) > most_bytes:
        return None
    try:
        return msgspec.msgpack.decode(data)
    except (ValueError, RecursionError):
        return None
