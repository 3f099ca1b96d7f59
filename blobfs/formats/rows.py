"""Name the rows of a volume's tree: dirents and inodes, as the log and the local tree hold them.

Values only; `formats.entry` turns what changes them into bytes, `formats.tables` says how they
are rows themselves. The limits that stand beside the types are part of the format: decoders
refuse what exceeds them.
"""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from blobfs.types import MIB, ChunkId, InodeNo, PackName, Seq

INLINE_BYTES = 1024
"""Content up to this size rides in the row itself: what writers do."""

MOST_INLINE_BYTES = 4096
"""What readers accept in a row: also the longest target of a symbolic link."""

MOST_CHUNK_BYTES = 16 * MIB
"""Of a chunk's plain bytes: what a reader has to hold at once to verify it."""

MOST_PACK_BYTES = 64 * MIB
"""Of a pack's body: what a single PUT carries."""

MOST_FILE_BYTES = (1 << 63) - 1

NO_CHUNK = ChunkId(b"")
NO_PACK = PackName(b"")

InodeField = Annotated[InodeNo, Meta(ge=1, le=(1 << 63) - 1)]
OptionalInodeField = Annotated[InodeNo, Meta(ge=0, le=(1 << 63) - 1)]
SeqField = Annotated[Seq, Meta(ge=0, le=(1 << 63) - 1)]
SizeField = Annotated[int, Meta(ge=0, le=MOST_FILE_BYTES)]
SignedField = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
ModeField = Annotated[int, Meta(ge=0, le=0o7777)]
OwnerField = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
DeviceField = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
NameField = Annotated[bytes, Meta(min_length=1, max_length=255)]
PrefixField = Annotated[str, Meta(max_length=1024)]
VersionField = Annotated[str, Meta(max_length=1024)]
KeyField = Annotated[bytes, Meta(min_length=1, max_length=1024)]
ChunkIdField = Annotated[ChunkId, Meta(min_length=32, max_length=32)]
PackNameField = Annotated[PackName, Meta(min_length=40, max_length=40)]
ChunkBytesField = Annotated[int, Meta(ge=1, le=MOST_CHUNK_BYTES)]
PackBytesField = Annotated[int, Meta(ge=0, le=MOST_PACK_BYTES)]
XattrValueField = Annotated[bytes, Meta(max_length=65536)]


class Kind(enum.IntEnum):
    """What an inode is; the numbers are part of the format."""

    FILE = 1
    FOLDER = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5
    CHARACTER_DEVICE = 6
    BLOCK_DEVICE = 7


class Extent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run of a file's bytes: one whole chunk and where it lies, or a hole.

    The extents of a file follow each other without a gap. A chunk's plain bytes are exactly
    `length_bytes`, 16 MiB at most; a hole (`chunk` empty) reads as zeros and has any length.
    """

    length_bytes: SizeField
    chunk: Annotated[ChunkId, Meta(max_length=32)] = NO_CHUNK
    pack: Annotated[PackName, Meta(max_length=40)] = NO_PACK
    offset: PackBytesField = 0
    """Of the stored frame, in the pack."""
    stored_bytes: Annotated[int, Meta(ge=0, le=MOST_CHUNK_BYTES)] = 0
    """Of the frame; equal to `length_bytes` when it is stored raw."""

    @property
    def is_hole(self) -> bool:
        return not self.chunk


class Inline(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The bytes themselves, all of them: a small file, or the target of a symbolic link."""

    data: bytes


class Extents(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The extents of a file, in order; their lengths sum up to its size."""

    extents: tuple[Extent, ...]


class ListPart(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a long list of extents.

    `chunk` names the chunk whose plain bytes are the piece (`formats.extent_list`); its
    extents cover the `covered_bytes` of the file that follow those of the part before.
    """

    covered_bytes: SizeField
    chunk: Extent


class ExtentList(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Where the extents of a file with many of them lie, part by part, in order.

    What the parts cover sums up to the file's size, so that a reader loads the parts that it
    needs; a part that a change left alone keeps its bytes, hence its chunk.
    """

    parts: tuple[ListPart, ...]


class Native(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """One version of an object that another tool wrote: read where it lies, never copied (N3).

    `key` is that of the object, in UTF-8 where it is text; `version` as `formats.version` has it.
    When the store holds another version the content is gone, and never other bytes (N2).
    """

    key: bytes
    size_bytes: int
    version: str


FileContent = Inline | Extents | ExtentList | Native

EMPTY = Inline(b"")


class InodeRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """An inode as the log made it. Times are ns since the epoch."""

    kind: Kind
    mode: ModeField
    """Permission bits, 0o7777 at most."""
    uid: OwnerField
    gid: OwnerField
    mtime_ns: SignedField
    ctime_ns: SignedField
    nlink: SignedField
    """Of files: dirents that lead here. Of directories always 1."""
    size_bytes: SizeField = 0
    content: FileContent = EMPTY
    xattrs: tuple[tuple[NameField, XattrValueField], ...] = ()
    """Sorted by name."""
    rdev: DeviceField = 0
    prefix: PrefixField | None = None
    """Of a directory that also shows native objects: those below this prefix."""
    parent: OptionalInodeField = InodeNo(0)
    """Of a directory: where it lies (C5); 0 elsewhere and for the root."""
    seq: SeqField = Seq(0)
    """The commit that changed it last."""
    content_seq: SeqField = Seq(0)
    """The commit that changed its content last."""


class DirentRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A name in a directory: what it leads to."""

    inode: InodeField
    kind: Kind
    seq: SeqField = Seq(0)
    shadows: VersionField = ""
    """In a directory with a prefix: the version of the native object behind it, "" if none (N4)."""
