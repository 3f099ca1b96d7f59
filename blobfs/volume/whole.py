"""List all that lies below a prefix, completely, before anybody acts on it.

A directory that is to be renamed takes along what it shows at one moment, so its listing must be
of now, and whole. It becomes what is known of each directory below the prefix (`volume.listings`),
from where it is read again part by part: nothing here grows with the number of objects but one
short record for each directory.

Concurrency: a page is written while the next one is fetched; any number of listings at a time.
"""

import errno
from collections.abc import Callable, Iterable, Iterator

import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError
from blobfs.model.listing import Entry, Part, TreeAssembler
from blobfs.model.refusal import Refused
from blobfs.stores.base import Store
from blobfs.types import ListPage
from blobfs.volume.listings import Folder, Listings
from blobfs.volume.runs import ListingRun

PAGES_BETWEEN = 2
"""Pages that wait to be written: the store is not asked for more meanwhile."""


class WholeListing:
    """One listing of everything below `root`.

    `finished` is told of each directory whose listing is complete, and is the current one.
    """

    def __init__(
        self, root: str, listings: Listings, env: Env, finished: Callable[[ListingRun], None]
    ) -> None:
        self._root = root
        self._listings = listings
        self._env = env
        self._finished = finished
        self._assembler = TreeAssembler(root, "")
        self._open: dict[str, ListingRun] = {}
        self.folders: dict[str, Folder] = {}
        """All directories below `root` that are complete, itself included, by their prefixes."""
        self._entries = 0

    async def run(self, store: Store, most: int) -> None:
        """Fetch all of it; each request has its own deadline.

        Raises:
            Refused: EFBIG (more than `most` objects and directories lie there).
            BlobfsError: the store did not answer.
        """
        try:
            async with trio.open_nursery() as nursery:
                send, receive = trio.open_memory_channel[tuple[ListPage, int]](PAGES_BETWEEN)
                nursery.start_soon(self._write, receive, most)
                async with send:
                    await self._fetch(store, send)
        except* BlobfsError as group:
            raise first_error(group) from group

    def pages(self, folder: Folder) -> Iterator[list[Entry]]:
        """Yield the entries of a directory, page by page, while the listing is held."""
        for number in range(folder.pages):
            yield self._listings.page(folder.listing, number)

    def close(self) -> None:
        """Let go of all listings: what is not complete is garbage."""
        for run in self._open.values():
            self._listings.release(run.listing)
        for folder in self.folders.values():
            self._listings.release(folder.listing)

    async def _fetch(
        self, store: Store, send: trio.MemorySendChannel[tuple[ListPage, int]]
    ) -> None:
        token: str | None = None
        asked_ns = self._env.now_ns()
        while True:
            page = await store.list(self._root, token=token)
            await send.send((page, asked_ns))
            token = page.next_token
            if token is None:
                return

    async def _write(
        self, receive: trio.MemoryReceiveChannel[tuple[ListPage, int]], most: int
    ) -> None:
        async for page, asked_ns in receive:
            self._entries += len(page.objects)
            last = page.next_token is None
            parts = self._assembler.feed(page.objects, last=last)
            await self._take(parts, asked_ns)
            if self._entries + len(self._open) + len(self.folders) > most:
                raise Refused(errno.EFBIG, _too_many(self._root, most))

    async def _take(self, parts: Iterable[Part], asked_ns: int) -> None:
        planned = [
            (run := self._run_of(part.prefix, asked_ns), run.plan(part))
            for part in parts
            if not part.is_empty
        ]
        if planned:
            await self._listings.add([addition for _, addition in planned])
        for run, addition in planned:
            run.advance(addition)
            if addition.finished is not None:
                del self._open[run.prefix]
                self.folders[run.prefix] = addition.finished
                self._finished(run)

    def _run_of(self, prefix: str, asked_ns: int) -> ListingRun:
        run = self._open.get(prefix)
        if run is None:
            run = self._open[prefix] = ListingRun(prefix, self._listings.begin(), asked_ns)
        return run


def _too_many(prefix: str, most: int) -> str:
    return (
        f"a directory of more objects than are renamed at once; rename in parts what is in it. "
        f"prefix={prefix!r} most={most}"
    )


def first_error(group: BaseExceptionGroup[BlobfsError]) -> BlobfsError:
    """Return the first of the errors that ended a nursery."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, BlobfsError)
    return error
