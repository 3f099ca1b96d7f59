"""Carry out what programs do to the names and attributes of a mount.

What is there is found by `volume.namespace_names`; what changes is planned by pure rules
(`model.tree_rules`) and becomes rows of the unsaved layer. A native directory in which something is
made is *adopted*: it and the native ones above it get rows, and keep their numbers. So does a
native file that is changed in any way: its row is *bound*, it refers to the object. A native
directory that is renamed shows what it showed, all of it bound (`volume.namespace_moves`).

Concurrency: any method may run in any number of tasks. Native objects are asked first, which may
take a round trip; then a change is planned and applied without an await in between.
"""

import errno
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

from blobfs.env import Env
from blobfs.errors import ReadOnly
from blobfs.formats.rows import InodeRow, Kind, Native
from blobfs.model.changes import Change
from blobfs.model.nodes import NativeLook, Node
from blobfs.model.refusal import Refused
from blobfs.model.tree_rules import (
    Maker,
    Place,
    merged,
    new_row,
    plan_adoption,
    plan_link,
    plan_make,
    plan_rmdir,
    plan_unlink,
    plan_unmarking,
)
from blobfs.model.tree_rules_attributes import (
    Wanted,
    XattrMode,
    plan_removexattr,
    plan_setattr,
    plan_setxattr,
)
from blobfs.model.tree_rules_rename import EXCHANGE, plan_detaching, plan_rename
from blobfs.types import InodeNo
from blobfs.volume.namespace_folder import FolderReader
from blobfs.volume.namespace_layers import Layers, ReplayedRows, UnsavedRows
from blobfs.volume.namespace_moves import Moves
from blobfs.volume.namespace_names import Named, Names
from blobfs.volume.namespace_numbers import Numbers
from blobfs.volume.native import NativeTree

log = logging.getLogger("blobfs.namespace")

NO_CHANGE = Change()


