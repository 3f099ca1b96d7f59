"""Show the replayed tree at two moments: as it is, and as it will be with the next entry on top.

Whoever moves unsaved rows from the one to the other (`model.reconcile`) asks both before the entry
is replayed, since the former is gone after it.

Concurrency: functions of one read transaction.
"""

from collections.abc import Iterator, Set

from blobfs.database import Reader
from blobfs.formats.rows import DirentRow, InodeRow
from blobfs.model.changes import DirentKey
from blobfs.types import InodeNo
from blobfs.volume.tree_blocks import Rows
from blobfs.volume.tree_draft import Draft
from blobfs.volume.tree_rows import decode_dirent, decode_inode, dirent_key, number_key

NAME_AT = 8
"""Where a name begins in a `dirent_key`."""


class RowsMoment:
    """The tree as its rows are. All of it may raise `NotLoaded`."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def inode(self, inode: InodeNo) -> InodeRow | None:
        row = self._rows.get("inodes", number_key(inode))
        return None if row is None else decode_inode(row)

    def dirent(self, parent: InodeNo, name: bytes) -> DirentRow | None:
        row = self._rows.get("dirents", dirent_key(parent, name))
        return None if row is None else decode_dirent(row)

    def dirents(self, parent: InodeNo) -> Iterator[tuple[bytes, DirentRow]]:
        for key, row in self._rows.range("dirents", number_key(parent), number_key(parent + 1)):
            yield key[NAME_AT:], decode_dirent(row)


class DraftMoment:
    """The tree as it is to be once an entry was replayed, which is drafted."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def inode(self, inode: InodeNo) -> InodeRow | None:
        return self._draft.inode(inode)

    def dirent(self, parent: InodeNo, name: bytes) -> DirentRow | None:
        return self._draft.dirent(dirent_key(parent, name))

    def dirents(self, parent: InodeNo) -> Iterator[tuple[bytes, DirentRow]]:
        for key, row in self._draft.names_in(parent):
            yield key[NAME_AT:], row


def names_of(reader: Reader, inodes: Set[InodeNo]) -> dict[InodeNo, list[DirentKey]]:
    """Return the names that lead to `inodes`, of those rows that are here."""
    found: dict[InodeNo, list[DirentKey]] = {}
    for key, row in reader.range("dirents"):
        inode = decode_dirent(row).inode
        if inode in inodes:
            parent = InodeNo(int.from_bytes(key[:NAME_AT], "big"))
            found.setdefault(inode, []).append((parent, key[NAME_AT:]))
    return found
