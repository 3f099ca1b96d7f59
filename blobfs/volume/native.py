"""Show the objects of a bucket as directories, listing no more than somebody looks at.

What is known of a directory is its last complete listing and its age. While the listing is
younger than the time to live, every question is answered from it. After that:

- opening the directory lists it again; if that fails, the old listing is served whole
  and called stale (promise P5: unreachable is not deleted);
- looking up a name asks for that name alone, and after a few of those the directory is listed
  in the background, unless it is large.

A directory that was never listed is shown while its pages are still arriving. Several in a
row make a walk (`volume.walk`).

Concurrency: one listing of a directory at a time, however many readers; all tasks live in the
nursery given, so that nothing outlives the mount.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError, NotFound, Unreachable
from blobfs.model.listing import (
    Entry,
    FolderAssembler,
    OddKey,
    assemble_folder,
    to_segment,
)
from blobfs.stores.breaker import Breaker
from blobfs.types import ListPage
from blobfs.volume.freshness import Freshness
from blobfs.volume.listings import Folder, Listings, open_listings
from blobfs.volume.names import NameMemory, Remembered, ask_name, first_entries
from blobfs.volume.runs import Abandoned, FolderView, ListingRun
from blobfs.volume.walks import Walks
from blobfs.volume.whole import WholeListing, first_error

log = logging.getLogger("blobfs.native")

LOOKUPS_BEFORE_LISTING = 3
"""Names asked for alone in one directory, after which it is listed in the background."""

PAGES_IN_BACKGROUND = 10
"""A directory with more pages than this is only ever listed for a reader."""

MOST_COUNTED = 10_000
"""Directories whose lookups are counted at one time."""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a lookup. `entry` None: the store said that there is nothing."""

    entry: Entry | None
    valid_until_s: float
    """Monotonic clock."""


@dataclass(frozen=True, slots=True)
class NativeStatistics:
    """What `blobfs status` says of the listings."""

    folders: int
    entries: int
    size_bytes: int
    stale: int
    last_error: str | None
    odd_count: int


