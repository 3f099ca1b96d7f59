"""Let the local tree begin from a checkpoint.

Concurrency: functions of one transaction.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator

from blobfs.database import Writer
from blobfs.formats.checkpoint import Checkpoint
from blobfs.formats.commit import (
    DropDirent,
    Entry,
    MoveFolder,
    Operation,
    PutDirent,
)
from blobfs.formats.tables import Table
from blobfs.volume.tree_blocks import NAMES, Block, begin_blocks
from blobfs.volume.tree_loading import Fetched, take_in
from blobfs.volume.tree_rows import LogState, dirent_key, encode, number_key

Key = tuple[Table, bytes]
"""A row of the tree, by its table and its key."""

SMALL_TABLES = (Table.CLIENTS, Table.RANGES)
"""Tables that are loaded at once: each commit asks for rows all over them."""


class Wanted:
    """Which blocks hold rows that are wanted: some keys, and the small tables."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys: dict[Table, list[bytes]] = defaultdict(list)
        for table, key in sorted(keys):
            self._keys[table].append(key)

    def __call__(self, block: Block) -> bool:
        if block.table in SMALL_TABLES:
            return True
        keys = self._keys[block.table]
        place = bisect_left(keys, block.ref.first)
        return place < len(keys) and keys[place] <= block.ref.last


def roots_of(checkpoint: Checkpoint) -> list[Block]:
    """Return the blocks that the manifest names."""
    return [Block(root.table, ref) for root in checkpoint.tables for ref in root.refs]


def begin(writer: Writer, name: str, checkpoint: Checkpoint, fetched: Iterable[Fetched]) -> None:
    """Let the tree be what the checkpoint `name` says, with some of its blocks loaded."""
    begin_blocks(writer, roots_of(checkpoint))
    for table in ("chunks", "changed"):
        writer.clear(table)
    for root in checkpoint.tables:
        writer.put_absent(NAMES[root.table], root.rows)
    take_in(writer, fetched)
    writer.put("state", b"log", encode(_state_of(checkpoint)))
    writer.put("state", b"base", name.encode())


def named_keys(entries: Iterable[Entry]) -> Iterator[Key]:
    """Yield the rows that entries name, which replay will ask for."""
    for entry in entries:
        for operation in entry.operations:
            yield from _named(operation)


def _named(operation: Operation) -> Iterator[Key]:
    inode = getattr(operation, "inode", None)
    if inode is not None:
        yield Table.INODES, number_key(inode)
    if isinstance(operation, (PutDirent, DropDirent)):
        yield Table.DIRENTS, dirent_key(operation.parent, operation.name)
    if isinstance(operation, (PutDirent, MoveFolder)):
        yield Table.INODES, number_key(operation.parent)


def _state_of(checkpoint: Checkpoint) -> LogState:
    counters = checkpoint.counters
    return LogState(
        checkpoint.seq,
        checkpoint.chain,
        checkpoint.time_ns,
        counters.inodes,
        counters.content_bytes,
        counters.dirents_digest,
        checkpoint.granted_to,
    )
