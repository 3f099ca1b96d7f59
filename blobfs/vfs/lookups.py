"""Count what the kernel holds on to, and keep alive what stands behind it.

A kernel knows a node as often as it was told of it and until it forgets it as often. Open files
count too. An inode without a name goes when nothing holds its node any more.

Concurrency: nothing here awaits.
"""

from dataclasses import dataclass

from blobfs.model.nodes import NativeNode
from blobfs.types import ROOT_INODE, NodeNo

ROOT_NODE = NodeNo(ROOT_INODE)


@dataclass(slots=True)
class _Held:
    count: int
    native: NativeNode | None
    """Kept alive here: its number leads back to it only while somebody holds it."""


class Lookups:
    """The nodes that are held, besides the root, which always is."""

    def __init__(self) -> None:
        self._held: dict[NodeNo, _Held] = {}

    def __contains__(self, node: object) -> bool:
        return node == ROOT_NODE or node in self._held

    def count(self, node: NodeNo, native: NativeNode | None) -> None:
        """Note that `node` is held once more; `native` is what stands behind it."""
        held = self._held.get(node)
        if held is None:
            self._held[node] = _Held(1, native)
            return
        held.count += 1
        held.native = native

    def forget(self, node: NodeNo, count: int) -> bool:
        """Take back `count` holds; return whether that was the last one."""
        held = self._held.get(node)
        if held is None:
            return False
        held.count -= count
        if held.count > 0:
            return False
        del self._held[node]
        return True
