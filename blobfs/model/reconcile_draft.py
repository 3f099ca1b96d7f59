"""Hold what was done here to names and inodes, while it is moved to a later moment of the log.

A name that changed here is two things: what it led to was *taken* from it, and something else was
*given* it. Each stands or is dropped by itself; which of them stand, and what is committed, says
what the names are. Dropping is the only direction, so whoever drops until nothing is left to drop
comes to an end.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import count

from msgspec.structs import replace

from blobfs.formats.rows import InodeRow, Kind
from blobfs.model.changes import DirentKey, Gone, LocalDirent, LocalInode
from blobfs.model.conflict import conflict_name
from blobfs.model.numbers import is_native
from blobfs.model.rebase import Conflict, Moment, Setting
from blobfs.types import ROOT_INODE, InodeNo

NO_INODE = InodeNo(0)


class Draft:
    """Unsaved rows on their way from the moment `before` to the moment `after`."""

    def __init__(self, before: Moment, after: Moment, setting: Setting) -> None:
        self.before = before
        self.after = after
        self.setting = setting
        self.rows: dict[InodeNo, LocalInode | Gone] = {}
        """Ours, by the numbers of now."""
        self.edited: set[InodeNo] = set()
        self.held: set[InodeNo] = set()
        self.given: dict[DirentKey, LocalDirent] = {}
        self.taken: dict[DirentKey, InodeNo] = {}
        self.bases: dict[InodeNo, InodeRow] = {}
        """Of inodes that both made of one thing: what they made it of, as if it were committed."""
        self.contested: set[InodeNo] = set()
        """Inodes whose committed rows are others now."""
        self.kept: set[InodeNo] = set()
        """Directories that were removed here and live on."""
        self.revived: set[InodeNo] = set()
        """Directories that others removed and that come back, by their old numbers and new ones."""
        self.numbers: dict[InodeNo, InodeNo] = {}
        self.over: defaultdict[InodeNo, list[LocalInode]] = defaultdict(list)
        """New inodes of ours that turned out to be one of theirs."""
        self.final: dict[InodeNo, LocalInode | Gone | None] = {}
        """Rows that nothing changes any more."""
        self.unedited: set[InodeNo] = set()
        self.marks: dict[InodeNo, bytes] = {}
        """Conflict copies: what they would be called if they were none."""
        self.names: dict[DirentKey, None] = {}
        """Names that have to be looked at in the end."""
        self.inodes: dict[InodeNo, None] = {}
        """Inodes likewise."""
        self.conflicts: list[Conflict] = []
        self._given_to: defaultdict[InodeNo, set[DirentKey]] = defaultdict(set)
        self._taken_from: defaultdict[InodeNo, set[DirentKey]] = defaultdict(set)
        self._in_folder: defaultdict[InodeNo, set[bytes]] = defaultdict(set)

    # -- what there is -----------------------------------------------------------------

    def base(self, inode: InodeNo) -> InodeRow | None:
        """Return the committed row that ours lies over."""
        return self.bases.get(inode) or self.before.inode(inode)

    def there(self, key: DirentKey) -> InodeNo:
        """Return what a name leads to in the later moment, 0 for nothing."""
        dirent = self.after.dirent(*key)
        return NO_INODE if dirent is None else dirent.inode

    def leads_to(self, key: DirentKey) -> InodeNo:
        """Return what a name leads to once all that stands is done, 0 for nothing."""
        if key in self.given:
            return self.given[key].inode
        there = self.there(key)
        return NO_INODE if self.taken.get(key) == there else there

    def given_to(self, inode: InodeNo) -> list[DirentKey]:
        """Return the names that were given to an inode, sorted."""
        return sorted(self._given_to.get(inode, ()))

    def taken_from(self, inode: InodeNo) -> list[DirentKey]:
        """Return the names that were taken from an inode, sorted."""
        return sorted(self._taken_from.get(inode, ()))

    def given_in(self, folder: InodeNo) -> list[DirentKey]:
        """Return the names that were given in a directory, sorted."""
        names = sorted(self._in_folder.get(folder, ()))
        return [(folder, name) for name in names if (folder, name) in self.given]

    def is_new(self, inode: InodeNo) -> bool:
        """Return whether it is in no commit, and has a number that may be given up."""
        if is_native(inode) or inode == ROOT_INODE:
            return False
        return self.base(inode) is None and self.after.inode(inode) is None

    def is_removed(self, inode: InodeNo) -> bool:
        """Return whether it lost its last name here, for good."""
        row = self.rows.get(inode)
        gone = isinstance(row, Gone) or (row is not None and not row.nlink)
        return gone and inode not in self.kept

    def has_new_content(self, inode: InodeNo) -> bool:
        """Return whether others changed the content of a file that lives on."""
        base, row = self.base(inode), self.after.inode(inode)
        return base is not None and row is not None and base.content_seq != row.content_seq

    def nlink(self, inode: InodeNo) -> int:
        """Return how many names lead to a file once all that stands is done."""
        row = self.after.inode(inode)
        more = sum(self.there(key) != inode for key in self._given_to.get(inode, ()))
        less = sum(self.there(key) == inode for key in self._taken_from.get(inode, ()))
        return (0 if row is None else row.nlink) + more - less

    def is_named_here(self, inode: InodeNo) -> bool:
        """Return whether names that lead to an inode change with what is unsaved here."""
        given, taken = self._given_to.get(inode, ()), self._taken_from.get(inode, ())
        more = any(self.there(key) != inode for key in given)
        return more or any(self.there(key) == inode for key in taken)

    def parent_of(self, folder: InodeNo) -> InodeNo:
        """Return where a directory lies once all that stands is done."""
        for parent, _ in self._given_to.get(folder, ()):
            return parent
        row = self.after.inode(folder) or self.base(folder)
        return NO_INODE if row is None else row.parent

    # -- what changes ------------------------------------------------------------------

    def touch(self, inode: InodeNo) -> None:
        """Have an inode looked at in the end."""
        if inode:
            self.inodes[inode] = None

    def give(self, key: DirentKey, dirent: LocalDirent) -> None:
        """Give a name to an inode."""
        self.given[key] = dirent
        self._given_to[dirent.inode].add(key)
        self._in_folder[key[0]].add(key[1])

    def take(self, key: DirentKey, inode: InodeNo) -> None:
        """Take a name from what it led to."""
        self.taken[key] = inode
        self._taken_from[inode].add(key)
        self._in_folder[key[0]].add(key[1])

    def drop(self, key: DirentKey) -> LocalDirent:
        """Give a name to nothing of ours after all; return what it was given to."""
        dirent = self.given.pop(key)
        self._given_to[dirent.inode].discard(key)
        self.names[key] = None
        self.touch(dirent.inode)
        return dirent

    def undo(self, key: DirentKey) -> None:
        """Drop a name that was given, and leave what is removed by that what it had."""
        self.drop(key)
        replaced = self.taken.get(key)
        if replaced is not None and not self._given_to.get(replaced):
            self.keep(key)

    def keep(self, key: DirentKey) -> None:
        """Leave a name what it led to, and let the directories live in which it lies."""
        ahead = [key]
        while ahead:
            key = ahead.pop()
            if key not in self.taken:
                continue
            self._forget_taken(key)
            ahead += self.keep_folder(key[0])

    def keep_folder(self, folder: InodeNo) -> list[DirentKey]:
        """Let a directory live that was removed here; return the names that it has to keep."""
        if not self.is_removed(folder):
            return []
        self.kept.add(folder)
        self.touch(folder)
        return self.taken_from(folder)

    def stay(self, folder: InodeNo) -> None:
        """Leave a directory where it is in the later moment."""
        for key in self.given_to(folder):
            self.undo(key)
        for key in self.taken_from(folder):
            self.keep(key)

    def rename(self, old: InodeNo, new: InodeNo) -> None:
        """Call an inode by another number, and let what lies in it lie there."""
        self.numbers[old] = new
        for key in self.given_to(old):
            self.give(key, replace(self.drop(key), inode=new))
            self.names[key] = None
        for name in sorted(self._in_folder.pop(old, ())):
            self._move(old, new, name)
        for owned in (self.edited, self.held):
            if old in owned:
                owned.remove(old)
                owned.add(new)
        self.inodes.pop(old, None)
        self.touch(new)

    def absorb(self, ours: InodeNo, theirs: InodeNo) -> None:
        """Let a new inode of ours be one of theirs from now on."""
        self.rename(ours, theirs)
        self.edited.discard(theirs)
        self.unedited.add(theirs)
        row = self.rows.pop(ours)
        if isinstance(row, LocalInode):
            self.over[theirs].append(row)

    def put(self, key: DirentKey, inode: InodeNo, kind: Kind) -> DirentKey:
        """Give an inode a name, a conflict name beside it where that is taken; return it."""
        if self.leads_to(key):
            return self.put_beside(key, inode, kind)
        self.give(key, LocalDirent(inode, kind))
        self.names[key] = None
        self.touch(inode)
        return key

    def put_beside(self, key: DirentKey, inode: InodeNo, kind: Kind) -> DirentKey:
        """Give an inode the conflict name beside a name; return it (C1)."""
        self.marks[inode] = key[1]
        return self.put((key[0], self.free_name(key)), inode, kind)

    def free_name(self, key: DirentKey) -> bytes:
        """Return the name of a conflict copy, which nothing has at either moment."""
        parent, name = key
        setting = self.setting
        names = (
            conflict_name(name, setting.host, setting.now_ns, mark) for mark in _marks(setting.seq)
        )
        return next(each for each in names if self._is_free((parent, each)))

    def note(self, what: str, key: DirentKey) -> None:
        """Tell the user of something, and where to find it."""
        self.conflicts.append(Conflict(what, *key))

    def known_names(self, inode: InodeNo) -> Iterable[DirentKey]:
        """Return names that lead, or led, to a file, each once and sorted."""
        return sorted(set(self.setting.names(inode)))

    def now_at(self, inode: InodeNo, otherwise: DirentKey) -> DirentKey:
        """Return a name that leads to an inode, `otherwise` where none is known."""
        row = self.after.inode(inode)
        if row is not None and row.kind is Kind.FOLDER:
            names = self.after.dirents(row.parent)
            keys = ((row.parent, name) for name, dirent in names if dirent.inode == inode)
            return next(keys, otherwise)
        known = (*self.given_to(inode), *self.known_names(inode))
        return next((key for key in known if self.leads_to(key) == inode), otherwise)

    def _is_free(self, key: DirentKey) -> bool:
        return key not in self.given and key not in self.taken and not self.there(key)

    def _forget_taken(self, key: DirentKey) -> None:
        inode = self.taken.pop(key)
        self._taken_from[inode].discard(key)
        self.names[key] = None
        self.touch(inode)

    def _move(self, old: InodeNo, new: InodeNo, name: bytes) -> None:
        """Let a name lie in another directory; what it was taken from is gone."""
        if (old, name) in self.given:
            self.give((new, name), self.drop((old, name)))
        if (old, name) in self.taken:
            self._forget_taken((old, name))
        self.names.pop((old, name), None)
        self.names[new, name] = None


def _marks(seq: int) -> Iterator[str]:
    """Yield the number of a commit, then others that begin with it."""
    yield str(seq)
    for number in count(2):
        yield f"{seq}-{number}"
