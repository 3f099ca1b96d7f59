"""Decide when to look for what others committed. Pure.

A look is one request for an empty slot of the log. Somebody who works with others sees their
changes within seconds; a mount that nobody looks at costs two requests a minute.
"""

from dataclasses import dataclass

AFTER_NEWS_S = 1.0
"""Between looks, while others are committing, ..."""
NEWS_LAST_S = 30.0
"""... which they are for so long after a commit."""
IN_USE_S = 2.0
"""Between looks, while a program uses the mount, ..."""
USE_LASTS_S = 60.0
"""... which it does for so long after a request. A kernel believes what it was told for half of
that, so that somebody who only looks again and again counts."""
IDLE_S = 30.0
FIRST_RETRY_S = 1.0

ASLEEP_S = 5.0
"""A wall clock that is ahead of the other one by so much more than before: the machine slept."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known when a look has ended. Times are on the clock of waits."""

    now_s: float
    used_s: float | None
    """When a program last asked for something; None: never."""
    is_open: bool
    """Whether a program has anything open."""
    news_s: float | None
    """When something of others was found last."""
    failures: int
    """Looks in a row that failed."""


def pause_s(moment: Moment) -> float:
    """Return how long to wait before the next look."""
    normal_s = _normal_s(moment)
    if not moment.failures:
        return normal_s
    retry_s: float = FIRST_RETRY_S * 2 ** min(moment.failures - 1, 5)
    return max(normal_s, min(IDLE_S, retry_s))


def is_in_use(moment: Moment) -> bool:
    """Return whether programs use the mount."""
    return moment.is_open or _is_within(moment.used_s, moment.now_s, USE_LASTS_S)


def _normal_s(moment: Moment) -> float:
    if not is_in_use(moment):
        return IDLE_S
    if _is_within(moment.news_s, moment.now_s, NEWS_LAST_S):
        return AFTER_NEWS_S
    return IN_USE_S


def _is_within(when_s: float | None, now_s: float, span_s: float) -> bool:
    return when_s is not None and now_s - when_s < span_s
