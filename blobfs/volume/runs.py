"""Follow a listing page by page, while it arrives or long after.

Concurrency: a run is written by one task and followed by any number. Followers wait on
an event that is replaced at every step, so that none misses one.
"""

from collections.abc import Callable

import trio

from blobfs.errors import BlobfsError
from blobfs.model.listing import Entry, Part
from blobfs.volume.listings import Addition, Folder, Listings


class Abandoned(BlobfsError):
    """A listing was given up though nothing failed: whoever needs it asks again."""

    transient = True


def _nothing() -> None:
    return None


class ListingRun:
    """One listing of one directory under way."""

    def __init__(
        self,
        prefix: str,
        listing: int,
        listed_at_ns: int,
        *,
        wanted: Callable[[], None] = _nothing,
    ) -> None:
        self.prefix = prefix
        self.listing = listing
        self.listed_at_ns = listed_at_ns
        """Wall clock, before the first request: what it shows may be as old as that."""
        self.pages = 0
        self.finished: Folder | None = None
        self.error: BlobfsError | None = None
        self.awaited = False
        """Whether a reader, not just a guess, wants it."""
        self.waiting = 0
        """How many readers wait for the next step right now."""
        self._wanted = wanted
        self._entries = 0
        self._size_bytes = 0
        self._odd = 0
        self._mtime_ns: int | None = None
        self._step = trio.Event()

    def plan(self, part: Part) -> Addition:
        """Return the row changes that add `part`. Call `advance` when they are committed."""
        number = self.pages
        odd_before = self._odd
        self._entries += len(part.entries)
        self._size_bytes += sum(entry.size_bytes for entry in part.entries)
        self._odd += len(part.odd)
        if part.mtime_ns is not None:
            self._mtime_ns = part.mtime_ns
        finished = self._as_folder(number + 1) if part.complete else None
        return Addition(self.listing, number, part, odd_before, finished)

    def advance(self, addition: Addition) -> None:
        """Show the page of `addition` to the followers."""
        self.pages = addition.number + 1
        self.finished = addition.finished
        self._wake()

    def fail(self, error: BlobfsError) -> None:
        """End the run; its followers get `error`."""
        self.error = error
        self._wake()

    async def has_page(self, number: int) -> bool:
        """Wait for a page; return False when the listing ended before it.

        Raises:
            BlobfsError: what ended the listing.
        """
        self.awaited = True
        while number >= self.pages and self.finished is None:
            if self.error is not None:
                raise self.error
            self._wanted()
            await self._wait_step()
        return number < self.pages

    async def wait_finished(self) -> Folder:
        """Wait for the end of the listing. Raises what ended it otherwise."""
        number = self.pages
        while await self.has_page(number):
            number = self.pages
        assert self.finished is not None
        return self.finished

    async def _wait_step(self) -> None:
        self.waiting += 1
        try:
            await self._step.wait()
        finally:
            self.waiting -= 1

    def _as_folder(self, pages: int) -> Folder:
        return Folder(
            prefix=self.prefix,
            listing=self.listing,
            listed_at_ns=self.listed_at_ns,
            pages=pages,
            entries=self._entries,
            size_bytes=self._size_bytes,
            odd=self._odd,
            mtime_ns=self._mtime_ns,
        )

    def _wake(self) -> None:
        step, self._step = self._step, trio.Event()
        step.set()


class FolderView:
    """One reader's way through one listing, finished or still arriving. Close it.

    A run that is given up in the middle is followed by another one: the pages that it brought
    stay the first ones, and what they showed is left out of the pages behind them.
    """

    def __init__(
        self,
        listings: Listings,
        source: Folder | ListingRun,
        *,
        valid_until_s: float,
        run_again: Callable[[], ListingRun],
    ) -> None:
        self._listings = listings
        self._source = source
        self._run_again = run_again
        self._given_up: list[ListingRun] = []
        self.valid_until_s = valid_until_s
        """Until when, on the monotonic clock, its entries may be believed."""
        listings.hold(source.listing)

    async def has_page(self, number: int) -> bool:
        """Wait for a page; return False when the listing ended before it.

        Raises:
            BlobfsError: the listing could not be completed. Never a short directory.
        """
        while True:
            number_left = number - sum(run.pages for run in self._given_up)
            source = self._source
            if isinstance(source, Folder):
                return number_left < source.pages
            try:
                return await source.has_page(number_left)
            except Abandoned:
                if self._source is source:
                    self._go_on()

    async def page(self, number: int) -> list[Entry] | None:
        """Return a page of entries, perhaps an empty one; None behind the last.

        Raises:
            BlobfsError: as `has_page`.
        """
        if not await self.has_page(number):
            return None
        for run in self._given_up:
            if number < run.pages:
                return self._listings.page(run.listing, number)
            number -= run.pages
        page = self._listings.page(self._source.listing, number)
        return [entry for entry in page if not self._was_shown(entry)] if self._given_up else page

    def close(self) -> None:
        for source in (*self._given_up, self._source):
            self._listings.release(source.listing)

    def _go_on(self) -> None:
        """Follow another run where the present one was given up."""
        assert isinstance(self._source, ListingRun)
        self._given_up.append(self._source)
        self._source = self._run_again()
        self._listings.hold(self._source.listing)

    def _was_shown(self, entry: Entry) -> bool:
        return any(self._listings.entry(run.listing, entry.name) for run in self._given_up)
