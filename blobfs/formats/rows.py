"""Name the rows of a volume's tree: dirents and inodes, as the log and the local tree hold them.

Values only; `formats.commit` turns what changes them into bytes.
"""

import enum

import msgspec

from blobfs.types import ChunkId, InodeNo, PackName, Seq

INLINE_BYTES = 1024
"""Content up to this size rides in the row itself."""

NO_CHUNK = ChunkId(b"")
NO_PACK = PackName(b"")


class Kind(enum.IntEnum):
    """What an inode is; the numbers are part of the format."""

    FILE = 1
    FOLDER = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5


class Extent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run of a file's bytes: one whole chunk and where it lies, or a hole.

    The extents of a file follow each other without a gap. A chunk's plain bytes are exactly
    `length_bytes`; a hole (`chunk` empty) reads as zeros.
    """

    length_bytes: int
    chunk: ChunkId = NO_CHUNK
    pack: PackName = NO_PACK
    offset: int = 0
    """Of the stored frame, in the pack."""
    stored_bytes: int = 0

    @property
    def is_hole(self) -> bool:
        return not self.chunk


class Inline(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The bytes themselves: a small file, or the target of a symbolic link."""

    data: bytes


class Extents(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The extents of a file, in order."""

    extents: tuple[Extent, ...]


class ExtentList(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Where the extents of a file with many of them lie: chunks that together hold the list."""

    parts: tuple[Extent, ...]


FileContent = Inline | Extents | ExtentList

EMPTY = Inline(b"")


class InodeRow(msgspec.Struct, frozen=True, array_like=True):
    """An inode as the log made it. Times are ns since the epoch."""

    kind: Kind
    mode: int
    """Permission bits, 0o7777 at most."""
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    nlink: int
    """Of files: dirents that lead here. Of directories always 1."""
    size_bytes: int = 0
    content: FileContent = EMPTY
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Sorted by name."""
    rdev: int = 0
    prefix: str | None = None
    """Of a directory that also shows native objects: those below this prefix."""
    parent: InodeNo = InodeNo(0)
    """Of a directory: where it lies (C5); 0 elsewhere and for the root."""
    seq: Seq = Seq(0)
    """The commit that changed it last."""
    content_seq: Seq = Seq(0)
    """The commit that changed its content last."""


class DirentRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A name in a directory: what it leads to."""

    inode: InodeNo
    kind: Kind
    seq: Seq = Seq(0)
    shadows: str = ""
    """In a directory with a prefix: the version of the native object behind it, "" if none (N4)."""
