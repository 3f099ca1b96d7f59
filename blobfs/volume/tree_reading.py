"""Answer what the replayed tree holds, at the moment of each question.

Concurrency: nothing here awaits; each method takes a few microseconds and sees one moment.
"""

from collections.abc import Iterable
from itertools import islice

from blobfs.database import Database, Reader
from blobfs.formats.commit import Counters
from blobfs.formats.rows import DirentRow, Extent, InodeRow
from blobfs.formats.tables import (
    HIDDEN_STEM_BYTES,
    ClientState,
    GrantedRange,
    Kept,
    hidden_key,
    hidden_stem,
)
from blobfs.model.chain import Position
from blobfs.model.changes import HIDDEN_FOLDER, LocalInode
from blobfs.types import KIB, ChunkId, ClientId, InodeNo, PackName, Seq
from blobfs.volume.tree_base import Key
from blobfs.volume.tree_blocks import Block, LazyRows, Rows, covering, is_whole
from blobfs.volume.tree_kept import KeptObject, kept_objects, known_kept
from blobfs.volume.tree_replay import read_state
from blobfs.volume.tree_rows import (
    LogState,
    decode_client,
    decode_dirent,
    decode_inode,
    decode_place,
    decode_range,
    decode_seq,
    decode_shown,
    dirent_key,
    number_key,
)

LAST_STEM = b"\xff" * HIDDEN_STEM_BYTES
"""Behind all keys of rows that begin alike."""

LONG_ROW_BYTES = 4 * KIB
"""From here on comparing a row with the last one costs far less than decoding it again."""
LONG_ROWS_KEPT = 16
"""As many large files are read side by side without decoding; at most some MiB."""


