"""No inode number is given twice, by whomever."""

import pytest

from blobfs.model.numbers import FIRST_VOLUME_INODE, RANGE_NUMBERS
from blobfs.types import InodeNo
from blobfs.volume.namespace_numbers import Numbers


def unknown(inode: InodeNo) -> None:
    """Nothing has any number yet."""


def test_a_client_without_a_range_takes_the_first_that_is_free() -> None:
    """What other clients were granted is theirs (M1)."""
    assert Numbers(None, lambda: FIRST_VOLUME_INODE, unknown).take() == FIRST_VOLUME_INODE
    taken = Numbers(None, lambda: 5 * RANGE_NUMBERS, unknown)
    assert [taken.take(), taken.take()] == [5 * RANGE_NUMBERS, 5 * RANGE_NUMBERS + 1]


def test_a_range_is_used_to_its_end_and_then_the_next_free_one() -> None:
    """In between, other clients were granted the ranges that follow."""
    numbers = Numbers(2 * RANGE_NUMBERS - 2, lambda: 7 * RANGE_NUMBERS, unknown)
    assert [numbers.take(), numbers.take()] == [2 * RANGE_NUMBERS - 1, 7 * RANGE_NUMBERS]


def test_a_range_that_was_used_up_is_left() -> None:
    """The number behind it may be another client's."""
    assert (
        Numbers(2 * RANGE_NUMBERS - 1, lambda: 7 * RANGE_NUMBERS, unknown).take()
        == 7 * RANGE_NUMBERS
    )


def test_a_range_not_granted_yet_goes_on_after_a_kill() -> None:
    """The log does not know of it, but unsaved rows have its numbers."""
    assert Numbers(RANGE_NUMBERS + 5, lambda: RANGE_NUMBERS, unknown).take() == RANGE_NUMBERS + 6


def test_two_ranges_not_granted_yet_do_not_overlap() -> None:
    """More files than a range has were made before the first commit."""
    numbers = Numbers(2 * RANGE_NUMBERS - 1, lambda: RANGE_NUMBERS, unknown)
    assert numbers.take() == 2 * RANGE_NUMBERS


def test_a_number_is_kept_while_nobody_knows_what_it_stands_for() -> None:
    """A new file would lie over a row that is not here, and never be saved."""

    def look(inode: InodeNo) -> None:
        if not loaded:
            raise LookupError(inode)

    loaded = False
    numbers = Numbers(RANGE_NUMBERS + 5, lambda: RANGE_NUMBERS, look)
    with pytest.raises(LookupError):
        numbers.take()
    loaded = True
    assert numbers.take() == RANGE_NUMBERS + 6
