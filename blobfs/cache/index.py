"""Know which blocks lie where on disk: the rows in LMDB behind the segment files.

Tables (integers big-endian):
    blocks    block id -> segment u32, offset u32, length u32, XXH3-64 u64
    places    segment u32, offset u32 -> block id: what a segment holds, for its eviction
    segments  segment u32 -> committed end u64
    meta      b"format" -> version

A block that was written twice leaves a row in `places` that its row in `blocks` does not
point back to; such rows are ignored. Nothing is ever scanned but `segments`, at open: the
number of segments is bounded.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NewType

from blobfs.cache.segments import padded_bytes
from blobfs.database import Database, Reader, Writer
from blobfs.errors import Damaged
from blobfs.model.coalesce import Place

BlockId = NewType("BlockId", bytes)
"""What names a block, chosen by the caller: equal ids mean equal bytes, for ever."""

TABLES = ("blocks", "places", "segments", "meta")
FORMAT = b"1"

_ROW = struct.Struct(">IIIQ")
_SPOT = struct.Struct(">II")
_NUMBER = struct.Struct(">I")
_END = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Held:
    """One block of a segment that is still the valid copy of its id."""

    block: BlockId
    place: Place


class Index:
    """The rows, and the segments' ends in memory.

    Concurrency: the ends change only where the one writing task commits.
    """

    def __init__(self, database: Database, ends: dict[int, int]) -> None:
        self._database = database
        self._ends = ends
        self._used_bytes = sum(ends.values())

    @property
    def used_bytes(self) -> int:
        """Bytes of all segments, dropped blocks and padding included."""
        return self._used_bytes

    @property
    def segments(self) -> frozenset[int]:
        return frozenset(self._ends)

    @property
    def oldest(self) -> int:
        return min(self._ends)

    @property
    def last(self) -> tuple[int, int]:
        """The newest segment and its committed end; (0, 0) before the first one."""
        newest = max(self._ends, default=0)
        return newest, self._ends.get(newest, 0)

    def find(self, blocks: Iterable[BlockId]) -> list[Place | None]:
        """Return where each block lies, None where it is not on disk."""
        with self._database.read() as reader:
            return [_place(reader.get("blocks", block)) for block in blocks]

    def lengths(self, start: BlockId, stop: BlockId, at_most: int) -> list[tuple[BlockId, int]]:
        """Return ids and lengths of the first `at_most` blocks in [`start`, `stop`)."""
        found: list[tuple[BlockId, int]] = []
        with self._database.read() as reader:
            for key, row in reader.range("blocks", start, stop):
                found.append((BlockId(key), _unpacked(_ROW, row)[2]))
                if len(found) == at_most:
                    break
        return found

    def held(self, segment: int) -> list[Held]:
        """Return the blocks of `segment` that are valid, in order of their place."""
        with self._database.read() as reader:
            return list(_held(reader, segment))

    async def add(self, blocks: Sequence[BlockId], places: Sequence[Place]) -> None:
        """Commit `blocks`, whose bytes lie at `places` already."""
        ends = padded_bytes(places)
        await self._database.write(lambda writer: _add(writer, blocks, places, ends))
        self._note(ends)

    async def drop(self, blocks: Sequence[BlockId], places: Sequence[Place]) -> None:
        """Forget `blocks`, where they still lie at `places`."""
        await self._database.write(lambda writer: _drop(writer, blocks, places))

    async def evict(self, segment: int, kept: Sequence[BlockId], moved_to: Sequence[Place]) -> None:
        """Forget all of `segment`, but for the `kept` blocks, which lie at `moved_to` as well."""
        ends = padded_bytes(moved_to)

        def change(writer: Writer) -> None:
            for held in list(_held(writer, segment)):
                writer.delete("blocks", held.block)
            writer.delete_range("places", _NUMBER.pack(segment), _NUMBER.pack(segment + 1))
            writer.delete("segments", _NUMBER.pack(segment))
            _add(writer, kept, moved_to, ends)

        await self._database.write(change)
        self._used_bytes -= self._ends.pop(segment)
        self._note(ends)

    def _note(self, ends: dict[int, int]) -> None:
        for segment, end in ends.items():
            self._used_bytes += end - self._ends.get(segment, 0)
            self._ends[segment] = end


async def load_index(database: Database) -> Index:
    """Return the index that `database` holds.

    Raises:
        Damaged: it is of another format.
    """
    await database.write(_stamp)
    with database.read() as reader:
        ends = {
            _unpacked(_NUMBER, key)[0]: _unpacked(_END, value)[0]
            for key, value in reader.range("segments")
        }
    return Index(database, ends)


def _stamp(writer: Writer) -> None:
    found = writer.get("meta", b"format")
    if found is None:
        writer.put("meta", b"format", FORMAT)
    elif found != FORMAT:
        raise Damaged(f"cache index has another format. expected={FORMAT!r} found={found!r}")


def _place(row: bytes | None) -> Place | None:
    return None if row is None else Place(*_unpacked(_ROW, row))


def _held(reader: Reader, segment: int) -> Iterator[Held]:
    start, stop = _NUMBER.pack(segment), _NUMBER.pack(segment + 1)
    for spot, block in reader.range("places", start, stop):
        place = _place(reader.get("blocks", block))
        if place is not None and _SPOT.pack(place.segment, place.offset) == spot:
            yield Held(BlockId(block), place)


def _add(
    writer: Writer, blocks: Sequence[BlockId], places: Sequence[Place], ends: dict[int, int]
) -> None:
    for block, place in zip(blocks, places, strict=True):
        row = _ROW.pack(place.segment, place.offset, place.length, place.checksum)
        writer.put("blocks", block, row)
        writer.put("places", _SPOT.pack(place.segment, place.offset), block)
    for segment, end in ends.items():
        writer.put("segments", _NUMBER.pack(segment), _END.pack(end))


def _drop(writer: Writer, blocks: Sequence[BlockId], places: Sequence[Place]) -> None:
    for block, place in zip(blocks, places, strict=True):
        if _place(writer.get("blocks", block)) == place:
            writer.delete("blocks", block)
            writer.delete("places", _SPOT.pack(place.segment, place.offset))


def _unpacked(row: struct.Struct, data: bytes) -> tuple[int, ...]:
    try:
        return row.unpack(data)
    except struct.error as error:
        raise Damaged(f"a row of the cache index is damaged: {error}") from error
