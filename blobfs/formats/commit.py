"""Name what a commit says: resolved rows and deltas, in the order in which they apply.

Replay is blind (L1): it applies operations and decides nothing. `formats.entry` spells all of
this in bytes; an operation that it does not know stops a reader, since a tree that skipped it
would differ from everybody else's. Hence an operation never gains a field: a new need is a new
tag.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from blobfs.formats.rows import (
    DeviceField,
    Extent,
    FileContent,
    InodeField,
    KeyField,
    Kind,
    ModeField,
    NameField,
    OptionalInodeField,
    OwnerField,
    PackBytesField,
    PackNameField,
    PrefixField,
    SeqField,
    SignedField,
    SizeField,
    VersionField,
    XattrValueField,
)
from blobfs.types import ClientId, InodeNo, Seq


class Grant(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """The author takes the inode numbers `first` up to, not including, `stop` for itself (M1)."""

    first: InodeField
    stop: InodeField


class NewInode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """An inode that was not there, without names and without content yet (nlink 0, folders 1).

    Inode 1 is the root: a folder like any other, made by the first entry that names something
    in it.
    """

    inode: InodeField
    kind: Kind
    mode: ModeField
    uid: OwnerField
    gid: OwnerField
    mtime_ns: SignedField
    ctime_ns: SignedField
    rdev: DeviceField = 0
    prefix: PrefixField | None = None
    parent: OptionalInodeField = InodeNo(0)


class SetContent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """The content of an inode from now on; `base` is the `content_seq` it was made from (C2)."""

    inode: InodeField
    size_bytes: SizeField
    content: FileContent
    base: SeqField


class SetAttributes(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4
):
    """Attributes from now on; None leaves one as it is."""

    inode: InodeField
    mode: ModeField | None = None
    uid: OwnerField | None = None
    gid: OwnerField | None = None
    mtime_ns: SignedField | None = None
    ctime_ns: SignedField | None = None


class SetXattr(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """An extended attribute from now on; value None removes it."""

    inode: InodeField
    name: NameField
    value: XattrValueField | None


class AddLinks(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """`delta` dirents more lead to the inode.

    An inode that is no folder and whose nlink is 0 when the whole entry has been applied goes,
    with its row.
    """

    inode: InodeField
    delta: SignedField


class PutDirent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """A name from now on. `replaces` is the inode that it led to before, 0 for none.

    Nothing else follows from it: links are counted by `AddLinks`, a replaced folder goes by
    `DropFolder`.
    """

    parent: InodeField
    name: NameField
    inode: InodeField
    kind: Kind
    replaces: OptionalInodeField = InodeNo(0)
    shadows: VersionField = ""


class DropDirent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=8):
    """A name is gone; it led to `inode`."""

    parent: InodeField
    name: NameField
    inode: InodeField


class DropFolder(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=9):
    """A directory's inode is gone; it was empty."""

    inode: InodeField


class MoveFolder(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=10):
    """A directory lies in `parent` from now on (C5)."""

    inode: InodeField
    parent: InodeField


class Hide(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=11):
    """One version of a native object is not shown under its key any more (N1).

    Another version of the key is shown as ever, and so is this one where a row binds it by
    reference. A key that ends with `/` is a marker object, which makes its directory show.
    """

    key: KeyField
    version: VersionField


class UnlinkNative(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=12
):
    """Nothing in the volume refers to a hidden version any more: its bytes may go (N5)."""

    key: KeyField
    version: VersionField


class Detach(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=13):
    """A directory shows no native objects any more: those below `prefix`, which it showed (N2).

    What of them was to stay in it is bound by the same entry or an earlier one; the others belong
    to the prefix's own name again, as a directory that no row knows.
    """

    inode: InodeField
    prefix: PrefixField


class DropNative(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=14):
    """The bytes of a version that was given up were removed, or are gone: none are kept (N5)."""

    key: KeyField
    version: VersionField


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
    | Hide
    | UnlinkNative
    | Detach
    | DropNative
)


class UsedPack(msgspec.Struct, frozen=True, array_like=True):
    """A pack that a commit refers to.

    `brought_bytes` is the size of its body if this commit brought it, 0 if it was there before:
    `check` compares it with a listing, and sums tell what a commit cost.
    """

    name: PackNameField
    brought_bytes: PackBytesField = 0


class Counters(msgspec.Struct, frozen=True, array_like=True):
    """What the tree holds after the entry (L9), so that divergence is noticed."""

    inodes: SizeField
    content_bytes: SizeField
    dirents_digest: Annotated[bytes, Meta(min_length=16, max_length=16)]
    """XOR of the XXH3-128 of `parent (8 bytes, big endian) | name | inode (8)` of every dirent."""


class Entry(msgspec.Struct, frozen=True):
    """One commit: what lies under `log/<seq>`.

    A list of operations that is too long for an entry lies in chunks: then `operations` is
    empty, and `operation_parts` names the chunks, in order, which `formats.entry` decodes one
    by one. Likewise `pack_parts` for the packs beyond those in `packs`.
    """

    seq: Seq
    previous: bytes
    """SHA-256 of the entry before; of `volume` for the first: 32 bytes."""
    client: ClientId
    counter: int
    """Commits of this client, this one included: 1 for its first."""
    time_ns: int
    """Later than that of the entry before, by 1 ms at least."""
    operations: tuple[Operation, ...] = ()
    packs: tuple[UsedPack, ...] = ()
    """All packs that operations refer to, directly or through extent lists, each once."""
    counters: Counters | None = None
    operation_parts: tuple[Extent, ...] = ()
    pack_parts: tuple[Extent, ...] = ()

    @property
    def stored_bytes(self) -> int:
        """Bytes of the packs in `packs` that this commit brought."""
        return sum(pack.brought_bytes for pack in self.packs)
