"""Make checkpoints of trees by hand, for tests of what reads them."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from blobfs.errors import Damaged, Unreachable
from blobfs.formats.checkpoint import Checkpoint, TableRoot, encode_checkpoint
from blobfs.formats.checkpoint_blocks import BlockRef, encode_refs, encode_rows
from blobfs.formats.chunk import chunk_id
from blobfs.formats.rows import Extent
from blobfs.formats.tables import Row, Table
from blobfs.types import ChunkId, PackName
from blobfs.volume.tree import Tree
from blobfs.volume.tree_blocks import NAMES

T = TypeVar("T")

FEW_ROWS = 4
FEW_REFS = 3


@dataclass
class Chunks:
    """The blocks of checkpoints, in memory. They count what is fetched, and fail when told to."""

    chance: random.Random = field(default_factory=random.Random)
    failing: float = 0.0
    """How often a fetch fails, of all."""
    data: dict[ChunkId, bytes] = field(default_factory=dict)
    fetched: Counter[ChunkId] = field(default_factory=Counter)
    requests: int = 0
    held: trio.Event | None = None
    """What fetches wait for, if anything."""

    def put(self, data: bytes) -> Extent:
        """Keep the plain bytes of a block; return where it lies."""
        chunk = chunk_id(data)
        self.data[chunk] = data
        pack = PackName(hashlib.sha256(chunk).digest() + bytes(8))
        return Extent(len(data), chunk, pack, 0, len(data))

    async def fetch(self, extents: Sequence[Extent]) -> list[bytes]:
        self.requests += 1
        if self.held is not None:
            await self.held.wait()
        if self.chance.random() < self.failing:
            raise Unreachable("a store that fails now and then")
        self.fetched.update(extent.chunk for extent in extents)
        try:
            return [self.data[extent.chunk] for extent in extents]
        except KeyError as error:
            raise Damaged(f"a pack is missing. chunk={error}") from error


def checkpoint_of(
    tree: Tree, chunks: Chunks, *, levels: int = 1, previous: str | None = None
) -> tuple[str, Checkpoint]:
    """Return the name of a checkpoint of all that a whole tree holds, and its manifest.

    `levels` is how many blocks lie above each other; 0: all rows lie in the manifest.
    """
    state = tree.state
    checkpoint = Checkpoint(
        seq=state.seq,
        chain=state.chain,
        time_ns=state.time_ns,
        counters=state.counters,
        granted_to=state.granted_to,
        previous=previous,
        tables=tuple(_root(tree, table, chunks, levels) for table in Table if _rows(tree, table)),
        kept=state.kept,
    )
    name, _ = encode_checkpoint(checkpoint)
    return name, checkpoint


def _rows(tree: Tree, table: Table) -> list[Row]:
    with tree._database.read() as reader:
        return list(reader.range(NAMES[table]))


def _root(tree: Tree, table: Table, chunks: Chunks, levels: int) -> TableRoot:
    rows = _rows(tree, table)
    if not levels:
        return TableRoot(table, rows=tuple(rows))
    refs = [_leaf(part, chunks) for part in _parts(rows, FEW_ROWS)]
    for level in range(1, levels):
        refs = [_index(part, level, chunks) for part in _parts(refs, FEW_REFS)]
    return TableRoot(table, tuple(refs))


def _leaf(rows: Sequence[Row], chunks: Chunks) -> BlockRef:
    return BlockRef(0, rows[0][0], rows[-1][0], len(rows), chunks.put(encode_rows(rows)))


def _index(refs: Sequence[BlockRef], level: int, chunks: Chunks) -> BlockRef:
    rows = sum(ref.rows for ref in refs)
    return BlockRef(level, refs[0].first, refs[-1].last, rows, chunks.put(encode_refs(refs)))


def _parts(values: Sequence[T], length: int) -> list[Sequence[T]]:
    return [values[start : start + length] for start in range(0, len(values), length)]
