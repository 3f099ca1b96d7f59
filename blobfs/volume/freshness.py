"""Decide how far to believe what is known of a directory.

A listing is believed for the time to live, unless something of it turned out outdated or the
clock was set back. One that cannot be refreshed is served as it was, and called stale.

Concurrency: nothing here awaits.
"""

import logging

from blobfs.env import Env
from blobfs.errors import BlobfsError
from blobfs.stores.breaker import Breaker
from blobfs.volume.listings import Folder, Listings
from blobfs.volume.runs import ListingRun

log = logging.getLogger("blobfs.native")

PAUSE_AFTER_FAILURE_S = 5.0
"""How long a directory whose refresh failed is served as it was without asking again; and all
that are known, after the store did not answer."""

CLOCK_SLACK_S = 1.0
"""A clock that goes back by less than this is being corrected, not set."""


class Freshness:
    """The age of listings, and the failures to renew them."""

    def __init__(self, listings: Listings, breaker: Breaker, env: Env, ttl_s: float) -> None:
        self._listings = listings
        self._breaker = breaker
        self._env = env
        self._ttl_s = ttl_s
        # Directories whose refresh failed: when (monotonic), and why.
        self._failed: dict[str, tuple[float, str]] = {}
        # Directories of which something turned out outdated: the first listing to believe.
        self._outdated: dict[str, int] = {}
        self._believed_from = 0
        self._clock_ahead_s = float("-inf")

    @property
    def stale(self) -> int:
        """How many directories could not be refreshed when they were last needed."""
        return len(self._failed)

    @property
    def last_error(self) -> str | None:
        last = max(self._failed.values(), default=None)
        return None if last is None else last[1]

    def left_s(self, listing: Folder | ListingRun) -> float:
        """Return the seconds for which a listing is still to be believed, or 0."""
        now_ns = self._env.now_ns()
        self._watch_clock(now_ns)
        oldest = max(self._believed_from, self._outdated.get(listing.prefix, 0))
        age_s = (now_ns - listing.listed_at_ns) / 1e9
        # A listing from the future was made under another clock: it proves nothing.
        if listing.listing < oldest or not 0 <= age_s < self._ttl_s:
            return 0.0
        return self._ttl_s - age_s

    def is_pausing(self, prefix: str) -> bool:
        """Whether to serve what is known of a directory, however old, without asking the store."""
        if self._breaker.outage_within(PAUSE_AFTER_FAILURE_S) is not None:
            return True
        failed = self._failed.get(prefix)
        return failed is not None and self._env.monotonic_s() - failed[0] < PAUSE_AFTER_FAILURE_S

    def distrust(self, prefix: str) -> None:
        """Believe no listing of the directory that was begun before now."""
        self._outdated[prefix] = self._listings.upcoming

    def note_failure(self, prefix: str, error: BlobfsError) -> None:
        """Note that the old listing of a directory had to be served."""
        if prefix not in self._failed:
            log.warning("serving an old listing of %r: %s", prefix, error)
        self._failed[prefix] = (self._env.monotonic_s(), str(error))

    def note_outage(self, prefix: str) -> None:
        """Note that the old listing of a directory is served because the store is silent."""
        error = self._breaker.outage_within(PAUSE_AFTER_FAILURE_S)
        if error is not None and prefix not in self._failed:
            self.note_failure(prefix, error)

    def note_success(self, run: ListingRun) -> None:
        """Note that `run` renewed what is known of its directory."""
        self._failed.pop(run.prefix, None)
        if run.listing >= self._outdated.get(run.prefix, 0):
            self._outdated.pop(run.prefix, None)

    def _watch_clock(self, now_ns: int) -> None:
        """Believe no listing from before the wall clock was set back: it would look younger."""
        ahead_s = now_ns / 1e9 - self._env.monotonic_s()
        if ahead_s < self._clock_ahead_s - CLOCK_SLACK_S:
            self._believed_from = self._listings.upcoming
        self._clock_ahead_s = ahead_s
