"""Programs that walk are recognised, people who look around are not."""

import pytest

from blobfs.model.walk import RunDetector, WalkDetector, common_folder


@pytest.mark.parametrize(
    ("prefixes", "common"),
    [
        (["", "a/", "b/"], ""),
        (["x/a/", "x/b/", "x/"], "x/"),
        (["x/ab/", "x/ac/"], "x/"),
        (["x/a/", "x/a/b/", "x/a/b/c/"], "x/a/"),
    ],
)
def test_the_root_of_a_walk_is_the_common_folder(prefixes: list[str], common: str) -> None:
    """Too high a root would list what nobody looks at; too low a one would miss the walk."""
    assert common_folder(prefixes) == common


def test_three_in_a_row_are_a_walk() -> None:
    """`ls -R` of many small folders would otherwise wait a round trip for each."""
    detector = WalkDetector()
    assert detector.opened("", 0.0) is None
    assert detector.opened("a/", 0.1) is None
    assert detector.opened("b/", 0.2) == ""


def test_a_person_is_no_walk() -> None:
    """A listing of a whole bucket must not follow from somebody looking around."""
    detector = WalkDetector()
    for step in range(10):
        assert detector.opened(f"{step}/", step * 2.0) is None


def test_a_slow_store_does_not_hide_a_walk() -> None:
    """The gap is measured from when the listing was there, not from when it was asked for."""
    detector = WalkDetector()
    for step in range(2):
        assert detector.opened(f"{step}/", step * 6.0) is None
        detector.served(step * 6.0 + 5.9)
    assert detector.opened("2/", 12.0) == ""


def test_the_same_directory_again_is_no_walk() -> None:
    """A program that polls one folder does not read the bucket."""
    detector = WalkDetector()
    for _ in range(10):
        assert detector.opened("a/", 0.0) is None


def names(start: int) -> list[bytes]:
    return [b"f%d" % number for number in range(start, start + 3)]


def test_files_in_order_are_fetched_ahead_more_and_more() -> None:
    """Reading a thousand small files must not cost a thousand round trips."""
    detector = RunDetector(most=32)
    windows = [detector.opened("d/", b"f%d" % n, names(n + 1), first=n == 0) for n in range(5)]
    assert windows == [0, 8, 16, 32, 32]


def test_files_out_of_order_are_not() -> None:
    """Guessing wrong costs requests."""
    detector = RunDetector()
    for n in (5, 40, 2, 90):
        assert detector.opened("d/", b"f%d" % n, names(n + 1), first=False) == 0


def test_a_run_goes_on_in_the_next_folder() -> None:
    """`cat */*` must not begin anew in each folder."""
    detector = RunDetector()
    for n in range(3):
        detector.opened("a/", b"f%d" % n, names(n + 1), first=n == 0)
    assert detector.opened("b/", b"f0", names(1), first=True) > 0
    assert detector.opened("c/", b"f7", names(8), first=False) == 0
