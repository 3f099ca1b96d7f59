"""Fetch small files before they are opened, a few at a time, while memory is plenty.

Concurrency: workers end when nothing is wanted any more, and are started by the next wish.
"""

import logging
from collections import deque
from collections.abc import Iterable

import trio

from blobfs.cache.fetch import Fetcher
from blobfs.cache.source import Source, source_of
from blobfs.errors import BlobfsError
from blobfs.model.readahead import START_BYTES
from blobfs.types import Content

log = logging.getLogger("blobfs.cache")

PARALLEL = 16
MOST_WANTED = 1024
"""Older wishes than this many are forgotten: the walk has gone past them."""


class Prefetcher:
    """Small files that somebody is expected to open next."""

    def __init__(self, fetcher: Fetcher, nursery: trio.Nursery) -> None:
        self._fetcher = fetcher
        self._nursery = nursery
        self._wanted: deque[Content] = deque(maxlen=MOST_WANTED)
        self._workers = 0

    def want(self, contents: Iterable[Content]) -> None:
        """Have `contents` fetched, in their order; empty and large ones are passed over."""
        self._wanted.extend(each for each in contents if 0 < each.size_bytes <= START_BYTES)
        for _ in range(min(len(self._wanted), PARALLEL - self._workers)):
            self._workers += 1
            self._nursery.start_soon(self._work)

    async def _work(self) -> None:
        try:
            while self._wanted:
                await self._try(self._wanted.popleft())
        finally:
            self._workers -= 1

    async def _try(self, content: Content) -> None:
        """Fetch `content` if that works: whoever opens the file asks again, and is told."""
        try:
            await self._fetch(source_of(content))
        except BlobfsError as error:
            log.debug("not fetched ahead: %s", error)
        except Exception:
            # A guess must not end the mount, whatever is wrong.
            log.exception("fetching ahead failed for a reason of our own. key=%r", content.key)

    async def _fetch(self, source: Source) -> None:
        blocks = source.all_blocks
        if self._fetcher.has(source, blocks):
            await trio.lowlevel.checkpoint()
            return
        if self._fetcher.ahead(source, blocks, len(blocks)) < blocks.stop:
            self._wanted.clear()  # no memory to spare: expectations are the first to go
        flight = self._fetcher.under_way(source, blocks[0])
        if flight is not None:
            await flight.wait(source.size_bytes)
