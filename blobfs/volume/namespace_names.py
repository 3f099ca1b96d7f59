"""Find out what names and numbers stand for, through all three layers.

The first layer that knows decides: unsaved rows, rows replayed from the log, native objects. These
are asked only in a directory that carries a prefix, and their answer may take a round trip.

Concurrency: what is found holds until the next await. So changes are made in two steps: `ask`
waits for what native objects say of a name, then `place` sums it up with the rows of the moment.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from blobfs.errors import BlobfsError, Changed, Damaged
from blobfs.formats.rows import Kind, Native
from blobfs.formats.version import is_same_version, spell_version
from blobfs.model.changes import Change
from blobfs.model.conflict import beside_name, original_name
from blobfs.model.listing import OBJECT_SUFFIX, Entry, to_name, to_segment
from blobfs.model.nodes import NativeLook, NativeNode, Node, content_of, object_of
from blobfs.model.tree_rules import (
    Place,
    check_folder,
    check_name,
    merged,
    plan_adoption,
    plan_binding,
    plan_following,
)
from blobfs.model.tree_rules_rename import Lineage
from blobfs.types import ROOT_INODE, InodeNo
from blobfs.volume.namespace_folder import FOR_EVER_S, NEVER_S, FolderReader
from blobfs.volume.namespace_layers import Layers
from blobfs.volume.namespace_natives import Natives
from blobfs.volume.native import Found, NativeTree


@dataclass(frozen=True, slots=True)
class Named:
    """The answer to a lookup; `node` None: the name leads nowhere."""

    node: Node | None
    valid_until_s: float
    """Monotonic clock; infinite for what is the volume's, whose changes we are told of."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What native objects say of one name."""

    entry: Entry | None = None
    has_entries: bool = False
    """A directory of that name has some."""
    marker: str | None = None
    """The version of the object that keeps a directory of that name in being."""


NOT_NATIVE = Asked()


