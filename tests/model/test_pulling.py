"""When to look for others' commits: soon for who works with them, rarely for who does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobfs.model.pulling import (
    AFTER_NEWS_S,
    IDLE_S,
    IN_USE_S,
    NEWS_LAST_S,
    USE_LASTS_S,
    Moment,
    is_in_use,
    pause_s,
)


def moment(
    used_s: float | None = None,
    *,
    is_open: bool = False,
    news_s: float | None = None,
    failures: int = 0,
) -> Moment:
    return Moment(1000.0, used_s, is_open, news_s, failures)


@pytest.mark.parametrize(
    ("at", "pause"),
    [
        (moment(), IDLE_S),
        (moment(999), IN_USE_S),
        (moment(1000 - USE_LASTS_S), IDLE_S),
        (moment(is_open=True), IN_USE_S),
        (moment(999, news_s=999), AFTER_NEWS_S),
        (moment(999, news_s=1000 - NEWS_LAST_S), IN_USE_S),
        (moment(news_s=999), IDLE_S),
    ],
)
def test_how_often(at: Moment, pause: float) -> None:
    """Either a change is seen too late, or a mount that nobody uses costs requests all day."""
    assert pause_s(at) == pause


def test_a_store_that_fails_is_asked_less_and_less() -> None:
    """A broken store would be asked as often as one that works, by all mounts at once."""
    pauses = [pause_s(moment(999, news_s=999, failures=number)) for number in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == IDLE_S


@given(
    st.floats(0, 1000) | st.none(),
    st.booleans(),
    st.floats(0, 1000) | st.none(),
    st.integers(0, 100),
)
def test_an_idle_mount_costs_two_requests_a_minute(
    used_s: float | None, is_open: bool, news_s: float | None, failures: int
) -> None:
    """Ten thousand mounts that nobody looks at would cost as much as one that is used."""
    at = moment(used_s, is_open=is_open, news_s=news_s, failures=failures)
    assert AFTER_NEWS_S <= pause_s(at) <= IDLE_S
    if not is_in_use(at):
        assert pause_s(at) == IDLE_S