class Namespace:
    """The tree of one mount.

    `source` is the URL of the store. With `read_only`, every change is refused.
    """

    def __init__(
        self,
        unsaved: UnsavedRows,
        tree: ReplayedRows,
        native: NativeTree,
        env: Env,
        *,
        numbers: Numbers,
        source: str,
        look: NativeLook,
        read_only: bool,
    ) -> None:
        self._unsaved = unsaved
        self._tree = tree
        self._env = env
        self._numbers = numbers
        self._read_only = read_only
        self._layers = Layers(unsaved, tree)
        self._names = Names(self._layers, native, source, look)
        self._moves = Moves(self._names, self._layers, native, unsaved, tree)

    # --- questions -------------------------------------------------------------------

    async def lookup(self, parent: InodeNo, name: bytes) -> Named:
        """Find a name.

        A native inode that is found is known by its number while somebody holds `Node.native`.

        Raises:
            Refused: EPERM (a name of blobfs' own), ENAMETOOLONG, ENOTDIR.
            Changed: the directory is gone.
            BlobfsError: the store did not answer, and nothing known tells.
        """
        return await self._names.lookup(parent, name)

    def node(self, inode: InodeNo) -> Node:
        """Return an inode as it stands.

        Raises:
            Changed: it is gone, or a native one whose `Node.native` nobody holds.
        """
        return self._names.node(inode)

    def committed(self, inode: InodeNo) -> InodeRow | None:
        """Return the inode as the log has it: what unsaved content lies over. None: not yet."""
        return self._tree.inode(inode)

    def bound(self, inode: InodeNo) -> Native | None:
        """Return the object that holds the content of a file of the volume; None: none does."""
        return self._layers.bound(inode)

    async def open_folder(self, inode: InodeNo) -> FolderReader:
        """Return a reader of the entries of a directory. The caller closes it.

        Raises:
            Refused: ENOTDIR.
            BlobfsError: its native objects have to be listed and the store did not answer.
        """
        return await self._names.open_folder(inode)

    def readlink(self, inode: InodeNo) -> bytes:
        """Return the target of a symbolic link.

        Raises:
            Refused: EINVAL.
        """
        node = self.node(inode)
        if node.kind is not Kind.SYMLINK:
            raise Refused(errno.EINVAL, f"not a symbolic link. inode={inode}")
        return node.row.target

    # --- names -----------------------------------------------------------------------

    async def make(
        self,
        parent: InodeNo,
        name: bytes,
        kind: Kind,
        mode: int,
        maker: Maker,
        *,
        target: bytes = b"",
        rdev: int = 0,
    ) -> Node:
        """Make an entry of any kind: create, mkdir, mknod, symlink (with its `target`).

        `mode` is already less the umask; `rdev` says which device it is to stand for.

        Raises:
            Refused: EEXIST, ENOENT, ENOTDIR, EPERM, ENAMETOOLONG.
            ReadOnly: the mount is read-only.
            BlobfsError: the store did not answer whether the name is taken.
        """
        self.check_writable()
        asked = await self._names.ask(parent, name)
        place = self._names.place(parent, name, asked)
        now_ns = self._env.now_ns()
        row = new_row(place.folder, kind, mode, maker, now_ns, target=target, rdev=rdev)
        inode = self._numbers.take()
        self._apply(plan_make(place, inode, row, now_ns), place)
        return Node(inode, row)

    async def link(self, inode: InodeNo, parent: InodeNo, name: bytes) -> Node:
        """Give a file one more name.

        Raises:
            Refused: EEXIST, EPERM (a directory), ENOENT, ENOTDIR, EMLINK, ENAMETOOLONG.
            ReadOnly: the mount is read-only.
        """
        self.check_writable()
        asked = await self._names.ask(parent, name)
        place = self._names.place(parent, name, asked)
        node, bound = self._bound(self.node(inode))
        change = plan_link(node, place, self._env.now_ns())
        self._apply(merged(bound, change), place)
        return self.node(inode)

    async def unlink(self, parent: InodeNo, name: bytes) -> Node:
        """Take a name from a file; return the file as it is then.

        With its last name (`Node.is_gone`) it lives on until `drop`, which is due once nobody
        holds it any more.

        Raises:
            Refused: ENOENT, EISDIR, ENOTDIR, EPERM, ENAMETOOLONG.
            ReadOnly: the mount is read-only.
        """
        self.check_writable()
        asked = await self._names.ask(parent, name)
        place, bound = self._own(self._names.place(parent, name, asked))
        return self._remove(place, merged(bound, plan_unlink(place, self._env.now_ns())))

    async def rmdir(self, parent: InodeNo, name: bytes) -> Node:
        """Remove an empty directory; return it as it is then, gone, until `drop`.

        Raises:
            Refused: ENOENT, ENOTDIR, ENOTEMPTY, EPERM, ENAMETOOLONG.
            ReadOnly: the mount is read-only.
            BlobfsError: the store did not answer whether it is empty.
        """
        self.check_writable()
        asked = await self._names.ask(parent, name, takes_place=True)
        place, _ = self._own(self._names.place(parent, name, asked))
        change = plan_rmdir(place, self._env.now_ns())
        return self._remove(place, merged(plan_unmarking(place), change))

    async def rename(
        self,
        parent: InodeNo,
        name: bytes,
        new_parent: InodeNo,
        new_name: bytes,
        flags: int = 0,
    ) -> Node | None:
        """Give an entry another name, in place of what has it (renameat2(2) has the flags).

        What native objects make up is listed and taken into the volume before (N2).
        Return what had the new name, as it is then (as for `unlink`); None: nothing had.

        Raises:
            Refused: ENOENT, EEXIST, EINVAL, ENOTDIR, EISDIR, ENOTEMPTY, EPERM, ENAMETOOLONG,
                EFBIG (a directory of too many native objects).
            ReadOnly: the mount is read-only.
            BlobfsError: the store did not answer what the names are, or what lies below them.
        """
        self.check_writable()
        taken: set[str] = set()
        while True:
            asked_old = await self._names.ask(parent, name)
            asked_new = await self._names.ask(new_parent, new_name, takes_place=True)
            old = self._names.place(parent, name, asked_old)
            new = self._names.place(new_parent, new_name, asked_new)
            change = self._plan_rename(old, new, flags)
            moving = (old, new) if flags & EXCHANGE else (old,)
            prefix = next((each for each in _prefixes(moving) if each not in taken), None)
            if prefix is None or not change.dirents:
                break
            await self._moves.take(prefix)
            taken.add(prefix)
        if not change.dirents:
            return None
        self._apply(change, old, new)
        return None if new.found is None else self.node(new.found.inode)

    def drop(self, inode: InodeNo) -> None:
        """Let go of an inode without a name, which nobody holds any more."""
        self._unsaved.drop(inode)

    # --- attributes ------------------------------------------------------------------

    def setattr(self, inode: InodeNo, wanted: Wanted) -> Node:
        """Set attributes of an inode; ctime is now.

        Raises:
            Refused: EISDIR or EINVAL (a size for what is no file), EFBIG.
            ReadOnly: the mount is read-only.
            Changed: it is a native file, whose name leads to another one by now.
        """
        node, bound = self._changeable(inode)
        return self._alter(node, bound, plan_setattr(node, wanted, self._env.now_ns()))

    def adopt(self, inode: InodeNo) -> Node:
        """Make a native file the volume's, because its content is to change (N3).

        Raises:
            ReadOnly: the mount is read-only.
            Changed: its name leads to another file by now.
        """
        node, bound = self._changeable(inode)
        return self._alter(node, bound, NO_CHANGE) if bound.inodes else node

    def setxattr(
        self, inode: InodeNo, name: bytes, value: bytes, mode: XattrMode = "either"
    ) -> Node:
        """Set an extended attribute. They are read from `Node.row.xattrs`.

        Raises:
            Refused: EEXIST or ENODATA (against `mode`), ENOSPC.
            ReadOnly: the mount is read-only.
            Changed: as `setattr`.
        """
        node, bound = self._changeable(inode)
        change = plan_setxattr(node, name, value, self._env.now_ns(), mode)
        return self._alter(node, bound, change)

    def removexattr(self, inode: InodeNo, name: bytes) -> Node:
        """Remove an extended attribute.

        Raises:
            Refused: ENODATA.
            ReadOnly: the mount is read-only.
            Changed: as `setattr`.
        """
        node, bound = self._changeable(inode)
        return self._alter(node, bound, plan_removexattr(node, name, self._env.now_ns()))

    def check_writable(self) -> None:
        """Make sure that programs may change anything here.

        Raises:
            ReadOnly: the mount is read-only.
        """
        if self._read_only:
            raise ReadOnly("mounted read-only")

    # --- inside ----------------------------------------------------------------------

    def _changeable(self, inode: InodeNo) -> tuple[Node, Change]:
        self.check_writable()
        return self._bound(self._names.standing(self.node(inode)))

    def _bound(self, node: Node) -> tuple[Node, Change]:
        """Return a native file as one of the volume, with the rows that make it so."""
        if node.native is None or node.is_folder:
            return node, NO_CHANGE
        change = self._names.binding(node)
        row = change.inodes[node.inode]
        assert row is not None
        return Node(node.inode, row), change

    def _plan_rename(self, old: Place, new: Place, flags: int) -> Change:
        """Return the rows of a rename, those of native directories that move included."""
        old, bound_old = self._own(old)
        new, bound_new = self._own(new)
        lineage = self._names.lineage(old, new)
        change = plan_rename(old, new, flags, lineage, self._env.now_ns())
        if not change.dirents:
            return NO_CHANGE  # both names lead to one inode
        detached = self._detached(old)
        if flags & EXCHANGE:
            return merged(bound_old, bound_new, detached, self._detached(new), change)
        return merged(bound_old, bound_new, detached, plan_unmarking(new), change)

    def _detached(self, place: Place) -> Change:
        """Return the rows of the directories below one that moves, as they are from then on."""
        node = place.found
        if node is None or node.row.prefix is None:
            return NO_CHANGE
        return plan_detaching(self._moves.native_below(node))

    def _own(self, place: Place) -> tuple[Place, Change]:
        """Return a place with what is found there as the volume's own, and the rows for that.

        Of a native directory there are none: it goes, or what it shows was taken before.
        """
        node = place.found
        if node is None or node.native is None:
            return place, NO_CHANGE
        if node.is_folder:
            return replace(place, found=Node(node.inode, node.row)), NO_CHANGE
        shadows = node.native.object.version
        node, bound = self._bound(node)
        return replace(place, found=node, shadows=shadows), bound

    def _alter(self, node: Node, bound: Change, change: Change) -> Node:
        self._unsaved.apply(self._with_adoption(merged(bound, change), node))
        return self.node(node.inode)

    def _remove(self, place: Place, change: Change) -> Node:
        self._apply(change, place)
        assert place.found is not None  # else nothing was planned
        return self.node(place.found.inode)

    def _apply(self, change: Change, *places: Place) -> None:
        self._unsaved.apply(self._with_adoption(change, *(place.folder for place in places)))

    def _with_adoption(self, change: Change, *folders: Node) -> Change:
        for folder in folders:
            if unadopted := self._names.unadopted(folder):
                log.info("adopting directories of native objects. prefix=%r", folder.row.prefix)
                change = merged(plan_adoption(unadopted), change)
        return change


def _prefixes(places: Iterable[Place]) -> Iterator[str]:
    """Yield the prefixes of the directories found there that show native objects."""
    for place in places:
        if place.found is not None and place.found.row.prefix is not None:
            yield place.found.row.prefix
