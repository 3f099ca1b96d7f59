"""Keep what the kernel knows of the mount, and say what of it is outdated.

Entries and attributes may be believed for up to half a minute. What programs change here the
kernel sees itself; what others' commits change it has to be told (`Outdated`), and what it keeps
by node of a version that was replaced must not meet the next one (`node_ids`).

Concurrency: nothing here awaits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from blobfs.model.changes import DirentKey
from blobfs.model.nodes import NativeNode
from blobfs.model.rebase import Foreign
from blobfs.types import InodeNo, NodeNo
from blobfs.vfs.lookups import Lookups
from blobfs.vfs.node_ids import NodeIds
from blobfs.vfs.places import Places


@dataclass(frozen=True, slots=True)
class Outdated:
    """What the kernel may know and should no longer believe."""

    names: tuple[tuple[NodeNo, bytes], ...] = ()
    """Names, those that lead nowhere included, in the directories that have them."""
    attributes: tuple[NodeNo, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.names or self.attributes)


Tell = Callable[[Outdated], None]
"""Passes on what is outdated. It does not wait, and does not raise."""


def tell_nobody(_: Outdated) -> None:
    """Serve no kernel."""


class KernelView:
    """The nodes that a kernel holds, what they stand for, and names that led to them."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._lookups = Lookups()
        self._ids = NodeIds(self._lookups)
        self._places = Places()

    def inode(self, node: NodeNo) -> InodeNo:
        """Return the inode that a node stands for.

        Raises:
            Changed: for none any more; the path has to be looked up again.
        """
        return self._ids.inode(node)

    def node(self, inode: InodeNo) -> NodeNo:
        """Return what to call an inode towards the kernel."""
        return self._ids.node(inode)

    def holds(self, inode: InodeNo) -> bool:
        """Whether the kernel, or an open file, holds an inode."""
        return self._ids.known_node(inode) is not None

    def count(self, node: NodeNo, native: NativeNode | None) -> None:
        """Note that a node is held once more, and what native object stands behind it."""
        self._lookups.count(node, native)

    def forget(self, node: NodeNo, count: int) -> InodeNo | None:
        """Take back `count` holds; return the inode that is not held any more, if any."""
        if not self._lookups.forget(node, count):
            return None
        inode = self._ids.forgotten(node)
        if inode is None or self.holds(inode):
            return None
        self._places.forget(inode)
        return inode

    def note_found(self, inode: InodeNo, place: DirentKey) -> None:
        """Note that the kernel knows a file by this name."""
        self._places.note(inode, place)

    def place(self, inode: InodeNo) -> DirentKey | None:
        """Return the name by which the kernel found a file lately, right or wrong by now."""
        return self._places.get(inode)

    def note_named(self, place: DirentKey) -> None:
        """Note that a name leads elsewhere without the kernel having asked for that."""
        self._pass_on([place], [place[0]])

    def follow(self, foreign: Foreign) -> None:
        """Note what others' commits changed, and pass on what the kernel should not believe.

        Keeps S3: a node whose file holds other bytes now goes on with the old version or with
        nothing, and the file gets a fresh one.
        """
        replaced = dict.fromkeys((*foreign.contents, *foreign.numbers))
        places = [place for inode in replaced if (place := self._places.get(inode)) is not None]
        before = self._known([*replaced, *foreign.inodes])
        self._ids.follow(foreign.numbers, foreign.contents)
        self._pass_on([*foreign.dirents, *places], foreign.numbers.values(), before)

    def _pass_on(
        self,
        places: Iterable[DirentKey],
        inodes: Iterable[InodeNo],
        nodes: Iterable[NodeNo] = (),
    ) -> None:
        names = (
            (node, name)
            for parent, name in places
            if (node := self._ids.known_node(parent)) is not None
        )
        attributes = dict.fromkeys((*nodes, *self._known(inodes)))
        outdated = Outdated(tuple(dict.fromkeys(names)), tuple(attributes))
        if outdated:
            self._tell(outdated)

    def _known(self, inodes: Iterable[InodeNo]) -> list[NodeNo]:
        nodes = map(self._ids.known_node, inodes)
        return [node for node in nodes if node is not None]
