"""Read the chunks of committed content out of packs, verified.

A chunk is verified whole, so it is fetched whole; chunks whose frames are neighbours in a pack
come in one request. On disk a chunk is kept by its own id, in blocks like those of any object:
what a change of a file left alone, or what two files share, is fetched once.

Concurrency: hashing and decompressing large answers happens in threads.
"""

import hashlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import trio

from blobfs.cache.index import BlockId
from blobfs.cache.source import BLOCK_BYTES, MOST_RUN_BLOCKS, NUMBER_BYTES, Source
from blobfs.cache.windows import PackWindows
from blobfs.errors import Damaged, NotFound
from blobfs.formats.chunk import Buffer, chunk_id, decode_frame
from blobfs.formats.keys import pack_key
from blobfs.formats.rows import Extent
from blobfs.model.coalesce import Place, Run, join
from blobfs.model.readahead import MOST_STEP_BYTES
from blobfs.stores.base import Inbox, Store
from blobfs.types import KIB, ByteRange, ChunkId

T = TypeVar("T")

WORTH_A_THREAD_BYTES = 64 * KIB
"""Less than this is verified sooner than a thread could take it over."""
MOST_GAP_BYTES = 64 * KIB
"""So many bytes that nobody wants are fetched rather than another request made."""
TRIES = 2
"""Bytes that do not verify are asked for once more: they may have been damaged on their way."""


class PackReader:
    """Fetches chunks from the packs of one volume."""

    def __init__(self, store: Store, windows: PackWindows) -> None:
        self._store = store
        self._windows = windows
        self._threads = trio.CapacityLimiter(max(2, os.cpu_count() or 1))

    async def read(self, extents: Sequence[Extent]) -> list[Buffer]:
        """Return the plain bytes of chunks; one request brings those that lie near each other.

        Raises:
            Damaged: a pack is missing, or does not hold what it should; the message names it.
            AccessDenied, Unreachable: the store failed us.
        """
        requests = list(_requests(extents, MOST_GAP_BYTES))
        answers: list[list[Buffer] | Exception] = [[] for _ in requests]

        async def fill(number: int) -> None:
            try:
                answers[number] = await self._read_neighbours(requests[number], _decode)
            except Exception as error:
                answers[number] = error

        async with trio.open_nursery() as nursery:
            for number in range(len(requests)):
                nursery.start_soon(fill, number)
        return [each for answer in answers for each in _unless_error(answer)]

    async def read_joined(self, extents: Sequence[Extent]) -> memoryview:
        """Return the plain bytes of neighbours as one buffer. Raises what `read` does."""
        parts = [
            await self._read_neighbours(each, _decode_joined) for each in _requests(extents, 0)
        ]
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    async def read_into(self, inbox: Inbox, check: "ArrivalCheck") -> memoryview:
        """Return the bytes of neighbouring raw chunks, checked while they arrive if possible.

        Raises what `read` does.
        """
        extents = check.extents
        key, span = _request(extents)
        try:
            fetched = await self._store.get_into(key, inbox, span=span, if_match=None)
        except (NotFound, Damaged):
            return await self.read_joined(extents)  # again, for a last word on what is wrong
        if check.is_whole and fetched.data.obj is inbox.buffer.obj:
            return fetched.data
        try:
            return await trio.to_thread.run_sync(
                _decode_joined, fetched.data, extents, limiter=self._threads
            )
        except Damaged:
            return await self.read_joined(extents)

    async def _read_neighbours(
        self, extents: Sequence[Extent], decode: Callable[[memoryview, Sequence[Extent]], T]
    ) -> T:
        is_small = sum(extent.length_bytes for extent in extents) < WORTH_A_THREAD_BYTES
        for left in reversed(range(TRIES)):
            body = await (self._fetch_small if is_small and left else self._fetch)(extents)
            try:
                if is_small:
                    return decode(body, extents)
                return await trio.to_thread.run_sync(decode, body, extents, limiter=self._threads)
            except Damaged as error:
                if not left:
                    key = pack_key(extents[0].pack)
                    raise Damaged(f"a pack is damaged. pack={key!r} ({error})") from error
        raise AssertionError("unreachable")

    async def _fetch_small(self, extents: Sequence[Extent]) -> memoryview:
        _, span = _request(extents)
        return await self._windows.find(extents[0].pack, span) or await self._fetch(extents)

    async def _fetch(self, extents: Sequence[Extent]) -> memoryview:
        key, span = _request(extents)
        try:
            return (await self._store.get(key, span=span)).data
        except NotFound as error:
            # Not "no such file": the file is there, its bytes are gone (P5).
            raise Damaged(
                f"a pack is missing. pack={key!r}",
                hint="`blobfs check` tells which files are affected",
            ) from error


