"""Read the rows of the volume through their two layers: unsaved ones lie over the replayed tree.

Concurrency: nothing here awaits, so each call sees one moment.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from blobfs.formats.rows import DirentRow, InodeRow, Kind, Native
from blobfs.formats.tables import Table
from blobfs.model.changes import (
    HIDDEN_FOLDER,
    Change,
    Gone,
    LocalDirent,
    LocalInode,
    hiding,
)
from blobfs.model.nodes import Node, as_local
from blobfs.model.spans import SpanMap
from blobfs.types import InodeNo, Serial
from blobfs.volume.tree_base import Key
from blobfs.volume.tree_blocks import Block, NotLoaded
from blobfs.volume.tree_rows import number_key

NAMES_AT_ONCE = 1024
"""Names read from the tree in one transaction: about half a millisecond."""


class UnsavedRows(Protocol):
    """What the namespace needs of `volume.unsaved`."""

    def inode(self, inode: InodeNo) -> LocalInode | Gone | None: ...

    def dirent(self, parent: InodeNo, name: bytes) -> LocalDirent | Gone | None: ...

    def dirents(self, parent: InodeNo) -> Mapping[bytes, LocalDirent | Gone]: ...

    def spans(self, inode: InodeNo) -> SpanMap: ...

    def apply(self, change: Change) -> Serial: ...

    def drop(self, inode: InodeNo) -> None: ...

    def require_still(self, inode: InodeNo) -> None: ...

    def covers(self, inode: InodeNo) -> bool:
        """Whether the tree alone does not say what an inode is."""


class ReplayedRows(Protocol):
    """What the namespace needs of `volume.tree`."""

    def inode(self, inode: InodeNo) -> InodeRow | None: ...

    def dirent(self, parent: InodeNo, name: bytes) -> DirentRow | None: ...

    def dirents(
        self, parent: InodeNo, after: bytes, at_most: int
    ) -> Sequence[tuple[bytes, DirentRow]]:
        """Return dirents behind the name `after` (b"": from the first), in order of names."""

    def names(self, parent: InodeNo, after: bytes, at_most: int) -> Sequence[bytes]:
        """Return the names alone, likewise."""

    def found(
        self, parent: InodeNo, names: Iterable[bytes]
    ) -> Sequence[tuple[bytes, InodeNo, LocalInode]]:
        """Return what names lead to, in their order, as far as that is here."""

    def has_dirents(self, parent: InodeNo) -> bool: ...

    def missing(self, keys: Iterable[Key]) -> list[Block]:
        """Return the blocks that have to be loaded before all of these rows are known."""

    async def load(self, missing: NotLoaded) -> None:
        """Load what was missing."""

    def hides(self, key: bytes, version: str) -> bool:
        """Whether this version of an object does not show (N1)."""

    def hides_below(self, prefix: bytes) -> bool:
        """Whether it may be so of objects whose keys begin with `prefix`: never a wrong no."""


class Layers:
    """The rows as programs see them."""

    def __init__(self, unsaved: UnsavedRows, tree: ReplayedRows) -> None:
        self._unsaved = unsaved
        self._tree = tree

    def inode(self, inode: InodeNo) -> LocalInode | None:
        """Return the row of an inode; None: the volume has none of that number."""
        self._unsaved.require_still(inode)
        row = self._unsaved.inode(inode)
        if isinstance(row, LocalInode):
            return row
        committed = None if row is not None else self._tree.inode(inode)
        return None if committed is None else as_local(committed)

    def dirent(self, parent: InodeNo, name: bytes) -> LocalDirent | None:
        """Return what the volume says of a name; None: nothing, which native objects may."""
        row = self._unsaved.dirent(parent, name)
        if isinstance(row, LocalDirent):
            return row
        committed = None if row is not None else self._tree.dirent(parent, name)
        if committed is None:
            return None
        return LocalDirent(committed.inode, committed.kind, committed.shadows)

    def committed(self, parent: InodeNo, names: Iterable[bytes]) -> dict[bytes, Node]:
        """Return what names lead to of which nothing is unsaved, as far as that is here.

        Of others, and of those that lead nowhere, `dirent` and `inode` tell one by one.
        """
        unsaved = self._unsaved.dirents(parent)
        found = self._tree.found(parent, (name for name in names if name not in unsaved))
        covers = self._unsaved.covers
        return {name: Node(inode, row) for name, inode, row in found if not covers(inode)}

    def has_rows(self, parent: InodeNo) -> bool:
        """Whether the volume may say anything of names in a directory."""
        return bool(self._unsaved.dirents(parent)) or self._tree.has_dirents(parent)

    def is_empty(self, parent: InodeNo) -> bool:
        """Whether no name in a directory is the volume's."""
        unsaved = self._unsaved.dirents(parent)
        if any(isinstance(row, LocalDirent) for row in unsaved.values()):
            return False
        return all(name in unsaved for name in self._committed_names(parent))

    def folders_in(self, parent: InodeNo) -> list[InodeNo]:
        """Return the directories that rows know in a directory."""
        unsaved = self._unsaved.dirents(parent)
        found = [
            row.inode
            for row in unsaved.values()
            if isinstance(row, LocalDirent) and row.kind is Kind.FOLDER
        ]
        after = b""
        while rows := self._tree.dirents(parent, after, NAMES_AT_ONCE):
            committed = (row for name, row in rows if name not in unsaved)
            found += [row.inode for row in committed if row.kind is Kind.FOLDER]
            after = rows[-1][0]
        return found

    def bound(self, inode: InodeNo) -> Native | None:
        """Return the object that holds the content of a file, if that was never changed here."""
        row, committed = self.inode(inode), self._tree.inode(inode)
        if row is None:
            return None
        content = row.bound if committed is None else committed.content
        if not isinstance(content, Native) or len(self._unsaved.spans(inode)):
            return None
        is_whole = row.size_bytes == row.base_limit_bytes == content.size_bytes
        return content if is_whole else None

    def hides(self, found: Native) -> bool:
        """Whether an object does not show under its key: in this version, and no other (N1)."""
        if self._unsaved.dirent(*hiding(found.key, found.version)) is not None:
            return True
        return self._tree.hides(found.key, found.version)

    def is_committed(self, parent: InodeNo, prefix: bytes) -> bool:
        """Whether the tree may say anything of names in a directory, or of objects below the
        prefix that it shows."""
        return self._tree.has_dirents(parent) or self._tree.hides_below(prefix)

    def is_unsaved(self, parent: InodeNo, name: bytes, found: Native) -> bool:
        """Whether unsaved rows say anything of a name, or of an object."""
        hidden = hiding(found.key, found.version)
        return any(self._unsaved.dirent(*key) is not None for key in ((parent, name), hidden))

    def hides_below(self, prefix: bytes) -> bool:
        """Whether objects whose keys begin with `prefix` may not show; never a wrong no."""
        unsaved = self._unsaved.dirents(HIDDEN_FOLDER)
        if any(name.startswith(prefix) for name in unsaved):
            return True
        return self._tree.hides_below(prefix)

    def missing(self, parent: InodeNo, names: Iterable[bytes]) -> list[Block]:
        """Return what has to be loaded before the inodes of all these names are known."""
        dirents = (self.dirent(parent, name) for name in names)
        numbers = sorted({dirent.inode for dirent in dirents if dirent is not None})
        return self._tree.missing((Table.INODES, number_key(number)) for number in numbers)

    def unsaved_names(self, parent: InodeNo) -> list[bytes]:
        """Return the names in a directory that unsaved rows have now, sorted."""
        rows = self._unsaved.dirents(parent)
        return sorted(name for name, row in rows.items() if isinstance(row, LocalDirent))

    def names_behind(self, parent: InodeNo, after: bytes, unsaved: Sequence[bytes]) -> list[bytes]:
        """Return some names behind `after`, sorted; none at the end.

        `unsaved` is what `unsaved_names` said at the begin of a listing: names that were there
        then are among those returned, whatever was committed since.
        """
        committed = self._tree.names(parent, after, NAMES_AT_ONCE)
        start = bisect_right(unsaved, after)
        stop = len(unsaved)
        if len(committed) == NAMES_AT_ONCE:
            stop = bisect_right(unsaved, committed[-1])
        return _union(committed, unsaved[start:stop])

    def _committed_names(self, parent: InodeNo) -> Iterator[bytes]:
        after = b""
        while names := self._tree.names(parent, after, NAMES_AT_ONCE):
            yield from names
            after = names[-1]


def _union(committed: Sequence[bytes], unsaved: Sequence[bytes]) -> list[bytes]:
    """Return both, sorted, each name once; `committed` is sorted."""
    if not unsaved:
        return list(committed)
    return sorted({*committed, *unsaved})
