"""Be a file system, in terms of inodes; whoever serves a kernel only translates.

Every method raises `BlobfsError` with the errno that a program should see, and nothing
else on purpose. What becomes of names and attributes is decided in `volume.namespace`; here it is
counted what the kernel and open files hold on to, because what nothing holds can go.

Concurrency: any method may run in any number of tasks. State changes between two awaits stand
together, so no locks are needed.
"""

import errno
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from blobfs.env import Env
from blobfs.errors import Changed
from blobfs.formats.rows import Kind
from blobfs.model.nodes import Node
from blobfs.model.refusal import Refused
from blobfs.model.tree_rules import Maker
from blobfs.model.tree_rules_attributes import Wanted, XattrMode
from blobfs.types import ByteRange, HandleNo, InodeNo
from blobfs.vfs.atimes import AccessTimes
from blobfs.vfs.attributes import (
    Absent,
    Attributes,
    BadHandle,
    Dirent,
    NoAttribute,
    NotAllowed,
    attributes_of,
    kind_of,
)
from blobfs.vfs.files import Files, OpenFile
from blobfs.vfs.lookups import Lookups
from blobfs.vfs.usage import Usage
from blobfs.volume.namespace import Namespace
from blobfs.volume.namespace_folder import FolderReader, Listed
from blobfs.volume.tree_blocks import NotLoaded

MOST_VALID_S = 30.0
"""How long a kernel may believe a name or its attributes without asking us."""

OWN_XATTRS = b"user.blobfs."
"""What blobfs itself says of a file: can be read, but is neither listed nor set."""

LINK_PERMISSIONS = 0o777
"""Of a symbolic link: nobody asks for them."""


@dataclass(frozen=True, slots=True)
class _OpenFolder:
    inode: InodeNo
    reader: FolderReader


