"""Unsaved bytes show where they were written last, and nowhere else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blobfs.model.spans import FromBase, Piece, SpanMap, Written, Zeros
from blobfs.types import ByteRange, Serial

Step = tuple[str, int, int]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 60), st.integers(1, 25)),
        st.tuples(st.just("cut"), st.integers(0, 80), st.just(0)),
        st.tuples(st.just("drop"), st.integers(0, 30), st.just(0)),
    ),
    max_size=30,
)


def written(start: int, length: int, serial: int) -> Written:
    return Written(start, length, 0, 1000 * serial, Serial(serial), b"checksum")


def take(spans: SpanMap, steps: list[Step]) -> tuple[dict[int, int], int]:
    """Run `steps`; return the serial that shows at each offset, and how many bytes went."""
    shown: dict[int, int] = {}
    gone_bytes = 0
    for serial, (what, at, length) in enumerate(steps, start=1):
        match what:
            case "write":
                gone = spans.write_over(written(at, length, serial))
                shown |= dict.fromkeys(range(at, at + length), serial)
            case "cut":
                gone = spans.cut(at)
                shown = {offset: by for offset, by in shown.items() if offset < at}
            case _:
                gone = spans.drop_until(Serial(at))
                shown = {offset: by for offset, by in shown.items() if by > at}
        gone_bytes += sum(piece.length_bytes for piece in gone)
    return shown, gone_bytes


@given(STEPS)
def test_last_write_shows(steps: list[Step]) -> None:
    """Users would read what they had overwritten, or zeros where they wrote."""
    spans = SpanMap()
    shown, gone_bytes = take(spans, steps)
    found = {
        offset: int(piece.written.serial)
        for piece in spans
        for offset in range(piece.start, piece.stop)
    }
    assert found == shown
    assert spans.unsaved_bytes == len(shown)
    assert gone_bytes + len(shown) == sum(length for what, _, length in steps if what == "write")


@given(STEPS, st.integers(0, 90), st.integers(0, 90), st.integers(0, 90), st.integers(0, 90))
@example([("write", 0, 2)], 1, 0, 2, 0)
def test_plan_names_every_byte_once(
    steps: list[Step], start: int, length: int, size: int, limit: int
) -> None:
    """Users would read a hole of their file as old content, or too much or too little of it."""
    spans = SpanMap()
    shown, _ = take(spans, steps)
    at = min(start, size)
    for part in spans.plan_read(ByteRange(start, start + length), size, limit):
        begin, stop = (
            (part.start, part.stop)
            if isinstance(part, Piece)
            else (part.span.start, part.span.stop)
        )
        assert begin == at < stop
        for offset in range(begin, stop):
            expected = Piece if offset in shown else FromBase if offset < limit else Zeros
            assert isinstance(part, expected)
        at = stop
    assert at == min(start + length, size)


def test_copy_stands_still() -> None:
    """A commit would hold a mixture of what was there when it began and what came later."""
    spans = SpanMap()
    spans.write_over(written(0, 10, 1))
    copy = spans.copy()
    spans.write_over(written(5, 10, 2))
    spans.cut(2)
    assert [(piece.start, piece.stop) for piece in copy] == [(0, 10)]
    assert (copy.unsaved_bytes, spans.unsaved_bytes) == (10, 2)


@pytest.mark.parametrize("start", [0, 3, 9])
def test_part_of_a_write_knows_where_it_came_from(start: int) -> None:
    """Reads behind an overwritten beginning would return bytes of another place."""
    spans = SpanMap()
    whole = written(0, 10, 1)
    spans.write_over(whole)
    assert spans.inside(start, 10) == [Piece(start, 10, whole)]
