"""Upload large files while they are still being written, so that little is left at their end.

What fills whole chunks is staged ahead, a chunk at most once until the next commit, so that a file
that is written over and over costs at most twice its size. A commit takes what is still right; the
rest was sent in vain.

Concurrency: one task. Programs and rounds go on meanwhile.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import trio

from blobfs.errors import BlobfsError
from blobfs.model.changes import GONE, LocalInode
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
"""Less than fills a pack waits for the end of the file."""
MOST_BYTES = 96 * MIB
"""Staged at a time."""
LOOK_AGAIN_S = 0.05
PAUSE_S = 5.0

log = logging.getLogger("blobfs.ahead")


@dataclass(slots=True)
class _Staged:
    """What was staged of one file since its last commit."""

    placed: list[tuple[Placed, Serial]] = field(default_factory=list)
    cells: set[int] = field(default_factory=set)
    """Where each of them begins."""

    @property
    def staged_bytes(self) -> int:
        return sum(placed.extent.length_bytes for placed, _ in self.placed)


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
        self.turn = trio.Lock()
        """Held by whoever stages, so that no chunk is sent by two at once."""
        self._unsaved = unsaved
        self._tree = tree
        self._contents = contents
        self._stager = stager
        self._settling = settling
        self._files: dict[InodeNo, _Staged] = {}

    def staged(self, inode: InodeNo, spans: SpanMap) -> Sequence[Placed]:
        """Return the chunks of a file that are still right, given its unsaved `spans`."""
        file = self._files.get(inode)
        if file is None:
            return ()
        return [placed for placed, serial in file.placed if _is_unchanged(placed, serial, spans)]

    def forget(self, inodes: Sequence[InodeNo]) -> None:
        """Forget files that were committed."""
        for inode in inodes:
            self._files.pop(inode, None)

    async def run(self) -> None:
        """Stage for ever. What fails here is left to the round that commits the file."""
        while True:
            seen = self._unsaved.serial
            chosen = self._choose()
            if chosen is None:
                self._forget_gone()
                await self._unsaved.wait_change(seen)
                await trio.sleep(LOOK_AGAIN_S)
                continue
            try:
                await self._stage(*chosen)
            except BlobfsError as error:
                log.debug("staging ahead failed. inode=%d (%s)", chosen[0], error)
                await trio.sleep(PAUSE_S)
            except Exception:
                log.exception("staging ahead failed for a reason of our own")
                await trio.sleep(PAUSE_S)

    def _forget_gone(self) -> None:
        gone = [inode for inode in self._files if self._unsaved.inode(inode) in (None, GONE)]
        self.forget(gone)

    def _choose(self) -> tuple[InodeNo, Sequence[ByteRange]] | None:
        """Return a file that is being written, and chunks of it that are worth staging."""
        for inode in self._candidates():
            spans = self._unsaved.spans(inode)
            file = self._files.get(inode)
            staged_bytes = 0 if file is None else file.staged_bytes
            if spans.unsaved_bytes - staged_bytes < WORTH_IT_BYTES:
                continue
            cells = self._fresh_cells(inode, spans)
            if sum(map(len, cells)) >= WORTH_IT_BYTES:
                return inode, _first(cells, MOST_BYTES)
        return None

    def _candidates(self) -> Iterator[InodeNo]:
        for inode in {*self._settling.being_written, *self._files}:
            row = self._unsaved.inode(inode)
            if isinstance(row, LocalInode) and row.nlink:
                yield inode

    def _fresh_cells(self, inode: InodeNo, spans: SpanMap) -> list[ByteRange]:
        row = self._unsaved.inode(inode)
        assert isinstance(row, LocalInode)
        file = self._files.get(inode)
        known = set() if file is None else file.cells
        written = (ByteRange(piece.start, piece.stop) for piece in spans)
        return [cell for cell in cells_within(written, row.size_bytes) if cell.start not in known]

    async def _stage(self, inode: InodeNo, cells: Sequence[ByteRange]) -> None:
        async with self.turn:
            await self._stage_now(inode, cells)

    async def _stage_now(self, inode: InodeNo, cells: Sequence[ByteRange]) -> None:
        if inode not in self._unsaved.inode_states:
            return  # it was saved, or removed, while others had their turn
        with self._unsaved.snapshot([inode], ()) as snapshot:
            taken = take(snapshot, self._unsaved, self._contents, self._tree)
            try:
                # Nothing leaves this machine that a power cut could take back (S2).
                await self._unsaved.sync()
                await self._prepare()
                placed = await self._stager.stage_spans(inode, cells, taken.read)
            finally:
                taken.close()
            file = self._files.setdefault(inode, _Staged())
            file.cells.update(cell.start for cell in cells)
            file.placed += ((each, snapshot.covered.serial) for each in placed)


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
