"""Let a file have another name than what was put in its place, where the two cannot be one.

Concurrency: nothing here awaits.
"""

from collections.abc import Iterator
from itertools import count

from blobfs.env import Env
from blobfs.errors import Damaged
from blobfs.formats.rows import Native
from blobfs.model.changes import DirentKey, LocalInode
from blobfs.model.conflict import conflict_name, plan_giving_way, plan_keeping
from blobfs.model.listing import OBJECT_SUFFIX, to_name
from blobfs.model.nodes import Node
from blobfs.model.tree_rules import Place
from blobfs.types import ROOT_INODE, InodeNo
from blobfs.volume.namespace_layers import Layers
from blobfs.volume.tree import Tree
from blobfs.volume.unsaved import Unsaved


class Conflicts:
    """Makes conflict copies. `host` is what this machine is called in their names."""

    def __init__(self, unsaved: Unsaved, tree: Tree, env: Env, host: str) -> None:
        self._unsaved = unsaved
        self._tree = tree
        self._layers = Layers(unsaved, tree)
        self._env = env
        self._host = host

    def give_way(self, inode: InodeNo) -> bytes | None:
        """Make a conflict copy of a file whose object was replaced; return its new name.

        None: it does not have the object's name, and so is in nobody's way.

        Raises:
            NoRoom, LocalFault: it cannot be written down.
        """
        place = self._place_of(inode)
        if place is None:
            return None
        name = self._free_name(place)
        self._unsaved.apply(plan_giving_way(place, name, self._env.now_ns()))
        return name

    def keep(self, inode: InodeNo, of: InodeNo, found: DirentKey | None) -> DirentKey:
        """Give a file without a name one, because a program changes a version that others have
        replaced; return it (C2).

        `found` is where `of` was, the file that was replaced. The name is that of a conflict copy
        beside it, or `found` itself where the file was removed and nothing took its name (C4);
        in the root, if no directory of it is known.

        Raises:
            NoRoom, LocalFault: it cannot be written down.
        """
        row = self._layers.inode(inode)
        assert row is not None, "whoever has it open keeps its row"
        folder, original = self._where(of, found)
        place = Place(folder, original)
        if not self._is_left(of, place):
            place = Place(folder, self._free_name(place))
        node = Node(inode, row)
        self._unsaved.apply(plan_keeping(place, node, original, self._env.now_ns()))
        return place.key

    def _where(self, of: InodeNo, found: DirentKey | None) -> tuple[Node, bytes]:
        """Return the directory that a file was in, and its name there."""
        parent, name = found or (ROOT_INODE, b"file %d" % of)
        for inode in (parent, ROOT_INODE):
            row = self._layers.inode(inode)
            if row is not None and row.nlink:
                return Node(inode, row), name
        raise Damaged("the volume has no root", hint="run `blobfs check`")

    def _is_left(self, of: InodeNo, place: Place) -> bool:
        """Whether a file is gone and nothing else has, or may have, its name."""
        if self._layers.inode(of) is not None or place.folder.row.prefix is not None:
            return False
        return self._layers.dirent(*place.key) is None

    def _place_of(self, inode: InodeNo) -> Place | None:
        """Return the name of a file that is still called as its object is."""
        row = self._layers.inode(inode)
        bound = None if row is None else self._bound(inode, row)
        if row is None or bound is None:
            return None
        above, slash, segment = bound.key.rpartition(b"/")
        folder = self._folder(above + slash)
        for name in (segment, segment + to_name(OBJECT_SUFFIX)):
            found = None if folder is None else self._layers.dirent(folder.inode, name)
            if folder is not None and found is not None and found.inode == inode:
                return Place(folder, name, Node(inode, row))
        return None

    def _bound(self, inode: InodeNo, row: LocalInode) -> Native | None:
        committed = self._tree.inode(inode)
        content = row.bound if committed is None else committed.content
        return content if isinstance(content, Native) else None

    def _folder(self, prefix: bytes) -> Node | None:
        """Return the directory that shows the objects below `prefix`; None: no row does."""
        inode = ROOT_INODE
        for segment in prefix.split(b"/")[:-1]:
            dirent = self._layers.dirent(inode, segment)
            if dirent is None:
                return None
            inode = dirent.inode
        row = self._layers.inode(inode)
        is_it = row is not None and row.prefix is not None and to_name(row.prefix) == prefix
        return Node(inode, row) if row is not None and is_it else None

    def _free_name(self, place: Place) -> bytes:
        names = (
            conflict_name(place.name, self._host, self._env.now_ns(), mark)
            for mark in self._marks()
        )
        folder = place.folder.inode
        return next(name for name in names if self._layers.dirent(folder, name) is None)

    def _marks(self) -> Iterator[str]:
        """Yield the number of the next commit, then others that begin with it."""
        seq = self._tree.position.seq + 1
        yield str(seq)
        for number in count(2):
            yield f"{seq}-{number}"
