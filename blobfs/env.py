"""Give the time and the chance to whoever needs them, so that tests can choose both.

No other module reads a clock, draws a random number or makes up an id: the linter
bans it, because a run that cannot be repeated cannot be debugged.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio


def _wall_clock_ns() -> int:
    return time.time_ns()


@dataclass(frozen=True, slots=True)
class Env:
    """The outside world in three functions.

    `now_ns` is wall-clock time in ns since the epoch, for what outlives a process;
    `monotonic_s` is for measuring waits, and follows trio's clock, so that virtual time
    in tests moves it; `chance` draws from [0, 1).
    """

    now_ns: Callable[[], int] = _wall_clock_ns
    monotonic_s: Callable[[], float] = trio.current_time
    chance: Callable[[], float] = field(default=random.random)
