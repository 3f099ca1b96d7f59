"""Be a file system, in terms of inodes; whoever serves a kernel only translates.

Every method raises `BlobfsError` with the errno that a program should see, and nothing
else on purpose. What becomes of names and attributes is decided in `volume.namespace`; here it is
counted what the kernel and open files hold on to, because what nothing holds can go. The kernel
names inodes by *nodes* (`vfs.node_ids`), so every number that comes from it or goes to it is one.

Concurrency: any method may run in any number of tasks. State changes between two awaits stand
together, so no locks are needed.
"""

import errno
from collections.abc import Callable, Iterator, Set
from functools import partial

from blobfs.env import Env
from blobfs.errors import Changed
from blobfs.formats.rows import Kind
from blobfs.model.changes import DirentKey
from blobfs.model.nodes import Node
from blobfs.model.rebase import Foreign
from blobfs.model.refusal import Refused
from blobfs.model.tree_rules import Maker
from blobfs.model.tree_rules_attributes import Wanted, XattrMode
from blobfs.types import ByteRange, HandleNo, InodeNo, NodeNo
from blobfs.vfs.atimes import AccessTimes
from blobfs.vfs.attributes import (
    Absent,
    Attributes,
    Dirent,
    NoAttribute,
    NotAllowed,
    attributes_of,
    kind_of,
)
from blobfs.vfs.files import Files
from blobfs.vfs.handles import Handles, OpenedFile, OpenedFolder
from blobfs.vfs.kernel_view import KernelView
from blobfs.vfs.usage import Usage
from blobfs.volume.namespace import Namespace
from blobfs.volume.namespace_folder import FOR_EVER_S, Listed

MOST_VALID_S = 30.0
"""How long a kernel may believe a name or its attributes without asking us."""

OWN_XATTRS = b"user.blobfs."
"""What blobfs itself says of a file: can be read, but is neither listed nor set."""

LINK_PERMISSIONS = 0o777
"""Of a symbolic link: nobody asks for them."""


