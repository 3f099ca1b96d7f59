"""Access times are kept as relatime does."""

import pytest

from blobfs.types import InodeNo
from blobfs.vfs import atimes
from blobfs.vfs.atimes import STALE_AFTER_NS, AccessTimes

FILE = InodeNo(7)


def test_a_file_that_nobody_read_shows_its_mtime() -> None:
    """Anything else would look like a read that never was."""
    assert AccessTimes().get(FILE, 5) == 5


def test_the_first_read_after_a_change_counts() -> None:
    """Mail readers tell new mail by it; later reads would only cost."""
    times = AccessTimes()
    times.note_read(FILE, 10, 10, 100)
    times.note_read(FILE, 10, 10, 200)
    assert times.get(FILE, 10) == 100
    times.note_read(FILE, 10, 150, 300)  # a chmod at 150
    assert times.get(FILE, 10) == 300


def test_a_read_counts_again_after_a_day() -> None:
    """Else nobody could tell which files are used at all."""
    times = AccessTimes()
    times.note_read(FILE, 10, 10, 100)
    times.note_read(FILE, 10, 10, 100 + STALE_AFTER_NS - 1)
    assert times.get(FILE, 10) == 100
    times.note_read(FILE, 10, 10, 100 + STALE_AFTER_NS)
    assert times.get(FILE, 10) == 100 + STALE_AFTER_NS


def test_what_was_set_stays_until_it_is_forgotten() -> None:
    """tar and touch set it, and expect to find it."""
    times = AccessTimes()
    times.set(FILE, 3)
    assert times.get(FILE, 10) == 3
    times.forget(FILE)
    assert times.get(FILE, 10) == 10


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk through a million files must not fill the memory with their times."""
    monkeypatch.setattr(atimes, "MOST_REMEMBERED", 2)
    times = AccessTimes()
    for number in (1, 2, 1, 3):
        times.set(InodeNo(number), 100 + number)
    assert [times.get(InodeNo(number), 0) for number in (1, 2, 3)] == [101, 0, 103]
