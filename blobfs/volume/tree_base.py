"""Let the local tree begin from a checkpoint, or from the begin of the log.

A checkpoint of which a part turned out to be gone is *doubted* from then on: this machine does not
begin from it again.

Concurrency: functions of one transaction.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from blobfs.database import Reader, Writer
from blobfs.formats.checkpoint import Checkpoint
from blobfs.formats.commit import (
    DropDirent,
    Entry,
    MoveFolder,
    Operation,
    PutDirent,
)
from blobfs.formats.rows import DirentRow, InodeRow
from blobfs.formats.tables import ClientState, Kept, Row, Table
from blobfs.types import ClientId, InodeNo
from blobfs.volume.tree_blocks import NAMES, Block, begin_blocks
from blobfs.volume.tree_kept import known_kept, note_loaded
from blobfs.volume.tree_loading import Fetched, take_in
from blobfs.volume.tree_places import UNNOTED, note_rows
from blobfs.volume.tree_rows import (
    LogState,
    decode_client,
    decode_dirent,
    decode_inode,
    dirent_key,
    encode,
    number_key,
)

Key = tuple[Table, bytes]
"""A row of the tree, by its table and its key."""

SMALL_TABLES = (Table.CLIENTS, Table.RANGES)
"""Tables that are loaded at once: each commit asks for rows all over them."""


class Wanted:
    """Which blocks hold rows that are wanted: some keys, and some tables as a whole."""

    def __init__(self, keys: Iterable[Key], tables: Collection[Table] = SMALL_TABLES) -> None:
        self._tables = tables
        self._keys: dict[Table, list[bytes]] = defaultdict(list)
        for table, key in sorted(keys):
            self._keys[table].append(key)

    def __call__(self, block: Block) -> bool:
        if block.table in self._tables:
            return True
        keys = self._keys[block.table]
        place = bisect_left(keys, block.ref.first)
        return place < len(keys) and keys[place] <= block.ref.last


def tables_wanted(checkpoint: Checkpoint) -> Collection[Table]:
    """Return the tables of which the tree needs all rows to begin from the checkpoint."""
    if checkpoint.kept is None:  # what is kept has to be counted
        return (*SMALL_TABLES, Table.HIDDEN)
    return SMALL_TABLES


def roots_of(checkpoint: Checkpoint) -> list[Block]:
    """Return the blocks that the manifest names."""
    return [Block(root.table, ref) for root in checkpoint.tables for ref in root.refs]


class Prepared:
    """A checkpoint to begin from, and those of its blocks that are needed at once."""

    def __init__(self, name: str, checkpoint: Checkpoint, fetched: Sequence[Fetched]) -> None:
        self.name = name
        self.checkpoint = checkpoint
        self.fetched = fetched
        self._rows: dict[Key, bytes] = {}
        for root in checkpoint.tables:
            self._note(root.table, root.rows)
        for each in fetched:
            self._note(each.block.table, each.rows)

    def inode(self, inode: InodeNo) -> InodeRow | None:
        """Return the row of a wanted inode."""
        row = self._rows.get((Table.INODES, number_key(inode)))
        return None if row is None else decode_inode(row)

    def dirent(self, parent: InodeNo, name: bytes) -> DirentRow | None:
        """Return what a wanted name leads to."""
        row = self._rows.get((Table.DIRENTS, dirent_key(parent, name)))
        return None if row is None else decode_dirent(row)

    def client(self, client: ClientId) -> ClientState | None:
        """Return the last commit of a client."""
        row = self._rows.get((Table.CLIENTS, client))
        return None if row is None else decode_client(row)

    def _note(self, table: Table, rows: Iterable[Row]) -> None:
        self._rows.update(((table, key), row) for key, row in rows)


def begin(writer: Writer, prepared: Prepared) -> None:
    """Let the tree be what a checkpoint says, with some of its blocks loaded."""
    checkpoint = prepared.checkpoint
    _begin_anew(writer, roots_of(checkpoint), _state_of(checkpoint))
    for root in checkpoint.tables:
        writer.put_absent(NAMES[root.table], root.rows)
        if root.table is Table.HIDDEN:
            note_loaded(writer, root.rows)
        if root.table is Table.INODES:
            note_rows(writer, root.rows)
    take_in(writer, prepared.fetched)
    if checkpoint.kept is None:
        state = replace(_state_of(checkpoint), kept=known_kept(writer))
        writer.put("state", b"log", encode(state))
    writer.put("state", b"base", prepared.name.encode())


def begin_empty(writer: Writer, state: LogState) -> None:
    """Let the tree be what it is before the first entry of the log."""
    _begin_anew(writer, (), state)
    writer.delete("state", b"base")


def doubted(reader: Reader) -> frozenset[str]:
    """Return the names of the checkpoints that are not to be begun from."""
    data = reader.get("state", b"doubted")
    return frozenset() if data is None else _decode_names(data)


def doubt(writer: Writer, name: str) -> None:
    """Note that a part of the checkpoint `name` is gone or damaged."""
    writer.put("state", b"doubted", encode(sorted(doubted(writer) | {name})))


def _begin_anew(writer: Writer, roots: Iterable[Block], state: LogState) -> None:
    begin_blocks(writer, roots)
    for table in ("chunks", UNNOTED, "changed", "kept"):
        writer.clear(table)
    writer.put("state", b"log", encode(state))


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
        checkpoint.kept or Kept(),
    )


_decode_names = msgspec.msgpack.Decoder(frozenset[str]).decode
