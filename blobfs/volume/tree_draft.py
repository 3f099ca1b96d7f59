"""Hold the rows that one entry of the log changes, until they are written together.

Operations change rows here, in memory (`tree_replay`); when all are applied, the rows are made
sure to hold together (`tree_settle`), and `write` puts them into the tables. So the order of
operations that do not concern the same row makes no difference, and an entry that cannot be
applied leaves no trace.
"""

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import NoReturn

import msgspec

from blobfs.database import Writer
from blobfs.errors import Damaged
from blobfs.formats.commit import Entry
from blobfs.formats.rows import DirentRow, Extent, InodeRow
from blobfs.formats.tables import (
    ClientState,
    GrantedRange,
    HiddenRow,
    Kept,
    Table,
    hidden_key,
    kept_of,
)
from blobfs.types import FIRST_NATIVE_INODE, ROOT_INODE, InodeNo
from blobfs.volume.tree_blocks import NAMES, Rows
from blobfs.volume.tree_changes import note_changed
from blobfs.volume.tree_kept import note_kept
from blobfs.volume.tree_rows import (
    LogState,
    Place,
    decode_client,
    decode_dirent,
    decode_hidden,
    decode_inode,
    decode_range,
    encode,
    number_key,
)

DirentKey = bytes
"""`dirent_key(parent, name)`."""


