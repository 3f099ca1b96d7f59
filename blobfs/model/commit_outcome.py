"""Decide what became of a commit, from what the store answered. Pure.

The table of the volume format (L3). A put of a slot asks for one of three things next:

    the put was answered    stored: look at `head`       refused, or not at all: look at the slot
    the slot holds          any entry: look at `head`    nothing: put the same bytes again
    `head` says             floor below the slot: landed if mine, else taken
                            floor not below: overtaken

Mine means equal bytes (L2), so a reply that was lost, or a duplicate that came late, is never
taken for somebody else's entry, and somebody else's never for mine.
"""

import enum
from dataclasses import dataclass

from blobfs.types import ClientId, Seq


class Answer(enum.Enum):
    """What came back from the put of a slot."""

    STORED = enum.auto()
    """2xx."""
    REFUSED = enum.auto()
    """412, or 409 BlobAlreadyExists: something lies there."""
    NONE = enum.auto()
    """409 ConditionalRequestConflict, 5xx, a timeout, a reset: it may lie there now."""


class Slot(enum.Enum):
    """What a slot was found to hold after a put that was not answered with success."""

    MINE = enum.auto()
    OTHER = enum.auto()
    ABSENT = enum.auto()


class Step(enum.Enum):
    """What to ask the store next."""

    PUT = enum.auto()
    READ_SLOT = enum.auto()
    READ_HEAD = enum.auto()


class Outcome(enum.Enum):
    """What became of a commit."""

    LANDED = enum.auto()
    """It is part of the volume, for ever and for everybody."""
    TAKEN = enum.auto()
    """Another entry has the slot, for ever: rebase on it, try the next."""
    OVERTAKEN = enum.auto()
    """The log was cut above the slot: head's checkpoint says whether it landed before."""
    UNKNOWN = enum.auto()
    """Not known yet: nothing but the same bytes may go to that slot (L2)."""


def after_put(answer: Answer) -> Step:
    """Return what to do after the put of a slot."""
    return Step.READ_HEAD if answer is Answer.STORED else Step.READ_SLOT


def after_slot(found: Slot) -> Step:
    """Return what to do after a look into the slot.

    An absent one is put again, and always the same bytes: the first put may still be on its
    way, and whichever comes second is refused.
    """
    return Step.PUT if found is Slot.ABSENT else Step.READ_HEAD


def after_head(floor: Seq, seq: Seq, *, is_mine: bool) -> Outcome:
    """Return what became of an entry, by a `head` that was read after its slot was seen filled.

    A slot at or below the floor may have been emptied and filled again, by a put that came very
    late and that nobody will read: what lies there proves nothing, neither way.
    """
    if floor >= seq:
        return Outcome.OVERTAKEN
    return Outcome.LANDED if is_mine else Outcome.TAKEN


@dataclass(frozen=True, slots=True)
class Authored:
    """Who made an entry, as how manyeth, and the hash of its exact bytes."""

    client: ClientId
    counter: int
    hash: bytes


class Author(enum.Enum):
    """Who made an entry that was found in the log."""

    MINE = enum.auto()
    OTHER = enum.auto()
    COPY = enum.auto()
    """Somebody with my id who is not me: this state folder, or the other's, is a copy."""


def author_of(found: Authored, last: Authored) -> Author:
    """Say who made an entry, given the `last` that I put, or tried to, under my present id (L6).

    What I put earlier than that is known by its counter alone.
    """
    if found.client != last.client:
        return Author.OTHER
    if found.counter == last.counter:
        return Author.MINE if found.hash == last.hash else Author.COPY
    return Author.MINE if found.counter < last.counter else Author.COPY


def after_replay(seq: Seq, tip: Seq, *, is_mine: bool) -> Outcome:
    """Return what became of my commit for slot `seq`, when all slots up to `tip` are replayed.

    `is_mine` says that the slot held my bytes. Whoever replayed it before, or a checkpoint of it,
    has asked `is_recorded` first.
    """
    if tip < seq:
        return Outcome.UNKNOWN
    return Outcome.LANDED if is_mine else Outcome.TAKEN


def is_recorded(last: Authored | None, mine: Authored) -> bool:
    """Return whether a tree, replayed or from a checkpoint, holds my commit under way (L3, L6).

    `last` is the last commit of my id that the tree has seen: behind a commit whose outcome is
    not known I make no other, so if mine is there, then as the last one.
    """
    return last == mine
