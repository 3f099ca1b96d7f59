"""Read open files: from memory at once, else through the fetcher, with read-ahead.

Concurrency: several reads of one reader are under way at once, because kernels send them
so. What each read decides it decides before its first await.
"""

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import trio

from blobfs.cache.buffers import BufferPool
from blobfs.cache.chunk_reading import ChunkReading
from blobfs.cache.chunks import PackReader
from blobfs.cache.disk import DiskCache
from blobfs.cache.fetch import Fetcher, Flight
from blobfs.cache.memory import MemoryBudget, Piece, PieceCache
from blobfs.cache.prefetch import Prefetcher
from blobfs.cache.source import BLOCK_BYTES, Source, source_of
from blobfs.cache.windows import PackWindows
from blobfs.env import Env
from blobfs.errors import BlobfsError, Damaged
from blobfs.model.readahead import MOST_STEP_BYTES, Stream, follow, refused, step_bytes, waited
from blobfs.stores.base import Store
from blobfs.types import MIB, ByteRange, Content

ACTIVE_S = 2.0
"""A reader that did not read for this long leaves its share of the window to others."""
WINDOWS_SHARE = 4
"""All windows together are at most one part in four of the memory: what has arrived needs
as much again until it is read, and written to disk."""
SLOW_S = 4.0
"""A request under way for this long shows a slow line: far from the deadline, and far from what
a wide window takes on a fast one."""
DISK_WINDOW_BYTES = 32 * MIB
"""A disk is near: more under way only spreads the reads over more memory."""
CLOSING_S = 5.0
"""How long closing waits for blocks that are still to be written to the disk cache."""
COUNTED_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class ReadingStatistics:
    """What reading did since the mount, and what it holds now."""

    bytes: int
    """Bytes of the disk cache."""
    limit_bytes: int
    hits: int
    """Block requests that found the block in memory or on disk."""
    misses: int
    """Block requests that waited for the store."""
    evicted_bytes: int
    damaged: int
    """Blocks that were bad on disk, and fetched again."""
    memory_bytes: int
    memory_limit_bytes: int
    paused: str | None
    """Why nothing is written to the disk cache at present."""


