"""Name the small values that every layer passes around."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NewType

InodeNo = NewType("InodeNo", int)
"""The number of an inode; 1 is the root."""

NodeNo = NewType("NodeNo", int)
"""What a kernel calls an inode: a FUSE node id, which is also `st_ino`. As a rule the number of the
inode (`vfs.node_ids`)."""

HandleNo = NewType("HandleNo", int)
"""An open file or directory, as the front-end names it."""

Seq = NewType("Seq", int)
"""The place of a commit in a volume's log: 1 is the first."""

Serial = NewType("Serial", int)
"""The place of a change among all that this client ever made; grows by one each."""

ChunkId = NewType("ChunkId", bytes)
"""SHA-256 of a chunk's plain bytes: 32 bytes."""

PackName = NewType("PackName", bytes)
"""SHA-256 of a pack's body, then a nonce: 32 + 8 bytes; its key spells them in hex."""

ClientId = NewType("ClientId", bytes)
"""A client of a volume: 16 random bytes."""

ROOT_INODE = InodeNo(1)

FIRST_NATIVE_INODE = 1 << 62
"""Numbers from here on are hashes that stand for native objects; those of a volume lie below."""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """Bytes `start` up to, not including, `stop`."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"not a byte range: start={self.start} stop={self.stop}")

    def __len__(self) -> int:
        return self.stop - self.start

    def __bool__(self) -> bool:
        return self.stop > self.start

    def clamp(self, size_bytes: int) -> "ByteRange":
        """Return the part that lies inside an object of `size_bytes`."""
        return ByteRange(min(self.start, size_bytes), min(self.stop, size_bytes))

    def blocks(self, block_bytes: int) -> range:
        """Return the numbers of the `block_bytes`-sized blocks that it touches."""
        if not self:
            return range(0)
        return range(self.start // block_bytes, (self.stop - 1) // block_bytes + 1)

    def split(self, at_most_bytes: int) -> Iterator["ByteRange"]:
        """Yield it in order, in pieces of at most `at_most_bytes`."""
        for start in range(self.start, self.stop, at_most_bytes):
            yield ByteRange(start, min(start + at_most_bytes, self.stop))


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of one object without sending it.

    `etag` is the store's own version token without its quotes; compare it, never
    interpret it. `mtime_ns` is the store's Last-Modified, in ns since the epoch.
    """

    key: str
    size_bytes: int
    etag: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ListPage:
    """One answer to `list`: objects and common prefixes, each in key order.

    `next_token` continues after this page; None says that this was the last one.
    """

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class Content:
    """One version of one object's bytes: what an open file reads.

    Two contents with equal fields have equal bytes, so caches may be keyed by it.
    """

    key: str
    etag: str
    size_bytes: int
