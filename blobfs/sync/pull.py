"""Show what others commit, while the mount is being used.

    wait, as long as `model.pulling` says -> look into the next slot of the log -> replay

It looks at once when a program comes back to the mount, when somebody asks for it (`blobfs sync`),
and when the machine wakes up.

Concurrency: one task. It leaves a commit that is under way alone, which looks for itself.
"""

import logging

import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError
from blobfs.model.pulling import ASLEEP_S, Moment, is_in_use, pause_s
from blobfs.sync.commit import Committer
from blobfs.sync.programs import Programs
from blobfs.volume.log import Log

SLICE_S = 5.0
"""A sleep of the machine is noticed so long after its end at the latest."""

log = logging.getLogger("blobfs.pull")


class Puller:
    """Looks for what others commit."""

    def __init__(self, *, committer: Committer, log: Log, programs: Programs, env: Env) -> None:
        self._committer = committer
        self._log = log
        self._programs = programs
        self._env = env
        self._wanted = trio.Event()
        self._use = _Seen()
        self._news = _Seen()
        self._failures = 0
        self._is_running = False
        self._is_looking = False
        self._lag_s = self._clock_lag_s()
        self._looks = 0
        """How many have ended, well or not."""
        self._goals: dict[int, int] = {}
        self.problem: str | None = None
        """Why the last look failed; None: it did not."""

    def hurry(self, token: int) -> None:
        """Look now; `has_looked` says by the same `token` when that has ended."""
        if not self._is_running:
            return  # there is no volume yet
        # The one that is under way may have missed what landed just now.
        self._goals[token] = self._looks + (2 if self._is_looking else 1)
        self._wanted.set()

    def has_looked(self, token: int) -> bool:
        """Return whether a look that began after `hurry` has ended, well or not."""
        if self._looks < self._goals.get(token, 0):
            return False
        self._goals.pop(token, None)
        return True

    async def run(self) -> None:
        """Look for ever."""
        self._is_running = True
        while True:
            await self._wait()
            self._is_looking = True
            await self._look()
            self._is_looking = False
            self._looks += 1

    async def _wait(self) -> None:
        """Return when it is time to look."""
        moment = self._moment()
        if not is_in_use(moment):
            self._programs.on_return = self._wanted.set
        is_asked = any(goal > self._looks for goal in self._goals.values())
        left_s = 0 if is_asked else pause_s(moment)
        while left_s > 0 and not self._wanted.is_set() and not self._has_slept():
            with trio.move_on_after(min(left_s, SLICE_S)):
                await self._wanted.wait()
            left_s -= SLICE_S
        self._wanted = trio.Event()
        self._programs.on_return = None

    async def _look(self) -> None:
        try:
            await self._committer.catch_up()
        except BlobfsError as error:
            self._note_failure(error)
        else:
            if self._failures:
                log.info("others' changes can be seen again")
            self._failures, self.problem = 0, None

    def _note_failure(self, error: BlobfsError) -> None:
        self._failures += 1
        self.problem = f"{error} ({error.hint})" if error.hint else str(error)
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        log.log(level, "cannot see what others changed. failures=%d (%s)", self._failures, error)

    def _moment(self) -> Moment:
        now_s = self._env.monotonic_s()
        return Moment(
            now_s,
            self._use.last_s(self._programs.requests, now_s),
            bool(self._programs.held()),
            self._news.last_s(self._programs.news, now_s),
            self._failures,
        )

    def _has_slept(self) -> bool:
        """Return whether the machine slept: what was true of the log need not be any more (L4)."""
        before_s, self._lag_s = self._lag_s, self._clock_lag_s()
        if self._lag_s - before_s < ASLEEP_S:
            return False
        self._log.doubt()
        return True

    def _clock_lag_s(self) -> float:
        """Return by how much the clock of waits, which sleeps too, lies behind the other one."""
        return self._env.now_ns() / 1e9 - self._env.monotonic_s()


class _Seen:
    """When a count was seen to grow last."""

    def __init__(self) -> None:
        self._count = 0
        self._when_s: float | None = None

    def last_s(self, count: int, now_s: float) -> float | None:
        """Return when; None: it never did."""
        if count != self._count:
            self._count, self._when_s = count, now_s
        return self._when_s