class ArrivalCheck:
    """Verifies raw chunks that lie side by side while they arrive in a buffer.

    Concurrency: one thread at a time, the one that receives.
    """

    def __init__(self, extents: Sequence[Extent], buffer: memoryview) -> None:
        self.extents = extents
        self._buffer = buffer
        self._next = 0
        self._good_bytes = 0

    @property
    def is_whole(self) -> bool:
        """Whether everything has arrived and is right."""
        return self._next == len(self.extents)

    def good_bytes(self, count: int) -> int:
        """Return how many of the first `count` bytes belong to chunks that are whole and right.

        Behind a chunk that is not there are none. It is no error here, since stores would ask for
        all again and again: whoever wanted the answer sees that it is not `is_whole`.
        """
        if count < self._good_bytes:
            self._next = self._good_bytes = 0  # the request began anew, and overwrites
        while not self.is_whole:
            extent = self.extents[self._next]
            stop = self._good_bytes + extent.length_bytes
            if stop > count:
                break
            if chunk_id(self._buffer[self._good_bytes : stop]) != extent.chunk:
                break
            self._next, self._good_bytes = self._next + 1, stop
        return self._good_bytes


class ChunkSource(Source):
    """The chunks of one content, each in a place of its own that begins where a block does.

    Where a chunk is no whole number of blocks, what is left of its last block is a gap: it
    belongs to nothing and is never read.
    """

    def __init__(self, packs: PackReader, extents: Sequence[Extent]) -> None:
        """`extents` holds no holes."""
        self._packs = packs
        self._extents = extents
        self._firsts = _first_blocks(extents)
        stop = self.start(len(extents) - 1) + extents[-1].length_bytes if extents else 0
        super().__init__(_digest(extents), stop)

    @property
    def name(self) -> str:
        return f"chunk {self._extents[0].chunk.hex()} and {len(self._extents) - 1} more"

    def start(self, index: int) -> int:
        """Return where a chunk begins."""
        return self._firsts[index] * BLOCK_BYTES

    def span(self, first: int, stop: int) -> ByteRange:
        last = self._index(stop - 1)
        chunk_stop = self.start(last) + self._extents[last].length_bytes
        return ByteRange(first * BLOCK_BYTES, min(stop * BLOCK_BYTES, chunk_stop))

    def block(self, number: int) -> BlockId:
        index = self._index(number)
        return block_of(self._extents[index].chunk, number - self._firsts[index])

    def runs(self, missing: Sequence[tuple[int, Place | None]]) -> list[Run]:
        """Return the runs that bring `missing`: whole chunks, where they come from packs."""
        stretches: list[list[tuple[int, Place | None]]] = []
        for index, blocks in groupby(missing, lambda block: self._index(block[0])):
            wanted = self._whole(index, list(blocks))
            if stretches and self._goes_on(stretches[-1], index, wanted):
                stretches[-1] += wanted
            else:
                stretches.append(wanted)
        return [run for stretch in stretches for run in join(stretch, MOST_RUN_BLOCKS)]

    def together_with(self, block: int) -> range:
        return self._blocks(self._index(block))

    async def fetch(self, first: int, stop: int) -> memoryview:
        """Return the verified bytes of blocks of one run."""
        begin, end = self._index(first), self._index(stop - 1) + 1
        data = await self._packs.read_joined(self._extents[begin:end])
        span, base = self.span(first, stop), self.start(begin)
        return data[span.start - base : span.stop - base]

    def is_served_early(self, run: Run) -> bool:
        """Return whether all its chunks are stored raw: then they lie in packs as in the file."""
        return all(each.stored_bytes == each.length_bytes for each in self._of(run))

    def check(self, run: Run, buffer: memoryview) -> "ArrivalCheck":
        """Return what checks the chunks of a run that is served early, while they fill `buffer`."""
        return ArrivalCheck(self._of(run), buffer)

    async def fetch_into(self, inbox: Inbox, check: "ArrivalCheck") -> memoryview:
        """Return the verified bytes of such a run, served through `inbox` meanwhile."""
        return await self._packs.read_into(inbox, check)

    def _of(self, run: Run) -> Sequence[Extent]:
        return self._extents[self._index(run.first) : self._index(run.stop - 1) + 1]

    def _index(self, block: int) -> int:
        return bisect_right(self._firsts, block) - 1

    def _blocks(self, index: int) -> range:
        return range(self._firsts[index], self._firsts[index + 1])

    def _whole(
        self, index: int, blocks: list[tuple[int, Place | None]]
    ) -> list[tuple[int, Place | None]]:
        """Return all blocks of a chunk if one of `blocks` has to come from its pack."""
        if all(place is not None for _, place in blocks):
            return blocks
        return [(number, None) for number in self._blocks(index)]

    def _goes_on(
        self,
        stretch: Sequence[tuple[int, Place | None]],
        index: int,
        blocks: Sequence[tuple[int, Place | None]],
    ) -> bool:
        """Say whether `blocks` of a chunk can come with what was asked for before it."""
        (last, last_place), (first, place) = stretch[-1], blocks[0]
        if last + 1 != first or len(stretch) + len(blocks) > MOST_RUN_BLOCKS:
            return False
        if first != self._firsts[index]:
            return False
        before, extent = self._extents[index - 1], self._extents[index]
        has_gap = before.length_bytes % BLOCK_BYTES != 0
        from_packs = last_place is None and place is None
        return not has_gap and (not from_packs or _is_near(before, extent, 0))