class TreeReading:
    """The questions that a tree answers. Those for rows raise NotLoaded where they are not here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.read() as reader:
            self._is_whole = is_whole(reader)
        self._long_rows: dict[InodeNo, tuple[bytes, InodeRow]] = {}

    # -- how far it is ---------------------------------------------------------------

    @property
    def state(self) -> LogState:
        """How far the log was replayed, and what its entries add up to."""
        with self._database.read() as reader:
            return read_state(reader)

    @property
    def position(self) -> Position:
        """The last entry that was replayed: where `Log.newer` goes on, and L3 rebases on."""
        return self.state.position

    def counters(self) -> Counters:
        """Return how many inodes and bytes there are, and the digest of all names (L9)."""
        return self.state.counters

    # -- the tree --------------------------------------------------------------------

    def inode(self, inode: InodeNo) -> InodeRow | None:
        """Return the row of an inode, None where the volume has none of this number.

        Raises:
            NotLoaded: load it first, as from all methods below that return rows.
        """
        row = self._row("inodes", number_key(inode))
        if row is None:
            return None
        return decode_inode(row) if len(row) < LONG_ROW_BYTES else self._decode_long(inode, row)

    def _decode_long(self, inode: InodeNo, row: bytes) -> InodeRow:
        """Decode the row of a large file, unless that was just done: each read of it asks."""
        known = self._long_rows.get(inode)
        if known is not None and known[0] == row:
            return known[1]
        if len(self._long_rows) >= LONG_ROWS_KEPT:
            del self._long_rows[next(iter(self._long_rows))]
        decoded = decode_inode(row)
        self._long_rows[inode] = row, decoded
        return decoded

    def dirent(self, parent: InodeNo, name: bytes) -> DirentRow | None:
        """Return what the name leads to, None where the volume says nothing of it."""
        if parent == HIDDEN_FOLDER:
            return None  # `hides` tells
        row = self._row("dirents", dirent_key(parent, name))
        return None if row is None else decode_dirent(row)

    def dirents(
        self, parent: InodeNo, after: bytes = b"", at_most: int = 1000
    ) -> list[tuple[bytes, DirentRow]]:
        """Return the names of a directory behind `after`, in order of their bytes.

        Fewer than `at_most`: these are the last.
        """
        start = dirent_key(parent, after + b"\0" if after else b"")
        with self._database.read() as reader:
            found = self._rows(reader).range("dirents", start, number_key(parent + 1))
            return [(key[8:], decode_dirent(row)) for key, row in islice(found, at_most)]

    def names(self, parent: InodeNo, after: bytes = b"", at_most: int = 1000) -> list[bytes]:
        """Return the names of a directory alone, as `dirents` does with what they lead to."""
        start = dirent_key(parent, after + b"\0" if after else b"")
        with self._database.read() as reader:
            found = self._rows(reader).keys("dirents", start, number_key(parent + 1))
            return [key[8:] for key in islice(found, at_most)]

    def found(
        self, parent: InodeNo, names: Iterable[bytes]
    ) -> list[tuple[bytes, InodeNo, LocalInode]]:
        """Return what names lead to, in their order; only those of which both rows are here.

        For who lists a directory: a transaction for all of them instead of two for each.
        """
        stem = number_key(parent)
        with self._database.read() as reader:
            rows = reader.get_many("dirents", [stem + name for name in names])
            dirents = [(key[8:], decode_dirent(row)) for key, row in rows]
            numbers = [number_key(dirent.inode) for _, dirent in dirents]
            inodes = dict(reader.get_many("inodes", sorted(numbers)))
        return [
            (name, dirent.inode, decode_shown(row))
            for (name, dirent), number in zip(dirents, numbers, strict=True)
            if (row := inodes.get(number)) is not None
        ]

    def hides(self, key: bytes, version: str) -> bool:
        """Return whether this version of a native object does not show under its key (N1)."""
        return self._row("hidden", hidden_key(key, version)) is not None

    def hides_below(self, prefix: bytes) -> bool:
        """Return whether that may be so of objects whose keys begin with `prefix`.

        Never a wrong no: keys that differ late only are not told apart.
        """
        stem = hidden_stem(prefix)
        with self._database.read() as reader:
            behind = self._rows(reader).range("hidden", stem, stem + LAST_STEM)
            return next(iter(behind), None) is not None

    def kept(self) -> Kept:
        """Return what the native objects come to that were given up and are kept (N5)."""
        return self.state.kept

    def kept_objects(self) -> list[KeptObject]:
        """Return those of them that are known here; `Tree.load_kept` makes that all of them."""
        with self._database.read() as reader:
            return list(kept_objects(reader))

    def knows_all_kept(self) -> bool:
        """Return whether that is all of them already."""
        with self._database.read() as reader:
            return known_kept(reader).objects >= read_state(reader).kept.objects

    def has_dirents(self, parent: InodeNo) -> bool:
        """Return whether the directory has any name in the volume."""
        return bool(self.dirents(parent, at_most=1))

    # -- chunks and packs ------------------------------------------------------------

    def chunk(self, chunk: ChunkId) -> Extent | None:
        """Return where the volume has this chunk already, None where it is not known to.

        Of files that a checkpoint brought, `Tree.note_loaded_chunks` tells it of those loaded.
        """
        row = self._database.get("chunks", chunk)
        if row is None:
            return None
        place = decode_place(row)
        return Extent(place.length_bytes, chunk, place.pack, place.offset, place.stored_bytes)

    def pack_last_seq(self, pack: PackName) -> Seq | None:
        """Return the last entry that refers to the pack, None where none does."""
        row = self._row("packs", pack)
        return None if row is None else decode_seq(row)

    # -- clients and numbers ---------------------------------------------------------

    def client(self, client: ClientId) -> ClientState | None:
        """Return the last commit of a client, None where it has none (L3, L6)."""
        row = self._row("clients", client)
        return None if row is None else decode_client(row)

    def granted(self, client: ClientId) -> list[GrantedRange]:
        """Return the ranges of inode numbers that are this client's, lowest first (M1).

        Numbers from `unused` on are free to it, those below are never used again.
        """
        with self._database.read() as reader:
            rows = self._rows(reader).range("ranges")
            ranges = [decode_range(row) for _, row in rows]
        return [granted for granted in ranges if granted.client == client]

    # -- what is not here ------------------------------------------------------------

    def missing(self, keys: Iterable[Key]) -> list[Block]:
        """Return the blocks that have to be loaded before all of these keys are known."""
        found: dict[bytes, Block] = {}
        block = None
        with self._database.read() as reader:
            for table, key in keys:
                if block is None or not block.holds(table, key):
                    block = covering(reader, table, key)
                if block is not None:
                    found[block.key] = block
        return list(found.values())

    def _row(self, table: str, key: bytes) -> bytes | None:
        row = self._database.get(table, key)
        if row is not None or self._is_whole:
            return row
        with self._database.read() as reader:
            return LazyRows(reader).get(table, key)

    def _rows(self, reader: Reader) -> Rows:
        return reader if self._is_whole else LazyRows(reader)
