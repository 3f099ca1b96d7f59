"""Bring blocks into memory, from disk or from the store, each once however many want it.

A *flight* brings a run of neighbouring blocks as one buffer: a read of one segment file, or
one ranged GET. Who needs a block that is under way waits for its flight; a reader that is
cancelled leaves the flight to the others. What came from the store is served at once and
written to the disk cache behind the reader's back.

Concurrency: a block is in memory, under way, or neither; every step from one to the next
is synchronous, so that no two tasks ever start a flight for the same block.
"""

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterable

import trio

from blobfs.cache.buffers import BufferPool, buffer_bytes
from blobfs.cache.chunks import ChunkSource
from blobfs.cache.disk import DiskCache, Offer
from blobfs.cache.memory import OVERHEAD_BYTES, Piece, PieceCache
from blobfs.cache.segments import read_cost_bytes
from blobfs.cache.source import BLOCK_BYTES, ObjectSource, Source
from blobfs.env import Env
from blobfs.errors import Changed, Damaged, NotFound, Unreachable
from blobfs.model.coalesce import Place, Run
from blobfs.model.readahead import steps
from blobfs.stores.base import Fetched, Store
from blobfs.types import MIB, ByteRange, Content, ObjectInfo

log = logging.getLogger("blobfs.cache")

STREAMED_BYTES = 2 * MIB
"""From this size on an answer is served while it arrives."""
CHUNKS_BYTES = 2 * MIB
"""What a store client holds of an answer while it hands it over."""


class Flight:
    """A run of blocks under way."""

    __slots__ = (
        "_arrived_to",
        "_changed",
        "_error",
        "_landed",
        "_piece",
        "began_s",
        "run",
        "source",
    )

    def __init__(self, source: Source, run: Run) -> None:
        self.source = source
        self.run = run
        self.began_s = math.inf
        """When it was sent for. Monotonic clock."""
        self._changed = trio.lowlevel.ParkingLot()
        self._piece: Piece | None = None
        self._arrived_to = 0
        self._landed = False
        self._error: Exception | None = None

    @property
    def span(self) -> ByteRange:
        return self.source.span(self.run.first, self.run.stop)

    @property
    def from_store(self) -> bool:
        return not self.run.places

    @property
    def is_streamed(self) -> bool:
        """Whether its bytes are of use before it has landed."""
        is_large = self.from_store and len(self.span) >= STREAMED_BYTES
        return is_large and self.source.is_served_early(self.run)

    @property
    def cost_bytes(self) -> int:
        """What it needs while under way."""
        length = len(self.span)
        if self.is_streamed:
            return buffer_bytes(length) + CHUNKS_BYTES + OVERHEAD_BYTES
        if self.from_store:
            return 2 * length + OVERHEAD_BYTES  # a store client holds it twice while it collects
        return read_cost_bytes(length) + OVERHEAD_BYTES

    async def wait(self, stop: int) -> Piece:
        """Return a piece that is here up to `stop`, or raise what went wrong.

        Its end is there only when all of it is: so nobody is through with it before.
        """
        while self._error is None and not self._landed:
            if self._piece is not None and stop < self.span.stop and stop <= self._arrived_to:
                break
            await self._changed.park()
        if self._piece is None or self._error is not None:
            assert self._error is not None
            raise self._error
        return self._piece

    def arrive(self, piece: Piece, stop: int) -> None:
        """Serve those who wait for bytes before `stop`."""
        self._piece, self._arrived_to = piece, max(stop, self._arrived_to)
        self._changed.unpark_all()

    def land(self, piece: Piece) -> None:
        """Serve all who wait."""
        self._piece, self._landed = piece, True
        self._changed.unpark_all()

    def fail(self, error: Exception) -> None:
        """Tell those who wait; whoever asks later starts anew."""
        self._error = error
        self._changed.unpark_all()


