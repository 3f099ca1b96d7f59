"""Name the blocks of a content."""

import hashlib
from dataclasses import dataclass

from blobfs.cache.index import BlockId
from blobfs.types import KIB, ByteRange, Content

BLOCK_BYTES = 256 * KIB
"""What is fetched, kept and evicted as one."""

_NUMBER_BYTES = 5


@dataclass(frozen=True, slots=True)
class Source:
    """A content, and the digest that stands for it in every table of blocks."""

    content: Content
    digest: bytes

    def span(self, first: int, stop: int) -> ByteRange:
        """Return the bytes of blocks `first` up to, not including, `stop`."""
        return ByteRange(first * BLOCK_BYTES, stop * BLOCK_BYTES).clamp(self.content.size_bytes)

    def block(self, number: int) -> BlockId:
        """Return the id of a block; ids of one content follow each other."""
        return BlockId(self.digest + number.to_bytes(_NUMBER_BYTES, "big"))

    def number(self, block: BlockId) -> int:
        """Return the number of a block of this content."""
        return int.from_bytes(block[len(self.digest) :], "big")

    @property
    def all_blocks(self) -> range:
        return ByteRange(0, self.content.size_bytes).blocks(BLOCK_BYTES)


def source_of(content: Content) -> Source:
    """Return the source of `content`; 16 bytes of SHA-256 keep any two apart."""
    named = f"{content.size_bytes}\0{content.etag}\0{content.key}"
    return Source(content, hashlib.sha256(named.encode("utf-8", "surrogateescape")).digest()[:16])
