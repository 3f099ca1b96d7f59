"""Give the time and the chance to whoever needs them, so that tests can choose both.

No other module reads a clock, draws a random number or makes up an id: the linter
bans it, because a run that cannot be repeated cannot be debugged.
"""

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

# The clock that Linux stamps files with (CLOCK_REALTIME_COARSE, which Python has no name for). It
# runs up to a tick behind the precise one. Kernels send its time with `touch`: were others taken
# from another clock, a file touched right after it was made would be older than before.
_FILE_CLOCK = 5 if sys.platform == "linux" else time.CLOCK_REALTIME


def _wall_clock_ns() -> int:
    return time.clock_gettime_ns(_FILE_CLOCK)


def _go_on(_name: str) -> None:
    """Pass a crash point: only tests stop the world at one."""


@dataclass(frozen=True, slots=True)
class Env:
    """The outside world in a few functions.

    `now_ns` is wall-clock time in ns since the epoch, for what outlives a process, and moves in
    ticks of some milliseconds, as the times of files do;
    `monotonic_s` is for measuring waits, and follows trio's clock, so that virtual time
    in tests moves it; `chance` draws from [0, 1). `crash_point` is called between steps that a
    kill or a power cut may tear apart, with a name like "journal.appended".
    """

    now_ns: Callable[[], int] = _wall_clock_ns
    monotonic_s: Callable[[], float] = trio.current_time
    chance: Callable[[], float] = field(default=random.random)
    crash_point: Callable[[str], None] = _go_on
