"""Keep what the journal's records add up to: unsaved rows, uploaded packs, the commit under way.

What happens now and what is read from the journal again goes through the same methods.

Concurrency: nothing here awaits.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from blobfs.formats.commit import Counters
from blobfs.model.changes import GONE, Change, Covered, DirentKey, Intent, Uploaded
from blobfs.model.rebase import Rebased
from blobfs.model.spans import Written
from blobfs.types import InodeNo, PackName, Seq, Serial
from blobfs.volume.journal_records import (
    Changed,
    Cleaned,
    IntentNoted,
    LostBytes,
    MovedBytes,
    MovedRows,
    Opened,
    OutcomeNoted,
    PackUploaded,
    RebasedRows,
    Renumbered,
    Wrote,
)
from blobfs.volume.journal_recovery import Record
from blobfs.volume.unsaved_rows import Rows


class SavedInode(Protocol):
    """What is asked of a committed inode."""

    @property
    def size_bytes(self) -> int: ...


class Saved(Protocol):
    """What is asked of the replayed tree: whether it knows a row, and how much it holds."""

    def inode(self, inode: InodeNo) -> SavedInode | None: ...

    def dirent(self, parent: InodeNo, name: bytes) -> object | None: ...

    def counters(self) -> Counters: ...


@dataclass(frozen=True, slots=True)
class NotedPack:
    """An uploaded pack, and the segment that says so."""

    pack: Uploaded
    segment: int


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """Rows that a commit may bring, though the replayed tree does not know them yet."""

    inodes: frozenset[InodeNo]
    dirents: frozenset[DirentKey]


@dataclass(frozen=True, slots=True)
class NotedIntent:
    """A commit whose outcome is unknown, and the segment that says so."""

    intent: Intent
    segment: int
    flight: Flight


class UnsavedState:
    """All that the journal holds."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self.rows = Rows(self._saved_bytes)
        self.packs: dict[PackName, NotedPack] = {}
        self.intent: NotedIntent | None = None
        self._flights: list[Flight] = []
        self.rebased_to = Seq(0)
        """The last seq that rows were rebased on, as far as the journal still says so."""

    def __bool__(self) -> bool:
        return bool(self.rows or self.packs or self.intent)

    @contextmanager
    def flying(self, covered: Covered) -> Iterator[None]:
        """Count rows as under way for as long as we are inside."""
        flight = _flight(covered)
        self._flights.append(flight)
        try:
            yield
        finally:
            self._flights.remove(flight)

    def replay(self, record: Record) -> None:
        """Take in one record of the journal that is being read."""
        body, segment = record.body, record.segment
        match body:
            case Changed():
                self.change(body, record.serial, segment)
            case Wrote():
                self.write(body, _written(body.start, record.serial, record))
            case MovedBytes():
                self.rows.write(body.inode, _written(body.start, body.serial, record))
            case RebasedRows():
                self.rebase(body, record.serial, segment)
            case Opened():
                pass
            case _:
                self.note(body, segment)

    def changed(self, change: Change, serial: Serial, now_ns: int) -> Changed:
        """Return what to record of a change that will have `serial` or a later one.

        A row that goes is remembered as gone where the tree knows it, or may before long;
        where it does not, nothing of it is unsaved any more.
        """
        rows = self.rows
        return Changed(
            tuple(
                (inode, rows.next_inode(inode, row or GONE, serial, now_ns))
                if row is not None or self._is_known_inode(inode)
                else (inode, None)
                for inode, row in change.inodes.items()
            ),
            tuple(
                (key, rows.next_dirent(key, dirent or GONE, serial, now_ns))
                if dirent is not None or self._is_known_dirent(key)
                else (key, None)
                for key, dirent in change.dirents.items()
            ),
        )

    def change(self, body: Changed, serial: Serial, segment: int) -> None:
        """Let rows be as `body` says."""
        rows = self.rows
        for inode, state in body.inodes:
            if state is None:
                rows.drop_inode(inode)
            else:
                rows.put_inode(inode, replace(state, serial=serial, segment=segment))
        for key, dirent in body.dirents:
            if dirent is None:
                rows.drop_dirent(key)
            else:
                rows.put_dirent(key, replace(dirent, serial=serial, segment=segment))

    def rebased(self, seq: Seq, rebased: Rebased, serial: Serial, now_ns: int) -> RebasedRows:
        """Return what to record of rows that are moved over what others committed."""
        came_from = {new: old for old, new in rebased.numbers.items()}
        rows = self.rows
        return RebasedRows(
            seq,
            tuple(rebased.numbers.items()),
            tuple(
                (inode, None)
                if row is None
                else (inode, rows.moved_inode(inode, came_from.get(inode, inode), row, now_ns))
                for inode, row in rebased.inodes.items()
            ),
            tuple(
                (key, None if row is None else rows.next_dirent(key, row, serial, now_ns))
                for key, row in rebased.dirents.items()
            ),
            tuple(sorted(rebased.unedited)),
        )

    def rebase(self, body: RebasedRows, serial: Serial, segment: int) -> None:
        """Let rows be as `body` says."""
        self.rows.renumber(dict(body.numbers))
        self.change(Changed(body.inodes, body.dirents), serial, segment)
        for inode in body.unedited:
            self.rows.drop_spans(inode)
        self.rebased_to = body.seq

    def write(self, body: Wrote, written: Written) -> None:
        """Let the bytes of a write show, and the row be as `body` says."""
        serial, segment = written.serial, written.segment
        self.rows.put_inode(body.inode, replace(body.state, serial=serial, segment=segment))
        self.rows.write(body.inode, written)

    def note(
        self,
        body: MovedRows
        | LostBytes
        | PackUploaded
        | IntentNoted
        | OutcomeNoted
        | Cleaned
        | Renumbered,
        segment: int,
    ) -> None:
        """Take in what is neither a program's change nor its bytes."""
        match body:
            case MovedRows():
                self._move(body, segment)
            case LostBytes():
                lost = Written(body.start, body.length_bytes, segment, 0, body.serial, b"")
                self.rows.write(body.inode, lost)
            case PackUploaded():
                self.packs[body.pack.name] = NotedPack(body.pack, segment)
            case IntentNoted():
                self.intent = NotedIntent(body.intent, segment, _flight(body.intent.covered))
            case OutcomeNoted():
                self._end_intent(body)
            case Cleaned():
                self.rows.clean(body.covered, body.time_ns)
            case Renumbered():
                self.rows.renumber(dict(body.numbers))

    def _saved_bytes(self, inode: InodeNo) -> int:
        saved = self._saved.inode(inode)
        return 0 if saved is None else saved.size_bytes

    def _is_known_inode(self, inode: InodeNo) -> bool:
        in_flight = any(inode in flight.inodes for flight in self._all_flights())
        return in_flight or self._saved.inode(inode) is not None

    def _is_known_dirent(self, key: DirentKey) -> bool:
        in_flight = any(key in flight.dirents for flight in self._all_flights())
        return in_flight or self._saved.dirent(*key) is not None

    def _all_flights(self) -> list[Flight]:
        return self._flights if self.intent is None else [*self._flights, self.intent.flight]

    def _move(self, body: MovedRows, segment: int) -> None:
        for inode, state in body.inodes:
            self.rows.put_inode(inode, replace(state, segment=segment))
        for key, dirent in body.dirents:
            self.rows.put_dirent(key, replace(dirent, segment=segment))

    def _end_intent(self, body: OutcomeNoted) -> None:
        if self.intent is not None and self.intent.intent.seq == body.seq:
            self.intent = None
        self._forget_packs(body.packs)

    def _forget_packs(self, names: Iterable[PackName]) -> None:
        for name in names:
            self.packs.pop(name, None)


def _flight(covered: Covered) -> Flight:
    inodes = frozenset(inode for inode, _ in covered.inodes)
    return Flight(inodes, frozenset(covered.dirents))


def _written(start: int, serial: Serial, record: Record) -> Written:
    return Written(
        start,
        record.payload_bytes,
        record.segment,
        record.payload_offset,
        serial,
        record.checksums,
    )
