"""Drive unsaved rows with small segments, beside a plain model of what programs see."""

import copy
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blobfs.env import Env
from blobfs.formats.commit import Counters
from blobfs.formats.rows import Kind
from blobfs.model.changes import (
    Change,
    Covered,
    DirentKey,
    Gone,
    Intent,
    LocalDirent,
    LocalInode,
)
from blobfs.model.spans import FromBase, Piece
from blobfs.types import KIB, ROOT_INODE, ByteRange, InodeNo, Seq
from blobfs.volume.holdings import Holdings
from blobfs.volume.journal import open_journal
from blobfs.volume.known_settings import KnownSettings
from blobfs.volume.room import Disk, Room
from blobfs.volume.unsaved import Unsaved
from blobfs.volume.unsaved_rows import ROW_BYTES, Rows
from blobfs.volume.unsaved_state import UnsavedState

SEGMENT_BYTES = 8 * KIB
KEPT_SPARES = 4
PLENTY = Room(None, lambda: Disk(1 << 40, 1 << 40))


@dataclass
class Files:
    """A tree of one directory: names, and what each file holds."""

    names: dict[bytes, InodeNo] = field(default_factory=dict)
    rows: dict[InodeNo, LocalInode] = field(default_factory=dict)
    bodies: dict[InodeNo, bytes] = field(default_factory=dict)

    def inode(self, inode: InodeNo) -> LocalInode | None:
        return self.rows.get(inode)

    def dirent(self, parent: InodeNo, name: bytes) -> InodeNo | None:
        assert parent == ROOT_INODE
        return self.names.get(name)

    def counters(self) -> Counters:
        content_bytes = sum(row.size_bytes for row in self.rows.values())
        return Counters(len(self.rows), content_bytes, bytes(16))


@dataclass
class Attempt:
    """A commit under way: what it brings, and what it was made from."""

    brings: Files
    covered: Covered
    pins: ExitStack


@asynccontextmanager
async def open_small(
    folder: Path,
    saved: Files,
    *,
    env: Env | None = None,
    room: Room = PLENTY,
    patience_s: float = 20.0,
    settings: KnownSettings | None = None,
) -> AsyncIterator[Unsaved]:
    """Open as `open_unsaved` does, with segments that a few records fill."""
    state, env = UnsavedState(saved), env or Env()
    holdings = Holdings(state.rows, saved, settings or KnownSettings())
    async with open_journal(
        folder, env, state.replay, segment_bytes=SEGMENT_BYTES, kept_spares=KEPT_SPARES
    ) as journal:
        unsaved = Unsaved(journal, state, env, room, patience_s, holdings)
        unsaved.drop_orphans()
        yield unsaved


class Ledger:
    """One client's unsaved rows, what programs should see of them, and what is committed.

    `now` is what programs see; `saved` is the replayed tree.
    """

    def __init__(self, unsaved: Unsaved, now: Files | None = None, saved: Files | None = None):
        self.unsaved = unsaved
        self.now = now or Files()
        self.saved = saved if saved is not None else Files()
        self.attempt: Attempt | None = None
        self.next_inode = 2
        self.done: Callable[[], None] = lambda: None
        """Called after each operation that was acknowledged."""

    def create(self, name: bytes) -> None:
        if name in self.now.names:
            return
        inode = InodeNo(self.next_inode)
        self.next_inode += 1
        row = LocalInode(Kind.FILE, 0o644, 0, 0, inode, inode, 1)
        self.unsaved.apply(
            Change({inode: row}, {(ROOT_INODE, name): LocalDirent(inode, Kind.FILE)})
        )
        self.now.names[name] = inode
        self.now.rows[inode], self.now.bodies[inode] = row, b""
        self.done()

    def write(self, name: bytes, offset: int, data: bytes) -> None:
        if name not in self.now.names:
            return
        inode = self.now.names[name]
        row = self._row(inode)
        grown = _with_size(row, max(row.size_bytes, offset + len(data)))
        self.unsaved.write(inode, grown, offset, data)
        body = self.now.bodies[inode].ljust(offset, b"\0")
        self.now.rows[inode] = grown
        self.now.bodies[inode] = body[:offset] + data + body[offset + len(data) :]
        self.done()

    def truncate(self, name: bytes, size_bytes: int) -> None:
        if name not in self.now.names:
            return
        inode = self.now.names[name]
        cut = _with_size(self._row(inode), size_bytes)
        self.unsaved.apply(Change({inode: cut}))
        self.now.rows[inode] = cut
        self.now.bodies[inode] = self.now.bodies[inode][:size_bytes].ljust(size_bytes, b"\0")
        self.done()

    def unlink(self, name: bytes) -> None:
        if name not in self.now.names:
            return
        inode = self.now.names[name]
        self.unsaved.apply(Change({inode: None}, {(ROOT_INODE, name): None}))
        del self.now.names[name]
        del self.now.rows[inode], self.now.bodies[inode]
        self.done()

    def rename(self, old: bytes, new: bytes) -> None:
        if old not in self.now.names or old == new:
            return
        inode, replaced = self.now.names[old], self.now.names.get(new)
        dirents: dict[DirentKey, LocalDirent | None] = {
            (ROOT_INODE, old): None,
            (ROOT_INODE, new): LocalDirent(inode, Kind.FILE),
        }
        gone: dict[InodeNo, LocalInode | None] = {} if replaced is None else {replaced: None}
        self.unsaved.apply(Change(gone, dirents))
        del self.now.names[old]
        self.now.names[new] = inode
        if replaced is not None:
            del self.now.rows[replaced], self.now.bodies[replaced]
        self.done()

    async def renumber(self) -> None:
        """Give the files that no commit has yet other numbers, unless a commit is under way."""
        if self.attempt is not None:
            return
        made = [inode for inode in self.unsaved.inode_states if inode not in self.saved.rows]
        numbers = {old: InodeNo(new) for new, old in enumerate(made, self.next_inode)}
        self.next_inode += len(made)
        await self.unsaved.renumber(numbers)
        now = self.now
        now.names = {name: numbers.get(inode, inode) for name, inode in now.names.items()}
        now.rows = {numbers.get(inode, inode): row for inode, row in now.rows.items()}
        now.bodies = {numbers.get(inode, inode): body for inode, body in now.bodies.items()}
        self.done()

    async def begin(self) -> None:
        """Try a commit of everything: as far as its PUT, whose outcome is not known yet."""
        if self.attempt is not None:
            return
        pins = ExitStack()
        unsaved = self.unsaved
        taken = pins.enter_context(
            unsaved.snapshot(list(unsaved.inode_states), list(unsaved.dirent_states))
        )
        self.attempt = Attempt(copy.deepcopy(self.now), taken.covered, pins)
        await unsaved.note_intent(Intent(Seq(1), 1, b"entry", taken.covered))

    async def land(self) -> None:
        """Let the commit have landed, and replay it."""
        if self.attempt is None:
            return
        brings, covered = self.attempt.brings, self.attempt.covered
        self.saved.names, self.saved.bodies = brings.names, brings.bodies
        self.saved.rows = brings.rows
        self.attempt.pins.close()
        self.attempt = None
        self.unsaved.holdings.follow_tree(covered_inodes(covered))
        await self.unsaved.clean(covered)
        self.unsaved.note_outcome(Seq(1), "landed")

    def void(self) -> None:
        """Let another have taken the slot."""
        if self.attempt is not None:
            self.unsaved.note_outcome(Seq(1), "void")
            self.attempt.pins.close()
            self.attempt = None

    def _row(self, inode: InodeNo) -> LocalInode:
        return _visible(self.unsaved, self.saved, inode)


