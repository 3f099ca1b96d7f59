"""Upload large files while they are still being written, so that little is left at their end.

What fills whole chunks is staged ahead, a chunk at most once until the next commit, so that a file
that is written over and over costs at most twice its size. A commit takes what is still right; the
rest was sent in vain.

Concurrency: one task chooses, some stage, each its own chunks. Programs and rounds go on
meanwhile; a round waits for what is under way of the files that it takes along.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from blobfs.errors import BlobfsError
from blobfs.model.changes import LocalInode
from blobfs.model.chunking import Placed, cells_within
from blobfs.model.settling import Settling
from blobfs.model.spans import SpanMap
from blobfs.sync.snapshots import take
from blobfs.sync.stage import Stager
from blobfs.types import MIB, ByteRange, InodeNo, Serial
from blobfs.volume.content import Contents
from blobfs.volume.tree import Tree
from blobfs.volume.unsaved import Unsaved

WORTH_IT_BYTES = 16 * MIB
"""Less than fills a pack waits for the end of the file. As much is staged at a time."""
MOST_AT_ONCE = 4
"""Packs on their way: with what each holds twice, half of the default memory budget. Of a smaller
one they take no more, so that a round never waits for memory that they wait for, too."""
LOOK_AGAIN_S = 0.05
PAUSE_S = 5.0

log = logging.getLogger("blobfs.ahead")


@dataclass(slots=True, eq=False)
class _File:
    """What was staged of one file since its last commit."""

    placed: list[tuple[Placed, Serial]] = field(default_factory=list)
    """Chunks, and the last change that they show."""
    cells: dict[int, int] = field(default_factory=dict)
    """Where each chunk begins that was staged or is under way, and how long it is."""
    under_way: int = 0
    """Stagings that have not ended."""


class Ahead:
    """Stages large files ahead of their commit."""

    def __init__(
        self,
        unsaved: Unsaved,
        tree: Tree,
        contents: Contents,
        stager: Stager,
        settling: Settling,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        """`prepare` is called before anything is sent: it makes the bucket a volume."""
        self._prepare = prepare
        self._unsaved = unsaved
        self._tree = tree
        self._contents = contents
        self._stager = stager
        self._settling = settling
        self._files: dict[InodeNo, _File] = {}
        self._held: frozenset[InodeNo] = frozenset()
        """Files that a round takes along now: what comes of them meanwhile waits for the next."""
        self._slots = trio.Semaphore(min(MOST_AT_ONCE, stager.side_by_side(WORTH_IT_BYTES)))
        """None with the least memory, where nothing is staged ahead."""
        self._ended = trio.Event()
        self._has_failed = False

    def staged(self, inode: InodeNo, spans: SpanMap, upto: Serial) -> Sequence[Placed]:
        """Return the chunks of a file that are still right, given its unsaved `spans`.

        `upto` is the last change that `spans` know: what shows a later one belongs to another
        moment.
        """
        file = self._files.get(inode)
        if file is None:
            return ()
        return [
            placed
            for placed, serial in file.placed
            if serial <= upto and _is_unchanged(placed, serial, spans)
        ]

    def forget(self, inodes: Iterable[InodeNo]) -> None:
        """Forget files that were committed."""
        for inode in inodes:
            self._files.pop(inode, None)

    @asynccontextmanager
    async def finished(self, inodes: Sequence[InodeNo]) -> AsyncIterator[None]:
        """Enter when little is left to be staged of the large ones among `inodes`.

        Nothing more is staged of them until we leave. What fails is left to the caller's round.
        """
        self._held = frozenset(inodes)
        try:
            known = [inode for inode in inodes if inode in self._files]
            if known:
                await self._finish(known)
            yield
        finally:
            self._held = frozenset()

    async def run(self) -> None:
        """Stage for ever. What fails here is left to the round that commits the file."""
        async with trio.open_nursery() as nursery:
            while True:
                seen = self._unsaved.serial
                await self._slots.acquire()
                if not self._has_failed and (chosen := self._choose()) is not None:
                    self._begin(nursery, *chosen)
                    continue
                self._slots.release()
                if self._has_failed:
                    await trio.sleep(PAUSE_S)
                    self._has_failed = False
                self._forget_gone()
                await self._unsaved.wait_change(seen)
                await trio.sleep(LOOK_AGAIN_S)

    async def _finish(self, inodes: Sequence[InodeNo]) -> None:
        async with trio.open_nursery() as nursery:
            for inode in inodes:
                await self._stage_rest(nursery, inode)
        while any(file.under_way for inode in inodes if (file := self._files.get(inode))):
            await self._ended.wait()

    async def _stage_rest(self, nursery: trio.Nursery, inode: InodeNo) -> None:
        """Stage what there is now; a program that goes on writing is not waited for."""
        left_bytes = self._unsaved.spans(inode).unsaved_bytes
        while left_bytes > 0 and not self._has_failed:
            await self._slots.acquire()
            cells = self._worth_it(inode)
            if not cells:
                self._slots.release()
                return
            self._begin(nursery, inode, cells)
            left_bytes -= sum(map(len, cells))

    def _forget_gone(self) -> None:
        self.forget([inode for inode in self._files if not self._is_living(inode)])

    def _choose(self) -> tuple[InodeNo, Sequence[ByteRange]] | None:
        """Return a file that is being written, and chunks of it that are worth staging."""
        for inode in {*self._settling.being_written, *self._files} - self._held:
            if cells := self._worth_it(inode):
                return inode, cells
        return None

    def _worth_it(self, inode: InodeNo) -> list[ByteRange]:
        """Return chunks of a file that were not staged yet, about a pack of them, or none."""
        spans, file = self._unsaved.spans(inode), self._files.get(inode)
        known = {} if file is None else file.cells
        if not self._is_living(inode):
            return []
        if spans.unsaved_bytes - sum(known.values()) < WORTH_IT_BYTES:
            return []
        written = (ByteRange(piece.start, piece.stop) for piece in spans)
        cells = cells_within(written, self._size_bytes(inode))
        fresh = [cell for cell in cells if cell.start not in known]
        return _first(fresh, WORTH_IT_BYTES) if sum(map(len, fresh)) >= WORTH_IT_BYTES else []

    def _is_living(self, inode: InodeNo) -> bool:
        row = self._unsaved.inode(inode)
        return isinstance(row, LocalInode) and row.nlink > 0

    def _size_bytes(self, inode: InodeNo) -> int:
        row = self._unsaved.inode(inode)
        return row.size_bytes if isinstance(row, LocalInode) else 0

    def _begin(self, nursery: trio.Nursery, inode: InodeNo, cells: Sequence[ByteRange]) -> None:
        """Stage `cells` in a task of its own, which gives the slot back."""
        file = self._files.setdefault(inode, _File())
        file.cells.update((cell.start, len(cell)) for cell in cells)
        file.under_way += 1
        nursery.start_soon(self._stage, inode, file, cells)

    async def _stage(self, inode: InodeNo, file: _File, cells: Sequence[ByteRange]) -> None:
        try:
            file.placed += await self._place(inode, cells)
        except BlobfsError as error:
            log.debug("staging ahead failed. inode=%d (%s)", inode, error)
            self._has_failed = True
        except Exception:
            log.exception("staging ahead failed for a reason of our own")
            self._has_failed = True
        finally:
            file.under_way -= 1
            self._slots.release()
            self._ended.set()
            self._ended = trio.Event()

    async def _place(
        self, inode: InodeNo, cells: Sequence[ByteRange]
    ) -> list[tuple[Placed, Serial]]:
        """Stage what `cells` hold now; return it, and the last change that it shows."""
        size_bytes = self._size_bytes(inode)
        cells = [cell for cell in cells if cell.stop <= size_bytes]
        if not cells:
            return []  # it was saved, cut or removed before its turn came
        with self._unsaved.snapshot([inode], ()) as snapshot:
            taken = take(snapshot, self._unsaved, self._contents, self._tree)
            try:
                # Nothing leaves this machine that a power cut could take back (S2).
                await self._unsaved.sync()
                await self._prepare()
                placed = await self._stager.stage_spans(inode, cells, taken.read)
            finally:
                taken.close()
        return [(each, snapshot.covered.serial) for each in placed]


def _first(cells: Sequence[ByteRange], most_bytes: int) -> list[ByteRange]:
    chosen: list[ByteRange] = []
    size = 0
    for cell in cells:
        if chosen and size + len(cell) > most_bytes:
            break
        chosen.append(cell)
        size += len(cell)
    return chosen


def _is_unchanged(placed: Placed, serial: Serial, spans: SpanMap) -> bool:
    """Whether all of a chunk is unsaved bytes that were there when it was staged."""
    at = placed.start
    for piece in spans.inside(placed.start, placed.stop):
        if piece.start != at or piece.written.serial > serial:
            return False
        at = piece.stop
    return at == placed.stop
