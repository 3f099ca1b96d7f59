"""Keep the unsaved bytes of one file in order: which range of it lies where in the journal.

Pure: places and offsets only, never bytes. All offsets are in the file unless said otherwise.

Concurrency: nothing here awaits. Take a `copy` where the map has to stand still.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import msgspec

from blobfs.types import ByteRange, Serial


class Written(msgspec.Struct, frozen=True, gc=False):
    """The bytes of one write, as they lie in the journal."""

    start: int
    """Of the first byte, in the file."""
    length_bytes: int
    segment: int
    offset: int
    """Of the first byte, in the segment."""
    serial: Serial
    checksums: bytes
    """One for each block of the payload; none when the bytes are lost."""

    @property
    def is_lost(self) -> bool:
        """Whether the journal could not read it back: programs get EIO there."""
        return not self.checksums


class Piece(msgspec.Struct, frozen=True, gc=False):
    """The bytes `start` up to, not including, `stop`: part of what one write brought."""

    start: int
    stop: int
    written: Written

    @property
    def length_bytes(self) -> int:
        return self.stop - self.start

    def clip(self, start: int, stop: int) -> "Piece":
        """Return the part of it inside `start` to `stop`, which it overlaps."""
        if start <= self.start and self.stop <= stop:
            return self
        return Piece(max(self.start, start), min(self.stop, stop), self.written)


class FromBase(msgspec.Struct, frozen=True, gc=False):
    """Bytes to be read from the committed content, which reads as zeros behind its end."""

    span: ByteRange


class Zeros(msgspec.Struct, frozen=True, gc=False):
    """Bytes that nobody ever wrote."""

    span: ByteRange


ReadPart = Piece | FromBase | Zeros


class SpanMap:
    """Sorted pieces that do not overlap."""

    __slots__ = ("_pieces", "_starts", "unsaved_bytes")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[Piece] = []
        self.unsaved_bytes = 0

    def __len__(self) -> int:
        return len(self._pieces)

    def __iter__(self) -> Iterator[Piece]:
        return iter(self._pieces)

    def copy(self) -> "SpanMap":
        """Return a map of the same pieces that later changes leave alone."""
        made = SpanMap()
        made._starts, made._pieces = self._starts.copy(), self._pieces.copy()
        made.unsaved_bytes = self.unsaved_bytes
        return made

    def write_over(self, written: Written) -> list[Piece]:
        """Let `written` show; return what it hides, clipped to what is hidden."""
        stop = written.start + written.length_bytes
        hidden = self._clear(written.start, stop)
        index = bisect_left(self._starts, written.start)
        self._starts.insert(index, written.start)
        self._pieces.insert(index, Piece(written.start, stop, written))
        self.unsaved_bytes += written.length_bytes
        return hidden

    def cut(self, size_bytes: int) -> list[Piece]:
        """Drop what lies at `size_bytes` and behind; return it."""
        if not self._pieces or self._pieces[-1].stop <= size_bytes:
            return []
        return self._clear(size_bytes, self._pieces[-1].stop)

    def drop_until(self, serial: Serial) -> list[Piece]:
        """Drop what was written up to `serial`, which is committed now; return it."""
        dropped = [piece for piece in self._pieces if piece.written.serial <= serial]
        if dropped:
            self._pieces = [piece for piece in self._pieces if piece.written.serial > serial]
            self._starts = [piece.start for piece in self._pieces]
            self.unsaved_bytes -= sum(piece.length_bytes for piece in dropped)
        return dropped

    def inside(self, start: int, stop: int) -> list[Piece]:
        """Return the pieces between `start` and `stop`, clipped to them."""
        if start >= stop:
            return []
        first, last = self._touched(start, stop)
        return [piece.clip(start, stop) for piece in self._pieces[first:last]]

    def plan_read(self, span: ByteRange, size_bytes: int, base_limit_bytes: int) -> list[ReadPart]:
        """Return where the bytes of `span` come from, in order, without gaps, up to the size."""
        span = span.clamp(size_bytes)
        parts: list[ReadPart] = []
        at = span.start
        for piece in self.inside(span.start, span.stop):
            parts += _beneath(at, piece.start, base_limit_bytes)
            parts.append(piece)
            at = piece.stop
        parts += _beneath(at, span.stop, base_limit_bytes)
        return parts

    def _touched(self, start: int, stop: int) -> tuple[int, int]:
        """Return which pieces overlap `start` to `stop`: the first, and the one behind the last."""
        first = bisect_right(self._starts, start)
        if first and self._pieces[first - 1].stop > start:
            first -= 1
        return first, max(first, bisect_left(self._starts, stop))

    def _clear(self, start: int, stop: int) -> list[Piece]:
        if not self._pieces or self._pieces[-1].stop <= start:
            return []  # the usual case: a file that is written from its start to its end
        first, last = self._touched(start, stop)
        touched = self._pieces[first:last]
        if not touched:
            return []
        kept = []
        if touched[0].start < start:
            kept.append(touched[0].clip(0, start))
        if touched[-1].stop > stop:
            kept.append(touched[-1].clip(stop, touched[-1].stop))
        self._pieces[first:last] = kept
        self._starts[first:last] = [piece.start for piece in kept]
        cleared = [piece.clip(start, stop) for piece in touched]
        self.unsaved_bytes -= sum(piece.length_bytes for piece in cleared)
        return cleared


def _beneath(start: int, stop: int, base_limit_bytes: int) -> list[ReadPart]:
    """Return what shows between `start` and `stop` where nothing is unsaved."""
    middle = min(max(start, base_limit_bytes), stop)
    parts: list[ReadPart] = []
    if start < middle:
        parts.append(FromBase(ByteRange(start, middle)))
    if middle < stop:
        parts.append(Zeros(ByteRange(middle, stop)))
    return parts