class Arrivals:
    """The inbox of a flight: serves its bytes while the rest is under way.

    `good` says how many of the bytes that arrived are the right ones (P6).
    """

    def __init__(
        self, flight: Flight, buffer: memoryview, good: Callable[[ObjectInfo, int], int]
    ) -> None:
        self._flight = flight
        self._good = good
        self._piece = Piece(flight.source.digest, flight.span, buffer)
        self._loop = trio.lowlevel.current_trio_token()

    @property
    def buffer(self) -> memoryview:
        return self._piece.data

    def arrived(self, info: ObjectInfo, count: int) -> None:
        good = self._good(info, count)
        if not good:
            return
        stop = self._piece.span.start + good
        # The mount may have ended: this thread is one that nobody waits for.
        with contextlib.suppress(trio.RunFinishedError):
            self._loop.run_sync_soon(self._flight.arrive, self._piece, stop)


def is_version(info: ObjectInfo, content: Content) -> bool:
    """Say whether what a store answered is of the version `content`."""
    return info.etag == content.etag and info.size_bytes == content.size_bytes


class Fetcher:
    """Starts flights and keeps what they bring."""

    def __init__(
        self,
        store: Store,
        disk: DiskCache,
        pieces: PieceCache,
        buffers: BufferPool,
        nursery: trio.Nursery,
        env: Env,
    ) -> None:
        self._store = store
        self._buffers = buffers
        self._env = env
        self._disk = disk
        self._pieces = pieces
        self._budget = pieces.budget
        self._nursery = nursery
        self._flights: dict[tuple[bytes, int], Flight] = {}
        self._writing_bytes = 0

    def find(self, source: Source, block: int) -> Piece | None:
        """Return the piece that holds `block`, None if it is not in memory."""
        return self._pieces.find(source.digest, block)

    def passed(self, piece: Piece) -> None:
        """Note that a reader went through all of `piece`."""
        self._pieces.passed(piece)

    def under_way(self, source: Source, block: int) -> Flight | None:
        """Return the flight that brings `block`."""
        return self._flights.get((source.digest, block))

    def demand(self, source: Source, blocks: Iterable[int]) -> None:
        """Start flights for the missing ones of `blocks`; they take their turn for memory."""
        for run in self._missing_runs(source, blocks):
            self._start(Flight(source, run), reserved=False)

    def ahead(self, source: Source, blocks: range, step: int) -> int:
        """Start flights of `step` blocks for the missing ones, while there is memory to spare.

        Return the first block that was refused, `blocks.stop` if none was.
        """
        for part in steps(blocks, step):
            # Step by step: to look for all of a window that there is no room for costs more
            # than to read it.
            for run in self._missing_runs(source, part):
                flight = Flight(source, run)
                if not self._budget.try_take(flight.cost_bytes):
                    return run.first
                self._start(flight, reserved=True)
        return blocks.stop

    def has(self, source: Source, blocks: Iterable[int]) -> bool:
        """Return whether all of `blocks` are in memory, under way or on disk."""
        return all(place is not None for _, place in self._missing(source, blocks))

    def _missing(self, source: Source, blocks: Iterable[int]) -> list[tuple[int, Place | None]]:
        """Return which of `blocks` are neither in memory nor under way, and their place on disk."""
        digest = source.digest
        missing = [
            block
            for block in blocks
            if (digest, block) not in self._flights and not self._pieces.has(digest, block)
        ]
        if not missing:
            return []
        places = self._disk.find([source.block(block) for block in missing])
        return list(zip(missing, places, strict=True))

    def _missing_runs(self, source: Source, blocks: Iterable[int]) -> list[Run]:
        missing = self._missing(source, blocks)
        return source.runs(missing) if missing else []

    def _start(self, flight: Flight, *, reserved: bool) -> None:
        for block in range(flight.run.first, flight.run.stop):
            # A block that is on its way from disk may be needed to verify others with it.
            self._flights.setdefault((flight.source.digest, block), flight)
        self._nursery.start_soon(self._fly, flight, reserved)

    async def _fly(self, flight: Flight, reserved: bool) -> None:
        try:
            if not reserved:
                await self._budget.take(flight.cost_bytes)
                reserved = True
            data, from_store = await self._bring(flight)
        except Exception as error:
            # Nobody may be waiting for it: an error is for those who need the bytes.
            log.debug("fetching failed. key=%r", flight.source.name, exc_info=True)
            self._end(flight, reserved)
            flight.fail(error)
        except trio.Cancelled:
            self._end(flight, reserved)
            flight.fail(Unreachable("the read was given up: the mount is closing"))
            raise
        else:
            self._arrive(flight, data, from_store)

    async def _bring(self, flight: Flight) -> tuple[memoryview, bool]:
        """Return the verified bytes of a flight, and whether they came from the store."""
        source, run = flight.source, flight.run
        if run.places:
            blocks = [source.block(number) for number in range(run.first, run.stop)]
            data = await self._disk.read(blocks, run.places)
            if data is not None:
                return data, False
        if isinstance(source, ChunkSource):
            return await self._chunk_bytes(flight, source), True
        assert isinstance(source, ObjectSource)
        return await self._object_bytes(flight, source.content), True

    async def _chunk_bytes(self, flight: Flight, source: ChunkSource) -> memoryview:
        run = flight.run
        flight.began_s = self._env.monotonic_s()
        if not flight.is_streamed:
            return await source.fetch(run.first, run.stop)
        buffer = self._buffers.borrow(len(flight.span))
        check = source.check(run, buffer)
        inbox = Arrivals(flight, buffer, lambda _, count: check.good_bytes(count))
        return await source.fetch_into(inbox, check)

    async def _object_bytes(self, flight: Flight, content: Content) -> memoryview:
        fetched = await self._fetched(flight, content)
        span = flight.span
        if not is_version(fetched.info, content):
            raise Changed(f"object changed while open. key={content.key!r} etag={content.etag!r}")
        if len(fetched.data) != len(span):
            raise Damaged(
                f"body has another length. key={content.key!r} "
                f"expected={len(span)} received={len(fetched.data)}"
            )
        return fetched.data

    async def _fetched(self, flight: Flight, content: Content) -> Fetched:
        span = flight.span
        flight.began_s = self._env.monotonic_s()
        try:
            if not flight.is_streamed:
                return await self._store.get(content.key, span=span, if_match=content.etag)
            # Of another version nothing is served: the answer as a whole will be refused.
            inbox = Arrivals(
                flight,
                self._buffers.borrow(len(span)),
                lambda info, count: count if is_version(info, content) else 0,
            )
            return await self._store.get_into(content.key, inbox, span=span, if_match=content.etag)
        except NotFound as error:
            raise Changed(f"object was deleted while open. key={content.key!r}") from error

    def _arrive(self, flight: Flight, data: memoryview, from_store: bool) -> None:
        piece = Piece(flight.source.digest, flight.span, data, not from_store)
        self._unlist(flight)
        self._budget.give_back(flight.cost_bytes - piece.cost_bytes)
        self._pieces.add(piece)
        if from_store and self._may_write(piece):
            self._write_behind(flight.source, piece)
        else:
            self._pieces.settle(piece)
        flight.land(piece)

    def _may_write(self, piece: Piece) -> bool:
        # A reader never waits for a slow disk: what would fill the memory is not cached.
        return self._writing_bytes + len(piece.data) <= self._budget.limit_bytes // 2

    def _write_behind(self, source: Source, piece: Piece) -> None:
        numbers = piece.span.blocks(BLOCK_BYTES)
        views = [piece.part(source.span(number, number + 1)) for number in numbers]
        self._writing_bytes += len(piece.data)
        written = functools.partial(self._written, piece)
        self._disk.offer(Offer([source.block(number) for number in numbers], views, written))

    def _written(self, piece: Piece) -> None:
        self._writing_bytes -= len(piece.data)
        self._pieces.settle(piece)

    def _end(self, flight: Flight, reserved: bool) -> None:
        self._unlist(flight)
        if reserved:
            self._budget.give_back(flight.cost_bytes)

    def _unlist(self, flight: Flight) -> None:
        for block in range(flight.run.first, flight.run.stop):
            if self._flights.get((flight.source.digest, block)) is flight:
                del self._flights[flight.source.digest, block]
