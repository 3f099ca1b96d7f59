"""Count what the kernel holds on to, and keep alive what stands behind it.

A kernel knows a node as often as it was told of it and until it forgets it as often. Open files
count too. An inode without a name goes when nothing holds its node any more.

Concurrency: nothing here awaits.
"""

from blobfs.model.nodes import NativeNode
from blobfs.types import ROOT_INODE, NodeNo

ROOT_NODE = NodeNo(ROOT_INODE)


class Lookups:
    """The nodes that are held, besides the root, which always is.

    A kernel may hold a million, so a file of the volume takes no more than a number here.
    """

    def __init__(self) -> None:
        self._counts: dict[NodeNo, int] = {}
        self._natives: dict[NodeNo, NativeNode] = {}
        """Kept alive here: their numbers lead back to them only while somebody holds them."""

    def __contains__(self, node: object) -> bool:
        return node == ROOT_NODE or node in self._counts

    def count(self, node: NodeNo, native: NativeNode | None) -> None:
        """Note that `node` is held once more; `native` is what stands behind it."""
        self._counts[node] = self._counts.get(node, 0) + 1
        if native is not None:
            self._natives[node] = native
        elif self._natives:
            self._natives.pop(node, None)

    def forget(self, node: NodeNo, count: int) -> bool:
        """Take back `count` holds; return whether that was the last one."""
        held = self._counts.get(node)
        if held is None:
            return False
        if held > count:
            self._counts[node] = held - count
            return False
        del self._counts[node]
        self._natives.pop(node, None)
        return True
