"""Decide which chunks of a file have to be made anew, and which stay. Pure: values in, values out.

How content is cut is the writer's policy and not the format's: chunks are aligned to multiples of
a size that the file's own size chooses. So a small change costs one chunk, a large file a bounded
number of them, and equal data at equal offsets is found again.

A *layout* says what is known of a file: extents one behind the other, from its first byte to its
last. Where bytes were written since, the layout no longer describes them; whatever chunk they
touch is made anew. Extents of any other cut, made by other writers or when the file was smaller,
stay as long as nobody writes into them.
"""

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from blobfs.formats.rows import Extent
from blobfs.types import GIB, KIB, MIB, ByteRange

SMALLEST_CHUNK_BYTES = 256 * KIB
"""Files up to this size are one chunk."""

_CHUNK_BYTES = ((256 * MIB, SMALLEST_CHUNK_BYTES), (8 * GIB, MIB))
_LARGEST_CHUNK_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Placed:
    """An extent, and the offset in the file where it begins."""

    start: int
    extent: Extent

    @property
    def stop(self) -> int:
        return self.start + self.extent.length_bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What a file's content will be: extents that stay, and spans to make one chunk of each.

    Together they are the file, without a gap, in order.
    """

    pieces: tuple[Extent | ByteRange, ...]

    @property
    def spans(self) -> Iterator[ByteRange]:
        """The spans to make chunks of."""
        return (piece for piece in self.pieces if isinstance(piece, ByteRange))

    @property
    def new_bytes(self) -> int:
        return sum(map(len, self.spans))


def chunk_bytes(size_bytes: int) -> int:
    """Return the size of the chunks of a file of `size_bytes`."""
    for below, size in _CHUNK_BYTES:
        if size_bytes < below:
            return size
    return _LARGEST_CHUNK_BYTES


def plan_content(
    *,
    size_bytes: int,
    base: Sequence[Extent],
    base_limit_bytes: int,
    changed: Iterable[ByteRange],
    staged: Iterable[Placed] = (),
) -> Plan:
    """Return how to save a file of `size_bytes`.

    `base` is the committed content, of which nothing is left from `base_limit_bytes` on;
    `changed` are the spans written since, in any order. `staged` are chunks of them that were made
    and uploaded meanwhile, and whose bytes did not change since then.
    What is neither in the base nor changed is zeros.
    """
    layout = cut(base, min(base_limit_bytes, size_bytes))
    below = layout[-1].stop if layout else 0
    torn = _torn(base, below, min(base_limit_bytes, size_bytes))
    layout += _hole(below, size_bytes)
    fresh = [each for each in staged if each.stop <= size_bytes]
    layout, exposed = lay_over(layout, fresh)
    dirty = subtract(_clamped(changed, size_bytes), (ByteRange(p.start, p.stop) for p in fresh))
    return _plan(layout, _merged([*dirty, *torn, *exposed]), size_bytes)


def cells_within(spans: Iterable[ByteRange], size_bytes: int) -> list[ByteRange]:
    """Return the aligned chunks that lie wholly inside `spans`.

    They are what can be staged of a file of `size_bytes` that is still being written: a chunk of
    which only a part was written yet would be made twice.
    """
    cell = chunk_bytes(size_bytes)
    found: list[ByteRange] = []
    for span in _merged(spans):
        first, stop = -(-span.start // cell), span.stop // cell
        found += (ByteRange(n * cell, (n + 1) * cell) for n in range(first, stop))
    return found


def cut(extents: Sequence[Extent], limit_bytes: int) -> list[Placed]:
    """Return the whole extents that lie below `limit_bytes`, and the part of a hole there."""
    layout: list[Placed] = []
    start = 0
    for extent in extents:
        left = limit_bytes - start
        if extent.length_bytes > left:
            return layout + (_hole(start, limit_bytes) if extent.is_hole else [])
        layout.append(Placed(start, extent))
        start += extent.length_bytes
    return layout


def lay_over(
    layout: Sequence[Placed], over: Sequence[Placed]
) -> tuple[list[Placed], list[ByteRange]]:
    """Return `layout` with the extents `over` in it, and the spans that neither describes now.

    A chunk is used whole or not at all: what is left of one that is covered in part has to be
    made anew. `over` holds no two that overlap.
    """
    covers = _merged(ByteRange(each.start, each.stop) for each in over)
    kept = list(over)
    exposed: list[ByteRange] = []
    for placed in layout:
        span = ByteRange(placed.start, placed.stop)
        covering = _touching(covers, span)
        rest = subtract([span], covering) if covering else []
        if not covering:
            kept.append(placed)
        elif placed.extent.is_hole:
            kept += (each for left in rest for each in _hole(left.start, left.stop))
        else:
            exposed += rest
    return sorted(kept, key=lambda placed: placed.start), exposed


def subtract(spans: Iterable[ByteRange], others: Iterable[ByteRange]) -> list[ByteRange]:
    """Return the parts of `spans` that no one of `others` covers, in order and merged."""
    holes = _merged(others)
    left: list[ByteRange] = []
    position = 0
    for span in _merged(spans):
        start = span.start
        while position < len(holes) and holes[position].stop <= start:
            position += 1
        at = position
        while at < len(holes) and holes[at].start < span.stop:
            if holes[at].start > start:
                left.append(ByteRange(start, holes[at].start))
            start = max(start, holes[at].stop)
            at += 1
        if start < span.stop:
            left.append(ByteRange(start, span.stop))
    return left


def join_holes(extents: Iterable[Extent]) -> tuple[Extent, ...]:
    """Return `extents` with holes that follow each other made one."""
    joined: list[Extent] = []
    for extent in extents:
        if extent.is_hole and joined and joined[-1].is_hole:
            length = joined[-1].length_bytes + extent.length_bytes
            joined[-1] = msgspec.structs.replace(extent, length_bytes=length)
        else:
            joined.append(extent)
    return tuple(joined)


def _plan(layout: Sequence[Placed], dirty: Sequence[ByteRange], size_bytes: int) -> Plan:
    """Cut what is `dirty` into aligned chunks; they take along what they overlap."""
    cell = chunk_bytes(size_bytes)
    remade = _merged(_cells(dirty, cell, size_bytes))
    whole = (
        ByteRange(placed.start, placed.stop)
        for placed in layout
        if not placed.extent.is_hole and _touching(remade, ByteRange(placed.start, placed.stop))
    )
    remade = _merged([*remade, *whole])
    stays, _ = lay_over(layout, [Placed(span.start, Extent(len(span))) for span in remade])
    starts = {span.start: span for span in remade}
    pieces: list[Extent | ByteRange] = []
    for placed in stays:
        span = starts.get(placed.start)
        pieces += _aligned(span, cell) if span else [placed.extent]
    return Plan(tuple(pieces))


def _cells(dirty: Iterable[ByteRange], cell: int, size_bytes: int) -> Iterator[ByteRange]:
    for span in dirty:
        stop = -(-span.stop // cell) * cell
        yield ByteRange(span.start - span.start % cell, min(stop, size_bytes))


def _aligned(span: ByteRange, cell: int) -> Iterator[ByteRange]:
    start = span.start
    while start < span.stop:
        stop = min(start - start % cell + cell, span.stop)
        yield ByteRange(start, stop)
        start = stop


def _torn(base: Sequence[Extent], below: int, limit_bytes: int) -> list[ByteRange]:
    """Return what is left of the chunk that a truncation went through."""
    size = sum(extent.length_bytes for extent in base)
    stop = min(limit_bytes, size)
    return [ByteRange(below, stop)] if below < stop else []


def _hole(start: int, stop: int) -> list[Placed]:
    return [Placed(start, Extent(stop - start))] if start < stop else []


def _clamped(spans: Iterable[ByteRange], size_bytes: int) -> Iterator[ByteRange]:
    return (span.clamp(size_bytes) for span in spans)


def _merged(spans: Iterable[ByteRange]) -> list[ByteRange]:
    """Return `spans` in order, those that touch made one, empty ones left out."""
    merged: list[ByteRange] = []
    for span in sorted(filter(None, spans)):
        if merged and span.start <= merged[-1].stop:
            merged[-1] = ByteRange(merged[-1].start, max(merged[-1].stop, span.stop))
        else:
            merged.append(span)
    return merged


def _touching(spans: Sequence[ByteRange], span: ByteRange) -> Sequence[ByteRange]:
    """Return those of the merged `spans` that overlap `span`."""
    first = bisect.bisect_right(spans, span.start, key=lambda each: each.stop)
    stop = bisect.bisect_left(spans, span.stop, lo=first, key=lambda each: each.start)
    return spans[first:stop]
