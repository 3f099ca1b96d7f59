"""Replay the log into dicts: another replay than the product's, after the specification alone.

It refuses whatever does not hold together.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from blobfs.formats.commit import (
    AddLinks,
    Detach,
    DropDirent,
    DropFolder,
    Hide,
    MoveFolder,
    NewInode,
    Operation,
    PutDirent,
    SetAttributes,
    SetContent,
    SetXattr,
    UnlinkNative,
)
from blobfs.formats.rows import DirentRow, InodeRow, Kind
from blobfs.model.changes import DirentKey
from blobfs.types import FIRST_NATIVE_INODE, ROOT_INODE, InodeNo, Seq

BEGIN = Seq(0)
ROOT_ROW = InodeRow(Kind.FOLDER, 0o755, 0, 0, 1, 1, 1)


class Broken(AssertionError):
    """An entry cannot be replayed: every client would stop."""


@dataclass
class Committed:
    """The replayed tree, as dicts."""

    seq: Seq = BEGIN
    inodes: dict[InodeNo, InodeRow] = field(default_factory=lambda: {ROOT_INODE: ROOT_ROW})
    names: dict[DirentKey, DirentRow] = field(default_factory=dict)
    hidden: set[tuple[bytes, str]] = field(default_factory=set)
    used: set[InodeNo] = field(default_factory=set)
    """All numbers that inodes ever had."""

    def inode(self, inode: InodeNo) -> InodeRow | None:
        return self.inodes.get(inode)

    def dirent(self, parent: InodeNo, name: bytes) -> DirentRow | None:
        return self.names.get((parent, name))

    def dirents(self, parent: InodeNo) -> Iterator[tuple[bytes, DirentRow]]:
        for key in sorted(key for key in self.names if key[0] == parent):
            yield key[1], self.names[key]

    def replayed(self, operations: Iterable[Operation]) -> "Committed":
        """Return the tree with one more entry.

        Raises:
            Broken: it cannot be replayed.
        """
        seq = Seq(self.seq + 1)
        after = Committed(
            seq, dict(self.inodes), dict(self.names), set(self.hidden), set(self.used)
        )
        for operation in operations:
            after._apply(operation)
        for number, row in list(after.inodes.items()):
            if row.kind is not Kind.FOLDER and row.nlink == 0:
                del after.inodes[number]
        after._require_whole()
        return after

    def _apply(self, op: Operation) -> None:
        match op:
            case NewInode():
                self._make(op)
            case SetContent():
                self._expect(self._row(op.inode).content_seq == op.base, op)
                self._set(op.inode, size_bytes=op.size_bytes, content=op.content)
                self._set(op.inode, content_seq=self.seq)
            case SetAttributes():
                fields = ("mode", "uid", "gid", "mtime_ns", "ctime_ns")
                given = {name: getattr(op, name) for name in fields}
                self._set(op.inode, **{k: v for k, v in given.items() if v is not None})
            case SetXattr():
                xattrs = {**dict(self._row(op.inode).xattrs), op.name: op.value}
                there = [(name, value) for name, value in xattrs.items() if value is not None]
                self._set(op.inode, xattrs=tuple(sorted(there)))
            case AddLinks():
                self._expect(self._row(op.inode).kind is not Kind.FOLDER, op)
                self._set(op.inode, nlink=self._row(op.inode).nlink + op.delta)
            case PutDirent() | DropDirent():
                self._name(op)
            case DropFolder():
                self._expect(self._row(op.inode).kind is Kind.FOLDER, op)
                del self.inodes[op.inode]
            case MoveFolder():
                self._expect(self._row(op.inode).kind is Kind.FOLDER, op)
                self._set(op.inode, parent=op.parent)
            case Detach():
                self._expect(self._row(op.inode).prefix == op.prefix, op)
                self._set(op.inode, prefix=None)
            case Hide():
                self.hidden.add((op.key, op.version))
            case UnlinkNative():
                self._expect((op.key, op.version) in self.hidden, op)

    def _make(self, op: NewInode) -> None:
        self._expect(op.inode not in self.inodes, op)
        self._expect(op.inode not in self.used or op.inode >= FIRST_NATIVE_INODE, op)
        self.used.add(op.inode)
        self.inodes[op.inode] = InodeRow(
            op.kind,
            op.mode,
            op.uid,
            op.gid,
            op.mtime_ns,
            op.ctime_ns,
            nlink=1 if op.kind is Kind.FOLDER else 0,
            rdev=op.rdev,
            prefix=op.prefix,
            parent=op.parent,
            seq=self.seq,
        )

    def _name(self, op: PutDirent | DropDirent) -> None:
        found = self.names.pop((op.parent, op.name), None)
        expected = op.replaces if isinstance(op, PutDirent) else op.inode
        self._expect((0 if found is None else found.inode) == expected, op)
        if isinstance(op, PutDirent):
            dirent = DirentRow(op.inode, op.kind, self.seq, op.shadows)
            self.names[op.parent, op.name] = dirent

    def _require_whole(self) -> None:
        names = Counter(dirent.inode for dirent in self.names.values())
        for (parent, name), dirent in self.names.items():
            row, folder = self.inodes.get(dirent.inode), self.inodes.get(parent)
            self._expect(folder is not None and folder.kind is Kind.FOLDER, (parent, name))
            assert row is not None, (parent, name)
            self._expect(row.kind is dirent.kind, (parent, name))
            self._expect(row.kind is not Kind.FOLDER or row.parent == parent, (parent, name))
        for number, row in self.inodes.items():
            if number != ROOT_INODE:
                self._expect(row.nlink == names[number], f"links of {number}: {row}")
            self._require_rooted(number, row)

    def _require_rooted(self, number: InodeNo, row: InodeRow) -> None:
        seen = set()
        while row.kind is Kind.FOLDER and number != ROOT_INODE:
            self._expect(number not in seen, f"a cycle at {number}")
            seen.add(number)
            number, row = row.parent, self._row(row.parent)

    def _row(self, inode: InodeNo) -> InodeRow:
        self._expect(inode in self.inodes, f"no inode {inode}")
        return self.inodes[inode]

    def _set(self, inode: InodeNo, **fields: object) -> None:
        self.inodes[inode] = replace(self._row(inode), seq=self.seq, **fields)

    def _expect(self, holds: bool, what: object) -> None:
        if not holds:
            raise Broken(f"seq={self.seq} {what}")
