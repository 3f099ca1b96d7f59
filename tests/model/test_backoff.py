"""What failed is tried again soon, then less and less often, and not by all at one moment."""

from hypothesis import given
from hypothesis import strategies as st

from blobfs.model.backoff import backoff_s


def test_each_pause_is_twice_as_long_up_to_a_bound() -> None:
    """A store that is down would be asked as often as one that works."""
    pauses = [backoff_s(failures, 1.0, 10.0, 1.0) for failures in range(1, 7)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_an_outage_of_any_length_ends_nothing() -> None:
    """After a day without a network nothing would be saved any more until the next mount."""
    assert backoff_s(10**6, 1.0, 60.0, 1.0) == 60.0


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_chance_takes_half_away_at_most(failures: int, chance: float) -> None:
    """All mounts would come back in the same second after an outage."""
    whole_s = backoff_s(failures, 1.0, 60.0, 1.0)
    assert whole_s / 2 <= backoff_s(failures, 1.0, 60.0, chance) <= whole_s