class Vfs:
    """The mounted directory."""

    def __init__(
        self,
        namespace: Namespace,
        files: Files,
        atimes: AccessTimes,
        usage: Callable[[], Usage],
        env: Env,
    ) -> None:
        self._namespace = namespace
        self._files = files
        self._lookups = Lookups()
        self._usage = usage
        self._env = env
        self._atimes = atimes
        self._handles = itertools.count(1)
        self._open_files: dict[HandleNo, OpenFile] = {}
        self._open_folders: dict[HandleNo, _OpenFolder] = {}

    # --- names -----------------------------------------------------------------------

    async def lookup(self, parent: InodeNo, name: bytes) -> Attributes | Absent:
        """Find `name`, and count a lookup of its inode.

        Raises:
            Refused: EPERM (a name of blobfs' own), ENAMETOOLONG, ENOTDIR.
        """
        found = await self._namespace.lookup(parent, name)
        valid_s = self._valid_s(found.valid_until_s)
        if found.node is None:
            return Absent(valid_s)
        self._lookups.count(found.node)
        return self._attributes(found.node, valid_s)

    def forget(self, inode: InodeNo, count: int) -> None:
        """Take back `count` lookups of `inode`; one without a name goes with the last."""
        if self._lookups.forget(inode, count) and self._is_gone(inode):
            self._drop(inode)

    async def create(
        self,
        parent: InodeNo,
        name: bytes,
        mode: int,
        maker: Maker,
        *,
        exclusive: bool,
        truncate: bool,
    ) -> tuple[Attributes, HandleNo]:
        """Make a file and open it for writing; count a lookup.

        A file that somebody else made meanwhile is opened, unless `exclusive`.

        Raises:
            Refused: EEXIST and others, as `Namespace.make`.
        """
        try:
            node = await self._namespace.make(parent, name, Kind.FILE, mode, maker)
        except Refused as error:
            if exclusive or error.errno != errno.EEXIST:
                raise
            return await self._open_existing(parent, name, truncate=truncate)
        return self._counted(node), self._open(node, for_writing=True)

    async def mkdir(self, parent: InodeNo, name: bytes, mode: int, maker: Maker) -> Attributes:
        """Make a directory, and count a lookup. Raises as `Namespace.make`."""
        return self._counted(await self._namespace.make(parent, name, Kind.FOLDER, mode, maker))

    async def mknod(
        self, parent: InodeNo, name: bytes, mode: int, rdev: int, maker: Maker
    ) -> Attributes:
        """Make a file, a pipe, a socket or a device, as `mode` says; count a lookup.

        Raises:
            Refused: EINVAL (something else), and as `Namespace.make`.
        """
        kind = kind_of(mode)
        return self._counted(await self._namespace.make(parent, name, kind, mode, maker, rdev=rdev))

    async def symlink(
        self, parent: InodeNo, name: bytes, target: bytes, maker: Maker
    ) -> Attributes:
        """Make a symbolic link, and count a lookup. Raises as `Namespace.make`."""
        node = await self._namespace.make(
            parent, name, Kind.SYMLINK, LINK_PERMISSIONS, maker, target=target
        )
        return self._counted(node)

    async def link(self, inode: InodeNo, parent: InodeNo, name: bytes) -> Attributes:
        """Give a file one more name, and count a lookup. Raises as `Namespace.link`."""
        return self._counted(await self._namespace.link(inode, parent, name))

    async def unlink(self, parent: InodeNo, name: bytes) -> None:
        """Take a name from a file. Raises as `Namespace.unlink`."""
        self._note_removed(await self._namespace.unlink(parent, name))

    async def rmdir(self, parent: InodeNo, name: bytes) -> None:
        """Remove an empty directory. Raises as `Namespace.rmdir`."""
        self._note_removed(await self._namespace.rmdir(parent, name))

    async def rename(
        self, parent: InodeNo, name: bytes, new_parent: InodeNo, new_name: bytes, flags: int
    ) -> None:
        """Move an entry, in place of what has the new name. Raises as `Namespace.rename`."""
        replaced = await self._namespace.rename(parent, name, new_parent, new_name, flags)
        if replaced is not None:
            self._note_removed(replaced)

    def readlink(self, inode: InodeNo) -> bytes:
        """Return the target of a symbolic link. Raises as `Namespace.readlink`."""
        return self._namespace.readlink(inode)

    # --- attributes ------------------------------------------------------------------

    def getattr(self, inode: InodeNo) -> Attributes:
        """Return the attributes of an inode.

        Raises:
            Changed: it is gone, or nobody holds it.
        """
        return self._attributes(self._namespace.node(inode), MOST_VALID_S)

    def setattr(self, inode: InodeNo, wanted: Wanted, atime_ns: int | None = None) -> Attributes:
        """Set attributes; the access time is kept for as long as this mount lasts.

        Raises as `Namespace.setattr`, and NoRoom.
        """
        if wanted.size_bytes is not None:
            self._files.check_length(inode, wanted.size_bytes)
        node = self._namespace.setattr(inode, wanted)
        if wanted.size_bytes is not None:
            self._files.note_touched(inode)
        if atime_ns is not None:
            self._atimes.set(inode, atime_ns)
        return self._attributes(node, MOST_VALID_S)

    def usage(self) -> Usage:
        """Return what `df` shows, which costs no request."""
        return self._usage()

    # --- extended attributes -----------------------------------------------------------

    async def getxattr(self, inode: InodeNo, name: bytes) -> bytes:
        """Return an extended attribute.

        Those of blobfs' own can be read but are not listed, since tools that copy attributes would
        try to set them elsewhere.

        Raises:
            NoAttribute: there is none of that name.
        """
        node = self._namespace.node(inode)
        value = None
        if name.startswith(OWN_XATTRS):
            value = await self._files.own_xattr(node, name[len(OWN_XATTRS) :])
        if value is None:
            value = dict(node.row.xattrs).get(name)
        if value is None:
            raise NoAttribute(f"no such extended attribute. inode={inode} name={name!r}")
        return value

    def listxattr(self, inode: InodeNo) -> list[bytes]:
        """Return the names of the extended attributes that programs have set."""
        names = (name for name, _ in self._namespace.node(inode).row.xattrs)
        return [name for name in names if not name.startswith(OWN_XATTRS)]

    def setxattr(
        self, inode: InodeNo, name: bytes, value: bytes, mode: XattrMode = "either"
    ) -> None:
        """Set an extended attribute.

        Raises:
            NotAllowed: it is one of blobfs' own.
            Refused: as `Namespace.setxattr`.
        """
        _refuse_own(name)
        self._namespace.setxattr(inode, name, value, mode)

    def removexattr(self, inode: InodeNo, name: bytes) -> None:
        """Remove an extended attribute. Raises as `setxattr`, and ENODATA."""
        _refuse_own(name)
        self._namespace.removexattr(inode, name)

    # --- directories -----------------------------------------------------------------

    async def opendir(self, inode: InodeNo) -> HandleNo:
        """Open a directory for reading. Raises as `Namespace.open_folder`."""
        node = self._namespace.node(inode)
        reader = await self._namespace.open_folder(inode)
        self._lookups.count(node)
        handle = HandleNo(next(self._handles))
        self._open_folders[handle] = _OpenFolder(inode, reader)
        return handle

    async def readdir(self, handle: HandleNo, cookie: int) -> Iterator[Dirent] | None:
        """Return some entries behind `cookie` (0: from the start); None at the end.

        Take them before anything else happens. An entry counts as looked up only when the
        caller says so, by `count_lookup`.
        """
        listed = await self._open_folder(handle).reader.read(cookie)
        return None if listed is None else map(self._dirent, listed)

    def dots(self, handle: HandleNo) -> Iterator[tuple[bytes, Attributes]]:
        """Yield `.` and `..` of an open directory."""
        node = self._namespace.node(self._open_folder(handle).inode)
        yield b".", self._attributes(node, 0)
        parent = self._namespace.node(node.parent) if node.parent in self._lookups else node
        yield b"..", self._attributes(parent, 0)

    def count_lookup(self, dirent: Dirent) -> None:
        """Note that the kernel took this entry, and its inode with it."""
        self._lookups.count(dirent.node)

    def releasedir(self, handle: HandleNo) -> None:
        """Close a directory."""
        if (folder := self._open_folders.pop(handle, None)) is not None:
            folder.reader.close()
            self.forget(folder.inode, 1)

    async def fsyncdir(self) -> None:
        """Return when all names made so far survive a power cut (P2)."""
        await self._files.sync()

    # --- files -----------------------------------------------------------------------

    def open(self, inode: InodeNo, *, for_writing: bool, truncate: bool = False) -> HandleNo:
        """Open a file. A native object keeps the version that it was opened on.

        Raises:
            IsAFolder: it is a directory.
            Changed: the store is known to hold another version; look the name up again.
            ReadOnly: the mount is read-only, and writing was asked for.
        """
        if for_writing:
            self._namespace.check_writable()
        node = self._namespace.node(inode)
        if truncate:
            node = self._namespace.setattr(inode, Wanted(size_bytes=0))
        return self._open(node, for_writing=for_writing)

    async def read(self, handle: HandleNo, span: ByteRange) -> bytes | memoryview:
        """Return the bytes of `span`, shorter only at the end of the file.

        Raises:
            Changed: the store holds another version of a native object by now.
        """
        return await self._open_file(handle).read(span)

    async def write(self, handle: HandleNo, offset: int, data: bytes) -> None:
        """Take in bytes; they survive a kill of this process from then on (P1).

        Raises:
            NoRoom: there is no room for unsaved data, and none can be made (P7).
            Refused: EFBIG.
        """
        await self._open_file(handle).write(offset, data)

    async def fsync(self, handle: HandleNo) -> None:
        """Return when all that was written so far survives a power cut (P2)."""
        file = self._open_file(handle)
        await self._files.sync()
        self._files.note_touched(file.inode)

    def release(self, handle: HandleNo) -> None:
        """Close a file."""
        if (file := self._open_files.pop(handle, None)) is not None:
            file.close()
            self.forget(file.inode, 1)

    @property
    def open_files(self) -> int:
        return len(self._open_files)

    # --- inside ----------------------------------------------------------------------

    async def _open_existing(
        self, parent: InodeNo, name: bytes, *, truncate: bool
    ) -> tuple[Attributes, HandleNo]:
        found = await self.lookup(parent, name)
        if isinstance(found, Absent):
            raise Changed(f"the name went as it was opened. name={name!r}")
        try:
            handle = self.open(found.inode, for_writing=True, truncate=truncate)
        except BaseException:
            self.forget(found.inode, 1)
            raise
        return self.getattr(found.inode), handle

    def _open(self, node: Node, *, for_writing: bool) -> HandleNo:
        file = self._files.open(node, for_writing=for_writing)
        self._lookups.count(node)
        handle = HandleNo(next(self._handles))
        self._open_files[handle] = file
        return handle

    def _open_file(self, handle: HandleNo) -> OpenFile:
        file = self._open_files.get(handle)
        if file is None:
            raise BadHandle(f"no such open file. handle={handle}")
        return file

    def _open_folder(self, handle: HandleNo) -> _OpenFolder:
        folder = self._open_folders.get(handle)
        if folder is None:
            raise BadHandle(f"no such open directory. handle={handle}")
        return folder

    def _note_removed(self, node: Node) -> None:
        """Let an inode go that lost a name: if that was the last, and nobody holds it."""
        if not node.is_gone:
            return
        if node.inode in self._lookups:
            self._files.note_removed(node.inode)
        else:
            self._drop(node.inode)

    def _drop(self, inode: InodeNo) -> None:
        self._namespace.drop(inode)
        self._files.note_dropped(inode)
        self._atimes.forget(inode)

    def _is_gone(self, inode: InodeNo) -> bool:
        try:
            return self._namespace.node(inode).is_gone
        except (Changed, NotLoaded):
            return False  # a native one, to which nothing leads any more; or nothing is unsaved

    def _counted(self, node: Node) -> Attributes:
        self._lookups.count(node)
        return self._attributes(node, MOST_VALID_S)

    def _dirent(self, listed: Listed) -> Dirent:
        attributes = self._attributes(listed.node, self._valid_s(listed.valid_until_s))
        return Dirent(listed.name, attributes, listed.node, listed.next_cookie)

    def _attributes(self, node: Node, valid_s: float) -> Attributes:
        return attributes_of(node, self._atimes.get(node.inode, node.row.mtime_ns), valid_s)

    def _valid_s(self, until_s: float) -> float:
        return min(MOST_VALID_S, max(0.0, until_s - self._env.monotonic_s()))


def _refuse_own(name: bytes) -> None:
    if name.startswith(OWN_XATTRS):
        raise NotAllowed(f"what blobfs says of a file cannot be set. name={name!r}")
