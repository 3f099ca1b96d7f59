"""Entries count only in their place: a log that was swapped or forked is noticed at once."""

import pytest

from blobfs.errors import Damaged
from blobfs.formats.commit import Entry
from blobfs.model.chain import Landed, Position, follow
from blobfs.types import ClientId, Seq

ORIGIN = Position(Seq(0), b"v" * 32)


def landed(seq: int, previous: bytes) -> Landed:
    return Landed(Entry(Seq(seq), previous, ClientId(b"c" * 16), 1, 1, ()), b"h" * 32)


def test_the_next_entry_moves_the_place() -> None:
    """Without it nobody could read a log at all."""
    assert follow(ORIGIN, landed(1, b"v" * 32)) == Position(Seq(1), b"h" * 32)


@pytest.mark.parametrize(
    ("seq", "previous", "words"),
    [(2, b"v" * 32, "wrong slot"), (1, b"x" * 32, "does not continue")],
)
def test_what_does_not_follow_is_refused(seq: int, previous: bytes, words: str) -> None:
    """Replaying a forked log would mix two histories into files that nobody wrote."""
    with pytest.raises(Damaged, match=words):
        follow(ORIGIN, landed(seq, previous))


def test_a_log_that_was_cut_above_proves_nothing() -> None:
    """An empty slot below the floor is no tip; a filled one may be a put that came very late."""
    known = Position(Seq(5), b"")
    assert [known.is_cut_off(Seq(floor)) for floor in (4, 5, 6)] == [False, False, True]
