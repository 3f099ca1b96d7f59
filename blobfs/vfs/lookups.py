"""Count what the kernel holds on to, and keep alive what stands behind it.

A kernel names inodes by number, as often as it was told of them and until it forgets them as
often. Open files count too. An inode without a name goes when nothing holds it any more.

Concurrency: nothing here awaits.
"""

from dataclasses import dataclass

from blobfs.model.nodes import NativeNode, Node
from blobfs.types import ROOT_INODE, InodeNo


@dataclass(slots=True)
class _Held:
    count: int
    native: NativeNode | None
    """Kept alive here: its number leads back to it only while somebody holds it."""


class Lookups:
    """The inodes that are held, besides the root, which always is."""

    def __init__(self) -> None:
        self._held: dict[InodeNo, _Held] = {}

    def __contains__(self, inode: InodeNo) -> bool:
        return inode == ROOT_INODE or inode in self._held

    def count(self, node: Node) -> None:
        """Note that `node` is held once more."""
        held = self._held.get(node.inode)
        if held is None:
            self._held[node.inode] = _Held(1, node.native)
            return
        held.count += 1
        held.native = node.native

    def forget(self, inode: InodeNo, count: int) -> bool:
        """Take back `count` holds; return whether that was the last one."""
        held = self._held.get(inode)
        if held is None:
            return False
        held.count -= count
        if held.count > 0:
            return False
        del self._held[inode]
        return True
