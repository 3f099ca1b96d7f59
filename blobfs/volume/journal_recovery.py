"""Read the journal from its beginning, and decide where it ends.

1. A record that verifies and carries the next serial is replayed.
2. What does not verify ends the log if no later record shows that it had been on disk: it was torn
   by a kill or a power cut, and nobody was promised more. All behind it counts no more, and
   `recover` removes it, so that what stays is a prefix of what was done (S2).
3. Else it is damage: what it held is named, and the log goes on behind it.

After a mere kill every complete record is in the page cache, so a later record of any kind
shows it; after a power cut only one that carries a higher synced serial does.
Payloads are read only where they may be torn: behind the last serial known to be synced.

Concurrency: blocking functions for a worker thread, before anything else is done.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import msgspec

from blobfs.errors import Damaged
from blobfs.types import KIB, ByteRange, InodeNo, Serial
from blobfs.volume.journal_records import (
    HEADER_BYTES,
    Body,
    Header,
    MovedBytes,
    Opened,
    Wrote,
    blocks_verify,
    decode_body,
    decode_header,
    find_candidates,
    head_verifies,
)
from blobfs.volume.journal_segments import (
    JournalState,
    SegmentFiles,
    disk_fault,
    read_at,
)

_WINDOW_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the journal, and where its payload lies."""

    segment: int
    serial: Serial
    body: Body
    checksums: bytes
    payload_offset: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of the journal that had been on disk and cannot be read.

    `inode`, `lost` and `serial` name the write that they held, where that is known.
    """

    segment: int
    span: ByteRange
    inode: InodeNo | None = None
    lost: ByteRange | None = None
    serial: Serial | None = None
    records: int = 0
    """How many records it held, where that is all that is known."""

    def __str__(self) -> str:
        if self.lost is None:
            return f"unknown segment={self.segment} start={self.span.start} stop={self.span.stop}"
        return f"inode={self.inode} start={self.lost.start} stop={self.lost.stop}"


@dataclass(slots=True)
class RecoveredLog:
    """What was found."""

    last_serial: Serial
    next_number: int
    ends: dict[int, int] = field(default_factory=dict)
    """Of each segment that is kept: where its records end."""
    begins: dict[int, Serial] = field(default_factory=dict)
    """And the serial that it begins with."""
    damages: list[Damage] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    """Segments that were removed, and that a power cut brought back."""
    behind: list[int] = field(default_factory=list)
    """Segments behind the end of the log."""
    last: int | None = None
    """The segment that the log ends in, if more may lie behind its end."""


def recover(
    files: SegmentFiles, state: JournalState, boot_id: str, replay: Callable[[Record], None]
) -> RecoveredLog:
    """Replay all records in order, and remove what the log does not hold any more.

    Raises:
        Damaged: a record verifies and makes no sense.
        LocalFault: the disk refused.
    """
    log = read_log(files, state, boot_id, replay)
    # The last first, so that a kill leaves an end.
    for number in (*log.removed, *reversed(log.behind)):
        files.path(number).unlink()
    if log.last is not None:
        _cut(files, log.last, log.ends[log.last])
    return log


def read_log(
    files: SegmentFiles, state: JournalState, boot_id: str, replay: Callable[[Record], None]
) -> RecoveredLog:
    """Replay all records in order, and change nothing.

    Raises:
        Damaged: a record verifies and makes no sense.
    """
    return _Recovery(files, state, boot_id, replay).run()


def _cut(files: SegmentFiles, number: int, end: int) -> None:
    try:
        os.truncate(files.path(number), end)
        files.flush(number)
        files.flush_names()
    except OSError as error:
        raise disk_fault("cannot repair the journal", error) from error


class _SegmentReader:
    """Reads the records of one segment."""

    def __init__(self, files: SegmentFiles, number: int) -> None:
        self.number = number
        self._path = files.path(number)
        self._size = self._path.stat().st_size
        self._base = 0
        self._window = b""

    def header_at(self, offset: int) -> tuple[Header, bytes] | None:
        """Return header and head of the record there, if its head verifies."""
        header = decode_header(self._view(offset, HEADER_BYTES))
        if header is None or header.segment != self.number:
            return None
        if offset + header.head_bytes + header.payload_bytes > self._size:
            return None
        head = self._view(offset, header.head_bytes)
        return (header, head) if head_verifies(header, head, offset) else None

    def payload_verifies(self, record: Record) -> bool:
        try:
            payload = read_at(self._path, record.payload_offset, record.payload_bytes)
        except OSError:
            return False
        return len(payload) == record.payload_bytes and blocks_verify(
            memoryview(payload), record.checksums, 0
        )

    def headers_behind(self, offset: int) -> Iterator[tuple[int, Header]]:
        """Yield all records behind `offset` whose heads verify, whatever lies between them."""
        try:
            rest = read_at(self._path, offset, self._size - offset)
        except OSError:
            return
        for start in find_candidates(rest, self.number):
            if found := self.header_at(offset + start):
                yield offset + start, found[0]

    def _view(self, offset: int, length: int) -> bytes:
        start = offset - self._base
        if start < 0 or start + length > len(self._window):
            try:
                self._window = read_at(self._path, offset, max(length, _WINDOW_BYTES))
            except OSError:
                self._window = b""
            self._base, start = offset, 0
        return self._window[start : start + length]


@dataclass(frozen=True, slots=True)
class _Later:
    """A record that verifies behind a place that does not."""

    index: int
    offset: int
    serial: Serial
    synced: Serial


class _Recovery:
    def __init__(
        self,
        files: SegmentFiles,
        state: JournalState,
        boot_id: str,
        replay: Callable[[Record], None],
    ) -> None:
        self._files = files
        self._replay = replay
        present = files.numbers()
        self._numbers = [number for number in present if number >= state.floor]
        self._readers = [_SegmentReader(files, number) for number in self._numbers]
        self._synced = state.synced
        self._trusted = state.synced
        """Payloads up to this serial need no reading."""
        self._same_run = False
        self._note_openings(boot_id)
        self._expected = state.begin
        self._log = RecoveredLog(state.synced, max([state.floor - 1, *present]) + 1)
        self._log.removed = [number for number in present if number < state.floor]
        self._floor = state.floor

    def run(self) -> RecoveredLog:
        if not self._readers and self._synced >= self._expected:
            self._note_damage(self._floor, 0, None)
        index, offset = 0, 0
        while index < len(self._readers):
            if not offset:
                self._log.begins[self._numbers[index]] = self._expected
            offset = self._replay_from(index, offset)
            self._log.ends[self._numbers[index]] = offset
            resumed = self._resume(index, offset)
            if resumed is None:
                self._log.last = self._numbers[index]
                self._log.behind = self._numbers[index + 1 :]
                break
            index, offset = resumed
        self._log.last_serial = Serial(max(self._log.last_serial, self._expected - 1))
        return self._log

    def _note_openings(self, boot_id: str) -> None:
        for reader in self._readers:
            self._same_run = False
            if found := reader.header_at(0):
                self._trusted = max(self._trusted, found[0].synced)
                body, _ = _decode(reader.number, *found)
                self._same_run = isinstance(body, Opened) and body.boot_id == boot_id != ""

    def _replay_from(self, index: int, offset: int) -> int:
        """Replay records from `offset` on; return where the first one that cannot be lies."""
        reader = self._readers[index]
        while found := reader.header_at(offset):
            header, head = found
            if header.serial != self._expected:
                break
            body, checksums = _decode(reader.number, header, head)
            payload_offset = offset + header.head_bytes
            record = Record(
                reader.number, header.serial, body, checksums, payload_offset, header.payload_bytes
            )
            if self._may_be_torn(index, record) and not reader.payload_verifies(record):
                if not self._was_synced(index, offset):
                    break
                record = self._lost(record, offset)
            self._replay(record)
            self._expected = Serial(header.serial + 1)
            offset = payload_offset + header.payload_bytes
        return offset

    def _may_be_torn(self, index: int, record: Record) -> bool:
        if not record.payload_bytes or record.serial <= self._trusted:
            return False
        return not self._same_run or index == len(self._readers) - 1

    def _lost(self, record: Record, offset: int) -> Record:
        """Note a damaged payload; return what to replay in its place."""
        body = record.body
        span = ByteRange(offset, record.payload_offset + record.payload_bytes)
        if not isinstance(body, (Wrote, MovedBytes)):
            raise Damaged(f"a record has bytes that it cannot have. segment={record.segment}")
        lost = ByteRange(body.start, body.start + record.payload_bytes)
        self._log.damages.append(Damage(record.segment, span, body.inode, lost, record.serial))
        return replace(record, checksums=b"")

    def _resume(self, index: int, offset: int) -> tuple[int, int] | None:
        """Return where the log goes on behind a place that it does not go on at."""
        if self._next_begins(index):
            return index + 1, 0
        expected = self._expected
        later = [each for each in self._later(index, offset) if each.serial >= expected]
        if not later:
            if self._synced >= expected:
                self._note_damage(self._numbers[index], offset, None)
            return None
        if later[0].serial != expected:
            if self._known_through(later) < expected:
                return None
            self._note_damage(self._numbers[index], offset, later[0])
        for skipped in self._numbers[index + 1 : later[0].index]:
            self._log.begins[skipped] = self._expected
            self._log.ends[skipped] = self._files.path(skipped).stat().st_size
        self._expected = later[0].serial
        return later[0].index, later[0].offset

    def _next_begins(self, index: int) -> bool:
        """Whether the next segment goes on where this one ends: the usual case."""
        if index + 1 == len(self._readers):
            return False
        found = self._readers[index + 1].header_at(0)
        return found is not None and found[0].serial == self._expected

    def _later(self, index: int, offset: int) -> Iterator[_Later]:
        for number in range(index, len(self._readers)):
            start = offset + 1 if number == index else 0
            for at, header in self._readers[number].headers_behind(start):
                yield _Later(number, at, header.serial, header.synced)

    def _known_through(self, later: Iterable[_Later]) -> int:
        """Return up to which serial all had been acknowledged for good."""
        shown = (each.serial if self._same_run else each.synced for each in later)
        return max([self._synced, *shown])

    def _was_synced(self, index: int, offset: int) -> bool:
        """Whether the record at `offset`, whose serial is the expected one, had been on disk."""
        expected = self._expected
        later = [each for each in self._later(index, offset) if each.serial > expected]
        return self._known_through(later) >= expected

    def _note_damage(self, segment: int, offset: int, resumed: _Later | None) -> None:
        """Note that nothing is known of what lay at `offset`, up to where the log goes on."""
        stop, behind = offset, Serial(self._synced + 1)
        if resumed is not None:
            behind = resumed.serial
            if self._numbers[resumed.index] == segment:
                stop = resumed.offset
        records = behind - self._expected
        self._log.damages.append(Damage(segment, ByteRange(offset, stop), records=records))


def _decode(number: int, header: Header, head: bytes) -> tuple[Body, bytes]:
    try:
        return decode_body(header, head)
    except msgspec.MsgspecError as error:
        raise Damaged(
            f"a record of the journal makes no sense: {error}. segment={number} "
            f"serial={header.serial}"
        ) from error
