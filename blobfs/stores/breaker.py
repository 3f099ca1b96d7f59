"""Remember that the store does not answer, so that not everybody waits for it in turn.

A program that meets a dead store waits for the deadline. Who asks right after it fails at
once; otherwise those who queue for the same name would each add a deadline to the wait of all
behind them, and a kernel, which tries a failed read a second time, would double it.

It goes around all other layers, once for all who use the store.

Concurrency: keeps nothing between calls but the last outage.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from blobfs.env import Env
from blobfs.errors import BlobfsError, Unreachable
from blobfs.stores.base import Store
from blobfs.stores.layers import Ask, Layer

T = TypeVar("T")

QUICK_S = 0.1
"""A store that fails sooner than this may be asked again at once: nobody waits long for it."""

FAIL_AT_ONCE_S = 1.0
"""Long enough for a queue to drain, short enough that nobody misses the recovery."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A request that was not answered, and nothing has been since. Monotonic clock."""

    error: Unreachable
    failed_at_s: float
    waited_s: float


class Breaker(Layer):
    """Lets calls fail at once for a moment after one that the store did not answer."""

    def __init__(self, inner: Store, env: Env) -> None:
        super().__init__(inner)
        self._env = env
        self._outage: Outage | None = None
        self._answered_s = float("-inf")

    def outage_within(self, pause_s: float) -> Unreachable | None:
        """Return why the store failed to answer, if that was less than `pause_s` ago.

        The pause is no longer than the wait was.
        """
        if (outage := self._outage) is None:
            return None
        since_s = self._env.monotonic_s() - outage.failed_at_s
        return outage.error if since_s < min(pause_s, outage.waited_s) else None

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        if (reason := self.outage_within(FAIL_AT_ONCE_S)) is not None:
            raise Unreachable(str(reason), hint=reason.hint)
        asked_s = self._env.monotonic_s()
        try:
            answer = await call()
        except Unreachable as error:
            self._note_failure(error, asked_s)
            raise
        except BlobfsError:
            self._note_answer()
            raise
        self._note_answer()
        return answer

    def _note_failure(self, error: Unreachable, asked_s: float) -> None:
        now_s = self._env.monotonic_s()
        # Somebody who asked later has been answered: what failed is a leftover.
        if self._answered_s <= asked_s and now_s - asked_s >= QUICK_S:
            self._outage = Outage(error, now_s, now_s - asked_s)

    def _note_answer(self) -> None:
        self._answered_s, self._outage = self._env.monotonic_s(), None
