"""What a reader is given before it asks, and what it is spared."""

import hypothesis.strategies as st
from hypothesis import given

from blobfs.model.readahead import (
    BOLD_START_BYTES,
    GROWTH,
    MOST_STEP_BYTES,
    START_BYTES,
    Advice,
    Stream,
    follow,
    refused,
    step_bytes,
    waited,
)
from blobfs.types import GIB, KIB, MIB, ByteRange

BLOCK = 256 * KIB
SIZE = 256 * MIB
CAP = 64 * MIB


def step(
    stream: Stream, start: int, length: int, *, size: int = SIZE, cap: int = CAP
) -> tuple[Stream, Advice]:
    span = ByteRange(start, min(start + length, size))
    return follow(stream, span, size_bytes=size, cap_bytes=cap, block_bytes=BLOCK)


def test_small_file_comes_whole() -> None:
    """Users would wait for two round trips on a file of a few hundred KiB."""
    _, advice = step(Stream(), 0, 4 * KIB, size=900 * KIB)
    assert advice.ahead == ByteRange(0, 900 * KIB)


def test_first_read_asks_for_the_first_window() -> None:
    """Users would download megabytes for each `file *`."""
    _, advice = step(Stream(), 0, 128 * KIB)
    assert advice.ahead == ByteRange(0, START_BYTES)


def test_program_that_reads_much_at_once_gets_a_wide_window_at_once() -> None:
    """Users who copy large files would wait for two round trips more."""
    _, advice = step(Stream(), 0, MIB)
    assert advice.ahead == ByteRange(0, BOLD_START_BYTES)


def test_random_reads_get_what_they_ask_for() -> None:
    """Users of databases would download megabytes for each page."""
    stream = Stream()
    for start in (100 * MIB, 7 * MIB, 180 * MIB, 180 * MIB + 300 * KIB):
        stream, advice = step(stream, start, 4 * KIB)
        assert advice.reach == ByteRange(start, start + 4 * KIB)
        assert not advice.ahead


def test_sequential_reads_in_the_middle_become_a_stream() -> None:
    """Users who resume a copy would get it block by block."""
    stream, _ = step(Stream(), 100 * MIB, 4 * KIB)
    stream, advice = step(stream, 100 * MIB + 4 * KIB, 4 * KIB)
    assert len(advice.ahead) >= START_BYTES - BLOCK


def test_window_widens_with_each_wait_up_to_the_cap() -> None:
    """Users with a fast line would never see its speed, or lose their memory to one reader."""
    stream, _ = step(Stream(), 0, 128 * KIB, cap=8 * MIB)
    position, windows = 128 * KIB, []
    for _ in range(200):
        span = ByteRange(position, position + 128 * KIB)
        stream, _ = step(stream, position, 128 * KIB, cap=8 * MIB)
        stream = waited(stream, span, cap_bytes=8 * MIB)
        windows.append(stream.window_bytes)
        position = span.stop
    assert sorted(set(windows)) == [4 * MIB, 8 * MIB] == list(dict.fromkeys(windows))


def test_one_stall_widens_once() -> None:
    """Users would get a window of the largest size for one slow answer, as kernels wait with
    several reads at once."""
    stream = Stream()
    spans = [ByteRange(n * 128 * KIB, (n + 1) * 128 * KIB) for n in range(4)]
    for span in spans:
        stream, _ = step(stream, span.start, len(span))
    for span in spans:
        stream = waited(stream, span, cap_bytes=CAP)
    assert stream.window_bytes == GROWTH * START_BYTES


def test_slow_line_narrows_the_window() -> None:
    """Users of a slow line would get errors: of many requests at a time, none would end before
    its deadline."""
    stream = Stream(furthest=MIB, window_bytes=16 * MIB, asked_to=17 * MIB)
    span = ByteRange(MIB, 2 * MIB)
    narrower = waited(stream, span, cap_bytes=CAP, is_slow=True)
    assert narrower.window_bytes == 4 * MIB
    narrowest = Stream(furthest=MIB, window_bytes=START_BYTES, asked_to=2 * MIB)
    assert waited(narrowest, span, cap_bytes=CAP, is_slow=True).window_bytes == START_BYTES


