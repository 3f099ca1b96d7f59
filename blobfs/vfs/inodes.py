"""Give every file and directory its number, and keep what the kernel holds on to.

A number is a hash of what it stands for: the key and version of an object, the prefix of a
directory. So it is the same after a remount, and an object that was overwritten is a new
inode: pages that the kernel keeps of the old one can never mix with the new one's
(volume format, S3 and N6).

Concurrency: nothing here awaits.
"""

from dataclasses import dataclass

import xxhash

from blobfs.model.listing import Entry, to_segment
from blobfs.types import ROOT_INODE, Content, InodeNo

_NUMBER_MASK = (1 << 63) - 1


def content_of(prefix: str, entry: Entry) -> Content:
    """Return what the file `entry` in the directory `prefix` reads."""
    return Content(entry.key or prefix + to_segment(entry.name), entry.etag, entry.size_bytes)


@dataclass(slots=True)
class Node:
    """A file or directory that the kernel knows by number.

    `prefix` is the directory's own prefix, or that of the directory that the file lies in.
    """

    number: InodeNo
    parent: InodeNo
    prefix: str
    entry: Entry
    lookups: int = 0
    outdated: bool = False
    """A read found another version in the store: the name has to be looked up anew."""

    @property
    def content(self) -> Content:
        """What a file of this node reads."""
        return content_of(self.prefix, self.entry)

    def stands_for(self, prefix: str, entry: Entry) -> bool:
        own = self.entry
        return (
            self.prefix == prefix
            and own.name == entry.name
            and own.is_folder == entry.is_folder
            and own.etag == entry.etag
            and own.size_bytes == entry.size_bytes
        )


class InodeTable:
    """The nodes that the kernel has looked up and not yet forgotten, and the root."""

    def __init__(self, source: str) -> None:
        self._seed = xxhash.xxh3_64_intdigest(source.encode("utf-8", "surrogateescape"))
        root = Node(ROOT_INODE, ROOT_INODE, "", Entry(b"", True), lookups=1)
        self._nodes: dict[int, Node] = {ROOT_INODE: root}

    def get(self, number: InodeNo) -> Node | None:
        return self._nodes.get(number)

    def node(self, parent: Node, entry: Entry) -> Node:
        """Return the node of `entry` in the directory `parent`; known only once counted."""
        prefix = parent.prefix
        if entry.is_folder:
            prefix += to_segment(entry.name) + "/"
        number = self._number(prefix, entry)
        while (known := self._nodes.get(number)) is not None:
            if known.stands_for(prefix, entry):
                known.entry = entry  # the time may be newer though the version is not
                known.outdated = False
                return known
            number = InodeNo(number % _NUMBER_MASK + 2)
        return Node(number, parent.number, prefix, entry)

    def count_lookup(self, node: Node) -> None:
        """Note that the kernel was told of `node`, and will forget it as often."""
        node.lookups += 1
        self._nodes[node.number] = node

    def forget(self, number: InodeNo, count: int) -> None:
        """Take back `count` lookups."""
        node = self._nodes.get(number)
        if node is None or number == ROOT_INODE:
            return
        node.lookups -= count
        if node.lookups <= 0:
            del self._nodes[number]

    def _number(self, prefix: str, entry: Entry) -> InodeNo:
        identity = prefix.encode("utf-8", "surrogateescape")
        if not entry.is_folder:
            identity += entry.name + b"\0" + entry.etag.encode("utf-8", "surrogateescape")
        number = xxhash.xxh3_64_intdigest(identity, seed=self._seed) & _NUMBER_MASK
        return InodeNo(max(number, 2))
