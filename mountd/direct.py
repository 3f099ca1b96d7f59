"""Say which open files go past the kernel's page cache: those that a program has just made.

Where a page was written in part, the kernel ends a request and begins another: of the 10 KiB that
`tar` writes at a time come 8 and 2. Past the page cache each write is one request. What is written
so leaves pages as they are, so there must be none that anybody reads:

1. Only a file that this very open made begins so, and only for who cannot read through it.
2. Until all that write so have closed it, whoever else opens it goes past the page cache, too.
3. The next open drops the pages that private mappings have brought in all the same.

Concurrency: nothing here awaits. The kernel tells of a close before the same program's next open.
"""

import os
from collections import Counter
from collections.abc import Iterable
from enum import Enum, auto

from blobfs.types import HandleNo, NodeNo


class Pages(Enum):
    """What becomes of the kernel's pages of a file with an open."""

    PASSED = auto()
    """This handle goes past them."""
    DROPPED = auto()
    """They may be older than the file."""
    KEPT = auto()


class Direct:
    """The open files that are written past the page cache."""

    def __init__(self) -> None:
        self._written: dict[HandleNo, NodeNo] = {}
        self._writers: Counter[NodeNo] = Counter()
        self._mixed: set[NodeNo] = set()
        """Those that others opened meanwhile."""

    def created(self, node: NodeNo, handle: HandleNo, flags: int) -> Pages:
        """Note a file that was made and opened for writing with the `flags` of open(2)."""
        if flags & os.O_EXCL and flags & os.O_ACCMODE == os.O_WRONLY:
            return self._write_past(node, handle)
        return self.opened(node, handle, for_writing=True)  # somebody may have been faster

    def opened(self, node: NodeNo, handle: HandleNo, *, for_writing: bool) -> Pages:
        """Note that a file was opened that may have been there before."""
        if node in self._writers:
            self._mixed.add(node)
            return self._write_past(node, handle) if for_writing else Pages.PASSED
        if node in self._mixed:
            self._mixed.discard(node)
            return Pages.DROPPED
        return Pages.KEPT

    def closed(self, handle: HandleNo) -> None:
        """Note that a handle is gone, whichever."""
        node = self._written.pop(handle, None)
        if node is None:
            return
        self._writers[node] -= 1
        if not self._writers[node]:
            del self._writers[node]

    def forgot(self, nodes: Iterable[NodeNo]) -> None:
        """Note that the kernel has let go of nodes, and of their pages."""
        self._mixed.difference_update(nodes)

    def _write_past(self, node: NodeNo, handle: HandleNo) -> Pages:
        self._written[handle] = node
        self._writers[node] += 1
        return Pages.PASSED