class NativeTree:
    """The directories of one bucket. Made by `open_native`."""

    def __init__(
        self,
        store: Breaker,
        listings: Listings,
        nursery: trio.Nursery,
        env: Env,
        *,
        ttl_s: float,
        born_ns: int,
    ) -> None:
        self._store = store
        self._listings = listings
        self._freshness = Freshness(listings, store, env, ttl_s)
        self._nursery = nursery
        self._env = env
        self._ttl_s = ttl_s
        self._born_ns = born_ns
        self._names = NameMemory()
        self._asking: dict[tuple[str, bytes], trio.Event] = {}
        self._asked: Counter[str] = Counter()
        self._large: set[str] = set()
        self._runs: dict[str, ListingRun] = {}
        self._walks = Walks(store, listings, nursery, env, self._runs, self._note_success)
        self._garbage = trio.Event()
        self._garbage.set()

    # --- questions -------------------------------------------------------------------

    async def lookup(self, prefix: str, name: bytes) -> Found:
        """Say what `name` is in the directory `prefix`.

        Raises:
            BlobfsError: the store did not answer, and nothing known tells.
        """
        folder = self._listings.folder(prefix)
        now_s = self._env.monotonic_s()
        if folder is not None and (left_s := self._freshness.left_s(folder)) > 0:
            self._walks.note_used(prefix)
            return Found(self._listings.entry(folder.listing, name), now_s + left_s)
        if (known := self._names.get(prefix, name, now_s)) is not None:
            return Found(known.entry, known.valid_until_s)
        if self._freshness.is_pausing(prefix):
            if folder is not None:
                self._freshness.note_outage(prefix)
            if (entry := self._old_entry(prefix, name)) is not None:
                return Found(entry, now_s)
        try:
            return await self._ask(prefix, name)
        except BlobfsError as error:
            if self._listings.folder(prefix) is not None:
                self._freshness.note_failure(prefix, error)
            if (entry := self._old_entry(prefix, name)) is not None:
                return Found(entry, self._env.monotonic_s())
            raise

    async def open_folder(self, prefix: str) -> FolderView:
        """Return a view of the directory. The caller closes it.

        Raises:
            BlobfsError: it has to be listed again and the store did not answer, and no
                listing of it is known.
        """
        if (view := self._known_view(prefix)) is not None:
            return view
        if prefix not in self._runs:
            await self._walks.wait_for(prefix)
            if (view := self._known_view(prefix)) is not None:
                return view
        folder = self._listings.folder(prefix)
        if (run := self._runs.get(prefix)) is None:
            run = self._start(prefix)
            self._walks.note_cold(prefix)
        if folder is None:
            return await self._first_view(run)
        return await self._refreshed_view(run, folder)

    def following(self, prefix: str, name: bytes, count: int) -> list[Entry]:
        """Return up to `count` entries behind `name`, from a fresh listing only."""
        folder = self._listings.folder(prefix)
        if folder is None or self._freshness.left_s(folder) <= 0:
            return []
        return self._listings.following(folder.listing, name, count)

    def is_first_file(self, prefix: str, name: bytes) -> bool:
        """Whether `name` is the file that sorts first in its directory, as far as known."""
        folder = self._listings.folder(prefix)
        if folder is None:
            return False
        first = self._listings.first_file(folder.listing)
        return first is not None and first.name == name

    def folder_mtime_ns(self, prefix: str) -> int:
        """Return the time of the directory's marker object, where one is known.

        Other directories have the time when the bucket was first seen: any would do, as long
        as it stays the same.
        """
        folder = self._listings.folder(prefix)
        return self._born_ns if folder is None or folder.mtime_ns is None else folder.mtime_ns

    def marker_ns(self, prefix: str) -> int | None:
        """Return the time of the object that makes a directory be there, even an empty one.

        None: there is none, as far as the last listing tells.
        """
        folder = self._listings.folder(prefix)
        return None if folder is None else folder.mtime_ns

    def forget(self, prefix: str, name: bytes) -> None:
        """Ask the store again for `name`: what we said of it turned out to be outdated."""
        self._names.forget(prefix, name)
        self._freshness.distrust(prefix)

    def statistics(self) -> NativeStatistics:
        totals = self._listings.totals()
        return NativeStatistics(
            folders=totals.folders,
            entries=totals.entries,
            size_bytes=totals.size_bytes,
            stale=self._freshness.stale,
            last_error=self._freshness.last_error,
            odd_count=totals.odd,
        )

    def odd_keys(self, at_most: int) -> list[OddKey]:
        """Return some of the keys that cannot be shown, with the reason."""
        return self._listings.odd_keys(at_most)

    @contextlib.asynccontextmanager
    async def listed_whole(self, prefix: str, most: int) -> AsyncIterator[WholeListing]:
        """List all that lies below `prefix`, as of now; it is held while we are inside.

        Raises:
            Refused: EFBIG (more than `most` objects and directories).
            BlobfsError: the store did not answer every request for a page.
        """
        whole = WholeListing(prefix, self._listings, self._env, self._note_success)
        try:
            await _container_is_there(lambda: whole.run(self._store, most))
            yield whole
        finally:
            whole.close()
            self._garbage.set()

    # --- views -----------------------------------------------------------------------

    def _known_view(self, prefix: str) -> FolderView | None:
        """Return a view that needs no request, where there is one."""
        folder = self._listings.folder(prefix)
        if folder is None:
            return None
        if self._freshness.left_s(folder) > 0:
            self._walks.note_used(prefix)
            return self._view(folder)
        if not self._freshness.is_pausing(prefix):
            return None
        self._freshness.note_outage(prefix)
        return self._view(folder)

    def _view(self, source: Folder | ListingRun) -> FolderView:
        return FolderView(
            self._listings,
            source,
            valid_until_s=self._env.monotonic_s() + self._freshness.left_s(source),
            run_again=partial(self._run_for, source.prefix),
        )

    # --- one name --------------------------------------------------------------------

    def _old_entry(self, prefix: str, name: bytes) -> Entry | None:
        """Return what the name once was. None: nobody knows, which does not mean absent."""
        folder = self._listings.folder(prefix)
        entry = None if folder is None else self._listings.entry(folder.listing, name)
        if entry is None:
            # As of a moment before all others, so that no answer is too old.
            known = self._names.get(prefix, name, float("-inf"))
            entry = None if known is None else known.entry
        return entry

    async def _ask(self, prefix: str, name: bytes) -> Found:
        """Ask the store for one name, once for all who want to know."""
        while (asking := self._asking.get((prefix, name))) is not None:
            await asking.wait()
            known = self._names.get(prefix, name, self._env.monotonic_s())
            if known is not None:
                return Found(known.entry, known.valid_until_s)
        done = self._asking[prefix, name] = trio.Event()
        # What the store says may be as old as the question.
        until_s = self._env.monotonic_s() + self._ttl_s
        try:
            asked = await _container_is_there(
                lambda: ask_name(self._store, prefix, name, self._nursery)
            )
            self._names.put(prefix, name, Remembered(asked.entry, until_s))
            self._remember_below(f"{prefix}{to_segment(name)}/", asked.below, until_s)
        finally:
            del self._asking[prefix, name]
            done.set()
        self._count_lookup(prefix)
        return Found(asked.entry, until_s)

    def look_at_root(self) -> None:
        """Learn what lies in the root, if that is little, before somebody asks for it."""
        folder = self._listings.folder("")
        if folder is None or self._freshness.left_s(folder) <= 0:
            self._nursery.start_soon(self._look_at_root)

    async def _look_at_root(self) -> None:
        until_s = self._env.monotonic_s() + self._ttl_s
        try:
            self._remember_below("", await first_entries(self._store, ""), until_s)
        except BlobfsError as error:
            log.debug("looking at the root failed; nobody has asked for it yet: %s", error)

    def _remember_below(self, prefix: str, entries: Iterable[Entry], until_s: float) -> None:
        for entry in entries:
            self._names.put(prefix, entry.name, Remembered(entry, until_s))

    def _count_lookup(self, prefix: str) -> None:
        """After a few names asked for alone, list the directory in the background."""
        if len(self._asked) >= MOST_COUNTED:
            self._asked.clear()
        self._asked[prefix] += 1
        if self._asked[prefix] < LOOKUPS_BEFORE_LISTING or prefix in self._large:
            return
        del self._asked[prefix]
        if prefix not in self._runs:
            self._start(prefix)

    # --- listings --------------------------------------------------------------------

    async def _first_view(self, run: ListingRun) -> FolderView:
        """Return a view that shows the pages as they arrive."""
        view = self._view(run)
        try:
            await view.has_page(0)
        except BaseException:
            view.close()
            raise
        self._walks.note_served()
        return view

    async def _refreshed_view(self, run: ListingRun, folder: Folder) -> FolderView:
        """Return the new listing when it is whole, else the old one, whole."""
        old = self._view(folder)
        try:
            refreshed = await self._wait_finished(run)
        except BlobfsError as error:
            self._freshness.note_failure(folder.prefix, error)
            return old
        except BaseException:
            old.close()
            raise
        old.close()
        self._walks.note_served()
        return self._view(refreshed)

    async def _wait_finished(self, run: ListingRun) -> Folder:
        """Return the listing that `run` makes, or another one where it is given up."""
        while True:
            try:
                return await run.wait_finished()
            except Abandoned:
                run = self._run_for(run.prefix)

    def _run_for(self, prefix: str) -> ListingRun:
        """Return the run under way for a directory; begin one where there is none."""
        return self._runs.get(prefix) or self._start(prefix)

    def _start(self, prefix: str) -> ListingRun:
        run = ListingRun(prefix, self._listings.begin(), self._env.now_ns())
        self._runs[prefix] = run
        self._nursery.start_soon(self._list_folder, run)
        return run

    async def _list_folder(self, run: ListingRun) -> None:
        """Fetch a listing page by page, the next one while the last is being written."""
        try:
            async with trio.open_nursery() as nursery:
                # A few pages between net and disk; the next is asked for before this is read.
                send, receive = trio.open_memory_channel[ListPage](2)
                nursery.start_soon(self._write_pages, run, receive)
                async with send:
                    await _container_is_there(lambda: self._fetch_pages(run, send))
        except* BlobfsError as group:
            run.fail(first_error(group))
        except* Exception:
            log.exception("listing %r failed for a reason of our own", run.prefix)
            run.fail(BlobfsError(f"listing failed. prefix={run.prefix!r}"))
        finally:
            if self._runs.get(run.prefix) is run:
                del self._runs[run.prefix]
            self._listings.release(run.listing)
            self._garbage.set()

    async def _fetch_pages(self, run: ListingRun, send: trio.MemorySendChannel[ListPage]) -> None:
        token: str | None = None
        pages = 0
        while True:
            page = await self._store.list(run.prefix, delimiter=True, token=token)
            token = page.next_token
            await send.send(page)
            pages += 1
            if token is None:
                return
            if pages >= PAGES_IN_BACKGROUND:
                self._large.add(run.prefix)
                if not run.awaited:
                    del self._runs[run.prefix]  # before anybody joins what ends here
                    raise Abandoned(f"a large directory nobody reads. prefix={run.prefix!r}")

    async def _write_pages(
        self, run: ListingRun, receive: trio.MemoryReceiveChannel[ListPage]
    ) -> None:
        assembler = FolderAssembler(run.prefix)
        async for page in receive:
            part = assemble_folder(assembler, page, last=page.next_token is None)
            addition = run.plan(part)
            await self._listings.add([addition])
            if addition.finished is not None:
                self._note_success(run)
            run.advance(addition)

    def _note_success(self, run: ListingRun) -> None:
        self._freshness.note_success(run)
        self._asked.pop(run.prefix, None)
        if run.pages < PAGES_IN_BACKGROUND:
            self._large.discard(run.prefix)

    # --- upkeep ----------------------------------------------------------------------

    async def tidy(self) -> None:
        """Remove what replaced and unfinished listings left, in small steps, until cancelled."""
        while True:
            await self._garbage.wait()
            self._garbage = trio.Event()
            try:
                while await self._listings.remove_garbage():  # noqa: ASYNC110 - see below
                    await trio.sleep(0.01)  # other writers come in between
            except BlobfsError as error:
                log.warning("old listings stay for now: %s", error)


T = TypeVar("T")


async def _container_is_there(call: Callable[[], Awaitable[T]]) -> T:
    """Run `call`; a container that is gone is a fault, not an empty directory."""
    try:
        return await call()
    except NotFound as error:
        raise Unreachable(f"the bucket is not there any more: {error}") from error


@contextlib.asynccontextmanager
async def open_native(
    store: Breaker, state_dir: Path, *, ttl_s: float, env: Env
) -> AsyncIterator[NativeTree]:
    """Open the directories of `store`, with what earlier mounts learnt of them.

    The caller holds the lock of `state_dir`.

    Raises:
        LocalFault: the folder cannot be used.
    """
    async with (
        open_listings(state_dir / "native.lmdb") as listings,
        trio.open_nursery() as nursery,
    ):
        born_ns = await listings.born_ns(env.now_ns())
        tree = NativeTree(store, listings, nursery, env, ttl_s=ttl_s, born_ns=born_ns)
        nursery.start_soon(tree.tidy)
        yield tree
        nursery.cancel_scope.cancel()
