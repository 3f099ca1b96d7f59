"""Say which inode each node of the kernel stands for.

A *node* is what the kernel calls an inode: size, attributes and pages are kept by it. As a rule it
has the inode's own number. Where others' commits replaced the content of a file, what the kernel
has of the node is of the old version, and it must not meet the new one (volume format, S3):

1. The node goes on with the old version, under the number that this has from now on; if nobody
   needs that, the node stands for nothing, and the kernel looks the path up again.
2. The file gets a fresh node with its next lookup: no page, no size of the old one is known by it.
3. What the kernel has forgotten is as it was at first.

So there is something to remember only of what was replaced while the kernel knew it. Pure.
"""

import itertools
from collections.abc import Container, Iterable, Mapping

from blobfs.errors import Changed
from blobfs.types import InodeNo, NodeNo

FIRST_FRESH_NODE = 1 << 63
"""Inodes have numbers below it."""


class NodeIds:
    """The nodes that do not stand for the inode of their own number. `known`: to the kernel."""

    def __init__(self, known: Container[NodeNo]) -> None:
        self._known = known
        self._inodes: dict[NodeNo, InodeNo | None] = {}
        """None: it stands for nothing."""
        self._nodes: dict[InodeNo, NodeNo] = {}
        self._fresh = itertools.count(FIRST_FRESH_NODE)

    def inode(self, node: NodeNo) -> InodeNo:
        """Return the inode that a node stands for.

        Raises:
            Changed: for none any more; the path has to be looked up again.
        """
        inode = self._inodes.get(node, InodeNo(node))
        if inode is None:
            raise Changed(f"the file was replaced by another client. node={node}")
        return inode

    def node(self, inode: InodeNo) -> NodeNo:
        """Return what to call an inode towards the kernel, a fresh node if need be."""
        own = NodeNo(inode)
        if not self._inodes:  # as a rule; each entry of a listing asks
            return own
        node = self._nodes.get(inode)
        if node is not None:
            return node
        return self._fresh_node(inode) if own in self._inodes else own

    def known_node(self, inode: InodeNo) -> NodeNo | None:
        """Return what the kernel calls an inode; None: it does not know it."""
        node = self._nodes.get(inode)
        if node is None:
            node = NodeNo(inode)
            if node in self._inodes:
                return None
        return node if node in self._known else None

    def follow(self, numbers: Mapping[InodeNo, InodeNo], replaced: Iterable[InodeNo]) -> None:
        """Note that inodes have other `numbers`, and that files hold other bytes (S3).

        A node of an inode that was renumbered goes along; that of a file that was `replaced` and
        not renumbered is of use to nobody.
        """
        standing: dict[NodeNo, InodeNo | None] = {}
        for old in {**numbers, **dict.fromkeys(replaced)}:
            node = self.known_node(old)
            if node is not None:
                standing[node] = numbers.get(old)
            self._part(old)
        self._inodes |= standing
        for node, inode in standing.items():
            if inode is not None and self.known_node(inode) is None:
                self._nodes[inode] = node

    def forgotten(self, node: NodeNo) -> InodeNo | None:
        """Note that the kernel knows a node no more; return the inode that it stood for."""
        inode = self._inodes.pop(node, InodeNo(node))
        if inode is not None and self._nodes.get(inode) == node:
            del self._nodes[inode]
        own = InodeNo(node)
        if own in self._nodes and self._nodes[own] not in self._known:
            self._part(own)  # which has its own number back
        return inode

    def __len__(self) -> int:
        return len(self._inodes)

    def _fresh_node(self, inode: InodeNo) -> NodeNo:
        node = NodeNo(next(self._fresh))
        self._inodes[node] = inode
        self._nodes[inode] = node
        return node

    def _part(self, inode: InodeNo) -> None:
        """Let an inode have no other node than its own; one that was never told is not needed."""
        node = self._nodes.pop(inode, None)
        if node is not None and node not in self._known:
            del self._inodes[node]
