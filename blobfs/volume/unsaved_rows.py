"""Hold the unsaved rows in memory, and change them by what the journal says.

The same calls are made when something happens and when the journal is read again, so that what
a remount shows is what was there (P1). The journal's oldest records are removed one segment after
the other, so no record may need an earlier one: a row's state is computed when it changes, and
recorded whole. Rows know the segment that holds their last record: with
it the journal's oldest segment can be emptied.

Concurrency: nothing here awaits.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeGuard

import msgspec
from msgspec.structs import replace

from blobfs.formats.rows import FileContent, Native
from blobfs.formats.wire import covered_bytes
from blobfs.model.changes import (
    Covered,
    DirentKey,
    Gone,
    LocalDirent,
    LocalInode,
)
from blobfs.model.spans import Piece, SpanMap, Written
from blobfs.types import InodeNo, Serial

ROW_BYTES = 256
"""What a row is counted as in the segment that holds it."""


Cuts = tuple[tuple[Serial, int], ...]
NO_CUTS: Cuts = ()


class InodeState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An unsaved inode row. Times are wall-clock ns since the epoch."""

    value: LocalInode | Gone
    serial: Serial
    """Of its last change."""
    since_ns: int
    """When it became unsaved."""
    touched_ns: int
    """When it changed last."""
    cuts: Cuts = NO_CUTS
    """Truncations that still count: the first serial that they could have, and the size that they
    left; growing in both."""
    segment: int = 0
    base_bytes: int = 0
    """Size of the committed content that this lies over: what the volume holds of it."""


