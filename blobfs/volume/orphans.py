"""Remember what was committed of files that lost their last name while they are open.

Their unsaved bytes lie over committed ones. A commit that was under way may bring these just after
the name went, and the commit that removes the file takes them from the tree: so they are looked
up before each replay.

Concurrency: nothing here awaits.
"""

from collections.abc import Callable, Iterator

from blobfs.formats.rows import InodeRow
from blobfs.types import InodeNo


class Orphans:
    """The committed rows of files without a name."""

    def __init__(self, in_tree: Callable[[InodeNo], InodeRow | None]) -> None:
        self._in_tree = in_tree
        self._rows: dict[InodeNo, InodeRow | None] = {}

    def hold(self, inode: InodeNo) -> None:
        """Remember a file from now on."""
        self._rows.setdefault(inode, self._in_tree(inode))

    def __iter__(self) -> Iterator[InodeNo]:
        return iter(self._rows)

    def drop(self, inode: InodeNo) -> None:
        """Forget a file that nobody holds any more."""
        self._rows.pop(inode, None)

    def renumber(self, old: InodeNo, new: InodeNo) -> bool:
        """Note that a file is called `new` and its content is kept by its row; return whether it
        was one of these. What has the `old` number from now on is another file."""
        if old not in self._rows:
            return False
        del self._rows[old]
        self.hold(new)
        return True

    def note_before_replay(self) -> None:
        """Remember the rows as they are: the next entries of the log may remove them."""
        for inode in self._rows:
            self._rows[inode] = self.committed(inode)

    def committed(self, inode: InodeNo) -> InodeRow | None:
        """Return an inode as the log has it, or had it last; None: it never did."""
        return self._in_tree(inode) or self._rows.get(inode)