class Draft:
    """The rows of one entry while it is being applied. None stands for a row that is gone."""

    def __init__(self, reader: Rows, state: LogState, entry: Entry) -> None:
        self._reader = reader
        self.before = state
        self.entry = entry
        self.seq = entry.seq
        self._packs = frozenset(pack.name for pack in entry.packs)
        self._inodes: dict[InodeNo, InodeRow | None] = {}
        self._inodes_before: dict[InodeNo, InodeRow | None] = {}
        self._dirents: dict[DirentKey, DirentRow | None] = {}
        self._dirents_before: dict[DirentKey, DirentRow | None] = {}
        self._hidden: dict[bytes, HiddenRow] = {}
        self._hidden_before: dict[bytes, HiddenRow | None] = {}
        self._places: dict[bytes, Place] = {}
        self._ranges: dict[int, GrantedRange] = {}
        self._range: GrantedRange | None = None
        self.granted_to = state.granted_to

    # -- rows ------------------------------------------------------------------------

    def inode(self, number: InodeNo) -> InodeRow | None:
        """Return the row as it is by now."""
        try:
            return self._inodes[number]
        except KeyError:
            data = self._reader.get("inodes", number_key(number))
            row = None if data is None else decode_inode(data)
            self._inodes[number] = self._inodes_before[number] = row
            return row

    def known_inode(self, number: InodeNo) -> InodeRow:
        """Return the row, which has to be there.

        Raises:
            Damaged: it is not.
        """
        row = self.inode(number)
        if row is None:
            self.refuse(f"there is no such inode. inode={number}")
        return row

    def was_there(self, number: InodeNo) -> bool:
        """Return whether there is such an inode, or was one before the entry."""
        return self.inode(number) is not None or self._inodes_before[number] is not None

    def put_inode(self, number: InodeNo, row: InodeRow | None) -> None:
        """Set the row; `inode` was called for it before."""
        self._inodes[number] = row

    def dirent(self, key: DirentKey) -> DirentRow | None:
        """Return the row as it is by now."""
        try:
            return self._dirents[key]
        except KeyError:
            data = self._reader.get("dirents", key)
            row = None if data is None else decode_dirent(data)
            self._dirents[key] = self._dirents_before[key] = row
            return row

    def put_dirent(self, key: DirentKey, row: DirentRow | None) -> None:
        """Set the row; `dirent` was called for it before."""
        self._dirents[key] = row

    def inodes(self) -> Iterator[tuple[InodeNo, InodeRow | None, InodeRow | None]]:
        """Yield `(number, before, now)` of all inodes that the entry changes."""
        for number, row in tuple(self._inodes.items()):
            before = self._inodes_before[number]
            if row is not before:
                yield number, before, row

    def dirents(self) -> Iterator[tuple[DirentKey, DirentRow | None, DirentRow | None]]:
        """Yield `(key, before, now)` of all dirents that the entry changes."""
        for key, row in tuple(self._dirents.items()):
            before = self._dirents_before[key]
            if row is not before:
                yield key, before, row

    def first_dirent(self, parent: InodeNo) -> DirentKey | None:
        """Return one of the names that are in the directory, None when it is empty."""
        start, stop = number_key(parent), number_key(parent + 1)
        kept = (key for key, _ in self._reader.range("dirents", start, stop) if self.dirent(key))
        return next(kept, None)

    def names_in(self, parent: InodeNo) -> list[tuple[DirentKey, DirentRow]]:
        """Return the names that are in the directory by now, sorted."""
        start, stop = number_key(parent), number_key(parent + 1)
        keys = {key for key, _ in self._reader.range("dirents", start, stop)}
        keys.update(key for key in self._dirents if start <= key < stop)
        rows = ((key, self.dirent(key)) for key in sorted(keys))
        return [(key, row) for key, row in rows if row is not None]

    def hidden(self, key: bytes, version: str) -> HiddenRow | None:
        """Return the row of a version of a native object, None where it is not hidden (N1)."""
        place = hidden_key(key, version)
        if (row := self._hidden.get(place)) is not None:
            return row
        data = self._reader.get("hidden", place)
        row = None if data is None else decode_hidden(data)
        self._hidden_before[place] = row
        return row

    def put_hidden(self, row: HiddenRow) -> None:
        """Hide a version of a native object, or change what is said of it.

        `hidden` was called for it before.
        """
        self._hidden[hidden_key(row.key, row.version)] = row

    def kept(self) -> Kept:
        """Return what the objects come to by now that were given up and are kept (N5)."""
        objects, size_bytes = self.before.kept.objects, self.before.kept.bytes
        for place, row in self._hidden.items():
            sign = _is_kept(row) - _is_kept(self._hidden_before[place])
            kept = kept_of(row.version)
            objects, size_bytes = objects + sign * kept.objects, size_bytes + sign * kept.bytes
        return Kept(objects, size_bytes)

    def add_places(self, extents: Iterable[Extent]) -> None:
        """Note where chunks lie.

        Raises:
            Damaged: one lies in a pack that the entry does not list: it would be collected.
        """
        for extent in extents:
            if extent.is_hole:
                continue
            if extent.pack not in self._packs:
                self.refuse(f"a chunk lies in a pack that is not listed. pack={extent.pack.hex()}")
            self._places[extent.chunk] = Place(
                extent.length_bytes, extent.pack, extent.offset, extent.stored_bytes
            )

    # -- numbers (M1) ----------------------------------------------------------------

    def grant(self, first: int, stop: int) -> None:
        """Give the numbers `first` up to, not including, `stop` to the author, for ever.

        Raises:
            Damaged: some of them were granted before, or are not for granting.
        """
        is_sound = ROOT_INODE < first < stop <= FIRST_NATIVE_INODE
        if not is_sound or self._is_granted(first, stop):
            self.refuse(f"these inode numbers cannot be granted. first={first} stop={stop}")
        self._ranges[stop - 1] = GrantedRange(self.entry.client, first, stop, first)
        self.granted_to = max(self.granted_to, stop)

    def use_number(self, number: InodeNo) -> None:
        """Note that a new inode has this number: the root's, a native one's, or a granted one.

        Raises:
            Damaged: it was granted to nobody, or to another client.
        """
        if number == ROOT_INODE or number >= FIRST_NATIVE_INODE:
            return
        granted = self._range_of(number)
        if granted is None or granted.client != self.entry.client:
            self.refuse(f"the author was not granted this inode number. inode={number}")
        if number >= granted.unused:
            granted = msgspec.structs.replace(granted, unused=number + 1)
            self._ranges[granted.stop - 1] = granted
        self._range = granted

    def _is_granted(self, first: int, stop: int) -> bool:
        """Whether any of these numbers was granted to anybody."""
        if any(each.first < stop and first < each.stop for each in self._ranges.values()):
            return True
        for _, data in self._reader.range("ranges", number_key(first)):
            return decode_range(data).first < stop
        return False

    def _range_of(self, number: int) -> GrantedRange | None:
        last = self._range  # most of an entry's numbers come from one range
        if last is not None and last.first <= number < last.stop:
            return last
        for granted in self._ranges.values():
            if granted.first <= number < granted.stop:
                return granted
        for _, data in self._reader.range("ranges", number_key(number)):
            granted = decode_range(data)
            return granted if granted.first <= number else None
        return None

    # -- writing ---------------------------------------------------------------------

    def write(self, writer: Writer, state: LogState, entry_hash: bytes) -> None:
        """Put all rows into the tables, in the order of their keys, and note which they are."""
        author = ClientState(self.entry.counter, self.seq, entry_hash)
        inodes, dirents = sorted(self.inodes(), key=_first), sorted(self.dirents(), key=_first)
        rows: dict[Table, list[tuple[bytes, msgspec.Struct | None]]] = {
            Table.INODES: [(number_key(number), row) for number, _, row in inodes],
            Table.DIRENTS: [(key, row) for key, _, row in dirents],
            Table.RANGES: [(number_key(last), row) for last, row in self._ranges.items()],
            Table.CLIENTS: [(self.entry.client, author)],
            Table.HIDDEN: sorted(self._hidden.items()),
        }
        for table, changed in rows.items():
            for key, row in changed:
                _put(writer, NAMES[table], key, row)
        for place, hidden in sorted(self._hidden.items()):
            note_kept(writer, place, hidden, self.entry.client)
        for chunk in sorted(self._places):
            _put(writer, "chunks", chunk, self._places[chunk])
        for pack in self.entry.packs:
            writer.put("packs", pack.name, number_key(self.seq))
        keys: dict[Table, list[bytes]] = {
            table: [key for key, _ in changed] for table, changed in rows.items()
        }
        keys[Table.PACKS] = [pack.name for pack in self.entry.packs]
        note_changed(writer, self.seq, keys)
        _put(writer, "state", b"log", state)

    def check_author(self) -> None:
        """Make sure that the author's count of commits grows.

        Raises:
            Damaged: it does not: two clients share one id, or the entry was put twice.
        """
        data = self._reader.get("clients", self.entry.client)
        if data is not None and (before := decode_client(data)).counter >= self.entry.counter:
            self.refuse(
                f"the author's counter does not grow. client={self.entry.client.hex()} "
                f"before={before.counter} found={self.entry.counter}"
            )

    def refuse(self, what: str) -> NoReturn:
        """Give up the entry: a landed one is applied whole, or the log is damaged (L1)."""
        raise Damaged(
            f"an entry of the log cannot be applied: {what} slot={self.seq}",
            hint="run `blobfs check`; nothing was changed, and what is unsaved is kept",
        )


def _is_kept(row: HiddenRow | None) -> bool:
    return row is not None and row.unlinked_ns is not None


def _put(writer: Writer, table: str, key: bytes, row: msgspec.Struct | None) -> None:
    if row is None:
        writer.delete(table, key)
    else:
        writer.put(table, key, encode(row))


_first = itemgetter(0)
