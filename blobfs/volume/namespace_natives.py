"""Give native objects and directories their numbers, and know them by these while they are held.

A number is a hash of what it stands for (`model.numbers`), so it is the same after a remount.
The way back, from a number to what it stands for, exists for as long as somebody holds the
`NativeNode`: whoever counts the kernel's lookups does.

Concurrency: nothing here awaits.
"""

from collections.abc import Callable
from weakref import WeakValueDictionary

from blobfs.model.changes import LocalInode
from blobfs.model.listing import Entry, to_segment
from blobfs.model.nodes import NativeNode
from blobfs.model.numbers import bucket_seed, file_number, folder_number, next_native
from blobfs.types import ROOT_INODE, InodeNo


class Natives:
    """The native nodes that are held, and the root.

    `row` tells of the volume's row of a number, since a directory that was adopted keeps its own.
    """

    def __init__(self, source: str, row: Callable[[InodeNo], LocalInode | None]) -> None:
        self._seed = bucket_seed(source)
        self._row = row
        self._root = NativeNode(ROOT_INODE, ROOT_INODE, "", Entry(b"", True))
        self._held: WeakValueDictionary[int, NativeNode] = WeakValueDictionary()
        self._held[ROOT_INODE] = self._root

    def get(self, number: InodeNo) -> NativeNode | None:
        """Return what a number stands for; None: nobody holds it."""
        return self._held.get(number)

    def node(
        self, parent: InodeNo, parent_prefix: str, entry: Entry, over: InodeNo | None = None
    ) -> NativeNode:
        """Return the node of an entry of the directory `parent` that shows `parent_prefix`.

        With `over`, it is the newer version of the file that has this number.
        """
        if entry.is_folder:
            return self._folder(parent, f"{parent_prefix}{to_segment(entry.name)}/", entry)
        number = file_number(self._seed, parent_prefix, entry.name, entry.etag)
        while self._row(number) is not None:
            number = next_native(number)  # the same bytes as what a row stands for by now (N6)
        node = self._find_or_hold(number, parent, parent_prefix, entry)
        node.over = over
        return node

    def _folder(self, parent: InodeNo, prefix: str, entry: Entry) -> NativeNode:
        number = folder_number(prefix)
        while self._is_taken(number, prefix):
            number = next_native(number)
        return self._find_or_hold(number, parent, prefix, entry)

    def _find_or_hold(
        self, number: InodeNo, parent: InodeNo, prefix: str, entry: Entry
    ) -> NativeNode:
        while (known := self._held.get(number)) is not None:
            if known.stands_for(prefix, entry):
                known.entry = entry  # the time may be newer though the version is not
                known.parent = parent  # another inode, once the directory was renamed away
                return known
            number = next_native(number)
        node = self._held[number] = NativeNode(number, parent, prefix, entry)
        return node

    def _is_taken(self, number: InodeNo, prefix: str) -> bool:
        """Whether a row has the number that is not this directory, or is the one it once was."""
        row = self._row(number)
        return row is not None and (row.prefix != prefix or not row.nlink)
