"""Describe an inode as it stands now, whoever holds its row: the volume or native objects."""

import stat
from dataclasses import dataclass

import msgspec

from blobfs.formats.rows import Inline, InodeRow, Kind, Native
from blobfs.formats.version import spell_version
from blobfs.model.changes import LocalInode
from blobfs.model.listing import Entry, to_name, to_segment
from blobfs.types import ROOT_INODE, Content, InodeNo

_PERMISSIONS_OF_FILES = 0o666
_PERMISSIONS_OF_FOLDERS = 0o777

_FILE_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.FOLDER: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}


def content_of(prefix: str, entry: Entry) -> Content:
    """Return what the file `entry` in the native directory `prefix` reads."""
    return Content(entry.key or prefix + to_segment(entry.name), entry.etag, entry.size_bytes)


def object_of(prefix: str, entry: Entry) -> Native:
    """Return the file `entry` of the native directory `prefix` as a row refers to it."""
    version = spell_version(entry.etag, entry.size_bytes, entry.mtime_ns)
    key = to_name(entry.key) if entry.key else to_name(prefix) + entry.name
    return Native(key, entry.size_bytes, version)


class NativeNode(msgspec.Struct, weakref=True, eq=False):
    """What stands behind a number that no row of the volume has: an object, or a prefix.

    `prefix` is a directory's own one, or that of the directory that a file lies in. `entry` may
    come to have a newer time, though its version stays, and `parent` another number; only
    `volume.namespace_natives` sets them.
    """

    number: InodeNo
    parent: InodeNo
    prefix: str
    entry: Entry
    over: InodeNo | None = None
    """The inode whose attributes it has: the file's, before another tool replaced its object."""

    @property
    def content(self) -> Content:
        """What a file of this node reads."""
        return content_of(self.prefix, self.entry)

    @property
    def object(self) -> Native:
        """A file of this node as a row refers to it."""
        return object_of(self.prefix, self.entry)

    def stands_for(self, prefix: str, entry: Entry) -> bool:
        """Whether it is this version of this object, or this directory."""
        own = self.entry
        return (
            self.prefix == prefix
            and own.name == entry.name
            and own.is_folder == entry.is_folder
            and own.etag == entry.etag
            and own.size_bytes == entry.size_bytes
        )


class Node(msgspec.Struct, frozen=True, gc=False):
    """An inode: its number, its attributes, and the native object if that is all there is."""

    inode: InodeNo
    row: LocalInode
    native: NativeNode | None = None

    @property
    def kind(self) -> Kind:
        return self.row.kind

    @property
    def is_folder(self) -> bool:
        return self.row.kind is Kind.FOLDER

    @property
    def is_gone(self) -> bool:
        """Whether no name leads to it any more: it lives only as long as it is held."""
        return not self.row.nlink

    @property
    def mode(self) -> int:
        """Permission bits and file type, as `st_mode` has them."""
        return self.row.mode | _FILE_TYPES[self.row.kind]

    @property
    def parent(self) -> InodeNo:
        """Of a directory: the one that it lies in, for the root itself."""
        return self.row.parent or ROOT_INODE


@dataclass(frozen=True, slots=True)
class NativeLook:
    """How native objects look, since nothing in a bucket says it: whose they are, and the mode."""

    uid: int
    gid: int
    umask: int = 0o022

    def mode(self, kind: Kind) -> int:
        """Return the permission bits of a file or a directory."""
        widest = _PERMISSIONS_OF_FOLDERS if kind is Kind.FOLDER else _PERMISSIONS_OF_FILES
        return widest & ~self.umask

    def row(self, native: NativeNode, mtime_ns: int) -> LocalInode:
        """Return the attributes of a native object or directory.

        One link each, of directories too, since nobody has counted what lies below.
        """
        entry = native.entry
        if entry.is_folder:
            return self._folder_row(native, mtime_ns)
        return LocalInode(
            kind=Kind.FILE,
            mode=self.mode(Kind.FILE),
            uid=self.uid,
            gid=self.gid,
            mtime_ns=mtime_ns,
            ctime_ns=mtime_ns,
            nlink=1,
            size_bytes=entry.size_bytes,
            base_limit_bytes=entry.size_bytes,
        )

    def _folder_row(self, native: NativeNode, mtime_ns: int) -> LocalInode:
        return LocalInode(
            kind=Kind.FOLDER,
            mode=self.mode(Kind.FOLDER),
            uid=self.uid,
            gid=self.gid,
            mtime_ns=mtime_ns,
            ctime_ns=mtime_ns,
            nlink=1,
            prefix=native.prefix,
            parent=InodeNo(0) if native.number == ROOT_INODE else native.parent,
        )


def as_local(row: InodeRow) -> LocalInode:
    """Return a committed row as the value that unsaved changes of it begin from."""
    content = row.content
    is_link = row.kind is Kind.SYMLINK and isinstance(content, Inline)
    return LocalInode(
        kind=row.kind,
        mode=row.mode,
        uid=row.uid,
        gid=row.gid,
        mtime_ns=row.mtime_ns,
        ctime_ns=row.ctime_ns,
        nlink=row.nlink,
        size_bytes=row.size_bytes,
        base_limit_bytes=row.size_bytes,
        xattrs=row.xattrs,
        rdev=row.rdev,
        prefix=row.prefix,
        parent=row.parent,
        target=content.data if is_link else b"",  # type: ignore[union-attr]
    )
