"""Append everything unsaved to one log on the local disk, and read it back verified.

An append is one `writev` into the page cache, so a killed daemon loses nothing (P1); `sync` brings
all of it to disk, for many callers at once (P2). Because there is one log, what a power cut
leaves is a prefix of what was done (S2). What is in the log, and what of it still counts, is
known to `volume.unsaved`; here are records and segments.

Concurrency: appends do not await and are made by the one task thread; flushes and long reads run on
worker threads. A segment that is pinned is not removed.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio
from msgspec.structs import replace

from blobfs.cache.lock import boot_id
from blobfs.env import Env
from blobfs.errors import BlobfsError, LocalFault
from blobfs.model.spans import Piece, Written
from blobfs.types import KIB, MIB, Serial
from blobfs.volume.journal_payloads import read_piece, read_piece_if_cached, read_pieces
from blobfs.volume.journal_records import (
    HEADER_BYTES,
    Body,
    MovedBytes,
    Opened,
    Wrote,
    encode_body,
    encode_head,
    payload_checksums,
)
from blobfs.volume.journal_recovery import Damage, Record, RecoveredLog, read_log, recover
from blobfs.volume.journal_segments import (
    MOST_SPARES,
    JournalState,
    Segment,
    SegmentFiles,
    disk_fault,
    flush,
)

SEGMENT_BYTES = 16 * MIB
PAYLOAD_BYTES = MIB
"""The most that one record takes: what a program's write arrives in."""

CLOSE_S = 30.0
"""How long the last flush may take when the journal is closed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a record went."""

    serial: Serial
    segment: int


@asynccontextmanager
async def open_journal(
    folder: Path,
    env: Env,
    replay: Callable[[Record], None],
    *,
    segment_bytes: int = SEGMENT_BYTES,
    kept_spares: int = MOST_SPARES,
) -> AsyncIterator["Journal"]:
    """Open the journal in `folder`, which this process holds; make it if there is none.

    All records are given to `replay` first, in order. In the end everything is on disk.
    `kept_spares` emptied files of `segment_bytes` are kept to be written over.

    Raises:
        Damaged: the journal makes no sense.
        LocalFault: the disk refused.
        Unsupported: a newer version wrote it.
    """
    boot = boot_id()
    recovering = partial(_recover, folder, replay, segment_bytes, kept_spares, boot)
    files, recovered = await trio.to_thread.run_sync(recovering)
    journal = Journal(files, recovered, env, boot)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.flush_full_segments)
            yield journal
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await journal.close()


def read_journal(
    folder: Path, replay: Callable[[Record], None]
) -> tuple[SegmentFiles, RecoveredLog]:
    """Give all records of the journal in `folder` to `replay`, as the next daemon will, and
    change nothing. Blocking; the caller holds the folder.

    Raises: as `open_journal`.
    """
    try:
        files = SegmentFiles(folder, SEGMENT_BYTES)
        return files, read_log(files, files.read_state() or JournalState(), boot_id(), replay)
    except OSError as error:
        raise disk_fault(f"cannot read the journal in {str(folder)!r}", error) from error


def _recover(
    folder: Path,
    replay: Callable[[Record], None],
    segment_bytes: int,
    kept_spares: int,
    boot: str,
) -> tuple[SegmentFiles, RecoveredLog]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = SegmentFiles(folder, segment_bytes, kept_spares)
        state = files.read_state()
        if state is None:
            state = JournalState()
            files.write_state(state)
        recovered = recover(files, state, boot, replay)
        # One whose new name a power cut undid holds records that carry a number not used yet.
        files.remove_spares()
        if recovered.last_serial > state.synced:
            for number in recovered.ends:
                files.flush(number)  # a killed daemon's records may be in the page cache alone
            files.write_state(replace(state, synced=recovered.last_serial))
        return files, recovered
    except OSError as error:
        raise disk_fault(f"cannot open the journal in {str(folder)!r}", error) from error