class Reader:
    """One open file. Made by `Reading.open`."""

    def __init__(self, source: Source, fetcher: Fetcher, desk: "_Desk") -> None:
        self._source = source
        self._fetcher = fetcher
        self._desk = desk
        self._stream = Stream()
        self._is_on_disk = False
        self._is_slow = False

    async def read(self, span: ByteRange) -> bytes | memoryview:
        """Return the bytes of `span`, shorter only at end of file.

        Raises:
            Changed: the object is no longer the version that was opened.
            AccessDenied, Unreachable, Damaged: the store failed us.
        """
        span = span.clamp(self._source.size_bytes)
        if not span:
            await trio.lowlevel.checkpoint()
            return b""
        self._ask_for(span)
        parts = await self._collect(span)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Give up the share of the window. Reads under way still end well."""
        self._desk.leave(self)

    def _ask_for(self, span: ByteRange) -> None:
        """Start fetching what this read lacks, and what it makes likely."""
        self._stream, advice = follow(
            self._stream,
            span,
            size_bytes=self._source.size_bytes,
            cap_bytes=self._cap_bytes(),
            block_bytes=BLOCK_BYTES,
        )
        if not all(map(self._is_near, span.blocks(BLOCK_BYTES))):
            self._fetcher.demand(self._source, advice.reach.blocks(BLOCK_BYTES))
        if advice.ahead:
            ahead = advice.ahead.blocks(BLOCK_BYTES)
            step = step_bytes(self._stream.window_bytes) // BLOCK_BYTES
            stop = self._fetcher.ahead(self._source, ahead, step)
            if stop < ahead.stop:
                self._stream = refused(self._stream, stop * BLOCK_BYTES)

    async def _collect(self, span: ByteRange) -> list[memoryview]:
        """Return views that together are `span`, waiting for what is under way."""
        parts: list[memoryview] = []
        position, had_to_wait = span.start, False
        while position < span.stop:
            block = position // BLOCK_BYTES
            piece = self._fetcher.find(self._source, block)
            from_store = False
            if piece is None:
                had_to_wait = True
                piece, from_store = await self._wait_for(block, span.stop)
            part = ByteRange(position, min(piece.span.stop, span.stop))
            self._desk.count(part, from_store)
            parts.append(piece.part(part))
            self._is_on_disk = piece.from_disk
            position = part.stop
            if position == piece.span.stop and self._is_long_stream():
                self._fetcher.passed(piece)
        if had_to_wait:
            cap_bytes = self._cap_bytes()
            self._stream = waited(self._stream, span, cap_bytes=cap_bytes, is_slow=self._is_slow)
        else:
            await trio.lowlevel.checkpoint()
        return parts

    async def _wait_for(self, block: int, stop: int) -> tuple[Piece, bool]:
        flight = self._fetcher.under_way(self._source, block)
        if flight is None:
            # It was here when we asked, and had to go while we waited for another block.
            self._fetcher.demand(self._source, [block])
            flight = self._fetcher.under_way(self._source, block)
            assert flight is not None
        try:
            return await self._wait_flight(flight, stop)
        except Damaged:
            if len(range(flight.run.first, flight.run.stop)) <= len(
                self._source.together_with(block)
            ):
                raise
        return await self._wait_alone(block, stop)

    async def _wait_alone(self, block: int, stop: int) -> tuple[Piece, bool]:
        """Wait for a block without its neighbours, since one of those may be what is damaged."""
        self._fetcher.demand(self._source, self._source.together_with(block))
        flight = self._fetcher.under_way(self._source, block)
        if flight is not None:
            return await self._wait_flight(flight, stop)
        piece = self._fetcher.find(self._source, block)
        assert piece is not None  # somebody else had it fetched
        return piece, False

    async def _wait_flight(self, flight: Flight, stop: int) -> tuple[Piece, bool]:
        piece = await flight.wait(stop)
        self._is_slow = self._desk.is_slow(flight)
        return piece, flight.from_store

    def _is_long_stream(self) -> bool:
        """Whether what was read need not stay: a small file may well be read again soon."""
        return self._stream.window_bytes > 0 and self._source.size_bytes > MOST_STEP_BYTES

    def _cap_bytes(self) -> int:
        share = self._desk.share_bytes(self)
        return min(share, DISK_WINDOW_BYTES) if self._is_on_disk else share

    def _is_near(self, block: int) -> bool:
        return (
            self._fetcher.find(self._source, block) is not None
            or self._fetcher.under_way(self._source, block) is not None
        )


class _Desk:
    """What all readers share: the window, and the counters."""

    def __init__(self, windows_bytes: int, env: Env) -> None:
        self._windows_bytes = windows_bytes
        self._env = env
        self._last_read: OrderedDict[Reader, float] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def share_bytes(self, reader: Reader) -> int:
        """Return how large the window of `reader`, which is reading now, may be."""
        now = self._env.monotonic_s()
        self._last_read[reader] = now
        self._last_read.move_to_end(reader)
        while next(iter(self._last_read.values())) < now - ACTIVE_S:
            self._last_read.popitem(last=False)
        return self._windows_bytes // len(self._last_read)

    def is_slow(self, flight: Flight) -> bool:
        """Say whether what has just been waited for took so long that less should be asked for."""
        return flight.from_store and self._env.monotonic_s() - flight.began_s > SLOW_S

    def leave(self, reader: Reader) -> None:
        self._last_read.pop(reader, None)

    def count(self, part: ByteRange, from_store: bool) -> None:
        blocks = len(part.blocks(BLOCK_BYTES))
        if from_store:
            self.misses += blocks
        else:
            self.hits += blocks


class Reading:
    """All that is read through one mount. Made by `open_reading`."""

    def __init__(
        self,
        disk: DiskCache,
        pieces: PieceCache,
        fetcher: Fetcher,
        prefetcher: Prefetcher,
        chunks: ChunkReading,
        env: Env,
    ) -> None:
        self.chunks = chunks
        self._disk = disk
        self._pieces = pieces
        self._fetcher = fetcher
        self._prefetcher = prefetcher
        self._desk = _Desk(pieces.budget.limit_bytes // WINDOWS_SHARE, env)

    def open(self, content: Content) -> Reader:
        """Return a reader of `content`, one for each open file. It costs no request."""
        return self.open_source(source_of(content))

    def open_source(self, source: Source) -> Reader:
        """Return a reader of `source`, one for each open file. It costs no request."""
        return Reader(source, self._fetcher, self._desk)

    @property
    def budget(self) -> MemoryBudget:
        """What all buffers of the mount have to fit in (P10)."""
        return self._pieces.budget

    def prefetch(self, contents: Iterable[Content]) -> None:
        """Fetch small files that are likely to be opened next, in this order.

        A hint: what is here is skipped, and all is dropped when memory is tight.
        """
        self._prefetcher.want(contents)

    async def cached_bytes(self, content: Content) -> int:
        """Return how many bytes of `content` are on disk or in memory."""
        source = source_of(content)
        near = set(self._pieces.blocks(source.digest))
        total = sum(len(source.span(number, number + 1)) for number in near)
        start, stop = source.block(0), source.block(source.all_blocks.stop)
        while start < stop:
            rows = self._disk.lengths(start, stop, COUNTED_AT_ONCE)
            total += sum(length for block, length in rows if source.number(block) not in near)
            await trio.lowlevel.checkpoint()
            start = source.block(source.number(rows[-1][0]) + 1) if rows else stop
        return total

    def statistics(self) -> ReadingStatistics:
        """Return the present figures."""
        return ReadingStatistics(
            bytes=self._disk.used_bytes,
            limit_bytes=self._disk.limit_bytes,
            hits=self._desk.hits,
            misses=self._desk.misses,
            evicted_bytes=self._disk.evicted_bytes,
            damaged=self._disk.damaged,
            memory_bytes=self._pieces.budget.held_bytes,
            memory_limit_bytes=self._pieces.budget.limit_bytes,
            paused=self._disk.paused_reason,
        )


@contextlib.asynccontextmanager
async def open_reading(
    store: Store, cache_dir: Path, *, limit_bytes: int, memory_bytes: int, env: Env
) -> AsyncIterator[Reading]:
    """Open the cache in `cache_dir` and read `store` through it.

    At the end requests under way are given up, and blocks that wait to be written are
    written for at most `CLOSING_S`. Tasks run in a nursery of its own, so what the body
    raises arrives in an exception group.

    Raises:
        InUse: another process uses the folder.
        LocalFault: the folder cannot be made or written, or has no room.
    """
    buffers = BufferPool(memory_bytes // 2)
    disk = DiskCache(cache_dir, limit_bytes, buffers)
    pieces = PieceCache(memory_bytes, BLOCK_BYTES, buffers)
    failure: BlobfsError | None = None
    async with trio.open_nursery() as owner:
        try:
            await owner.start(disk.run)
        except BlobfsError as error:
            failure = error  # raised outside of the nursery, which would wrap it
        else:
            try:
                async with trio.open_nursery() as flights:
                    fetcher = Fetcher(store, disk, pieces, buffers, flights, env)
                    prefetcher = Prefetcher(fetcher, flights)
                    windows = PackWindows(store, pieces.budget)
                    chunks = ChunkReading(PackReader(store, windows), disk, pieces.budget)
                    yield Reading(disk, pieces, fetcher, prefetcher, chunks, env)
                    flights.cancel_scope.cancel()
                windows.close()
            finally:
                with trio.move_on_after(CLOSING_S, shield=True):
                    await disk.wait_written()
                owner.cancel_scope.cancel()
    pieces.clear()
    buffers.release(memory_bytes)
    if failure is not None:
        raise failure
