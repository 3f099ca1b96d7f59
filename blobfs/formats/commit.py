"""Name what a commit says: resolved rows and deltas, in the order in which they apply.

Replay is blind (L1): it applies operations and decides nothing.
"""

import msgspec

from blobfs.formats.rows import FileContent, Kind
from blobfs.types import ClientId, InodeNo, PackName, Seq


class Grant(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The author takes the inode numbers `first` up to, not including, `stop` for itself (M1)."""

    first: int
    stop: int


class NewInode(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """An inode that was not there, without names and without content yet (nlink 0, folders 1)."""

    inode: InodeNo
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    rdev: int = 0
    prefix: str | None = None
    parent: InodeNo = InodeNo(0)


class SetContent(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The content of an inode from now on; `base` is the `content_seq` it was made from (C2)."""

    inode: InodeNo
    size_bytes: int
    content: FileContent
    base: Seq


class SetAttributes(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Attributes from now on; None leaves one as it is."""

    inode: InodeNo
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None


class SetXattr(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """An extended attribute from now on; value None removes it."""

    inode: InodeNo
    name: bytes
    value: bytes | None


class AddLinks(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """`delta` dirents more lead to the inode. One whose nlink comes to 0 goes, with its row."""

    inode: InodeNo
    delta: int


class PutDirent(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """A name from now on. `replaces` is the inode that it led to before, 0 for none."""

    parent: InodeNo
    name: bytes
    inode: InodeNo
    kind: Kind
    replaces: InodeNo = InodeNo(0)
    shadows: str = ""


class DropDirent(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A name is gone; it led to `inode`."""

    parent: InodeNo
    name: bytes
    inode: InodeNo


class DropFolder(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """A directory's inode is gone; it was empty."""

    inode: InodeNo


class MoveFolder(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A directory lies in `parent` from now on (C5)."""

    inode: InodeNo
    parent: InodeNo


Operation = (
    Grant
    | NewInode
    | SetContent
    | SetAttributes
    | SetXattr
    | AddLinks
    | PutDirent
    | DropDirent
    | DropFolder
    | MoveFolder
)


class Counters(msgspec.Struct, frozen=True, array_like=True):
    """What the tree holds after the entry (L9), so that divergence is noticed."""

    inodes: int
    content_bytes: int
    dirents_digest: bytes
    """XOR of the XXH3-128 of `parent (8 bytes, big endian) | name | inode (8)` of every dirent."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One commit: what lies under `log/<seq>`."""

    seq: Seq
    previous: bytes
    """SHA-256 of the entry before; of `volume` for the first: 32 bytes."""
    client: ClientId
    counter: int
    """Commits of this client, this one included."""
    time_ns: int
    """Later than that of the entry before, by 1 ms at least."""
    operations: tuple[Operation, ...]
    packs: tuple[PackName, ...] = ()
    """All packs that operations refer to, directly or through extent lists."""
    stored_bytes: int = 0
    """Bytes of the packs that this commit brought."""
    counters: Counters | None = None
