"""Move chunks through the steps of saving them, several at once, in order.

Chunks travel in batches of some megabytes: read, hashed, looked up, compressed, put into packs,
sent. The steps of different batches overlap, in threads where they cost time; frames lie in
packs in the order in which chunks were asked for, whichever was ready first.

Concurrency: one run has a nursery of its own, and ends with everything sent or with the first
error, when all its other steps are given up.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from blobfs.errors import Damaged
from blobfs.formats.chunk import Buffer, chunk_id, encode_frame
from blobfs.formats.pack import Pack
from blobfs.formats.rows import Extent
from blobfs.sync.packs import PackSender, Room, Slot
from blobfs.types import MIB, ByteRange, ChunkId, InodeNo

BATCH_BYTES = 2 * MIB
MOST_BATCH_CHUNKS = 512
"""A batch takes each step together: a hop to a thread costs as much as a small file."""
MOST_BATCHES = 3
"""Batches between being read and being in a pack: one for each step."""

ZEROS = bytes(4 * MIB)

T = TypeVar("T")
R = TypeVar("R")

Wanted = tuple[InodeNo, ByteRange]
NewChunk = tuple[ChunkId, Buffer, Slot]
ReadMany = Callable[[Sequence[Wanted]], Awaitable[Sequence[Buffer]]]
"""Returns the bytes of spans of files as they are now, one buffer each that nobody changes."""


@dataclass(frozen=True, slots=True)
class StagePlaces:
    """What staging needs to know and to tell. All are called in the event loop."""

    look_up: Callable[[ChunkId], Extent | None]
    """Where a chunk lies, if the volume has it, or a pack that was sent and is not named yet."""
    sent: Callable[[Pack], None]
    """A pack is in the store; a kill from now on must not send its chunks again."""
    keep: Callable[[ChunkId, Buffer], None]
    """The plain bytes of a new chunk, for the disk cache, if it has room to take them."""
    compress: bool = True
    """Whether the volume wants its frames compressed."""


@dataclass(slots=True, eq=False)
class Batch:
    """Chunks that take each step together."""

    wanted: Sequence[Wanted]
    slots: list[Slot] = field(default_factory=list)
    new: list[NewChunk] = field(default_factory=list)
    """The chunks that are to be sent: as frames, once it is `ready`."""
    ready: trio.Event = field(default_factory=trio.Event)

    @property
    def size_bytes(self) -> int:
        return sum(len(span) for _, span in self.wanted)


class Run:
    """One staging."""

    def __init__(
        self,
        places: StagePlaces,
        threads: trio.CapacityLimiter,
        read: ReadMany,
        room: Room,
        sender: PackSender,
        nursery: trio.Nursery,
    ) -> None:
        self._places = places
        self._threads = threads
        self._read = read
        self._room = room
        self._sender = sender
        self._nursery = nursery
        self._known: dict[ChunkId, Slot] = {}
        self._under_way = trio.CapacityLimiter(MOST_BATCHES)

    async def stage(self, batches: Sequence[Batch]) -> None:
        """Put what is new in `batches` into packs, in their order, and send it."""
        self._nursery.start_soon(self._start_all, batches)
        for batch in batches:
            await batch.ready.wait()
            for chunk, frame, slot in batch.new:
                self._sender.add(chunk, frame, slot)
            kept_bytes = sum(len(frame) for _, frame, _ in batch.new)
            batch.new.clear()
            self._room.give_back(batch.size_bytes - kept_bytes)
        self._sender.send_off()

    async def _start_all(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            await self._room.take(batch.size_bytes)
            await self._under_way.acquire_on_behalf_of(batch)
            self._nursery.start_soon(self._prepare, batch)

    async def _prepare(self, batch: Batch) -> None:
        data = await self._read(batch.wanted)
        check_lengths(batch.wanted, data)
        chunks = await self._in_thread(_identify, data)
        for chunk, each in zip(chunks, data, strict=True):
            self._enter(batch, chunk, each)
        del data
        if batch.new and self._places.compress:
            batch.new = await self._in_thread(_encode, batch.new)
        batch.ready.set()
        self._under_way.release_on_behalf_of(batch)

    def _enter(self, batch: Batch, chunk: ChunkId | None, data: Buffer) -> None:
        """Give a chunk its slot: one that is known, or a new one that will be filled."""
        slot = self._find(chunk, len(data))
        if slot is None and chunk is not None:
            slot = self._known[chunk] = Slot(len(data))
            batch.new.append((chunk, data, slot))
            self._places.keep(chunk, data)
        assert slot is not None
        batch.slots.append(slot)

    def _find(self, chunk: ChunkId | None, length_bytes: int) -> Slot | None:
        if chunk is None:
            return Slot(length_bytes, Extent(length_bytes))
        if chunk in self._known:
            return self._known[chunk]
        if (extent := self._places.look_up(chunk)) is not None:
            return Slot(length_bytes, extent)
        return None

    async def _in_thread(self, function: Callable[[T], R], argument: T) -> R:
        return await trio.to_thread.run_sync(function, argument, limiter=self._threads)


def batches_of(wanted: Iterable[Wanted], batch_bytes: int) -> Iterator[Batch]:
    """Yield `wanted`, in order, in batches of about `batch_bytes`."""
    batch: list[Wanted] = []
    size = 0
    for each in wanted:
        batch.append(each)
        size += len(each[1])
        if size >= batch_bytes or len(batch) == MOST_BATCH_CHUNKS:
            yield Batch(batch)
            batch, size = [], 0
    if batch:
        yield Batch(batch)


def _identify(data: Sequence[Buffer]) -> list[ChunkId | None]:
    """Return the id of each chunk, None for one that is all zeros."""
    return [None if ZEROS.startswith(each) else chunk_id(each) for each in data]


def _encode(new: list[NewChunk]) -> list[NewChunk]:
    return [(chunk, encode_frame(data), slot) for chunk, data, slot in new]


def check_lengths(wanted: Sequence[Wanted], data: Sequence[Buffer]) -> None:
    """Check that each of `data` is as long as was wanted. Raises Damaged."""
    for (inode, span), each in zip(wanted, data, strict=True):
        if len(each) != len(span):
            raise Damaged(
                f"a file to be saved gave another length. inode={inode} start={span.start} "
                f"expected={len(span)} received={len(each)}"
            )


@contextlib.asynccontextmanager
async def open_steps() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that raises what went wrong first, and not a group of it."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        _, errors = group.split(trio.Cancelled)
        if errors is None:
            raise
        raise _first(errors) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