class Names:
    """The reading side of a namespace."""

    def __init__(self, layers: Layers, native: NativeTree, source: str, look: NativeLook) -> None:
        self._layers = layers
        self._native = native
        self._natives = Natives(source, layers.inode)
        self._look = look

    # --- numbers ---------------------------------------------------------------------

    def node(self, inode: InodeNo) -> Node:
        """Return an inode as it stands.

        Raises:
            Changed: it is gone, or a native one that nobody holds.
        """
        if (row := self._layers.inode(inode)) is not None:
            return Node(inode, row)
        if (native := self._natives.get(inode)) is not None:
            return self._native_node(native)
        raise Changed(f"an inode that is gone. inode={inode}")

    def folder(self, inode: InodeNo) -> Node:
        """Return a directory as it stands.

        Raises:
            Changed: as `node`.
            Refused: ENOTDIR.
        """
        node = self.node(inode)
        check_folder(node)
        return node

    # --- names -----------------------------------------------------------------------

    async def lookup(self, parent: InodeNo, name: bytes) -> Named:
        """Find a name.

        Raises:
            Refused: EPERM, ENAMETOOLONG, ENOTDIR.
            BlobfsError: the store did not answer, and nothing known tells.
        """
        check_name(name)
        prefix = self.folder(parent).row.prefix
        node = self.node_of_name(parent, name)
        if prefix is None:
            return Named(node, FOR_EVER_S)
        if node is not None and not self._follows(prefix, name, node):
            return Named(node, FOR_EVER_S)
        found = await self._find(parent, prefix, name)
        if (node := self.node_of_name(parent, name)) is not None:
            node = self._newest(parent, prefix, node, found.entry)
        elif found.entry is not None:
            node = self.node_of_entry(parent, prefix, found.entry)
        return Named(node, found.valid_until_s)

    def node_of_name(self, parent: InodeNo, name: bytes) -> Node | None:
        """Return what rows say of a name; None: nothing.

        Raises:
            Damaged: it leads to an inode that is not there.
        """
        dirent = self._layers.dirent(parent, name)
        if dirent is None:
            return None
        row = self._layers.inode(dirent.inode)
        if row is None:
            raise Damaged(
                f"a name leads to no inode. parent={parent} name={name!r} inode={dirent.inode}",
                hint="run `blobfs check`",
            )
        return Node(dirent.inode, row)

    def nodes_of_names(
        self, parent: InodeNo, names: Sequence[bytes]
    ) -> Iterator[tuple[bytes, Node | None]]:
        """Yield what rows say of each name: as `node_of_name`, at far less cost for many."""
        known = self._layers.committed(parent, names)
        for name in names:
            yield name, known.get(name) or self.node_of_name(parent, name)

    def node_of_entry(self, parent: InodeNo, prefix: str, entry: Entry) -> Node:
        """Return the node of an entry of the native directory `prefix`."""
        return self._native_node(self._natives.node(parent, prefix, entry))

    async def open_folder(self, inode: InodeNo) -> FolderReader:
        """Return a reader of the entries of a directory. The caller closes it.

        Raises:
            BlobfsError: its native objects have to be listed and the store did not answer.
        """
        folder = self.folder(inode)
        prefix = folder.row.prefix
        view = None
        if prefix is not None and not folder.is_gone:
            view = await self._native.open_folder(prefix)
        return FolderReader(folder, self._layers, view, self)

    async def hidden_in(
        self, parent: InodeNo, prefix: str, entries: Iterable[Entry]
    ) -> frozenset[bytes]:
        """Return the names of native entries that do not show, of those that no row holds.

        Raises:
            BlobfsError: what lies below one has to be listed and the store did not answer.
        """
        if not self._layers.hides_below(to_name(prefix)):
            return frozenset()
        names = [
            entry.name
            for entry in entries
            if self._layers.dirent(parent, entry.name) is None
            if await self._shown(prefix, entry) is None
        ]
        return frozenset(names)

    # --- before a change -------------------------------------------------------------

    async def ask(self, parent: InodeNo, name: bytes, *, takes_place: bool = False) -> Asked:
        """Ask native objects for a name, unless rows that hold it make that needless.

        With `takes_place` what has the name is to be removed: then it matters whether a
        directory that has it shows native entries.
        """
        check_name(name)
        prefix = self.folder(parent).row.prefix
        if prefix is None:
            return NOT_NATIVE
        node = self.node_of_name(parent, name)
        matters = takes_place and node is not None and node.row.prefix is not None
        if node is not None and not matters and not self._follows(prefix, name, node):
            return NOT_NATIVE
        entry = (await self._find(parent, prefix, name)).entry
        if entry is None or not (takes_place and entry.is_folder):
            return Asked(entry)
        below = f"{prefix}{to_segment(name)}/"
        if await self._shows_entries(below):
            return Asked(entry, has_entries=True)
        marker = self._marker(below)
        # Without either, it is made up by keys that no path can name, or by another volume.
        is_odd = marker is None and not self._layers.hides_below(to_name(below))
        return Asked(entry, is_odd, marker)

    def standing(self, node: Node) -> Node:
        """Return a native directory with its place as it is now, any other inode as it is.

        Raises:
            Changed: its name leads to another directory by now, in which nothing of it shows.
        """
        if node.native is None or not node.is_folder:
            return node
        found = self.way_to(node.native.prefix)[-1]
        if found.inode != node.inode:
            raise Changed(f"a directory whose name leads elsewhere. inode={node.inode}")
        return found

    def place(self, parent: InodeNo, name: bytes, asked: Asked) -> Place:
        """Sum up what is known of a name.

        Raises:
            Changed: as `standing`.
        """
        folder = self.standing(self.folder(parent))
        dirent = self._layers.dirent(parent, name)
        node = self.node_of_name(parent, name)
        prefix = folder.row.prefix or ""
        if node is not None:
            node = self._newest(parent, prefix, node, asked.entry)
        elif asked.entry is not None:
            node = self.node_of_entry(parent, prefix, asked.entry)
        return Place(
            folder=folder,
            name=name,
            found=node,
            shadows="" if dirent is None else dirent.shadows,
            has_entries=node is not None and node.is_folder and self._has_entries(node, asked),
            marker=asked.marker,
        )

    def lineage(self, old: Place, new: Place) -> Lineage:
        """Return the directories above two names, as far as a rename may have to know."""
        nodes = (old.found, new.found)
        if not any(node is not None and node.is_folder for node in nodes):
            return Lineage((), ())
        return Lineage(self._above(old.folder), self._above(new.folder))

    def unadopted(self, folder: Node) -> list[Node]:
        """Return the directories that need rows before `folder` can change, outermost first."""
        if folder.native is None:
            return []
        folders = self.way_to(folder.native.prefix)
        return [node for node in folders if node.native is not None]

    def binding(self, node: Node) -> Change:
        """Return the rows that take a native file into the volume, and the way to it.

        Raises:
            Changed: its name leads to something else by now.
        """
        native = node.native
        assert native is not None  # else nobody asks
        folders = self.way_to(native.prefix)
        name = native.entry.name
        is_elsewhere = folders[-1].row.prefix != native.prefix
        dirent = self._layers.dirent(folders[-1].inode, name)
        is_taken = dirent is not None and dirent.inode != native.over
        if is_elsewhere or is_taken or self._layers.hides(native.object):
            raise Changed(f"the name leads to another file. prefix={native.prefix!r} name={name!r}")
        above = plan_adoption(folder for folder in folders if folder.native is not None)
        return merged(above, self._bound(folders[-1], node))

    def taking(self, folder: Node, entry: Entry, *, committed: bool) -> Change | None:
        """Return the rows that take a native file into the volume where it shows.

        `folder` shows the objects below its prefix, of which the tree may say something if
        `committed` (`Layers.is_committed`). None: the entry does not show, or is a file of the
        volume already.
        """
        prefix = folder.row.prefix or ""
        found = object_of(prefix, entry)
        if not committed and not self._layers.is_unsaved(folder.inode, entry.name, found):
            return self._bound(folder, self.node_of_entry(folder.inode, prefix, entry))
        if self._layers.hides(found):
            return None
        known = self.node_of_name(folder.inode, entry.name)
        if known is None:
            return self._bound(folder, self.node_of_entry(folder.inode, prefix, entry))
        newest = self._newest(folder.inode, prefix, known, entry)
        if newest.native is not None:
            return self._bound(folder, newest)
        beside = self.beside(folder.inode, prefix, entry)
        if beside is None or self._layers.dirent(folder.inode, beside.name) is not None:
            return None
        return self._bound(folder, self.node_of_entry(folder.inode, prefix, beside))

    def way_to(self, prefix: str) -> list[Node]:
        """Return the directories on the way to the one that shows `prefix`, the root first.

        The last one shows something else where a row has a name on the way.
        """
        nodes = [self.node(ROOT_INODE)]
        for segment in prefix.split("/")[:-1]:
            nodes.append(self._child_folder(nodes[-1], to_name(segment)))
        return nodes

    def beside(self, parent: InodeNo, prefix: str, entry: Entry | None) -> Entry | None:
        """Return the entry by which an object shows whose name is that of a file of the volume.

        Another tool put it there since: neither disappears (N4). None: it does not show.
        """
        dirent = None if entry is None else self._layers.dirent(parent, entry.name)
        if entry is None or dirent is None or entry.is_folder:
            return None
        found, bound = object_of(prefix, entry), self._layers.bound(dirent.inode)
        is_known = self._layers.hides(found) or is_same_version(dirent.shadows, found.version)
        name = beside_name(entry.name, entry.mtime_ns, found.version)
        if is_known or name is None or (bound is not None and bound.key == found.key):
            return None
        key = content_of(prefix, entry).key
        return msgspec.structs.replace(entry, name=name, key=key)

    # --- inside ----------------------------------------------------------------------

    async def _find(self, parent: InodeNo, prefix: str, name: bytes) -> Found:
        """Ask for the native entry that shows under a name.

        Raises:
            BlobfsError: the store did not answer, and it matters: the name leads to no file.
        """
        try:
            found = await self._native.lookup(prefix, name)
            entry = await self._shown(prefix, found.entry)
            original = original_name(name) if entry is None else None
            if original is not None:
                found = await self._native.lookup(prefix, original)
                beside = self.beside(parent, prefix, found.entry)
                entry = beside if beside is not None and beside.name == name else None
        except BlobfsError:
            node = self.node_of_name(parent, name)
            if node is None or not self._follows(prefix, name, node):
                raise
            return Found(None, NEVER_S)  # what is known of it has to do
        return Found(entry, found.valid_until_s)

    def _follows(self, prefix: str, name: bytes, node: Node) -> bool:
        """Whether a file of the volume is no more than an object that lies under its name (N4)."""
        bound = self._layers.bound(node.inode) if node.kind is Kind.FILE else None
        if bound is None:
            return False
        key = to_name(prefix) + name
        return key in (bound.key, bound.key + to_name(OBJECT_SUFFIX))

    def _newest(self, parent: InodeNo, prefix: str, node: Node, entry: Entry | None) -> Node:
        """Return a file of the volume, or the version that another tool put in its place (N4)."""
        if entry is None or entry.is_folder or not self._follows(prefix, entry.name, node):
            return node
        return self._native_node(self._natives.node(parent, prefix, entry, over=node.inode))

    async def _shown(self, prefix: str, entry: Entry | None) -> Entry | None:
        """Return a native entry if it shows: not if it, or all that makes it up, is hidden (N1).

        Only a directory below which something is hidden has to be looked through.
        """
        if entry is None:
            return None
        if not entry.is_folder:
            return None if self._layers.hides(object_of(prefix, entry)) else entry
        below = f"{prefix}{to_segment(entry.name)}/"
        if not self._layers.hides_below(to_name(below)) or await self._shows_entries(below):
            return entry
        marker = self._marker(below)
        is_hidden = marker is None or self._layers.hides(Native(to_name(below), 0, marker))
        return None if is_hidden else entry

    def _marker(self, prefix: str) -> str | None:
        mtime_ns = self._native.marker_ns(prefix)
        return None if mtime_ns is None else spell_version("", 0, mtime_ns)

    def _native_node(self, native: NativeNode) -> Node:
        entry = native.entry
        mtime_ns = entry.mtime_ns
        if entry.is_folder:
            mtime_ns = self._native.folder_mtime_ns(native.prefix)
        row = self._look.row(native, mtime_ns)
        old = None if native.over is None else self._layers.inode(native.over)
        if old is not None:
            kept = {"mode": old.mode, "uid": old.uid, "gid": old.gid, "xattrs": old.xattrs}
            row = msgspec.structs.replace(row, **kept)
        return Node(native.number, row, native)

    def _bound(self, folder: Node, node: Node) -> Change:
        """Return the rows by which a native file becomes one of the volume, in its directory."""
        native = node.native
        assert native is not None  # else it is one
        if native.over is None:
            return plan_binding(folder, native, node.row)
        return plan_following(folder, native, node.row, self.node(native.over))

    def _child_folder(self, folder: Node, name: bytes) -> Node:
        known = self.node_of_name(folder.inode, name)
        if known is not None:
            return known
        return self.node_of_entry(folder.inode, folder.row.prefix or "", Entry(name, True))

    async def _shows_entries(self, prefix: str) -> bool:
        """Return whether any native entry of a directory shows."""
        view = await self._native.open_folder(prefix)
        try:
            number = 0
            while (page := await view.page(number)) is not None:
                for entry in page:
                    if await self._shown(prefix, entry) is not None:
                        return True
                number += 1
            return False
        finally:
            view.close()

    def _has_entries(self, node: Node, asked: Asked) -> bool:
        return asked.has_entries or not self._layers.is_empty(node.inode)

    def _above(self, folder: Node) -> list[InodeNo]:
        """Return a directory and those above it.

        Raises:
            Damaged: they form a ring.
        """
        above = [folder.inode]
        while folder.row.prefix is None:
            folder = self.node(folder.parent)
            if folder.inode in above:
                raise Damaged(f"a directory lies in itself. inode={folder.inode}")
            above.append(folder.inode)
        return [*above, *(node.inode for node in self.way_to(folder.row.prefix))]
