"""Name what moves unsaved rows from one moment of the log to a later one.

While something is unsaved here, others commit. What they committed is replayed as it is (L1); the
unsaved rows lie over the new tree then, and have to say the same as before, or to give way.
`model.reconcile` decides that. Values only.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from blobfs.formats.rows import DirentRow, InodeRow
from blobfs.model.changes import DirentKey, Gone, LocalDirent, LocalInode
from blobfs.model.nodes import NativeLook
from blobfs.types import InodeNo, Seq


class Moment(Protocol):
    """The replayed tree as it is at one seq. Any of these may raise `NotLoaded`."""

    def inode(self, inode: InodeNo) -> InodeRow | None: ...

    def dirent(self, parent: InodeNo, name: bytes) -> DirentRow | None: ...

    def dirents(self, parent: InodeNo) -> Iterable[tuple[bytes, DirentRow]]:
        """Yield the names in a directory, sorted."""


@dataclass(frozen=True, slots=True)
class Mine:
    """What is unsaved here, and what programs hold."""

    inodes: Mapping[InodeNo, LocalInode | Gone]
    dirents: Mapping[DirentKey, LocalDirent | Gone]
    edited: Set[InodeNo]
    """Files whose content is changed here: bytes written or cut, over the committed content."""
    held: Set[InodeNo] = frozenset()
    """Files that a program has open: their handles keep the content that they show now (C2)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What else a decision needs."""

    seq: Seq
    """Of the last entry that is replayed now: part of the names of conflict copies."""
    host: str
    """What this machine is called in those names."""
    now_ns: int
    fresh: Callable[[], InodeNo]
    """Returns a number that no inode has and none ever had (M1)."""
    equal: Set[tuple[InodeNo, InodeNo]] = frozenset()
    """Pairs of an inode of ours and one of theirs that hold the same bytes (C1)."""
    names: Callable[[InodeNo], Iterable[DirentKey]] = lambda inode: ()
    """Returns names that lead to a file at either moment, as far as they are known here. Asked for
    files alone whose content is in question; a copy that nobody has a name for goes to the root."""
    look: NativeLook | None = None
    """What native objects look like here before anybody changes their attributes."""


class Conflict(msgspec.Struct, frozen=True, array_like=True):
    """Something that two clients changed in ways that do not go together, and what became of it."""

    what: str
    """One sentence for a user, without its place."""
    parent: InodeNo
    name: bytes
    """Where it is to be found now."""


@dataclass(frozen=True, slots=True)
class Rebased:
    """What the unsaved rows are over the later moment. First the numbers change, then the rows."""

    numbers: Mapping[InodeNo, InodeNo] = field(default_factory=dict)
    """What was called by the first number here is called by the second from now on, wherever
    unsaved rows name it, with its unsaved bytes and open handles. The first may go on as theirs."""
    inodes: Mapping[InodeNo, LocalInode | Gone | None] = field(default_factory=dict)
    """None: nothing of it is unsaved any more, nor of its bytes."""
    dirents: Mapping[DirentKey, LocalDirent | Gone | None] = field(default_factory=dict)
    conflicts: tuple[Conflict, ...] = ()
    unedited: Set[InodeNo] = frozenset()
    """Files (by their later numbers) that keep a row and lose their unsaved bytes: what is
    committed says the same."""

    def __bool__(self) -> bool:
        return bool(self.numbers or self.inodes or self.dirents or self.conflicts)


@dataclass(frozen=True, slots=True)
class Foreign:
    """What replaying commits of others changed, for whoever shows the tree to programs."""

    dirents: tuple[DirentKey, ...] = ()
    """Names that lead elsewhere now, or nowhere, or that were not there."""
    inodes: tuple[InodeNo, ...] = ()
    """Inodes whose attributes changed, or that are gone; those in `contents` included."""
    contents: tuple[InodeNo, ...] = ()
    """Files that hold other bytes now. What programs have open of them, and what was unsaved, is
    called by another number already (`numbers`)."""
    numbers: Mapping[InodeNo, InodeNo] = field(default_factory=dict)
    """As in `Rebased`."""
