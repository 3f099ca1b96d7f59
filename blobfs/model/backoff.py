"""Say how long to wait before something that failed is tried again. Pure."""

MOST_DOUBLINGS = 32
"""No pause is as long, and larger numbers are too large for a float after a day's outage."""


def backoff_s(failures: int, first_s: float, longest_s: float, chance: float) -> float:
    """Return the pause after so many failures in a row, from 1: each twice as long, up to a bound.

    `chance`, from [0, 1), takes up to half of it away, so that not all come back at once.
    """
    whole_s: float = min(longest_s, first_s * 2 ** min(failures - 1, MOST_DOUBLINGS))
    return whole_s * (0.5 + chance / 2)
