"""Name what is unsaved: rows that differ from the replayed tree, and what a commit covers of them.

Values only. Programs' operations are planned into a `Change`, and a change is applied whole or
not at all; what a commit takes along is a `Covered`, noted durably as an `Intent` before the
bytes of the commit leave this machine (volume format, L2).
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from blobfs.formats.rows import FileContent, Kind
from blobfs.formats.tables import hidden_name
from blobfs.types import InodeNo, PackName, Seq, Serial


class Gone(enum.Enum):
    """The type of `GONE`."""

    GONE = "gone"


GONE: Final = Gone.GONE
"""Stands for a row that the replayed tree may have and that is removed since, unsaved."""


class LocalInode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An inode as this client has it now. Times are ns since the epoch.

    A file's content is its unsaved spans, over the committed content up to `base_limit_bytes`,
    over zeros up to `size_bytes`.
    """

    kind: Kind
    mode: int
    """Permission bits, 0o7777 at most."""
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    nlink: int
    """Of files: dirents that lead here, 0 for one that lives on because it is open. Of
    directories always 1."""
    size_bytes: int = 0
    base_limit_bytes: int = 0
    """Committed content shows below it: 0 for a new file, lowered by every truncation, never
    raised by a program."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Sorted by name."""
    rdev: int = 0
    prefix: str | None = None
    """Of a directory that also shows native objects: those below this prefix."""
    parent: InodeNo = InodeNo(0)
    """Of a directory: where it lies; 0 elsewhere and for the root."""
    target: bytes = b""
    """Of a symbolic link."""
    bound: FileContent | None = None
    """Of a file that no commit has: what its unsaved bytes lie over, in place of a committed
    content. An object taken over from another tool, or what a copy was made of."""


class LocalDirent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A name as this client has it now: what it leads to."""

    inode: InodeNo
    kind: Kind
    shadows: str = ""
    """In a directory with a prefix: the version of the native object behind it (N4)."""


DirentKey = tuple[InodeNo, bytes]
"""A name and the directory that it lies in, directory first."""

HIDDEN_FOLDER = InodeNo(0)
"""No directory at all: the dirents in it say which versions of native objects do not show (N1).

They belong to the inode that the version was, so that a file that is renamed leaves its old name
in the commit that gives it the new one.
"""


def hiding(key: bytes, version: str) -> DirentKey:
    """Return the dirent that hides one version of an object."""
    return HIDDEN_FOLDER, hidden_name(key, version)


def hidden_by(key: DirentKey) -> tuple[bytes, str]:
    """Return the key and the version of the object that a dirent of `HIDDEN_FOLDER` hides."""
    object_key, _, version = key[1].rpartition(b"\0")
    return object_key, version.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Change:
    """New values of some rows, None for a row that goes; atomic together."""

    inodes: Mapping[InodeNo, LocalInode | None] = field(default_factory=dict)
    dirents: Mapping[DirentKey, LocalDirent | None] = field(default_factory=dict)


class Covered(msgspec.Struct, frozen=True, array_like=True):
    """The rows that a commit takes along, as they were after `serial`."""

    serial: Serial
    inodes: tuple[tuple[InodeNo, int], ...]
    """Each with its size in bytes as the commit says it, 0 for one that is gone."""
    dirents: tuple[DirentKey, ...]


class Intent(msgspec.Struct, frozen=True, array_like=True):
    """A commit under way: the only bytes that may go to its slot until the outcome is known."""

    seq: Seq
    counter: int
    """Commits of this client, this one included."""
    entry: bytes
    covered: Covered


class Uploaded(msgspec.Struct, frozen=True, array_like=True):
    """A pack that the store has, and that no commit names yet."""

    name: PackName
    directory: bytes
    """The end of its body, as the pack itself spells it."""
    size_bytes: int = 0
    """Of its body."""


Outcome = Literal["landed", "void"]
"""What became of an intent: its slot holds it, or never will."""
