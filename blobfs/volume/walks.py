"""Know which walks are under way, start new ones, and tell them what their readers do.

Concurrency: walks are tasks of the nursery given; all else here is done between two awaits,
but for `wait_for`.
"""

import logging
from collections.abc import Callable

import trio

from blobfs.env import Env
from blobfs.model.walk import WalkDetector
from blobfs.stores.base import Store
from blobfs.volume.listings import Listings
from blobfs.volume.runs import ListingRun
from blobfs.volume.walk import Walk

log = logging.getLogger("blobfs.walk")

MOST_WALKS = 4

PATIENCE_S = 2.0
"""How long opening a directory waits for the walks that are about to come to it."""


class Walks:
    """The walks of one tree."""

    def __init__(
        self,
        store: Store,
        listings: Listings,
        nursery: trio.Nursery,
        env: Env,
        runs: dict[str, ListingRun],
        finished: Callable[[ListingRun], None],
    ) -> None:
        """`runs` are the listings under way, of walks and others; walks add and remove theirs."""
        self._store = store
        self._listings = listings
        self._nursery = nursery
        self._env = env
        self._runs = runs
        self._finished = finished
        self._detector = WalkDetector()
        self._walks: list[Walk] = []

    def note_cold(self, prefix: str) -> None:
        """Note that a directory had to be listed; start a walk when a program is walking."""
        root = self._detector.opened(prefix, self._env.monotonic_s())
        self._walks = [walk for walk in self._walks if not walk.ended]
        if root is None or len(self._walks) == MOST_WALKS:
            return
        # Where keys come in no certain order, what lies behind a key is not certain either.
        start = prefix if self._store.traits.sorted_listing else ""
        log.debug("a walk of %r begins behind %r", root, start)
        walk = Walk(root, start, self._runs, self._finished)
        self._walks.append(walk)
        self._nursery.start_soon(walk.run, self._store, self._listings, self._env)

    def note_served(self) -> None:
        """Note that a listing asked for is there: only now its reader can go on."""
        self._detector.served(self._env.monotonic_s())

    def note_used(self, prefix: str) -> None:
        """Note that the reader used a directory that a walk may have brought."""
        for walk in self._walks:
            if prefix.startswith(walk.root):
                walk.consumed()

    async def wait_for(self, prefix: str) -> None:
        """Give a walk that is about to come to this directory one page's time."""
        with trio.move_on_after(PATIENCE_S):
            for walk in self._walks:
                if walk.covers(prefix):
                    await walk.wait_page()
