"""Append blocks to segment files and read them back, verified.

A segment is a file `data/<number>` of bounded size; numbers only grow, and a byte once
committed is never overwritten. Blocks start on page boundaries, so that neighbours stay
neighbours and a small block does not share its page. Files are opened for each use: that
costs microseconds, and a folder that is deleted under us shows at once.

Concurrency: plain blocking functions for worker threads. One thread at a time appends;
any number read.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import xxhash

from blobfs.cache.buffers import BufferPool, buffer_bytes, is_lent
from blobfs.model.coalesce import Place
from blobfs.types import KIB, MIB

T = TypeVar("T")

PAGE_BYTES = 4 * KIB

MOST_AT_ONCE = 1024
"""Views that one call can write (IOV_MAX of Linux)."""

DIRECT_BYTES = MIB
"""Reads and writes of this size are those of streams: they go past the page cache."""


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What lies at some places: the bytes, unless one of them is among the `bad`."""

    data: memoryview
    bad: tuple[Place, ...]


class Segments:
    """The segment files of one folder, and the position where the next block goes."""

    def __init__(
        self, folder: Path, segment_bytes: int, last: int, last_end: int, buffers: BufferPool
    ) -> None:
        """Go on in segment `last` behind its committed end `last_end`."""
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._number = last
        self._end = last_end
        self._takes_direct = hasattr(os, "O_DIRECT")
        self._buffers = buffers

    def prepare(self, known: frozenset[int]) -> None:
        """Make the folder, and remove what no index row can name.

        Files that are not `known` were never committed, and neither were the bytes behind the
        end of the last segment.
        """
        self._folder.mkdir(exist_ok=True, mode=0o700)
        for path in self._folder.iterdir():
            if not (path.name.isdecimal() and int(path.name) in known):
                path.unlink()
        if self._number in known:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self._path(self._number), self._end)

    def append(self, blocks: Sequence[memoryview]) -> list[Place]:
        """Write `blocks`, one behind the other; return where each lies.

        Raises:
            OSError: the disk refused.
        """
        places: list[Place] = []
        rest = list(blocks)
        while rest:
            taken = self._fitting(rest)
            places += self._append_here(taken)
            del rest[: len(taken)]
        return places

    def read(self, places: Sequence[Place]) -> ReadBack:
        """Return the bytes at `places`, which lie in one segment without a gap.

        A file that is short, gone or unreadable makes its places bad: the caller fetches them
        again, whatever the reason was.
        """
        try:
            view = self._read(places[0], places[-1].stop - places[0].offset)
        except OSError:
            return ReadBack(memoryview(b""), tuple(places))
        return ReadBack(view, tuple(_bad(places, view)))

    def leave(self, number: int) -> None:
        """Append no more to segment `number`."""
        if number == self._number:
            self._number, self._end = self._number + 1, 0

    def remove(self, number: int) -> None:
        """Remove a segment whose rows are gone."""
        with contextlib.suppress(FileNotFoundError):
            self._path(number).unlink()

    def _fitting(self, blocks: Sequence[memoryview]) -> Sequence[memoryview]:
        """Return how far the present segment takes `blocks`; at least one, in a new one if full."""
        end = self._end + _padded(len(blocks[0]))
        if self._end and end > self._segment_bytes:
            self.leave(self._number)
            end = _padded(len(blocks[0]))
        for count, block in enumerate(blocks[1:], start=1):
            end += _padded(len(block))
            if end > self._segment_bytes:
                return blocks[:count]
        return blocks

    def _append_here(self, blocks: Sequence[memoryview]) -> list[Place]:
        places = list(self._lay_out(blocks))
        length = _padded(places[-1].stop) - places[0].offset
        self._directly_or_not(
            length,
            lambda: self._write_direct(places, blocks, length),
            lambda: self._write_buffered(places, blocks),
        )
        self._end = _padded(places[-1].stop)
        return places

    def _directly_or_not(
        self, length: int, direct: Callable[[], T], buffered: Callable[[], T]
    ) -> T:
        """Do it past the page cache if it is large and the file system can, else through it."""
        if self._takes_direct and length >= DIRECT_BYTES:
            try:
                return direct()
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._takes_direct = False  # as some network and memory file systems
        return buffered()

    def _write_direct(
        self, places: Sequence[Place], blocks: Sequence[memoryview], length: int
    ) -> None:
        """Write past the page cache, which has no use for what is read through the mount.

        What streamed lies as the disk wants it. To copy the rest into a buffer that does costs
        less than fresh pages of the cache do.
        """
        ready = all(is_lent(block) and not len(block) % PAGE_BYTES for block in blocks)
        with self._open_for_append(os.O_DIRECT) as descriptor:
            if ready and len(blocks) <= MOST_AT_ONCE:
                _write_all(descriptor, blocks, places[0].offset)
            else:
                _write_whole(descriptor, self._laid_out(places, blocks, length), places[0].offset)

    def _laid_out(
        self, places: Sequence[Place], blocks: Sequence[memoryview], length: int
    ) -> memoryview:
        base, buffer = places[0].offset, self._buffers.borrow(length, huge=True)
        for place, block in zip(places, blocks, strict=True):
            buffer[place.offset - base : place.stop - base] = block
        return buffer

    def _write_buffered(self, places: Sequence[Place], blocks: Sequence[memoryview]) -> None:
        with self._open_for_append() as descriptor:
            for place, block in zip(places, blocks, strict=True):
                _write_whole(descriptor, block, place.offset)

    def _lay_out(self, blocks: Sequence[memoryview]) -> Iterator[Place]:
        offset = self._end
        for block in blocks:
            checksum = xxhash.xxh3_64_intdigest(block)
            yield Place(self._number, offset, len(block), checksum)
            offset += _padded(len(block))

    @contextlib.contextmanager
    def _open_for_append(self, also: int = 0) -> Iterator[int]:
        path, flags = self._path(self._number), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | also
        descriptor = os.open(path, flags, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, first: Place, length: int) -> memoryview:
        path = self._path(first.segment)
        return self._directly_or_not(
            _padded(length),
            lambda: self._read_direct(path, first.offset, length),
            lambda: _read_buffered(path, first.offset, length),
        )

    def _read_direct(self, path: Path, offset: int, length: int) -> memoryview:
        """Read past the page cache, from disk to where the front-end takes it.

        What a stream reads the kernel keeps as the mounted file's pages: to keep it a second
        time, and to copy it once more, would be a third of all work.
        """
        buffer = self._buffers.borrow(_padded(length), huge=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        try:
            received = os.preadv(descriptor, [buffer], offset)
        finally:
            os.close(descriptor)
        return buffer[: min(received, length)]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}"


