"""Clients of one volume without a disk or a network: a replayed tree each, unsaved rows over it.

Programs' operations go through the rules of the product, commits are spelled by it, and unsaved
rows are moved by it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from blobfs.formats.commit import Operation
from blobfs.formats.rows import EMPTY, FileContent, Inline, Kind
from blobfs.model.changes import (
    GONE,
    Change,
    DirentKey,
    Gone,
    LocalDirent,
    LocalInode,
)
from blobfs.model.difference import InodeChange, NameChange, operations_for
from blobfs.model.nodes import Node, as_local
from blobfs.model.rebase import Conflict, Mine, Rebased, Setting
from blobfs.model.reconcile import reconcile
from blobfs.model.selection import InodeState, NameState, select
from blobfs.model.tree_rules import (
    Maker,
    Place,
    new_row,
    plan_link,
    plan_make,
    plan_rmdir,
    plan_unlink,
)
from blobfs.model.tree_rules_attributes import (
    Wanted,
    plan_setattr,
    plan_setxattr,
    row_after_write,
)
from blobfs.model.tree_rules_rename import Lineage, plan_rename
from blobfs.types import ROOT_INODE, InodeNo
from tests.model.committed import Committed

MAKER = Maker(1, 2)
NUMBERS = 1 << 20
"""Of inodes, for one client."""


class Replica:
    """One client."""

    def __init__(self, number: int) -> None:
        self.host = f"host{number}"
        self.base = Committed()
        self.inodes: dict[InodeNo, LocalInode | Gone] = {}
        self.names: dict[DirentKey, LocalDirent | Gone] = {}
        self.written: dict[InodeNo, bytes] = {}
        """Unsaved bytes of a file, behind its `base_limit_bytes`."""
        self.held: set[InodeNo] = set()
        self.conflicts: list[Conflict] = []
        self.now_ns = 1_000_000_000 * number
        self._next = (number + 1) * NUMBERS

    # -- what programs see -------------------------------------------------------------

    def row(self, inode: InodeNo) -> LocalInode | None:
        if inode in self.inodes:
            row = self.inodes[inode]
            return row if isinstance(row, LocalInode) else None
        committed = self.base.inode(inode)
        return None if committed is None else as_local(committed)

    def name(self, key: DirentKey) -> InodeNo | None:
        if key in self.names:
            mine = self.names[key]
            return mine.inode if isinstance(mine, LocalDirent) else None
        dirent = self.base.dirent(*key)
        return None if dirent is None else dirent.inode

    def listed(self, folder: InodeNo) -> dict[bytes, InodeNo]:
        keys = {key for key in (*self.names, *self.base.names) if key[0] == folder}
        found = {key[1]: self.name(key) for key in sorted(keys)}
        return {name: inode for name, inode in found.items() if inode is not None}

    def content(self, inode: InodeNo) -> bytes:
        row = self.row(inode)
        assert row is not None
        committed = self.base.inode(inode)
        below = row.bound if committed is None else committed.content
        data = below.data if isinstance(below, Inline) else b""
        found = data[: row.base_limit_bytes] + self.written.get(inode, b"")
        assert len(found) == row.size_bytes, (inode, found, row)
        return found

    def paths(self) -> dict[str, InodeNo]:
        """Return all paths; a directory that is seen twice fails the test."""
        found: dict[str, InodeNo] = {}
        seen: set[InodeNo] = set()
        ahead = [("", ROOT_INODE)]
        while ahead:
            above, folder = ahead.pop()
            assert folder not in seen, "a directory lies in two places"
            seen.add(folder)
            for name, inode in self.listed(folder).items():
                row = self.row(inode)
                assert row is not None, f"{above}/{name!r} leads to nothing"
                assert row.nlink, f"{above}/{name!r} leads to what was removed"
                path = f"{above}/{name.decode()}".lstrip("/")
                found[path] = inode
                if row.kind is Kind.FOLDER:
                    ahead.append((path, inode))
        return found

    def shown(self) -> dict[str, bytes | None]:
        """Return paths and contents, None for what is no file."""
        found = {}
        for path, inode in sorted(self.paths().items()):
            row = self.row(inode)
            is_file = row is not None and row.kind is Kind.FILE
            found[path] = self.content(inode) if is_file else None
        return found

    def at(self, path: str) -> LocalInode:
        """Return the row of what has a path."""
        return self._node(self.find(path)).row

    def find(self, path: str) -> InodeNo:
        inode = ROOT_INODE
        for name in filter(None, path.split("/")):
            below = self.name((inode, name.encode()))
            assert below is not None, f"{path} is not there"
            inode = below
        return inode

    # -- what programs do --------------------------------------------------------------

    def mkdir(self, path: str) -> InodeNo:
        return self._make(path, Kind.FOLDER)

    def symlink(self, path: str, target: bytes) -> InodeNo:
        return self._make(path, Kind.SYMLINK, target)

    def write(self, path: str, data: bytes) -> InodeNo:
        """Make a file, or write one anew."""
        place = self._place(path)
        inode = self._make(path, Kind.FILE) if place.found is None else place.found.inode
        self.cut(inode)
        self.append(inode, data)
        return inode

    def cut(self, inode: InodeNo) -> None:
        self._apply(plan_setattr(self._node(inode), Wanted(size_bytes=0), self._now()))
        self.written.pop(inode, None)

    def append(self, inode: InodeNo, data: bytes) -> None:
        node = self._node(inode)
        self.inodes[inode] = row_after_write(node.row, node.row.size_bytes + len(data), self._now())
        self.written[inode] = self.written.get(inode, b"") + data

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        source, target = self._place(old), self._place(new)
        lineage = Lineage(self._above(source.folder), self._above(target.folder))
        self._apply(plan_rename(source, target, flags, lineage, self._now()))
        self._drop_unheld()

    def link(self, old: str, new: str) -> None:
        self._apply(plan_link(self._node(self.find(old)), self._place(new), self._now()))

    def unlink(self, path: str) -> None:
        self._apply(plan_unlink(self._place(path), self._now()))
        self._drop_unheld()

    def rmdir(self, path: str) -> None:
        self._apply(plan_rmdir(self._place(path), self._now()))
        self._drop_unheld()

    def chmod(self, path: str, mode: int) -> None:
        node = self._node(self.find(path))
        self._apply(plan_setattr(node, Wanted(mode=mode), self._now()))

    def setxattr(self, path: str, name: bytes, value: bytes) -> None:
        self._apply(plan_setxattr(self._node(self.find(path)), name, value, self._now()))

    def open(self, path: str) -> InodeNo:
        inode = self.find(path)
        self.held.add(inode)
        return inode

    def close(self) -> None:
        """Close all files."""
        self.held.clear()
        self._drop_unheld()

    # -- commits -----------------------------------------------------------------------

    def operations(self, waiting: frozenset[InodeNo] = frozenset()) -> "Commit":
        """Return what a commit says, of all rows but those that have to wait."""
        inodes, names = self._selected(waiting)
        changes = [self._change(inode) for inode in inodes]
        name_changes = [
            NameChange(key, self.base.dirent(*key), _there(self.names[key])) for key in names
        ]
        return Commit(operations_for(changes, name_changes), inodes, names)

    def take_own(self, commit: "Commit") -> None:
        """Replay what was committed from here."""
        orphans = {inode: self.base.inode(inode) for inode, row in self.inodes.items() if row}
        self.base = self.base.replayed(commit.operations)
        for inode in commit.inodes:
            row = self.inodes.pop(inode)
            base = orphans[inode]
            if isinstance(row, LocalInode) and not row.nlink:
                bound = row.bound if base is None else base.content
                self.inodes[inode] = replace(row, bound=bound)
            else:
                self.written.pop(inode, None)
        for key in commit.names:
            del self.names[key]

    def take_theirs(self, *entries: Iterable[Operation]) -> Rebased:
        """Replay what others committed, and move what is unsaved over all of it at once.

        What programs have open has to show the same as before (C2).
        """
        before = after = self.base
        for operations in entries:
            after = after.replayed(operations)
        opened = {inode: self.content(inode) for inode in self.held}
        mine = Mine(dict(self.inodes), dict(self.names), self._edited(), frozenset(self.held))
        equal, names = self._equal(after), partial(_known_names, (before, after))
        setting = Setting(after.seq, self.host, self._now(), self.fresh, equal, names)
        rebased = reconcile(before, after, mine, setting)
        self.base = after
        self._rebase(rebased)
        self.conflicts += rebased.conflicts
        for inode, data in opened.items():
            assert self.content(rebased.numbers.get(inode, inode)) == data
        return rebased

    def fresh(self) -> InodeNo:
        self._next += 1
        return InodeNo(self._next)

    def _selected(self, waiting: frozenset[InodeNo]) -> tuple[list[InodeNo], list[DirentKey]]:
        states = {
            inode: InodeState(
                0.0,
                held=inode in waiting,
                is_new_folder=self._is_folder(inode) and self.base.inode(inode) is None,
                is_gone_folder=self._is_gone_folder(inode),
            )
            for inode in self.inodes
        }
        names = {}
        for key, mine in self.names.items():
            before, after = self.base.dirent(*key), _there(mine)
            names[key] = NameState(
                InodeNo(0) if before is None else before.inode,
                InodeNo(0) if after is None else after.inode,
            )
        chosen = select(states, names, 1 << 40)
        return list(chosen.inodes), list(chosen.names)

    def _is_folder(self, inode: InodeNo) -> bool:
        row = self.row(inode) or self.base.inode(inode)
        return row is not None and row.kind is Kind.FOLDER

    def _is_gone_folder(self, inode: InodeNo) -> bool:
        row = self.row(inode)
        return self._is_folder(inode) and (row is None or not row.nlink)

    def _change(self, inode: InodeNo) -> InodeChange:
        row, before = self.inodes[inode], self.base.inode(inode)
        after = row if isinstance(row, LocalInode) and row.nlink else None
        return InodeChange(inode, before, after, self._new_content(inode, after))

    def _new_content(self, inode: InodeNo, after: LocalInode | None) -> FileContent | None:
        if after is None or after.kind is not Kind.FILE:
            return None
        before = self.base.inode(inode)
        if inode in self._edited() or (before is None and after.bound is not None):
            return Inline(self.content(inode))
        return EMPTY if before is None else None

    def _edited(self) -> frozenset[InodeNo]:
        return frozenset(inode for inode in self.inodes if self._is_edited(inode))

    def _is_edited(self, inode: InodeNo) -> bool:
        row, base = self.inodes[inode], self.base.inode(inode)
        if isinstance(row, Gone) or row.kind is not Kind.FILE:
            return False
        below = row.bound if base is None else base.content
        base_bytes = len(below.data) if isinstance(below, Inline) else 0
        return inode in self.written or not row.size_bytes == row.base_limit_bytes == base_bytes

    def _equal(self, after: Committed) -> frozenset[tuple[InodeNo, InodeNo]]:
        files = [(no, row) for no, row in after.inodes.items() if row.kind is Kind.FILE]
        ours = [(no, row) for no in self.inodes if (row := self.row(no)) is not None]
        return frozenset(
            (mine, theirs)
            for mine, row in ours
            if row.kind is Kind.FILE
            for theirs, there in files
            if isinstance(there.content, Inline) and self.content(mine) == there.content.data
        )

    def _rebase(self, rebased: Rebased) -> None:
        numbers = rebased.numbers
        self.inodes = {
            numbers.get(no, no): _moved_row(row, numbers) for no, row in self.inodes.items()
        }
        self.names = {
            (numbers.get(parent, parent), name): _moved_dirent(row, numbers)
            for (parent, name), row in self.names.items()
        }
        self.written = {numbers.get(no, no): data for no, data in self.written.items()}
        self.held = {numbers.get(no, no) for no in self.held}
        for inode, row in rebased.inodes.items():
            if row is None:
                self.inodes.pop(inode, None)
            else:
                self.inodes[inode] = row
            if row is None or isinstance(row, Gone) or inode in rebased.unedited:
                self.written.pop(inode, None)
        for key, dirent in rebased.dirents.items():
            if dirent is None:
                self.names.pop(key, None)
            else:
                self.names[key] = dirent

    # -- how it is done ----------------------------------------------------------------

    def _now(self) -> int:
        self.now_ns += 1
        return self.now_ns

    def _node(self, inode: InodeNo) -> Node:
        row = self.row(inode)
        assert row is not None, f"inode {inode} is not there"
        return Node(inode, row)

    def _place(self, path: str) -> Place:
        above, _, name = path.rpartition("/")
        folder = self._node(self.find(above))
        inode = self.name((folder.inode, name.encode()))
        found = None if inode is None else self._node(inode)
        has_entries = found is not None and found.is_folder and bool(self.listed(found.inode))
        return Place(folder, name.encode(), found, has_entries=has_entries)

    def _make(self, path: str, kind: Kind, target: bytes = b"") -> InodeNo:
        place, inode = self._place(path), self.fresh()
        row = new_row(place.folder, kind, 0o644, MAKER, self._now(), target=target)
        self._apply(plan_make(place, inode, row, self.now_ns))
        return inode

    def _above(self, folder: Node) -> list[InodeNo]:
        found = [folder.inode]
        while found[-1] != ROOT_INODE:
            row = self.row(found[-1])
            assert row is not None
            found.append(row.parent)
        return found

    def _apply(self, change: Change) -> None:
        for inode, row in change.inodes.items():
            if row is not None or self.base.inode(inode) is not None:
                self.inodes[inode] = row or GONE
            else:
                self.inodes.pop(inode, None)
        for key, dirent in change.dirents.items():
            if dirent is not None or self.base.dirent(*key) is not None:
                self.names[key] = dirent or GONE
            else:
                self.names.pop(key, None)

    def _drop_unheld(self) -> None:
        for inode, row in list(self.inodes.items()):
            if isinstance(row, LocalInode) and not row.nlink and inode not in self.held:
                self._apply(Change({inode: None}))
                self.written.pop(inode, None)


@dataclass(frozen=True)
class Commit:
    """What one commit says, and the unsaved rows that it covers."""

    operations: tuple[Operation, ...]
    inodes: list[InodeNo]
    names: list[DirentKey]


class Volume:
    """A log, and its clients. Each has replayed a part of it."""

    def __init__(self, clients: int) -> None:
        self.log: list[tuple[Replica, Commit]] = []
        self.clients = [Replica(number) for number in range(clients)]

    def deliver(self, client: Replica, entries: int = 1 << 30, at_once: int = 1) -> None:
        """Let a client replay what follows in the log, some entries at once; what it knows already
        does nothing."""
        ahead = self.log[client.base.seq :][:entries]
        while ahead:
            some, ahead = ahead[:at_once], ahead[at_once:]
            assert client not in [author for author, _ in some], "one's own are known at once"
            client.take_theirs(*(commit.operations for _, commit in some))
            # Whatever was unsaved has to be an entry on top of these (L1).
            client.base.replayed(client.operations().operations)

    def commit(
        self, client: Replica, waiting: frozenset[InodeNo] = frozenset(), at_once: int = 1
    ) -> None:
        """Commit what a client has unsaved, after all that is in the log."""
        self.deliver(client, at_once=at_once)
        commit = client.operations(waiting)
        if commit.operations:
            self.log.append((client, commit))
            client.take_own(commit)
        else:
            for inode in commit.inodes:
                if not _is_orphan(client.inodes[inode]):
                    client.inodes.pop(inode)
                    client.written.pop(inode, None)
            for key in commit.names:
                client.names.pop(key)

    def settle(self) -> None:
        """Close all files, commit all that is unsaved, and let everybody see it."""
        for client in self.clients:
            client.close()
            self.commit(client)
        for client in self.clients:
            self.deliver(client)


def _known_names(moments: Iterable[Committed], inode: InodeNo) -> list[DirentKey]:
    return [
        key for moment in moments for key, dirent in moment.names.items() if dirent.inode == inode
    ]


def _is_orphan(row: LocalInode | Gone) -> bool:
    return isinstance(row, LocalInode) and not row.nlink


def _there(row: LocalDirent | Gone) -> LocalDirent | None:
    return row if isinstance(row, LocalDirent) else None


def _moved_row(row: LocalInode | Gone, numbers: Mapping[InodeNo, InodeNo]) -> LocalInode | Gone:
    if isinstance(row, Gone):
        return row
    return replace(row, parent=numbers.get(row.parent, row.parent))


def _moved_dirent(
    row: LocalDirent | Gone, numbers: Mapping[InodeNo, InodeNo]
) -> LocalDirent | Gone:
    if isinstance(row, Gone):
        return row
    return replace(row, inode=numbers.get(row.inode, row.inode))
