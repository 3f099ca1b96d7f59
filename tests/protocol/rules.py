"""Name the mechanisms of rules L1 to L6 that can be taken out of the explored protocol."""

from enum import StrEnum


class Without(StrEnum):
    """A mechanism that is missing. The value says what a client does instead."""

    NOTHING = "as the rules say"

    L1_RESOLVED = "L1: an entry that lost its slot goes into the next one as it was resolved before"
    L1_BLIND = "L1: replay passes over a row that is unsaved here"

    L2_INTENT = "L2: the intent is not noted before the put"
    L2_IDENTITY = "L2: the hash of what is put is not noted before the put"
    L2_BYTES = "L2: other bytes go to a slot whose outcome is not known"
    L2_HASH = "L2: mine is what has my id and my counter, whatever its hash"

    L3_PACKS = "L3: not all answers to packs are awaited"
    L3_REBASE = "L3: an entry that lost its slot goes into the next one without what took it"
    L3_UNKNOWN = "L3: a put without an answer is taken for one that failed"
    L3_REFUSED = "L3: a put that was refused is taken for lost, without a look into the slot"
    L3_HEAD = "L3: a put that succeeded counts, without a look at head"
    L3_LANDED = "L3: overtaken is taken for landed"
    L3_VOID = "L3: overtaken is taken for void"

    L4_HEAD = "L4: what lies in a slot counts, without a look at head"
    L4_AFTER = "L4: head is read before the slots"
    L4_CHAIN = "L4: what lies in a slot counts, whatever came before it"
    L4_STALE = "L4: what lies in a slot below the floor speaks against a checkpoint"
    L4_TIP = "L4: an empty slot is the tip, however long ago head was read"

    L5_VOLUME = "L5: a bucket without its mark is an empty one"
    L5_HEAD = "L5: a volume without head is one whose log was never cut"
    L5_HOLE = "L5: an empty slot is the tip, whatever lies behind it"
    L5_LISTED = "L5: a slot that was listed, and is empty at the look into it, is the tip"
    L5_FAILURE = "L5: a slot that could not be read is an empty one"

    L6_FORGET = "L6: an own entry that is replayed leaves its operations in the journal"
    L6_ORDER = "L6: an own entry that a killed run replayed is looked for after later entries"
    L6_BASE = "L6: an own entry is not the new base of what follows it"
    L6_COPY = "L6: an entry of mine that I did not write is somebody else's"
    L6_FIRST = "L6: a copy takes its new id before new numbers"
    L6_NUMBERS = "L6: a copy that takes a new id keeps the numbers of the old one"

    @property
    def rule(self) -> str:
        return self.name[:2]
