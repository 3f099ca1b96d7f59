"""Name the blocks of what is read."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

from blobfs.cache.index import BlockId
from blobfs.model.coalesce import Place, Run, join
from blobfs.model.readahead import MOST_STEP_BYTES
from blobfs.types import KIB, ByteRange, Content

BLOCK_BYTES = 256 * KIB
"""What is kept and evicted as one."""

MOST_RUN_BLOCKS = MOST_STEP_BYTES // BLOCK_BYTES

NUMBER_BYTES = 5


class Source(ABC):
    """Bytes that never change, cut into blocks, and the digest that stands for them.

    Two sources with equal digests have equal bytes.
    """

    def __init__(self, digest: bytes, size_bytes: int) -> None:
        self.digest = digest
        self.size_bytes = size_bytes

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call it in messages."""

    @abstractmethod
    def span(self, first: int, stop: int) -> ByteRange:
        """Return the bytes of blocks `first` up to, not including, `stop`."""

    @abstractmethod
    def block(self, number: int) -> BlockId:
        """Return the id of a block."""

    @abstractmethod
    def runs(self, missing: Sequence[tuple[int, Place | None]]) -> list[Run]:
        """Return the runs that bring the blocks `missing`, and their places where on disk."""

    @abstractmethod
    def together_with(self, block: int) -> range:
        """Return the blocks that the store can only give together with `block`, and itself."""

    @abstractmethod
    def is_served_early(self, run: Run) -> bool:
        """Return whether the first bytes of `run` are of use before the last ones are here."""

    @property
    def all_blocks(self) -> range:
        return ByteRange(0, self.size_bytes).blocks(BLOCK_BYTES)


class ObjectSource(Source):
    """One version of an object of the store."""

    def __init__(self, content: Content, digest: bytes) -> None:
        super().__init__(digest, content.size_bytes)
        self.content = content

    @property
    def name(self) -> str:
        return self.content.key

    def span(self, first: int, stop: int) -> ByteRange:
        return ByteRange(first * BLOCK_BYTES, stop * BLOCK_BYTES).clamp(self.size_bytes)

    def block(self, number: int) -> BlockId:
        """Return the id of a block; ids of one content follow each other."""
        return BlockId(self.digest + number.to_bytes(NUMBER_BYTES, "big"))

    def number(self, block: BlockId) -> int:
        """Return the number of a block of this content."""
        return int.from_bytes(block[len(self.digest) :], "big")

    def runs(self, missing: Sequence[tuple[int, Place | None]]) -> list[Run]:
        return join(missing, MOST_RUN_BLOCKS)

    def together_with(self, block: int) -> range:
        return range(block, block + 1)

    def is_served_early(self, run: Run) -> bool:
        return True


def source_of(content: Content) -> ObjectSource:
    """Return the source of `content`; 16 bytes of SHA-256 keep any two apart."""
    named = f"{content.size_bytes}\0{content.etag}\0{content.key}"
    return ObjectSource(
        content, hashlib.sha256(named.encode("utf-8", "surrogateescape")).digest()[:16]
    )
