"""Count down a wait of the command line, which has no event loop to do it."""

import time


class Deadline:
    """A moment that is `within_s` away at first."""

    def __init__(self, within_s: float) -> None:
        self._end_s = time.monotonic() + within_s  # noqa: TID251 - env's clock needs an event loop

    def remaining_s(self) -> float:
        """Return what is left, never less than zero."""
        return max(0.0, self._end_s - time.monotonic())  # noqa: TID251 - as above
