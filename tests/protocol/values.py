"""Name what a small world consists of: a bucket, clients with their disks, what may still happen.

All are values, so that worlds can be compared and kept. What only the explorer knows is called a
ghost: no client ever looks at it.

An operation of a program is a name like "A1". Its content goes under a name of its own, or, if it
is a change of the one file that all clients share, under that name or beside it (C1).
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from blobfs.model.commit_outcome import Authored, Outcome

ORIGIN = b"#0"
"""What the first entry names as the one before it; and no entry."""

Number = tuple[str, int]
"""An inode number: the client to whom its range was granted, and which one of it (M1)."""


class Change(NamedTuple):
    """What an entry says of one operation: a resolved row, and what its author saw there (L1)."""

    op: str
    number: Number
    is_shared: bool
    """Whether it goes under the name that all clients share, or under one of its own."""
    replaces: str = ""
    is_conflict: bool = False
    """Whether it was meant for the shared name, which somebody else had changed."""


class Entry(NamedTuple):
    """One commit. Its hash is what `History` calls it."""

    seq: int
    previous: bytes
    client: str
    counter: int
    changes: tuple[Change, ...]
    machine: str
    """Ghost: on which machine it was spelled. Real ones differ by their time."""

    @property
    def ops(self) -> Iterator[str]:
        return (change.op for change in self.changes)


class Tree(NamedTuple):
    """What a client shows of the volume."""

    shared: str = ""
    own: frozenset[str] = frozenset()


class Unsaved(NamedTuple):
    """An operation that was acknowledged and is in no entry that is known to count."""

    op: str
    number: Number
    base: str | None
    """What the program saw under the shared name (C2); None: it changes a file of its own."""


class Intent(NamedTuple):
    """A commit under way (L2)."""

    seq: int
    counter: int
    entry: bytes
    ops: frozenset[str]


class At(StrEnum):
    """Where a client is: what it does next, by itself or by asking the bucket."""

    MOUNT = "look for the volume"
    IDLE = "idle"
    SLOT = "get the next slot"
    HEAD = "get head after slots"
    LIST = "list what follows"
    GAP = "get head for a gap"
    LOAD = "get the checkpoint"
    PACK = "put packs"
    PUT = "put the entry"
    PEEK = "get its slot"
    VERIFY = "get head after the put"
    # From here on nobody is asked:
    REPLAY = "replay"
    ADOPT = "begin from the checkpoint"
    SETTLE = "end the commit under way"
    RENUMBER = "take new numbers"
    RENEW = "take a new id"
    SPELL = "spell an entry"
    NOTE = "note the intent"
    SIGN = "note what is put under this id"
    STOPPED = "stopped"


ALONE = frozenset(
    (
        At.REPLAY,
        At.ADOPT,
        At.SETTLE,
        At.RENUMBER,
        At.RENEW,
        At.SPELL,
        At.NOTE,
        At.SIGN,
    )
)
"""Steps that touch nothing but the client's own disk."""


class Then(StrEnum):
    """What a client does when it has caught up with the log."""

    MOUNT = "serve"
    IDLE = "rest"
    FINISH = "finish what an earlier run began"
    CLOSE = "end what was found to have landed"
    COMMIT = "spell an entry anew"


class Client(NamedTuple):
    """A machine with a state folder, and the mount that runs on it."""

    machine: str
    # On its disk: what a kill leaves, and a copy of the folder holds.
    id: str
    counter: int = 0
    hash: bytes = ORIGIN
    """Of the last entry that was put, or tried, under this id."""
    journal: tuple[Unsaved, ...] = ()
    intent: Intent | None = None
    seq: int = 0
    chain: bytes = ORIGIN
    tree: Tree = Tree()
    # What programs will still do.
    writes: int = 0
    looks: int = 0
    is_sharing: bool = False
    """Whether programs write the shared file, and not files of their own."""
    # In memory.
    at: At = At.MOUNT
    then: Then = Then.IDLE
    draft: Intent | None = None
    """The commit that this run is about."""
    listed: int = 0
    """How many slots a listing showed behind the last replayed one; 0: none did, or none was."""
    found: tuple[bytes, ...] = ()
    at_tip: bool = False
    first: bytes = ORIGIN
    """The checkpoint that `head` named at mount, where the log was cut above what is replayed."""
    is_copy: bool = False
    """Whether an entry was found that a copy of this state folder made."""
    outcome: Outcome | None = None
    is_mine: bool = False
    is_confirmed: bool = False
    """Whether an empty slot was confirmed by `head` lately."""
    is_searched: bool = False
    """Whether what lies behind an empty slot was looked for lately."""
    since: int = 0
    """Ghost: how far the log was when this look at it began."""

    @property
    def last(self) -> Authored:
        """The last entry that was put, or tried, under the present id."""
        return Authored(self.id, self.counter, self.hash)  # type: ignore[arg-type]

    @property
    def tip(self) -> int:
        """Seq of the last entry that was replayed or found."""
        return self.seq + len(self.found)


class Bucket(NamedTuple):
    """What lies below `.blobfs/`."""

    has_volume: bool = True
    has_head: bool = True
    floor: int = 0
    checkpoint: int = 0
    slots: tuple[bytes, ...] = ()
    """By seq, from 1 on; ORIGIN where nothing lies."""
    packs: frozenset[str] | None = None
    """Operations whose content is there; None: nobody looks."""
    late: tuple[bytes, ...] = ()
    """Entries whose put is still on its way, or on it a second time."""
    canon: tuple[bytes, ...] = ()
    """Ghost: all entries that ever counted, by seq."""

    def slot(self, seq: int) -> bytes:
        return self.slots[seq - 1] if seq <= len(self.slots) else ORIGIN

    def with_slot(self, seq: int, entry: bytes) -> "Bucket":
        missing = seq - len(self.slots)
        slots = self.slots + (ORIGIN,) * missing
        return self._replace(slots=(*slots[: seq - 1], entry, *slots[seq:]))


class Left(NamedTuple):
    """How often each kind of mishap may still happen."""

    crashes: int = 0
    late: int = 0
    """Puts that are not answered, and arrive later or never; or that arrive twice."""
    rebuilds: int = 0
    """Kills after which the tree is damaged, and is begun anew."""
    failures: int = 0
    """Other requests that are not answered."""
    checkpoints: int = 0
    sleeps: int = 0
    """Cuts of the log above what a client has read, because it was not heard of for too long."""
    copies: int = 0
    """Copies of a state folder that come to life."""
    losses: int = 0
    """Objects that somebody removes who should not."""


class World(NamedTuple):
    """A state of all that there is."""

    bucket: Bucket
    clients: tuple[Client, ...]
    left: Left
    broken: str = ""
    """Ghost: what went wrong with the last step."""
