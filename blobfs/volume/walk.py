"""Serve a recursive walk from listings of the whole tree: 1,000 keys a request.

A walk runs ahead of its reader by a few pages, the more the longer the reader has followed,
and ends when the reader does not come back. Directories that it is inside of are
ordinary runs (`volume.runs`), so a reader that catches up waits for the next page and nothing
else. What it could not complete is abandoned, and asked for anew by whoever needs it; so is a
directory that somebody waits for while the walk is deep below it, since its own listing
costs one request and the walk may take thousands.

Concurrency: one task a walk; `covers`, `consumed` and `ListingRun` may be used from any.
"""

import logging
from collections.abc import Callable

import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError
from blobfs.model.listing import Part, TreeAssembler, sort_key
from blobfs.stores.base import Store
from blobfs.volume.listings import Addition, Listings
from blobfs.volume.runs import Abandoned, ListingRun

log = logging.getLogger("blobfs.walk")

MOST_PAGES_AHEAD = 8
"""Pages (of 1,000 keys) fetched before the reader has used any of them."""

IDLE_S = 10.0
"""A reader that asked for nothing this long does not walk any more."""


class Walk:
    """One listing of everything below `root`, from `start` on."""

    def __init__(
        self,
        root: str,
        start: str,
        runs: dict[str, ListingRun],
        finished: Callable[[ListingRun], None],
    ) -> None:
        self.root = root
        self._finished = finished
        self._start = start
        self._runs = runs
        self._own: dict[str, ListingRun] = {}
        self._skipped: set[str] = set()
        self._assembler = TreeAssembler(root, start)
        self._position = sort_key(start)
        self._allowed = 1
        self._ahead = 0
        self._demand = trio.Event()
        self._page = trio.Event()
        self.ended = False

    def covers(self, prefix: str) -> bool:
        """Whether the walk is still to come to this directory."""
        if self.ended or not prefix.startswith(self.root):
            return False
        return sort_key(prefix) > self._position

    def consumed(self) -> None:
        """Note that the reader used a directory: it may be run ahead of again."""
        if self._ahead:
            self._allowed = min(self._allowed * 2, MOST_PAGES_AHEAD)
        self._ahead = 0
        self._demand.set()

    async def wait_page(self) -> None:
        """Wait until one more page has been taken in, or the walk has ended."""
        self.consumed()
        if not self.ended:
            await self._page.wait()

    async def run(self, store: Store, listings: Listings, env: Env) -> None:
        """Fetch and take in page after page until the tree ends or nobody reads on."""
        token: str | None = None
        try:
            while await self._is_wanted(listings):
                asked_ns = env.now_ns()
                page = await store.list(self.root, start_after=self._start, token=token)
                token = page.next_token
                parts = self._assembler.feed(page.objects, last=token is None)
                await self._take(parts, listings, asked_ns)
                if page.objects:
                    self._position = sort_key(page.objects[-1].key)
                self._ahead += 1
                self._announce_page()
                if token is None:
                    break
        except BlobfsError as error:
            log.warning("a walk of %r ended early: %s", self.root, error)
            self._end(listings, error)
        except Exception:
            log.exception("a walk of %r failed for a reason of our own", self.root)
            self._end(listings, BlobfsError(f"a walk failed. prefix={self.root!r}"))
        finally:
            self._end(listings, Abandoned(f"a walk ended. prefix={self.root!r}"))

    async def _is_wanted(self, listings: Listings) -> bool:
        """Wait while far enough ahead; False when the reader does not come back."""
        while self._ahead >= self._allowed and not self._is_waited_for():
            self._demand = trio.Event()
            with trio.move_on_after(IDLE_S) as idle:
                await self._demand.wait()
            if idle.cancelled_caught and not self._is_being_read(listings):
                return False
        return True

    def _is_being_read(self, listings: Listings) -> bool:
        """Whether somebody is in the middle of a directory that only we can complete."""
        return any(listings.is_read(run.listing) for run in self._own.values())

    def _is_waited_for(self) -> bool:
        return any(run.waiting for run in self._own.values())

    async def _take(self, parts: list[Part], listings: Listings, asked_ns: int) -> None:
        """Write all that one page brought in one transaction, then show it."""
        planned: list[tuple[ListingRun, Addition]] = []
        for part in parts:
            run = self._run_for(part.prefix, listings, asked_ns)
            if run is not None and not part.is_empty:
                planned.append((run, run.plan(part)))
        if planned:
            await listings.add([addition for _, addition in planned])
        for run, addition in planned:
            run.advance(addition)
            if addition.finished is not None:
                self._finished(run)
                self._close(run, listings)
        self._abandon_what_waits({run.prefix for run, _ in planned}, listings)

    def _abandon_what_waits(self, served: set[str], listings: Listings) -> None:
        """Give up the directories that are waited for and got nothing from the last page."""
        for run in list(self._own.values()):
            if run.waiting and run.prefix not in served:
                self._skipped.add(run.prefix)
                run.fail(Abandoned(f"a walk is deep below. prefix={run.prefix!r}"))
                self._close(run, listings)

    def _run_for(self, prefix: str, listings: Listings, asked_ns: int) -> ListingRun | None:
        """Return our run for the directory; None when somebody else is listing it."""
        if (run := self._own.get(prefix)) is not None:
            return run
        if prefix in self._skipped or prefix in self._runs:
            self._skipped.add(prefix)
            return None
        run = ListingRun(prefix, listings.begin(), asked_ns, wanted=self.consumed)
        self._own[prefix] = self._runs[prefix] = run
        return run

    def _close(self, run: ListingRun, listings: Listings) -> None:
        del self._own[run.prefix], self._runs[run.prefix]
        listings.release(run.listing)

    def _announce_page(self) -> None:
        page, self._page = self._page, trio.Event()
        page.set()

    def _end(self, listings: Listings, error: BlobfsError) -> None:
        self.ended = True
        for run in list(self._own.values()):
            run.fail(error)
            self._close(run, listings)
        self._announce_page()