def covered_inodes(covered: Covered) -> list[InodeNo]:
    return [inode for inode, _ in covered.inodes]


async def check(unsaved: Unsaved, saved: Files, now: Files) -> None:
    """Compare all that a program could see with what it should."""
    names = dict(saved.names)
    for name, dirent in unsaved.dirents(ROOT_INODE).items():
        if isinstance(dirent, Gone):
            names.pop(name, None)
        else:
            names[name] = dirent.inode
    assert names == now.names
    for inode in names.values():
        assert await content(unsaved, saved, inode) == now.bodies[inode], inode
    assert unsaved.holdings.held_bytes == sum(map(len, now.bodies.values()))
    check_accounts(unsaved._state.rows)


def check_accounts(rows: Rows) -> None:
    """Compare what each segment is thought to hold with what lies in it."""
    held: Counter[int] = Counter()
    for state in (*rows.inodes.values(), *rows.dirents.values()):
        held[state.segment] += ROW_BYTES
    for spans in rows.spans.values():
        for piece in spans:
            held[piece.written.segment] += piece.length_bytes
    assert held == +Counter(rows.live_bytes)
    assert min(rows.live_bytes.values(), default=0) >= 0
    assert rows.spans.keys() <= rows.inodes.keys()


async def content(unsaved: Unsaved, saved: Files, inode: InodeNo) -> bytes:
    """Return what a program reads of a file from its beginning to its end."""
    row = _visible(unsaved, saved, inode)
    whole = ByteRange(0, row.size_bytes)
    parts = []
    for part in unsaved.spans(inode).plan_read(whole, row.size_bytes, row.base_limit_bytes):
        if isinstance(part, Piece):
            parts.append(bytes(await unsaved.read(part)))
            continue
        base = saved.bodies[inode] if isinstance(part, FromBase) else b""
        found = base[part.span.start : part.span.stop]
        parts.append(found.ljust(len(part.span), b"\0"))
    return b"".join(parts)


def kill(folder: Path, to: Path) -> Path:
    """Return a copy of what a daemon that is killed now leaves: the page cache, whole."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to


def _visible(unsaved: Unsaved, saved: Files, inode: InodeNo) -> LocalInode:
    row = unsaved.inode(inode)
    if isinstance(row, LocalInode):
        return row
    assert row is None, "a file that has a name is called removed"
    committed = saved.rows[inode]
    size = committed.size_bytes
    return _with_size(_based(committed, size), size)


def _based(row: LocalInode, limit: int) -> LocalInode:
    return LocalInode(
        row.kind, row.mode, row.uid, row.gid, row.mtime_ns, row.ctime_ns, row.nlink, limit, limit
    )


def _with_size(row: LocalInode, size_bytes: int) -> LocalInode:
    limit = min(row.base_limit_bytes, size_bytes)
    return LocalInode(
        row.kind,
        row.mode,
        row.uid,
        row.gid,
        row.mtime_ns,
        row.ctime_ns,
        row.nlink,
        size_bytes,
        limit,
    )
