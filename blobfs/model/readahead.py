"""Decide how far ahead of a reader to fetch. Pure: values in, values out.

A reader is one open file. While its reads follow each other it has a window: the bytes
behind its furthest read that ought to be here, or on their way. The window starts small,
because most files are opened for their first bytes only, and widens each time that the
reader had to wait for bytes that were not asked for when it last widened. A reader that
jumps has no window and gets only what it asked for.

"Follow each other" is meant loosely: a kernel sends several reads of one file at once,
and they arrive slightly out of order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from blobfs.types import KIB, MIB, ByteRange

START_BYTES = MIB
"""The first window; a file no larger than this comes in one request."""

BOLD_READ_BYTES = 512 * KIB
BOLD_START_BYTES = 16 * MIB
"""The first window of a program that begins with a read of this size: a kernel asks for so much
only on behalf of one that asked for much itself, and such a program goes on."""

GROWTH = 4
"""How much the window widens when the reader had to wait."""

STEPS_OF_A_WINDOW = 2
MOST_STEP_BYTES = 16 * MIB
"""The window moves on in steps of a part of it, one request each: so a wide window is few large
ones, and each costs a server some 3 ms of work, whatever its size. It is not slower for it, as
its bytes are served while they arrive."""

LARGE_BYTES = 64 * KIB
"""Reads of this size are a kernel's own read-ahead, or a program copying."""
NEAR_LARGE_BYTES = 4 * MIB
"""How far before or behind the furthest read a large read may start and still follow it:
the most that a kernel has under way for one file."""
NEAR_SMALL_BYTES = MIB
"""The same for small reads, which come one at a time: a program that skips a little."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known of how one open file is being read."""

    furthest: int = 0
    """End of the furthest read since the last jump."""
    window_bytes: int = 0
    """0 where the reads do not follow each other."""
    asked_to: int = 0
    """Everything from the last jump up to here was asked for."""
    grown_at: int = 0
    """A wait for bytes before this does not widen the window: they were asked for when it
    last widened, or earlier."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do for one read: `reach` holds the read itself, `ahead` is for later reads.

    What is missing of the read is fetched with what is missing of the rest of `reach`, so
    that a stream whose read-ahead was refused still moves in large steps. `ahead` may be
    empty, and may overlap `reach`.
    """

    reach: ByteRange
    ahead: ByteRange


def follow(
    stream: Stream, span: ByteRange, *, size_bytes: int, cap_bytes: int, block_bytes: int
) -> tuple[Stream, Advice]:
    """Return the state after a read of `span`, and what to fetch for it.

    `span` is not empty and lies inside the file; `cap_bytes` is this reader's share of the
    memory. A window is never smaller than `START_BYTES`.
    """
    if not _follows(stream, span):
        jumped = Stream(furthest=span.stop, asked_to=span.stop, grown_at=span.stop)
        return jumped, Advice(span, ByteRange(span.stop, span.stop))
    window = min(stream.window_bytes or _first_window(span), max(cap_bytes, START_BYTES))
    furthest = max(stream.furthest, span.stop)
    goal = _goal(furthest, window, size_bytes, block_bytes)
    reach_stop = max(span.stop, min(span.start + step_bytes(window), goal))
    reach = ByteRange(span.start, reach_stop)
    # Small steps would be small requests: wait until one is worth its round trip.
    worth = goal == size_bytes or goal - stream.asked_to >= min(window // 2, step_bytes(window))
    asked_to = max(stream.asked_to, goal) if worth else stream.asked_to
    ahead = ByteRange(min(stream.asked_to, asked_to), asked_to)
    return replace(stream, furthest=furthest, window_bytes=window, asked_to=asked_to), Advice(
        reach, ahead
    )


def _first_window(span: ByteRange) -> int:
    return BOLD_START_BYTES if len(span) >= BOLD_READ_BYTES else START_BYTES


def step_bytes(window_bytes: int) -> int:
    """Return the size of one request of a window, of at least `START_BYTES`."""
    return min(max(window_bytes // STEPS_OF_A_WINDOW, START_BYTES), MOST_STEP_BYTES)


def waited(stream: Stream, span: ByteRange, *, cap_bytes: int, is_slow: bool = False) -> Stream:
    """Return the state after the read of `span` had to wait.

    `is_slow` says that a step of the window takes long to come: more at a time would only
    take longer, until none of them ends before its deadline, so the window gets narrower.
    """
    if not stream.window_bytes or span.stop <= stream.grown_at:
        return stream
    wanted = stream.window_bytes // GROWTH if is_slow else stream.window_bytes * GROWTH
    window = max(min(wanted, cap_bytes), START_BYTES)
    return replace(stream, window_bytes=window, grown_at=stream.asked_to)


def refused(stream: Stream, start: int) -> Stream:
    """Return the state after the bytes from `start` on could not be asked for."""
    return replace(stream, asked_to=min(stream.asked_to, start))


def _follows(stream: Stream, span: ByteRange) -> bool:
    distance = abs(span.start - stream.furthest)
    if len(span) >= LARGE_BYTES:
        return distance <= NEAR_LARGE_BYTES
    # Small reads here and there become a stream where one goes on exactly behind another.
    return distance <= NEAR_SMALL_BYTES if stream.window_bytes else distance == 0


def _goal(furthest: int, window_bytes: int, size_bytes: int, block_bytes: int) -> int:
    """Return where the window ends: between two steps, or at the end of the file."""
    goal = furthest + window_bytes
    if goal >= size_bytes:
        return size_bytes
    step = step_bytes(window_bytes)
    aligned = goal - goal % (step if step < window_bytes else block_bytes)
    return max(furthest, aligned)


def steps(ahead: range, step: int) -> Iterator[range]:
    """Cut `ahead`, in blocks, where whole multiples of `step` are.

    Stores keep large objects in parts, and a request that crosses fewer of them costs less.
    """
    first = ahead.start
    while first < ahead.stop:
        stop = min(first - first % step + step, ahead.stop)
        yield range(first, stop)
        first = stop
