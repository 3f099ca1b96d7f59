"""Every answer to a commit leads to the right next question, and none to a wrong conclusion."""

import pytest

from blobfs.model.commit_outcome import (
    Answer,
    Author,
    Authored,
    Outcome,
    Slot,
    Step,
    after_head,
    after_put,
    after_replay,
    after_slot,
    author_of,
    is_recorded,
)
from blobfs.types import ClientId, Seq

ME, SOMEBODY = ClientId(b"m" * 16), ClientId(b"s" * 16)


@pytest.mark.parametrize(
    ("answer", "step"),
    [
        (Answer.STORED, Step.READ_HEAD),
        (Answer.REFUSED, Step.READ_SLOT),
        (Answer.NONE, Step.READ_SLOT),
    ],
)
def test_only_success_goes_without_a_look_into_the_slot(answer: Answer, step: Step) -> None:
    """Taking a lost reply for a failure would commit the same work twice."""
    assert after_put(answer) is step


def test_an_empty_slot_gets_the_same_bytes_again() -> None:
    """Giving the slot up while a put is on its way would leave an entry nobody knows of."""
    assert after_slot(Slot.ABSENT) is Step.PUT


@pytest.mark.parametrize("found", [Slot.MINE, Slot.OTHER])
def test_a_filled_slot_says_nothing_before_head_does(found: Slot) -> None:
    """A slot below the floor may hold the late duplicate of an entry that lost long ago."""
    assert after_slot(found) is Step.READ_HEAD


@pytest.mark.parametrize(
    ("floor", "is_mine", "outcome"),
    [
        (6, True, Outcome.LANDED),
        (6, False, Outcome.TAKEN),
        (7, True, Outcome.OVERTAKEN),
        (7, False, Outcome.OVERTAKEN),
        (8, True, Outcome.OVERTAKEN),
    ],
)
def test_the_floor_decides(floor: int, is_mine: bool, outcome: Outcome) -> None:
    """At or below the floor an entry is not read by anybody: called landed, it would be lost."""
    assert after_head(Seq(floor), Seq(7), is_mine=is_mine) is outcome


@pytest.mark.parametrize(
    ("client", "counter", "digest", "author"),
    [
        (SOMEBODY, 5, b"mine", Author.OTHER),
        (ME, 5, b"mine", Author.MINE),
        (ME, 4, b"older", Author.MINE),
        (ME, 5, b"another", Author.COPY),
        (ME, 6, b"later", Author.COPY),
    ],
)
def test_a_copied_state_folder_is_noticed(
    client: ClientId, counter: int, digest: bytes, author: Author
) -> None:
    """Two clients under one id would take each other's entries for their own, and drop work."""
    last = Authored(ME, 5, b"mine")
    assert author_of(Authored(client, counter, digest), last) is author


@pytest.mark.parametrize(
    ("tip", "is_mine", "outcome"),
    [
        (6, False, Outcome.UNKNOWN),
        (7, True, Outcome.LANDED),
        (7, False, Outcome.TAKEN),
        (9, True, Outcome.LANDED),
        (9, False, Outcome.TAKEN),
    ],
)
def test_what_was_replayed_decides(tip: int, is_mine: bool, outcome: Outcome) -> None:
    """A commit is given up only when its slot is known to hold another one, else it is twice."""
    assert after_replay(Seq(7), Seq(tip), is_mine=is_mine) is outcome


def test_only_the_very_commit_counts_as_recorded() -> None:
    """Another one under the same number, of a copy, would be taken for what is unsaved here."""
    mine = Authored(ME, 5, b"mine")
    assert is_recorded(mine, mine)
    for last in (None, Authored(ME, 4, b"older"), Authored(ME, 5, b"another")):
        assert not is_recorded(last, mine)
