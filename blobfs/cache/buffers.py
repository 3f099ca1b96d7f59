"""Lend page-aligned buffers for reads from disk, and use them again when nobody looks at them.

Fresh memory is what a large read costs most: the kernel clears each page before it hands
it out, and on a virtual machine the host has to find it first (half of all work of a read
from the disk cache was that).

Concurrency: a lock, held for microseconds; any thread may borrow. A buffer comes back by itself
when the last view of it is gone, so nobody can forget to return one, or return it too soon.
"""

import mmap
import sys
import threading

_REFERENCES_OF_AN_IDLE_BUFFER = 3
"""The pool's list, the loop variable, and the argument of `getrefcount` itself."""


class BufferPool:
    """Buffers of one size, at most `most` of them kept."""

    def __init__(self, size_bytes: int, most: int) -> None:
        self.size_bytes = size_bytes
        self._most = most
        self._buffers: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def borrow(self) -> memoryview:
        """Return a buffer of `size_bytes`, of unknown content, for as long as views of it live."""
        with self._lock:
            for buffer in self._buffers:
                # Each memoryview, and each slice of one, holds on to the buffer under it.
                if sys.getrefcount(buffer) == _REFERENCES_OF_AN_IDLE_BUFFER:
                    return memoryview(buffer)
            made = mmap.mmap(-1, self.size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                # In one piece to the disk's driver, too: twice the speed of scattered pages.
                made.madvise(mmap.MADV_HUGEPAGE)
            if len(self._buffers) < self._most:
                self._buffers.append(made)
        return memoryview(made)
