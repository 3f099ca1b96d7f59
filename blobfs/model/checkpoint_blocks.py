"""Decide which blocks of a table a new checkpoint makes anew, and cut rows into blocks. Pure.

A table is blocks in the order of their keys, with gaps between them in which no rows lay. What has
changed since lies in some of the blocks and some of the gaps: these are made anew, and all others
named again, so that a checkpoint costs what has changed.

    a changed block                         is made anew
    a gap with new rows                     goes with the block before it, if that is at hand
    what is made anew, and came out small   goes with the block behind it, if that is at hand

So blocks stay about as long as they are meant to be, whatever comes and goes.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from blobfs.formats.checkpoint_blocks import BlockRef
from blobfs.formats.tables import Row
from blobfs.types import KIB

ReadRows = Callable[[bytes, bytes | None], Iterator[Row]]
"""Yields the rows with start <= key < stop as they are now, in order; stop None: to the end."""

_ROW_OVERHEAD_BYTES = 6


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """How long blocks of rows are meant to be, in plain bytes."""

    target_bytes: int = 64 * KIB
    """What a reader fetches to learn of one row. Blocks have up to half more, a last one less."""

    @property
    def least_bytes(self) -> int:
        """What is shorter takes its neighbour along."""
        return self.target_bytes // 4


@dataclass(frozen=True, slots=True)
class KnownBlock:
    """A block of the checkpoint before, and whether its rows are at hand."""

    ref: BlockRef
    is_loaded: bool


def remake(
    known: Sequence[KnownBlock],
    changed: Sequence[bytes] | None,
    read: ReadRows,
    sizes: BlockSizes,
) -> Iterator[BlockRef | list[Row]]:
    """Yield the blocks of the new checkpoint in order: refs of old ones, rows of new ones.

    `changed` are the keys of changed rows in order, each in a gap or a block that is loaded; None:
    any that is loaded may have changed. `read` is asked for such spans alone.
    """
    return _Remake(changed, read, sizes).run(known)


class _Remake:
    def __init__(self, changed: Sequence[bytes] | None, read: ReadRows, sizes: BlockSizes) -> None:
        self._changed = changed
        self._read = read
        self._least_bytes = sizes.least_bytes
        self._cutter = _Cutter(sizes.target_bytes)
        self._is_open = False
        """Whether the rows up to here are being made anew."""
        self._kept: KnownBlock | None = None
        """The block before, unless it is being made anew; whoever comes behind may need it."""

    def run(self, known: Sequence[KnownBlock]) -> Iterator[BlockRef | list[Row]]:
        start = b""
        for block in known:
            yield from self._gap(start, block.ref.first)
            yield from self._block(block)
            start = block.ref.last + b"\0"
        yield from self._gap(start, None)
        yield from self._close()

    def _gap(self, start: bytes, stop: bytes | None) -> Iterator[BlockRef | list[Row]]:
        if self._has_new_rows(start, stop):
            yield from self._open(with_kept=True)
            yield from self._take(start, stop)

    def _block(self, block: KnownBlock) -> Iterator[BlockRef | list[Row]]:
        first, stop = block.ref.first, block.ref.last + b"\0"
        is_changed = block.is_loaded if self._changed is None else self._has_changed(first, stop)
        if is_changed and not block.is_loaded:
            raise ValueError(f"rows changed in a block that is not here. first={first.hex()}")
        if is_changed:
            yield from self._open(with_kept=False)
        is_small = self._is_open and self._cutter.length_bytes < self._least_bytes
        if is_changed or (is_small and block.is_loaded):
            yield from self._take(first, stop)
        else:
            yield from self._close()
            self._kept = block

    def _open(self, *, with_kept: bool) -> Iterator[BlockRef | list[Row]]:
        """Make anew what follows, and the block before if that is wanted or it is small."""
        self._is_open = True
        kept, self._kept = self._kept, None
        if kept is None:
            return
        is_small = kept.ref.chunk.length_bytes < self._least_bytes
        if kept.is_loaded and (with_kept or is_small):
            yield from self._take(kept.ref.first, kept.ref.last + b"\0")
        else:
            yield kept.ref

    def _close(self) -> Iterator[BlockRef | list[Row]]:
        yield from self._cutter.end()
        self._is_open = False
        if self._kept is not None:
            yield self._kept.ref
            self._kept = None

    def _take(self, start: bytes, stop: bytes | None) -> Iterator[list[Row]]:
        for row in self._read(start, stop):
            if block := self._cutter.add(row):
                yield block

    def _has_new_rows(self, start: bytes, stop: bytes | None) -> bool:
        if self._changed is None:
            return next(self._read(start, stop), None) is not None
        return self._has_changed(start, stop)

    def _has_changed(self, start: bytes, stop: bytes | None) -> bool:
        assert self._changed is not None
        place = bisect_left(self._changed, start)
        return place < len(self._changed) and (stop is None or self._changed[place] < stop)


class _Cutter:
    """Cuts rows into blocks of about the same length."""

    def __init__(self, target_bytes: int) -> None:
        self._target_bytes = target_bytes
        self._rows: list[Row] = []
        self.length_bytes = 0
        """Of the rows that were not given back yet."""

    def add(self, row: Row) -> list[Row] | None:
        """Take a row; return a block as soon as what is left will make another of its length."""
        self._rows.append(row)
        self.length_bytes += _length(row)
        return (
            self._cut(self._target_bytes) if self.length_bytes >= 2 * self._target_bytes else None
        )

    def end(self) -> Iterator[list[Row]]:
        """Yield what is left, as one block or as two of the same length."""
        if 2 * self.length_bytes > 3 * self._target_bytes:
            yield self._cut(self.length_bytes // 2)
        if self._rows:
            yield self._cut(self.length_bytes)

    def _cut(self, length_bytes: int) -> list[Row]:
        """Give back rows from the front, of so many bytes at least."""
        count = taken = 0
        while taken < length_bytes:
            taken += _length(self._rows[count])
            count += 1
        block, self._rows = self._rows[:count], self._rows[count:]
        self.length_bytes -= taken
        return block


def _length(row: Row) -> int:
    return len(row[0]) + len(row[1]) + _ROW_OVERHEAD_BYTES
