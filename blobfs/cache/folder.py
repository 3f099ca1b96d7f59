"""Keep blocks in one folder within a size limit, oldest segment out first.

    lock        held by the process that uses the folder; names it
    index.lmdb  where each block lies (`index.py`); commits survive a killed process
    data/       segment files (`segments.py`)

Bytes reach a segment before their rows are committed, and every read is verified, so that
after any end of the process what the index names is whole or is noticed. After a machine
that stopped under us the index itself is not to be trusted, and all is begun anew: it is
a cache.

Concurrency: one task at a time calls `put` and `drop`; any number find and read.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import trio

from blobfs.cache.buffers import BufferPool
from blobfs.cache.index import TABLES, BlockId, Held, Index, load_index
from blobfs.cache.lock import FolderLock, folder_fault, hold_folder, no_room
from blobfs.cache.segments import PAGE_BYTES, ReadBack, Segments
from blobfs.database import Sync, open_database, open_or_begin_anew
from blobfs.model.coalesce import Place
from blobfs.types import GIB, MIB

log = logging.getLogger("blobfs.cache")

P = ParamSpec("P")
R = TypeVar("R")

SEGMENT_BYTES = 64 * MIB
MOST_SEGMENTS = 1024
FEWEST_SEGMENTS = 16
FREE_SHARE = 20
"""One part in 20 of the disk is left free: 5 %."""
LEAST_ROOM_BYTES = MIB
"""With less than this the folder can hold no cache worth opening."""
MOVE_BYTES = 4 * MIB
"""Blocks with a second chance are moved in pieces of about this size."""
PARALLEL_READS = 8
"""Disk reads under way at once. A limit of our own, because the threads that wait for a
store that does not answer must not keep reads of the cache from theirs."""


class Folder:
    """An open cache folder. Made by `open_folder`."""

    def __init__(
        self, root: Path, limit_bytes: int, lock: FolderLock, index: Index, segments: Segments
    ) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._lock = lock
        self._index = index
        self._segments = segments
        self._threads = trio.CapacityLimiter(PARALLEL_READS)
        self._read_again = _Marks()
        self.evicted_bytes = 0

    @property
    def used_bytes(self) -> int:
        return self._index.used_bytes

    def find(self, blocks: Sequence[BlockId]) -> list[Place | None]:
        """Return where each block lies, None where it is not here."""
        return self._index.find(blocks)

    def lengths(self, start: BlockId, stop: BlockId, at_most: int) -> list[tuple[BlockId, int]]:
        """Return ids and lengths of the first `at_most` blocks in [`start`, `stop`)."""
        return self._index.lengths(start, stop, at_most)

    async def read(self, places: Sequence[Place]) -> ReadBack:
        """Return the verified bytes at `places`, which lie in one segment without a gap."""
        for place in places:
            self._read_again.add(place)
        return await self._in_thread(self._segments.read, places)

    async def in_place(self) -> bool:
        """Return whether the folder is still there: somebody may have deleted it."""
        return await self._in_thread(self._in_place)

    async def put(self, blocks: Sequence[BlockId], views: Sequence[memoryview]) -> None:
        """Write and commit blocks, making room first.

        Raises:
            OSError, LocalFault: the disk has no room, or refused.
            Damaged: the index does not hold together.
        """
        await self._make_room(sum(len(view) + PAGE_BYTES for view in views))
        places = await self._in_thread(self._segments.append, views)
        await self._index.add(blocks, places)

    async def drop(self, blocks: Sequence[BlockId], places: Sequence[Place]) -> None:
        """Forget blocks whose bytes turned out bad."""
        await self._index.drop(blocks, places)

    async def _make_room(self, needed_bytes: int) -> None:
        allowed = await self._in_thread(self._allowed_bytes)
        if needed_bytes > allowed:
            raise no_room(self._root)
        while self._index.used_bytes + needed_bytes > allowed:
            await self._evict(self._index.oldest)

    def _allowed_bytes(self) -> int:
        """Return the limit, or less where the disk is filling up."""
        disk = os.statvfs(self._root)
        spare = (disk.f_bavail - disk.f_blocks // FREE_SHARE) * disk.f_frsize
        return min(self._limit_bytes, self._index.used_bytes + spare)

    async def _evict(self, segment: int) -> None:
        """Remove a segment; blocks that were read again go behind the newest.

        They are at most half of it, so that each eviction makes room.
        """
        self._segments.leave(segment)
        before = self._index.used_bytes
        held = await self._in_thread(self._index.held, segment)
        kept: list[BlockId] = []
        moved_to: list[Place] = []
        for batch in _batches(self._with_second_chance(segment, held)):
            views = await self._in_thread(self._verified, [each.place for each in batch])
            sound = [(each.block, view) for each, view in zip(batch, views, strict=True) if view]
            if sound:
                places = await self._in_thread(self._segments.append, [view for _, view in sound])
                moved_to += places
                kept += [block for block, _ in sound]
        await self._index.evict(segment, kept, moved_to)
        self._read_again.forget(segment)
        self.evicted_bytes += before - self._index.used_bytes
        await self._in_thread(self._segments.remove, segment)

    def _with_second_chance(self, segment: int, held: Sequence[Held]) -> Iterator[Held]:
        room = sum(each.place.length for each in held) // 2
        for each in held:
            if each.place in self._read_again and each.place.length <= room:
                room -= each.place.length
                yield each

    def _verified(self, places: Sequence[Place]) -> list[memoryview]:
        """Return the bytes of each place, empty where they are bad."""
        found = (self._segments.read([place]) for place in places)
        return [back.data if not back.bad else memoryview(b"") for back in found]

    def _in_place(self) -> bool:
        index, data = _index_path(self._root) / "data.mdb", self._root / "data"
        return self._lock.in_place() and all(map(os.path.exists, (index, data)))

    async def _in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await trio.to_thread.run_sync(
            lambda: function(*args, **kwargs), limiter=self._threads
        )


class _Marks:
    """The places that were read since they were written: one bit a page, none at first."""

    def __init__(self) -> None:
        self._segments: dict[int, bytearray] = {}

    def add(self, place: Place) -> None:
        byte, bit = divmod(place.offset // PAGE_BYTES, 8)
        bits = self._segments.setdefault(place.segment, bytearray())
        if byte >= len(bits):
            bits.extend(bytes(byte + 1 - len(bits)))
        bits[byte] |= 1 << bit

    def __contains__(self, place: Place) -> bool:
        byte, bit = divmod(place.offset // PAGE_BYTES, 8)
        bits = self._segments.get(place.segment, b"")
        return byte < len(bits) and bool(bits[byte] & 1 << bit)

    def forget(self, segment: int) -> None:
        self._segments.pop(segment, None)


@contextlib.asynccontextmanager
async def open_folder(
    root: Path, limit_bytes: int, buffers: BufferPool, *, anew: bool = False
) -> AsyncIterator[Folder]:
    """Open, or make, the cache folder `root`, and hold it; large reads borrow from `buffers`.

    A damaged index is thrown away with its data, and said in the log; so is what a caller who
    wants it `anew` knows to be damaged.

    Raises:
        InUse: another process holds it.
        LocalFault: it cannot be made or written, or there is no room.
    """
    with hold_folder(root) as lock:
        if lock.machine_stopped:
            log.warning("the machine stopped while the cache was in use: begun anew. path=%s", root)
        if anew or lock.machine_stopped:
            await trio.to_thread.run_sync(_discard, root)
        opening = partial(_open_index, root, limit_bytes)
        discard = partial(_discard, root)
        async with open_or_begin_anew(opening, discard, f"the cache in {str(root)!r}") as index:
            segments = Segments(root / "data", segment_bytes(limit_bytes), *index.last, buffers)
            await trio.to_thread.run_sync(_prepare, root, segments, index)
            yield Folder(root, limit_bytes, lock, index, segments)


def segment_bytes(limit_bytes: int) -> int:
    """Return how large segments are: small steps of a small cache, few files of a large one."""
    largest = max(SEGMENT_BYTES, limit_bytes // MOST_SEGMENTS)
    return max(PAGE_BYTES, min(largest, limit_bytes // FEWEST_SEGMENTS))


@contextlib.asynccontextmanager
async def _open_index(root: Path, limit_bytes: int) -> AsyncIterator[Index]:
    # Rows for blocks of one page each take about a tenth of the data; twice that to be sure.
    map_bytes = max(GIB, limit_bytes // 5)
    async with open_database(
        _index_path(root), tables=TABLES, map_bytes=map_bytes, sync=Sync.NONE
    ) as database:
        yield await load_index(database)


def _prepare(root: Path, segments: Segments, index: Index) -> None:
    try:
        segments.prepare(index.segments)
        disk = os.statvfs(root)
    except OSError as error:  # somebody deletes it while we open it, for one
        raise folder_fault(root, error) from error
    if disk.f_bavail * disk.f_frsize + index.used_bytes < LEAST_ROOM_BYTES:
        raise no_room(root)


def _discard(root: Path) -> None:
    shutil.rmtree(_index_path(root), ignore_errors=True)
    shutil.rmtree(root / "data", ignore_errors=True)


def _index_path(root: Path) -> Path:
    return root / "index.lmdb"


def _batches(blocks: Iterator[Held]) -> Iterator[list[Held]]:
    batch: list[Held] = []
    size = 0
    for held in blocks:
        batch.append(held)
        size += held.place.length
        if size >= MOVE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
