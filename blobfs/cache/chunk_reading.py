"""Read and keep chunks of committed content, beside the objects that other tools wrote.

Concurrency: every method may be called from any task.
"""

from collections.abc import Sequence

import trio

from blobfs.cache.chunks import ChunkSource, PackReader, block_of, blocks_of
from blobfs.cache.disk import DiskCache, Offer
from blobfs.cache.index import BlockId
from blobfs.cache.memory import OVERHEAD_BYTES, MemoryBudget
from blobfs.cache.source import BLOCK_BYTES
from blobfs.formats.chunk import Buffer
from blobfs.formats.rows import Extent
from blobfs.types import ChunkId

COUNTED_AT_ONCE = 1024


class ChunkReading:
    """Chunks, from the disk cache or out of packs."""

    def __init__(self, packs: PackReader, disk: DiskCache, budget: MemoryBudget) -> None:
        self._packs = packs
        self._disk = disk
        self._budget = budget

    def source(self, extents: Sequence[Extent]) -> ChunkSource:
        """Return what reads these chunks, none of which is a hole."""
        return ChunkSource(self._packs, extents)

    async def load(self, extents: Sequence[Extent]) -> list[Buffer]:
        """Return the bytes of whole chunks, few and small ones: lists, not contents.

        Raises:
            Damaged: a pack is missing or damaged.
            AccessDenied, Unreachable: the store failed us.
        """
        cost_bytes = 2 * sum(extent.length_bytes for extent in extents)
        await self._budget.take(cost_bytes)
        try:
            found = {extent.chunk: await self._on_disk(extent) for extent in extents}
            missing = [extent for extent in extents if found[extent.chunk] is None]
            for extent, data in zip(missing, await self._packs.read(missing), strict=True):
                found[extent.chunk] = data
                self.keep(extent.chunk, data)
        finally:
            self._budget.give_back(cost_bytes)
        return [each for extent in extents if (each := found[extent.chunk]) is not None]

    async def fetch(self, extents: Sequence[Extent]) -> list[Buffer]:
        """Return the bytes of whole chunks that are kept elsewhere than in the disk cache.

        Raises what `load` does.
        """
        cost_bytes = 2 * sum(extent.length_bytes for extent in extents)
        await self._budget.take(cost_bytes)
        try:
            return await self._packs.read(extents)
        finally:
            self._budget.give_back(cost_bytes)

    def keep(self, chunk: ChunkId, data: Buffer) -> None:
        """Write a chunk to the disk cache soon, if there is memory to hold it until then.

        Nobody may change `data` any more.
        """
        cost_bytes = len(data) + OVERHEAD_BYTES
        if not self._budget.try_take(cost_bytes):
            return
        blocks, views = zip(*blocks_of(chunk, memoryview(data)), strict=True)
        self._disk.offer(Offer(blocks, views, lambda: self._budget.give_back(cost_bytes)))

    async def cached_bytes(self, extents: Sequence[Extent]) -> int:
        """Return how many bytes of these chunks are on disk."""
        total = 0
        for start in range(0, len(extents), COUNTED_AT_ONCE):
            blocks = [
                block
                for extent in extents[start : start + COUNTED_AT_ONCE]
                for block in _blocks(extent)
            ]
            total += sum(place.length for place in self._disk.find(blocks) if place is not None)
            await trio.lowlevel.checkpoint()
        return total

    async def _on_disk(self, extent: Extent) -> Buffer | None:
        """Return a chunk of one block, if it is on disk; lists are seldom larger."""
        if extent.length_bytes > BLOCK_BYTES:
            return None
        blocks = _blocks(extent)
        places = [place for place in self._disk.find(blocks) if place is not None]
        return await self._disk.read(blocks, places) if places else None


def _blocks(extent: Extent) -> list[BlockId]:
    return [
        block_of(extent.chunk, number) for number in range(-(-extent.length_bytes // BLOCK_BYTES))
    ]