class Vfs:
    """The mounted directory."""

    def __init__(
        self,
        namespace: Namespace,
        files: Files,
        kernel: KernelView,
        atimes: AccessTimes,
        usage: Callable[[], Usage],
        env: Env,
    ) -> None:
        self._namespace = namespace
        self._files = files
        self._kernel = kernel
        self._usage = usage
        self._env = env
        self._atimes = atimes
        self._handles = Handles()

    # --- names -----------------------------------------------------------------------

    async def lookup(self, parent: NodeNo, name: bytes) -> Attributes | Absent:
        """Find `name`, and count a lookup of its inode.

        Raises:
            Refused: EPERM (a name of blobfs' own), ENAMETOOLONG, ENOTDIR.
        """
        folder = self._kernel.inode(parent)
        found = await self._namespace.lookup(folder, name)
        valid_s = self._valid_s(found.valid_until_s)
        if found.node is None:
            return Absent(valid_s)
        return self._counted(found.node, (folder, name), valid_s)

    def forget(self, node: NodeNo, count: int) -> None:
        """Take back `count` lookups of `node`; an inode without a name goes with the last."""
        inode = self._kernel.forget(node, count)
        if inode is not None and self._files.is_removed(inode):
            self._drop(inode)

    async def create(
        self,
        parent: NodeNo,
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
        folder = self._kernel.inode(parent)
        try:
            node = await self._namespace.make(folder, name, Kind.FILE, mode, maker)
        except Refused as error:
            if exclusive or error.errno != errno.EEXIST:
                raise
            return await self._open_existing(parent, name, truncate=truncate)
        made = self._counted(node, (folder, name))
        return made, self._open(made.inode, node, for_writing=True)

    async def mkdir(self, parent: NodeNo, name: bytes, mode: int, maker: Maker) -> Attributes:
        """Make a directory, and count a lookup. Raises as `Namespace.make`."""
        folder = self._kernel.inode(parent)
        node = await self._namespace.make(folder, name, Kind.FOLDER, mode, maker)
        return self._counted(node, (folder, name))

    async def mknod(
        self, parent: NodeNo, name: bytes, mode: int, rdev: int, maker: Maker
    ) -> Attributes:
        """Make a file, a pipe, a socket or a device, as `mode` says; count a lookup.

        Raises:
            Refused: EINVAL (something else), and as `Namespace.make`.
        """
        kind, folder = kind_of(mode), self._kernel.inode(parent)
        node = await self._namespace.make(folder, name, kind, mode, maker, rdev=rdev)
        return self._counted(node, (folder, name))

    async def symlink(self, parent: NodeNo, name: bytes, target: bytes, maker: Maker) -> Attributes:
        """Make a symbolic link, and count a lookup. Raises as `Namespace.make`."""
        folder = self._kernel.inode(parent)
        node = await self._namespace.make(
            folder, name, Kind.SYMLINK, LINK_PERMISSIONS, maker, target=target
        )
        return self._counted(node, (folder, name))

    async def link(self, node: NodeNo, parent: NodeNo, name: bytes) -> Attributes:
        """Give a file one more name, and count a lookup. Raises as `Namespace.link`."""
        inode, folder = self._current(node), self._kernel.inode(parent)
        return self._counted(await self._namespace.link(inode, folder, name), (folder, name))

    async def unlink(self, parent: NodeNo, name: bytes) -> None:
        """Take a name from a file. Raises as `Namespace.unlink`."""
        self._note_removed(await self._namespace.unlink(self._kernel.inode(parent), name))

    async def rmdir(self, parent: NodeNo, name: bytes) -> None:
        """Remove an empty directory. Raises as `Namespace.rmdir`."""
        self._note_removed(await self._namespace.rmdir(self._kernel.inode(parent), name))

    async def rename(
        self, parent: NodeNo, name: bytes, new_parent: NodeNo, new_name: bytes, flags: int
    ) -> None:
        """Move an entry, in place of what has the new name. Raises as `Namespace.rename`."""
        old, new = self._kernel.inode(parent), self._kernel.inode(new_parent)
        replaced = await self._namespace.rename(old, name, new, new_name, flags)
        if replaced is not None:
            self._note_removed(replaced)

    def readlink(self, node: NodeNo) -> bytes:
        """Return the target of a symbolic link. Raises as `Namespace.readlink`."""
        return self._namespace.readlink(self._kernel.inode(node))

    # --- attributes ------------------------------------------------------------------

    def getattr(self, node: NodeNo) -> Attributes:
        """Return the attributes of a node: of an old version, if that is what it stands for.

        Raises:
            Changed: it is gone, or nobody holds it.
        """
        return self._attributes(self._node(node), MOST_VALID_S)

    def setattr(
        self,
        node: NodeNo,
        wanted: Wanted,
        atime_ns: int | None = None,
        *,
        handle: HandleNo | None = None,
    ) -> Attributes:
        """Set attributes, of what `handle` was opened on if there is one; the access time is kept
        for as long as this mount lasts.

        Raises as `Namespace.setattr`, and NoRoom.
        """
        inode = self._current(node) if handle is None else self._handles.file(handle).inode
        if wanted.size_bytes is not None:
            self._files.give_name(inode)
        return self._set(inode, wanted, atime_ns)

    def _set(self, inode: InodeNo, wanted: Wanted, atime_ns: int | None) -> Attributes:
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

    async def getxattr(self, number: NodeNo, name: bytes) -> bytes:
        """Return an extended attribute.

        Those of blobfs' own can be read but are not listed, since tools that copy attributes would
        try to set them elsewhere.

        Raises:
            NoAttribute: there is none of that name.
        """
        node = self._node(number)
        value = None
        if name.startswith(OWN_XATTRS):
            value = await self._files.own_xattr(node, name[len(OWN_XATTRS) :])
        if value is None:
            value = dict(node.row.xattrs).get(name)
        if value is None:
            raise NoAttribute(f"no such extended attribute. inode={node.inode} name={name!r}")
        return value

    def listxattr(self, node: NodeNo) -> list[bytes]:
        """Return the names of the extended attributes that programs have set."""
        names = (name for name, _ in self._node(node).row.xattrs)
        return [name for name in names if not name.startswith(OWN_XATTRS)]

    def setxattr(self, node: NodeNo, name: bytes, value: bytes, mode: XattrMode = "either") -> None:
        """Set an extended attribute.

        Raises:
            NotAllowed: it is one of blobfs' own.
            Refused: as `Namespace.setxattr`.
        """
        _refuse_own(name)
        self._namespace.setxattr(self._current(node), name, value, mode)

    def removexattr(self, node: NodeNo, name: bytes) -> None:
        """Remove an extended attribute. Raises as `setxattr`, and ENODATA."""
        _refuse_own(name)
        self._namespace.removexattr(self._current(node), name)

    # --- directories -----------------------------------------------------------------

    async def opendir(self, number: NodeNo) -> HandleNo:
        """Open a directory for reading. Raises as `Namespace.open_folder`."""
        node = self._node(number)
        reader = await self._namespace.open_folder(node.inode)
        self._kernel.count(number, node.native)
        return self._handles.add_folder(OpenedFolder(reader, number))

    async def readdir(self, handle: HandleNo, cookie: int) -> Iterator[Dirent] | None:
        """Return some entries behind `cookie` (0: from the start); None at the end.

        Take them before anything else happens. An entry counts as looked up only when the
        caller says so, by `count_lookup`.
        """
        reader = self._handles.folder(handle)
        listed = await reader.read(cookie)
        return None if listed is None else map(partial(self._dirent, reader.inode), listed)

    def dots(self, handle: HandleNo) -> Iterator[tuple[bytes, Attributes]]:
        """Yield `.` and `..` of an open directory."""
        node = self._namespace.node(self._handles.folder(handle).inode)
        yield b".", self._attributes(node, 0)
        parent = self._namespace.node(node.parent) if self._kernel.holds(node.parent) else node
        yield b"..", self._attributes(parent, 0)

    def count_lookup(self, dirent: Dirent) -> None:
        """Note that the kernel took this entry, and its inode with it."""
        node = dirent.node
        self._kernel.count(dirent.attributes.inode, node.native)
        if node.row.kind is Kind.FILE:
            self._kernel.note_found(node.inode, (dirent.parent, dirent.name))

    def releasedir(self, handle: HandleNo) -> None:
        """Close a directory."""
        if (folder := self._handles.take_folder(handle)) is not None:
            folder.reader.close()
            self.forget(folder.node, 1)

    async def fsyncdir(self) -> None:
        """Return when all names made so far survive a power cut (P2)."""
        await self._files.sync()

    # --- files -----------------------------------------------------------------------

    def open(self, number: NodeNo, *, for_writing: bool, truncate: bool = False) -> HandleNo:
        """Open a file. The handle keeps the version that it was opened on (C2).

        Raises:
            IsAFolder: it is a directory.
            Changed: it holds another version by now; look the name up again.
            ReadOnly: the mount is read-only, and writing was asked for.
        """
        if for_writing:
            self._namespace.check_writable()
        node = self._namespace.node(self._current(number))
        if truncate:
            node = self._namespace.setattr(node.inode, Wanted(size_bytes=0))
        return self._open(number, node, for_writing=for_writing)

    async def read(self, handle: HandleNo, span: ByteRange) -> bytes | memoryview:
        """Return the bytes of `span`, shorter only at the end of the file.

        Raises:
            Changed: the store holds another version of a native object by now.
        """
        return await self._handles.file(handle).read(span)

    async def write(self, handle: HandleNo, offset: int, data: bytes) -> None:
        """Take in bytes; they survive a kill of this process from then on (P1).

        Into a version that others have replaced: it becomes a conflict copy (C2).

        Raises:
            NoRoom: there is no room for unsaved data, and none can be made (P7).
            Refused: EFBIG.
        """
        await self._handles.file(handle).write(offset, data)

    async def fsync(self, handle: HandleNo) -> None:
        """Return when all that was written so far survives a power cut (P2)."""
        file = self._handles.file(handle)
        await self._files.sync()
        self._files.note_touched(file.inode)

    def release(self, handle: HandleNo) -> None:
        """Close a file."""
        if (opened := self._handles.take_file(handle)) is not None:
            opened.file.close()
            self.forget(opened.node, 1)

    @property
    def open_files(self) -> int:
        return self._handles.open_files

    # --- what others do ----------------------------------------------------------------

    def held_inodes(self) -> Set[InodeNo]:
        """Return the files that programs have open: they keep the content that they have (C2)."""
        return self._handles.held_inodes()

    def place(self, inode: InodeNo) -> DirentKey | None:
        """Return the name by which programs found a file lately, right or wrong by now."""
        return self._handles.place(inode) or self._kernel.place(inode)

    def note_foreign(self, foreign: Foreign) -> None:
        """Follow what others' commits changed, in the step in which the tree changed.

        Handles go on with the versions that they have, and what the kernel holds of them stays
        right; of the rest it is told (S3).
        """
        for old, new in foreign.numbers.items():
            self._files.renumber(old, new, self.place(old))
        self._handles.follow(foreign)
        self._kernel.follow(foreign)

    # --- inside ----------------------------------------------------------------------

    async def _open_existing(
        self, parent: NodeNo, name: bytes, *, truncate: bool
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

    def _open(self, number: NodeNo, node: Node, *, for_writing: bool) -> HandleNo:
        file = self._files.open(node, for_writing=for_writing)
        self._kernel.count(number, node.native)
        return self._handles.add_file(OpenedFile(file, number, self._kernel.place(node.inode)))

    def _node(self, number: NodeNo) -> Node:
        return self._namespace.node(self._kernel.inode(number))

    def _current(self, number: NodeNo) -> InodeNo:
        """Return the inode of a node, for a request that is about the file as it is now.

        Raises:
            Changed: the node is of an old version: the kernel has to look the path up again.
        """
        inode = self._kernel.inode(number)
        if self._files.is_old(inode):
            raise Changed(f"the file was replaced by another client. inode={inode}")
        return inode

    def _note_removed(self, node: Node) -> None:
        """Let an inode go that lost a name: if that was the last, and nobody holds it."""
        if not node.is_gone:
            return
        if self._kernel.holds(node.inode):
            self._files.note_removed(node.inode)
        else:
            self._drop(node.inode)

    def _drop(self, inode: InodeNo) -> None:
        self._namespace.drop(inode)
        self._files.note_dropped(inode)
        self._atimes.forget(inode)

    def _counted(self, node: Node, place: DirentKey, valid_s: float = MOST_VALID_S) -> Attributes:
        attributes = self._attributes(node, valid_s)
        self._kernel.count(attributes.inode, node.native)
        if node.kind is Kind.FILE:
            self._kernel.note_found(node.inode, place)
        return attributes

    def _dirent(self, parent: InodeNo, listed: Listed) -> Dirent:
        attributes = self._attributes(listed.node, self._valid_s(listed.valid_until_s))
        return Dirent(listed.name, attributes, parent, listed.node, listed.next_cookie)

    def _attributes(self, node: Node, valid_s: float) -> Attributes:
        atime_ns = self._atimes.get(node.inode, node.row.mtime_ns)
        return attributes_of(node, self._kernel.node(node.inode), atime_ns, valid_s)

    def _valid_s(self, until_s: float) -> float:
        if until_s == FOR_EVER_S:
            return MOST_VALID_S
        return min(MOST_VALID_S, max(0.0, until_s - self._env.monotonic_s()))


def _refuse_own(name: bytes) -> None:
    if name.startswith(OWN_XATTRS):
        raise NotAllowed(f"what blobfs says of a file cannot be set. name={name!r}")
