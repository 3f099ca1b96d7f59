"""Keep a disk cache going whatever happens to its folder: full, damaged or deleted.

Reads never wait for a write and never fail because of the cache: what it cannot give is
"not here", and the caller fetches. Writes are offered, and done behind the caller's back by
the one task that owns the folder; where the disk refuses, caching pauses for a while.

Concurrency: `run` is the owner: it alone opens the folder, writes, and opens it afresh.
Everything else may be called from any task and sees either an open folder or none.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from blobfs.cache.buffers import BufferPool
from blobfs.cache.folder import Folder, open_folder, segment_bytes
from blobfs.cache.index import BlockId
from blobfs.errors import BlobfsError, Damaged, LocalFault
from blobfs.model.coalesce import Place
from blobfs.types import MIB

R = TypeVar("R")

log = logging.getLogger("blobfs.cache")

BATCH_BYTES = 16 * MIB
"""Blocks written between two commits: a commit costs little beside this many bytes."""
PAUSE_S = 30.0
"""How long to leave a disk alone that refused a write."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Blocks to write, one buffer each; `done` is called when the buffers are free again,
    whether or not they were written."""

    blocks: Sequence[BlockId]
    views: Sequence[memoryview]
    done: Callable[[], None]

    @property
    def size_bytes(self) -> int:
        return sum(len(view) for view in self.views)


class DiskCache:
    """Blocks on disk, as far as the disk lets us. Run `run` beside it."""

    def __init__(self, root: Path, limit_bytes: int, buffers: BufferPool) -> None:
        self._root = root
        self._buffers = buffers
        self.limit_bytes = limit_bytes
        self._folder: Folder | None = None
        self._offers: deque[Offer] = deque()  # bounded by the memory budget of who offers
        self._bad: list[tuple[BlockId, Place]] = []
        self._work = trio.Event()
        self._idle = trio.Event()
        self._index_damaged = False
        self.damaged = 0
        """Blocks that were not on disk what they had been when written."""
        self.paused_reason: str | None = None
        self._evicted_before = 0

    @property
    def used_bytes(self) -> int:
        return self._folder.used_bytes if self._folder else 0

    @property
    def evicted_bytes(self) -> int:
        return self._evicted_before + (self._folder.evicted_bytes if self._folder else 0)

    def find(self, blocks: Sequence[BlockId]) -> list[Place | None]:
        """Return where each block lies, None where it is not here."""
        return self._ask(lambda folder: folder.find(blocks), [None] * len(blocks))

    def lengths(self, start: BlockId, stop: BlockId, at_most: int) -> list[tuple[BlockId, int]]:
        """Return ids and lengths of the first `at_most` blocks in [`start`, `stop`)."""
        return self._ask(lambda folder: folder.lengths(start, stop, at_most), [])

    async def read(self, blocks: Sequence[BlockId], places: Sequence[Place]) -> memoryview | None:
        """Return the bytes of neighbouring `blocks`; None: something there is bad, fetch them.

        `places` is what `find` said of them: one segment, no gap.
        """
        folder = self._folder
        if folder is None:
            return None
        back = await folder.read(places)
        if not back.bad:
            return back.data
        self.damaged += len(back.bad)
        self._bad += [
            (block, place) for block, place in zip(blocks, places, strict=True) if place in back.bad
        ]
        self._work.set()
        return None

    def offer(self, offer: Offer) -> None:
        """Have blocks written soon."""
        self._offers.append(offer)
        if self._idle.is_set():
            self._idle = trio.Event()
        self._work.set()

    async def wait_written(self) -> None:
        """Wait until everything offered so far was written, or given up."""
        await self._idle.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the folder until cancelled; "started" means that it is open.

        Raises:
            InUse, LocalFault: it could not be opened the first time.
        """
        try:
            async with open_folder(self._root, self.limit_bytes, self._buffers) as folder:
                task_status.started()
                await self._own(folder)
            while True:
                await self._run_afresh()
        finally:
            self._let_go()

    async def _run_afresh(self) -> None:
        """Begin the folder anew after it was lost; where that fails, try again later."""
        try:
            async with open_folder(
                self._root, self.limit_bytes, self._buffers, anew=True
            ) as folder:
                await self._own(folder)
        except BlobfsError as error:
            await self._pause(error)
        except Exception as error:
            log.exception("the cache failed for a reason of our own. path=%s", self._root)
            await self._pause(error)

    async def _own(self, folder: Folder) -> None:
        """Serve the open folder; return when it has to be opened afresh."""
        self._folder, self._index_damaged = folder, False
        try:
            await self._serve(folder)
        finally:
            self._folder = None
            self._evicted_before += folder.evicted_bytes

    async def _serve(self, folder: Folder) -> None:
        while True:
            await self._wait_work()
            if self._index_damaged or not await folder.in_place():
                log.warning(
                    "the cache folder is gone or damaged: opened afresh. path=%s", self._root
                )
                return
            try:
                await self._drop_bad(folder)
                await self._write_some(folder)
            except Damaged as error:
                self._give_up_index(error)
            except (OSError, BlobfsError) as error:
                if await folder.in_place():
                    await self._pause(error)
            except Exception as error:
                # Without a cache a mount is slow; without its owner it would be dead.
                log.exception("the cache failed for a reason of our own. path=%s", self._root)
                await self._pause(error)

    async def _wait_work(self) -> None:
        if not self._offers and not self._bad:
            self._idle.set()
            self._work = trio.Event()
            await self._work.wait()

    async def _drop_bad(self, folder: Folder) -> None:
        bad, self._bad = self._bad, []
        if bad:
            log.warning("blocks of the cache were damaged on disk. blocks=%d", len(bad))
            await folder.drop([block for block, _ in bad], [place for _, place in bad])

    async def _write_some(self, folder: Folder) -> None:
        batch = self._take_batch()
        try:
            blocks = [block for offer in batch for block in offer.blocks]
            if blocks:
                await folder.put(blocks, [view for offer in batch for view in offer.views])
                self.paused_reason = None
        finally:
            for offer in batch:
                offer.done()

    def _take_batch(self) -> list[Offer]:
        """Take offers of `BATCH_BYTES` together, less where the whole cache is small."""
        most = min(BATCH_BYTES, 4 * segment_bytes(self.limit_bytes))
        batch: list[Offer] = []
        size = 0
        while self._offers and (not batch or size + self._offers[0].size_bytes <= most):
            batch.append(self._offers.popleft())
            size += batch[-1].size_bytes
        return batch

    async def _pause(self, error: Exception) -> None:
        """Let go of what is offered for a while; reads of what is on disk go on."""
        if self.paused_reason is None:
            log.warning("caching pauses: %s", error)
        self.paused_reason = str(error)
        with trio.move_on_after(PAUSE_S):
            while True:
                self._let_go()
                await self._wait_work()

    def _let_go(self) -> None:
        """Give up what waits to be written; bad blocks will be found bad again."""
        self._bad.clear()
        while self._offers:
            self._offers.popleft().done()

    def _ask(self, question: Callable[[Folder], R], otherwise: R) -> R:
        """Return what the index answers, `otherwise` where it is not there to answer."""
        if self._folder is None or self._index_damaged:
            return otherwise
        try:
            return question(self._folder)
        except Damaged as error:
            self._give_up_index(error)
        except LocalFault as error:
            log.warning("the cache index gave no answer. path=%s (%s)", self._root, error)
        return otherwise

    def _give_up_index(self, error: Damaged) -> None:
        log.warning("the cache index is damaged. path=%s (%s)", self._root, error)
        self._index_damaged = True
        self._work.set()