def test_smaller_share_narrows_the_window() -> None:
    """Users with many readers would exceed the memory that the first one was promised."""
    stream = Stream(furthest=MIB, window_bytes=64 * MIB, asked_to=MIB)
    stream, _ = step(stream, MIB, 128 * KIB, cap=2 * MIB)
    assert stream.window_bytes == 2 * MIB


def test_out_of_order_reads_stay_a_stream() -> None:
    """Users would lose read-ahead, because kernels send reads slightly out of order."""
    stream = Stream()
    for number in (1, 0, 3, 2, 5, 4):
        stream, _ = step(stream, number * MIB, MIB)
    assert stream.window_bytes


def test_far_jump_ends_the_stream() -> None:
    """Users of archives would download what lies behind every file that they look at."""
    stream, _ = step(Stream(), 0, 128 * KIB)
    stream, advice = step(stream, 100 * MIB, 4 * KIB)
    assert not stream.window_bytes
    assert not advice.ahead


def test_refused_bytes_are_asked_for_again() -> None:
    """Users would fall back to block by block after memory was short once."""
    stream, first = step(Stream(), 0, 128 * KIB)
    stream = refused(stream, 512 * KIB)
    _, again = step(stream, 128 * KIB, 128 * KIB)
    assert again.ahead.start == 512 * KIB < first.ahead.stop <= again.ahead.stop


def test_refused_stream_still_moves_in_large_steps() -> None:
    """Users would pay a round trip for each block when memory is short."""
    stream = Stream(furthest=10 * MIB, window_bytes=16 * MIB, asked_to=10 * MIB)
    _, advice = step(stream, 10 * MIB, 128 * KIB)
    assert advice.reach == ByteRange(10 * MIB, 10 * MIB + step_bytes(16 * MIB))


def test_wide_windows_are_few_large_requests() -> None:
    """Servers answer a few large requests with less work than dozens of small ones."""
    assert step_bytes(START_BYTES) == START_BYTES
    assert step_bytes(16 * MIB) == 8 * MIB
    assert step_bytes(GIB) == MOST_STEP_BYTES


@given(
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, MIB), st.booleans()), max_size=40),
    st.sampled_from([BLOCK, MIB, 5 * MIB, CAP, GIB]),
)
def test_advice_stays_inside_the_file_and_the_share(
    reads: list[tuple[int, int, bool]], cap: int
) -> None:
    """Users would see requests behind the end of a file, or memory beyond the budget."""
    stream = Stream()
    for start, length, waits in reads:
        span = ByteRange(start, min(start + length, SIZE))
        stream, advice = step(stream, start, length, cap=cap)
        assert advice.reach.start == span.start
        assert span.stop <= advice.reach.stop <= SIZE
        assert advice.ahead.stop <= SIZE
        assert advice.ahead.stop <= max(stream.furthest + max(cap, START_BYTES), 0)
        if waits:
            stream = waited(stream, span, cap_bytes=cap)
            assert stream.window_bytes <= max(cap, START_BYTES)


def test_straight_reading_asks_for_each_byte_once() -> None:
    """Users would pay for the same bytes twice."""
    stream, asked = Stream(), 0
    for number in range(SIZE // (128 * KIB)):
        span = ByteRange(number * 128 * KIB, (number + 1) * 128 * KIB)
        stream, advice = step(stream, span.start, len(span))
        if advice.ahead:
            assert advice.ahead.start == asked
            asked = advice.ahead.stop
        assert span.stop <= asked
        stream = waited(stream, span, cap_bytes=CAP)
    assert asked == SIZE