def _read_buffered(path: Path, offset: int, length: int) -> memoryview:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return memoryview(os.pread(descriptor, length, offset))
    finally:
        os.close(descriptor)


def read_cost_bytes(length: int) -> int:
    """Return how much memory it takes to read `length` bytes."""
    padded = _padded(length)
    return buffer_bytes(padded) if padded >= DIRECT_BYTES else length


def padded_bytes(places: Sequence[Place]) -> dict[int, int]:
    """Return the end of each segment after `places` were appended to it."""
    return {place.segment: _padded(place.stop) for place in places}


def _bad(places: Sequence[Place], view: memoryview) -> Iterator[Place]:
    base = places[0].offset
    for place in places:
        found = view[place.offset - base : place.stop - base]
        if len(found) < place.length or xxhash.xxh3_64_intdigest(found) != place.checksum:
            yield place


def _padded(length: int) -> int:
    return -(-length // PAGE_BYTES) * PAGE_BYTES


def _write_whole(descriptor: int, block: memoryview, offset: int) -> None:
    while block:
        written = os.pwrite(descriptor, block, offset)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        block, offset = block[written:], offset + written


def _write_all(descriptor: int, blocks: Sequence[memoryview], offset: int) -> None:
    if os.pwritev(descriptor, blocks, offset) < sum(map(len, blocks)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a file takes all, or is full