class Journal:
    """The log. Made by `open_journal`."""

    def __init__(self, files: SegmentFiles, recovered: RecoveredLog, env: Env, boot: str) -> None:
        self._files = files
        self._env = env
        self._boot_id = boot
        self.damages: tuple[Damage, ...] = tuple(recovered.damages)
        self._ends = recovered.ends
        self._begins = recovered.begins
        self.used_bytes = sum(recovered.ends.values())
        """What all segments hold, dead or alive."""
        self._serial = recovered.last_serial
        self._synced = recovered.last_serial
        self._next_number = recovered.next_number
        self._current: Segment | None = None
        self._unflushed: dict[int, Segment] = {}
        self._names_changed = False
        self._flight: trio.Event | None = None
        self._failure: LocalFault | None = None
        self._segment_full = trio.Event()
        self._pins: Counter[int] = Counter()
        self._removable: list[int] = []

    @property
    def serial(self) -> Serial:
        """Of the last record."""
        return self._serial

    @property
    def segment_bytes(self) -> int:
        return self._files.segment_bytes

    @property
    def ready_bytes(self) -> int:
        """What can be appended without taking more of the disk."""
        here = self._current.size_bytes - self._current.end if self._current else 0
        return here + max(0, len(self._files.spares) - 1) * self.segment_bytes

    @property
    def oldest(self) -> int | None:
        """The segment that may be removed next; None if there is only the one in use."""
        oldest = next(iter(self._ends), None)
        if self._current is not None and oldest == self._current.number:
            return None
        return oldest

    @property
    def segments(self) -> int:
        return len(self._ends)

    def append(self, body: Body, *, urgent: bool = False) -> Appended:
        """Append a record without a payload; it survives a kill from now on.

        `urgent` ones, which make room or end a commit, may take the last spare segment.

        Raises:
            NoRoom: the disk is full.
            LocalFault: the disk refused.
        """
        segment, _, _ = self._append(body, b"", urgent)
        return Appended(self._serial, segment.number)

    def append_bytes(
        self, body: Wrote | MovedBytes, payload: bytes | memoryview, *, urgent: bool = False
    ) -> Written:
        """Append a record with a payload of 1 to `PAYLOAD_BYTES` bytes; return where it lies.

        Raises: as `append`.
        """
        segment, offset, checksums = self._append(body, payload, urgent)
        serial = body.serial if isinstance(body, MovedBytes) else self._serial
        return Written(body.start, len(payload), segment.number, offset, serial, checksums)

    async def sync(self) -> None:
        """Return when all that was appended so far is on disk. Callers share a flush.

        Raises:
            LocalFault: the disk refused, now or before: nothing more is accepted.
        """
        target = self._serial
        while self._synced < target:
            self._check()
            if self._flight is None:
                await self._flush()
            else:
                await self._flight.wait()

    async def read(self, piece: Piece) -> bytes | memoryview:
        """Return the bytes of `piece`, verified.

        Raises:
            Damaged: they are not what was written.
        """
        found = read_piece_if_cached(self._files, piece)
        if found is not None:
            return found
        with self.pinned():
            return await trio.to_thread.run_sync(read_piece, self._files, piece)

    def read_now(self, pieces: Sequence[Piece]) -> list[bytes | memoryview]:
        """Return the bytes of each, verified: blocking, on any thread, while they are pinned.

        Raises:
            Damaged: they are not what was written.
        """
        return read_pieces(self._files, pieces)

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Keep all segments of now for as long as we are inside."""
        floor = next(iter(self._ends), self._next_number)
        self._pins[floor] += 1
        try:
            yield
        finally:
            self._pins[floor] -= 1
            self._pins += Counter()  # forget what came to zero
            self._remove_unpinned()

    async def remove_oldest(self) -> None:
        """Remove the oldest segment, of which nothing counts any more.

        What was appended since is on disk first: nothing may be lost with its older copy, and
        nothing come back that a record in a removed segment had cancelled.

        Raises:
            LocalFault: the disk refused.
        """
        number = self.oldest
        assert number is not None
        await self.sync()
        self._env.crash_point("journal.before-floor")
        await self._write_state(number + 1)
        self._env.crash_point("journal.floor-set")
        self._removable.append(number)
        self._begins.pop(number)
        self.used_bytes -= self._ends.pop(number)
        self._remove_unpinned()

    async def forget_all(self) -> None:
        """Remove all segments: nothing is unsaved.

        Raises:
            LocalFault: the disk refused.
        """
        self._leave_current()
        while self._ends:
            await self.remove_oldest()
        self._files.remove_spares()

    async def flush_full_segments(self) -> None:
        """Flush whenever a segment is full, for ever, so that little is left for who has to wait.

        It also keeps dirty pages few: with many, the kernel stops writers for long.
        """
        while True:
            await self._segment_full.wait()
            self._segment_full = trio.Event()
            with contextlib.suppress(LocalFault):  # kept, and raised to whoever asks next
                await self.sync()

    async def close(self) -> None:
        """Bring everything to disk, and give back the room that was taken ahead."""
        try:
            await self.sync()
            await self._write_state(next(iter(self._ends), self._next_number))
        except BlobfsError as error:
            log.warning("cannot close the journal cleanly: %s", error)
        self._leave_current()
        for segment in self._unflushed.values():
            segment.close()

    def _append(
        self, body: Body, payload: bytes | memoryview, urgent: bool
    ) -> tuple[Segment, int, bytes]:
        """Write a record; return its segment, and offset and checksums of its payload."""
        self._check()
        encoded = encode_body(body)
        checksums = payload_checksums(payload)
        segment = self._segment_for(len(encoded) + len(checksums) + len(payload), urgent)
        offset = self._write(segment, encoded, checksums, payload)
        return segment, offset, checksums

    def _write(
        self, segment: Segment, body: bytes, checksums: bytes, payload: bytes | memoryview
    ) -> int:
        serial = Serial(self._serial + 1)
        header = segment.number, serial, self._synced
        head = encode_head(header, segment.end, body, checksums, len(payload))
        offset = segment.write(head, payload)
        self._serial = serial
        self._ends[segment.number] = segment.end
        self.used_bytes += segment.end - offset
        self._unflushed[segment.number] = segment
        self._env.crash_point("journal.appended")
        return offset + len(head)

    def _segment_for(self, length: int, urgent: bool) -> Segment:
        """Return a segment that takes a record of about `length` bytes."""
        length += HEADER_BYTES
        current = self._current
        if current is not None and current.end + length <= current.size_bytes:
            return current
        made = self._files.make(self._next_number, length + HEADER_BYTES + KIB, urgent=urgent)
        self._leave_current()
        self._current, self._names_changed = made, True
        self._next_number += 1
        self._begins[made.number] = Serial(self._serial + 1)
        self._write(made, encode_body(Opened(self._boot_id)), b"", b"")
        self._files.keep_spare()
        self._env.crash_point("journal.segment-made")
        return made

    def _leave_current(self) -> None:
        """Append no more to the segment in use, and give back the room behind its end."""
        if self._current is not None:
            self._current.give_back()
            self._unflushed.setdefault(self._current.number, self._current)  # which closes it
            self._current = None
            self._segment_full.set()

    async def _write_state(self, floor: int) -> None:
        """Note durably that segments from `floor` on count, and all up to now is on disk."""
        begin = min(
            (serial for number, serial in self._begins.items() if number >= floor),
            default=Serial(self._serial + 1),
        )
        state = JournalState(floor=floor, begin=begin, synced=self._synced)
        await trio.to_thread.run_sync(self._files.write_state, state)

    async def _flush(self) -> None:
        self._flight = landed = trio.Event()
        target, names = self._serial, self._files if self._names_changed else None
        segments, self._unflushed, self._names_changed = self._unflushed, {}, False
        try:
            await trio.to_thread.run_sync(flush, list(segments.values()), names)
            self._synced = target
            self._env.crash_point("journal.synced")
        except OSError as error:
            self._failure = disk_fault("cannot bring the journal to disk", error)
            log.error("%s: nothing more is accepted", self._failure)
        finally:
            self._settle(segments, target)
            self._flight = None
            landed.set()

    def _settle(self, segments: dict[int, Segment], target: Serial) -> None:
        """After a flush that was perhaps called off: close what is done, keep what is not."""
        for number, segment in segments.items():
            if self._synced < target:
                self._unflushed.setdefault(number, segment)
            elif segment is not self._current and number not in self._unflushed:
                segment.close()
        self._names_changed |= self._synced < target

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _remove_unpinned(self) -> None:
        keep_from = min(self._pins, default=self._next_number)
        while self._removable and self._removable[0] < keep_from:
            self._files.remove(self._removable.pop(0))
            self._env.crash_point("journal.removed")