class DirentState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An unsaved dirent row. Times as above."""

    value: LocalDirent | Gone
    serial: Serial
    since_ns: int
    segment: int = 0


NO_SPANS = SpanMap()
_NO_DIRENTS: Mapping[bytes, LocalDirent | Gone] = {}


class Rows:
    """All unsaved rows, and the unsaved spans of files."""

    def __init__(self, base_bytes: Callable[[InodeNo], int]) -> None:
        """`base_bytes` returns the size of the committed content of an inode, 0 if it has none."""
        self._base_bytes = base_bytes
        self.inodes: dict[InodeNo, InodeState] = {}
        self.dirents: dict[DirentKey, DirentState] = {}
        self.spans: dict[InodeNo, SpanMap] = {}
        self.live_bytes: defaultdict[int, int] = defaultdict(int)
        """Of each segment: what would have to be kept if it were removed."""
        self.news: set[InodeNo] = set()
        """Inodes whose rows changed since somebody took these."""
        self.growth_bytes = 0
        """What saving all of this adds to the contents of the volume; negative: takes away."""
        self._folders: dict[InodeNo, dict[bytes, LocalDirent | Gone]] = {}

    def __bool__(self) -> bool:
        return bool(self.inodes or self.dirents)

    def in_folder(self, parent: InodeNo) -> Mapping[bytes, LocalDirent | Gone]:
        """Return the unsaved dirents of one directory; the mapping follows later changes."""
        return self._folders.get(parent, _NO_DIRENTS)

    def spans_of(self, inode: InodeNo) -> SpanMap:
        return self.spans.get(inode, NO_SPANS)

    def next_inode(
        self, inode: InodeNo, value: LocalInode | Gone, serial: Serial, now_ns: int
    ) -> InodeState:
        """Return the state of a row after a change, which no earlier record is needed for."""
        old = self.inodes.get(inode)
        if old is None:
            base_bytes = 0 if isinstance(_bound(value), Native) else self._base_bytes(inode)
            return InodeState(value, serial, now_ns, now_ns, base_bytes=base_bytes)
        cuts = old.cuts
        if _is_shorter(value, old.value):
            cuts = (*(cut for cut in cuts if cut[1] < value.size_bytes), (serial, value.size_bytes))
        return InodeState(value, serial, old.since_ns, now_ns, cuts, base_bytes=old.base_bytes)

    def moved_inode(
        self, inode: InodeNo, source: InodeNo, value: LocalInode | Gone, now_ns: int
    ) -> InodeState:
        """Return the state of a row that was that of `source`, over another committed content.

        No commit is under way that could bring what was cut off since.
        """
        old = self.inodes.get(source)
        base_bytes = self._base_bytes(inode)
        if old is None:
            return InodeState(value, Serial(0), now_ns, now_ns, base_bytes=base_bytes)
        return InodeState(value, old.serial, old.since_ns, old.touched_ns, base_bytes=base_bytes)

    def growth_by(self, inode: InodeNo, value: LocalInode | Gone) -> int:
        """Return by how much a file grows that gets this as the new value of its row.

        A file that is only taken over from another tool was as large before.
        """
        old = self.inodes.get(inode)
        if old is not None:
            return _held_bytes(value) - _held_bytes(old.value)
        bound = _bound(value)
        before_bytes = self._base_bytes(inode) if bound is None else covered_bytes(bound)
        return _held_bytes(value) - before_bytes

    def next_dirent(
        self, key: DirentKey, value: LocalDirent | Gone, serial: Serial, now_ns: int
    ) -> DirentState:
        """Return the state of a row after a change."""
        old = self.dirents.get(key)
        return DirentState(value, serial, now_ns if old is None else old.since_ns)

    def put_inode(self, inode: InodeNo, state: InodeState) -> None:
        """Change or add a row. What lies behind its end is gone."""
        old = self.inodes.get(inode)
        if old is not None:
            self.live_bytes[old.segment] -= ROW_BYTES
        self.live_bytes[state.segment] += ROW_BYTES
        self._set_inode(inode, old, state)
        spans = self.spans.get(inode)
        if spans is not None:
            size_bytes = 0 if isinstance(state.value, Gone) else state.value.size_bytes
            self._count_out(inode, spans.cut(size_bytes))

    def put_dirent(self, key: DirentKey, state: DirentState) -> None:
        """Change or add a row."""
        old = self.dirents.get(key)
        if old is not None:
            self.live_bytes[old.segment] -= ROW_BYTES
        self.live_bytes[state.segment] += ROW_BYTES
        self.dirents[key] = state
        self._folders.setdefault(key[0], {})[key[1]] = state.value

    def drop_inode(self, inode: InodeNo) -> None:
        """Forget a row and all that was written: the tree says the same, or never knew it."""
        state = self.inodes.pop(inode, None)
        if state is not None:
            self.live_bytes[state.segment] -= ROW_BYTES
            self.growth_bytes -= _growth_bytes(state)
        self.drop_spans(inode)

    def drop_spans(self, inode: InodeNo) -> None:
        """Forget what was written to a file."""
        spans = self.spans.get(inode)
        if spans is not None:
            self._count_out(inode, spans.cut(0))

    def rebase(self, inode: InodeNo) -> None:
        """Note that the committed content of an inode may be another by now."""
        state = self.inodes.get(inode)
        if state is not None:
            base_bytes = self._base_bytes(inode)
            self._set_inode(inode, state, replace(state, base_bytes=base_bytes))

    def drop_dirent(self, key: DirentKey) -> None:
        """Forget a row."""
        state = self.dirents.pop(key, None)
        if state is None:
            return
        self.live_bytes[state.segment] -= ROW_BYTES
        folder = self._folders[key[0]]
        del folder[key[1]]
        if not folder:
            del self._folders[key[0]]

    def write(self, inode: InodeNo, written: Written) -> None:
        """Let the bytes of a write show."""
        spans = self.spans.get(inode)
        if spans is None:
            spans = self.spans[inode] = SpanMap()
        self._count_out(inode, spans.write_over(written))
        self.live_bytes[written.segment] += written.length_bytes

    def clean(self, covered: Covered, now_ns: int) -> None:
        """Forget what a commit brought; keep what changed since, over the new content."""
        for inode, size_bytes in covered.inodes:
            self._clean_inode(inode, size_bytes, covered.serial, now_ns)
        for key in covered.dirents:
            state = self.dirents.get(key)
            if state is not None and state.serial <= covered.serial:
                self.drop_dirent(key)

    def renumber(self, numbers: Mapping[InodeNo, InodeNo]) -> None:
        """Give inodes other numbers, which no row has yet, wherever rows name them."""
        inodes = [
            (numbers.get(inode, inode), _renumbered_inode(state, numbers))
            for inode, state in self.inodes.items()
        ]
        dirents = [
            ((numbers.get(parent, parent), name), _renumbered_dirent(state, numbers))
            for (parent, name), state in self.dirents.items()
        ]
        spans = [(numbers.get(inode, inode), spans) for inode, spans in self.spans.items()]
        for table in (self.inodes, self.dirents, self.spans, self._folders):
            table.clear()
        self.inodes.update(inodes)
        self.news.update(self.inodes)
        self.dirents.update(dirents)
        self.spans.update(spans)
        for (parent, name), dirent in dirents:
            self._folders.setdefault(parent, {})[name] = dirent.value

    def in_segment(self, number: int) -> Iterator[tuple[InodeNo, Piece]]:
        """Yield the pieces of files that lie in one segment."""
        for inode, spans in self.spans.items():
            for piece in spans:
                if piece.written.segment == number:
                    yield inode, piece

    def _clean_inode(self, inode: InodeNo, size_bytes: int, serial: Serial, now_ns: int) -> None:
        state = self.inodes.get(inode)
        if state is not None and state.serial <= serial:
            self.drop_inode(inode)
            return
        # While the journal is read, the row's record may be gone where a later one follows.
        if state is not None:
            rebased = _rebased(state, size_bytes, serial, now_ns)
            self._set_inode(inode, state, rebased)
        if inode in self.spans:
            self._count_out(inode, self.spans[inode].drop_until(serial))

    def _set_inode(self, inode: InodeNo, old: InodeState | None, state: InodeState) -> None:
        self.inodes[inode] = state
        self.news.add(inode)
        self.growth_bytes += _growth_bytes(state) - (0 if old is None else _growth_bytes(old))

    def _count_out(self, inode: InodeNo, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self.live_bytes[piece.written.segment] -= piece.length_bytes
        if not self.spans[inode]:
            del self.spans[inode]


def _bound(value: LocalInode | Gone) -> FileContent | None:
    """Return what a file without a commit lies over, an object that was taken over, say."""
    return value.bound if isinstance(value, LocalInode) else None


def _is_shorter(value: LocalInode | Gone, old: LocalInode | Gone) -> TypeGuard[LocalInode]:
    if isinstance(value, Gone) or isinstance(old, Gone):
        return False
    return value.size_bytes < old.size_bytes


def _renumbered_inode(state: InodeState, numbers: Mapping[InodeNo, InodeNo]) -> InodeState:
    value = state.value
    if isinstance(value, Gone) or value.parent not in numbers:
        return state
    return replace(state, value=replace(value, parent=numbers[value.parent]))


def _renumbered_dirent(state: DirentState, numbers: Mapping[InodeNo, InodeNo]) -> DirentState:
    value = state.value
    if isinstance(value, Gone) or value.inode not in numbers:
        return state
    return replace(state, value=replace(value, inode=numbers[value.inode]))


def _held_bytes(value: LocalInode | Gone) -> int:
    """Return what the volume holds of a row once it is saved: nothing of what has no name."""
    return value.size_bytes if isinstance(value, LocalInode) and value.nlink else 0


def _growth_bytes(state: InodeState) -> int:
    return _held_bytes(state.value) - state.base_bytes


def _rebased(state: InodeState, size_bytes: int, serial: Serial, now_ns: int) -> InodeState:
    """Return a row that lies over the content which a commit as of `serial` brought.

    All of that content shows, up to the smallest truncation since.
    """
    value = state.value
    if isinstance(value, Gone):
        return replace(state, base_bytes=size_bytes)
    cuts = tuple(cut for cut in state.cuts if cut[0] > serial)
    limit = min(size_bytes, *(size for _, size in cuts)) if cuts else size_bytes
    return replace(
        state,
        value=replace(value, base_limit_bytes=limit),
        cuts=cuts,
        since_ns=now_ns,
        base_bytes=size_bytes,
    )
