"""Lend page-aligned buffers to what streams, and use them again when nobody looks at them.

Fresh memory is what a large read costs most: the kernel clears each page before it hands
it out, and on a virtual machine the host has to find it first (half of all work of a read
from the disk cache was that).

Concurrency: a lock, held for microseconds; any thread may borrow. A buffer comes back by itself
when the last view of it is gone, so nobody can forget to return one, or return it too soon:
a thread that was given up still holds the buffer that it goes on writing to.
"""

import mmap
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

from blobfs.types import MIB

SMALLEST_BYTES = MIB
"""Less is not worth a buffer of its own."""

_REFERENCES_OF_A_RESTING_BUFFER = 2
"""The tuple in the pool's list, and the argument of `getrefcount` itself."""


class _Buffer(NamedTuple):
    memory: mmap.mmap
    is_huge: bool


class BufferPool:
    """Buffers of few sizes; at most `most_bytes` of them are kept, in use or not."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._buffers: list[_Buffer] = []
        self._lock = threading.Lock()

    def borrow(self, size_bytes: int, *, huge: bool = False) -> memoryview:
        """Return `size_bytes` of unknown content, for as long as views of them live.

        `huge` pages are in one piece to a disk's driver, too: twice the speed of scattered ones.
        Where they have to be found first they cost three times what others do, so who reads
        from the network, and is not any faster with them, does without.
        """
        with self._lock:
            memory = self._rested(buffer_bytes(size_bytes), huge)
            if memory is None:
                memory = self._made(buffer_bytes(size_bytes), huge)
        return memoryview(memory)[:size_bytes]

    @property
    def resting_bytes(self) -> int:
        """Memory that is kept though nobody uses it."""
        with self._lock:
            return sum(len(self._buffers[index].memory) for index in self._resting())

    def release(self, count: int) -> None:
        """Let resting buffers of at least `count` bytes go, or all of them."""
        with self._lock:
            self._let_go(count)

    def _rested(self, wanted: int, huge: bool) -> mmap.mmap | None:
        for index in self._resting():
            memory, is_huge = self._buffers[index]
            if len(memory) == wanted and is_huge == huge:
                return memory
        return None

    def _made(self, wanted: int, huge: bool) -> mmap.mmap:
        made = _fresh(wanted, huge)
        self._let_go(self._kept_bytes() + wanted - self._most_bytes)
        if self._kept_bytes() + wanted <= self._most_bytes:
            self._buffers.append(_Buffer(made, huge))
        return made

    def _let_go(self, count: int) -> None:
        for index in self._resting():
            if count <= 0:
                return
            count -= len(self._buffers.pop(index).memory)

    def _kept_bytes(self) -> int:
        return sum(len(buffer.memory) for buffer in self._buffers)

    def _resting(self) -> Iterator[int]:
        """Yield where buffers rest, the last first, so that they may be taken out meanwhile."""
        for index in range(len(self._buffers) - 1, -1, -1):
            # Each memoryview, and each slice of one, holds on to the buffer under it.
            references = sys.getrefcount(self._buffers[index].memory)
            if references == _REFERENCES_OF_A_RESTING_BUFFER:
                yield index


def buffer_bytes(size_bytes: int) -> int:
    """Return how large a buffer for `size_bytes` is: a power of two, so that it fits others."""
    return max(SMALLEST_BYTES, 1 << (size_bytes - 1).bit_length())


def held_bytes(view: memoryview) -> int:
    """Return how much memory `view` keeps from others: all of the buffer that it is a part of."""
    return len(view.obj) if isinstance(view.obj, mmap.mmap) else view.nbytes


def is_lent(view: memoryview) -> bool:
    """Say whether `view` is part of a buffer that begins where a page does."""
    return isinstance(view.obj, mmap.mmap)


def _fresh(size_bytes: int, huge: bool) -> mmap.mmap:
    made = mmap.mmap(-1, size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        made.madvise(mmap.MADV_HUGEPAGE)
    return made