def block_of(chunk: ChunkId, number: int) -> BlockId:
    """Return the id of a block of a chunk.

    It is longer than that of any object's block, so no content can be made up that is taken for
    another's.
    """
    return BlockId(chunk + number.to_bytes(NUMBER_BYTES, "big"))


def blocks_of(chunk: ChunkId, data: memoryview) -> Iterator[tuple[BlockId, memoryview]]:
    """Yield the blocks of a chunk, with their bytes."""
    for number, start in enumerate(range(0, len(data), BLOCK_BYTES)):
        yield block_of(chunk, number), data[start : start + BLOCK_BYTES]


def _first_blocks(extents: Sequence[Extent]) -> "array[int]":
    """Return the first block of each chunk, and the end behind the last."""
    firsts, number = array("Q", [0]), 0
    for extent in extents:
        number += -(-extent.length_bytes // BLOCK_BYTES)
        firsts.append(number)
    return firsts


def _digest(extents: Sequence[Extent]) -> bytes:
    """Return what stands for these chunks in tables of blocks; no object's digest is made so."""
    digest = hashlib.sha256(b"\0chunks")
    for extent in extents:
        digest.update(extent.chunk)
    return digest.digest()[:16]


def _request(extents: Sequence[Extent]) -> tuple[str, ByteRange]:
    """Return what to ask for chunks that lie near each other in one pack."""
    last = extents[-1]
    return pack_key(last.pack), ByteRange(extents[0].offset, last.offset + last.stored_bytes)


def _requests(extents: Sequence[Extent], gap_bytes: int) -> Iterator[Sequence[Extent]]:
    """Yield `extents`, in order, in groups that one request brings."""
    begin = 0
    for index in range(1, len(extents) + 1):
        if index == len(extents) or not _joins(
            extents[begin], extents[index - 1], extents[index], gap_bytes
        ):
            yield extents[begin:index]
            begin = index


def _joins(first: Extent, before: Extent, after: Extent, gap_bytes: int) -> bool:
    stop = after.offset + after.stored_bytes
    return _is_near(before, after, gap_bytes) and stop - first.offset <= MOST_STEP_BYTES


def _is_near(before: Extent, after: Extent, gap_bytes: int) -> bool:
    gap = after.offset - before.offset - before.stored_bytes
    return before.pack == after.pack and 0 <= gap <= gap_bytes


def _unless_error(answer: list[Buffer] | Exception) -> list[Buffer]:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _decode(body: memoryview, extents: Sequence[Extent]) -> list[Buffer]:
    """Return the verified plain bytes of frames that lie in `body`, the first at its start."""
    base, last = extents[0].offset, extents[-1]
    wanted = last.offset + last.stored_bytes - base
    if len(body) != wanted:
        raise Damaged(f"body has another length. expected={wanted} received={len(body)}")
    return [
        decode_frame(
            body[extent.offset - base :][: extent.stored_bytes],
            chunk=extent.chunk,
            length_bytes=extent.length_bytes,
        )
        for extent in extents
    ]


def _decode_joined(body: memoryview, extents: Sequence[Extent]) -> memoryview:
    """Return them as one buffer: the body itself where nothing is compressed."""
    plain = _decode(body, extents)
    if all(extent.stored_bytes == extent.length_bytes for extent in extents):
        return body
    return memoryview(b"".join(plain))
