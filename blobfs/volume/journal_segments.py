"""Keep the files that the journal consists of: make, write, read, flush and remove them.

A segment is a file named by its number; numbers only grow. Its room is taken on the disk when it is
made, so that a full disk shows there and not in the middle of a record. A removed segment's file
becomes a later one, since writing over pages that exist costs half of what fresh ones cost, and
flushing them needs no change of the file system's own tables.

`state` beside them says what a scan cannot: the lowest number that counts, so that a removal which
a power cut undoes stays a removal, and the last serial known to be on disk.

Concurrency: blocking calls. One thread makes, writes and removes; any thread reads and flushes.
"""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from blobfs.errors import Damaged, LocalFault, NoRoom, Unsupported
from blobfs.types import MIB, Serial

FORMAT = 1
PART_BYTES = 2 * MIB
"""A segment with no more than this behind its last record counts as full."""
MOST_SPARES = 16
"""Emptied files kept to be written over, so that a large file is written over pages that exist.
One is always kept back for `urgent` segments."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)


class JournalState(msgspec.Struct, frozen=True):
    """What `state` says."""

    format: int = FORMAT
    floor: int = 0
    """Segments below it are gone, even if a file is there."""
    begin: Serial = Serial(1)
    """What the first record of segment `floor` carries, or will."""
    synced: Serial = Serial(0)


class Segment:
    """One file that takes records."""

    def __init__(self, number: int, descriptor: int, size_bytes: int) -> None:
        self.number = number
        self.descriptor = descriptor
        self.size_bytes = size_bytes
        self.end = 0
        """Where the next record goes."""

    def write(self, head: bytes, payload: bytes | memoryview) -> int:
        """Write a record behind the last one; return where it begins.

        Until it returns nothing has happened: the next record goes to the same place.

        Raises:
            NoRoom: the disk is full.
            LocalFault: the disk refused.
        """
        parts = [head, payload] if payload else [head]
        length = len(head) + len(payload)
        try:
            written = os.pwritev(self.descriptor, parts, self.end)
        except OSError as error:
            raise disk_fault("cannot write to the journal", error) from error
        if written < length:
            raise disk_fault("cannot write to the journal", OSError(errno.ENOSPC, "short write"))
        begin, self.end = self.end, self.end + length
        return begin

    def flush(self) -> None:
        os.fdatasync(self.descriptor)

    def give_back(self) -> None:
        """Take no more records, and leave the room behind the last one to others."""
        if self.size_bytes - self.end > PART_BYTES:
            os.ftruncate(self.descriptor, self.end)

    def close(self) -> None:
        os.close(self.descriptor)


class SegmentFiles:
    """The folder of segments."""

    def __init__(self, folder: Path, segment_bytes: int, kept_spares: int = MOST_SPARES) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self._kept_spares = kept_spares
        self.spares = sorted(folder.glob("spare-*"))

    def path(self, number: int) -> Path:
        return self.folder / f"{number:010d}"

    def numbers(self) -> list[int]:
        """Return the numbers of all segments that are there, lowest first."""
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def make(self, number: int, at_least_bytes: int, *, urgent: bool) -> Segment:
        """Return a new segment for a first record of `at_least_bytes`.

        One that is `urgent` may take the last spare.

        Raises:
            NoRoom: the disk is full.
            LocalFault: the disk refused.
        """
        try:
            if len(self.spares) > (0 if urgent else 1):
                self.spares.pop().rename(self.path(number))
            return self._open_as_large_as_fits(number, at_least_bytes)
        except OSError as error:
            raise disk_fault("cannot add to the journal", error) from error

    def keep_spare(self) -> None:
        """Have one file ready for `urgent` segments, unless the disk is full already."""
        if self.spares:
            return
        path = self.folder / f"spare-{self.segment_bytes}"
        with contextlib.suppress(OSError):
            self._open(path, 0, self.segment_bytes).close()
            self.spares.append(path)

    def remove(self, number: int) -> None:
        """Remove a segment, or make a spare of it."""
        path = self.path(number)
        if len(self.spares) >= self._kept_spares or path.stat().st_size != self.segment_bytes:
            path.unlink()
            return
        spare = self.folder / f"spare-{number}"
        self.spares.append(path.rename(spare))

    def remove_spares(self) -> None:
        """Keep no files to be written over."""
        while self.spares:
            self.spares.pop().unlink()

    def flush_names(self) -> None:
        """Make names durable: new segments, removals."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read_state(self) -> JournalState | None:
        """Return what `state` says; None if there is none.

        Raises:
            Damaged: it cannot be read.
            Unsupported: a newer version wrote it.
        """
        path = self.folder / "state"
        try:
            state = msgspec.json.decode(path.read_bytes(), type=JournalState)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise Damaged(
                f"cannot read the journal's state: {error}. path={str(path)!r}"
            ) from error
        if state.format > FORMAT:
            raise Unsupported(
                f"a newer blobfs wrote the journal. path={str(path)!r} format={state.format}",
                hint="mount with that version, or let it save everything first",
            )
        return state

    def write_state(self, state: JournalState) -> None:
        """Replace `state`, durably.

        Raises:
            NoRoom: the disk is full.
            LocalFault: the disk refused.
        """
        try:
            self._replace_state(msgspec.json.encode(state))
        except OSError as error:
            if error.errno not in _FULL or not self.spares:
                raise disk_fault("cannot write the journal's state", error) from error
            # Removing segments is what helps a full disk, and it begins here: make room for it.
            self.spares.pop().unlink()
            self.write_state(state)

    def _replace_state(self, data: bytes) -> None:
        made = self.folder / "state.new"
        with made.open("wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
        made.replace(self.folder / "state")
        self.flush_names()

    def flush(self, number: int) -> None:
        """Bring one segment to disk that is not open.

        Raises:
            OSError: the disk refused.
        """
        descriptor = os.open(self.path(number), os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _open_as_large_as_fits(self, number: int, at_least_bytes: int) -> Segment:
        """Open a new segment; on a disk that is nearly full a smaller one than usual."""
        size_bytes = max(self.segment_bytes, at_least_bytes)
        while True:
            try:
                return self._open(self.path(number), number, size_bytes)
            except OSError as error:
                if error.errno not in _FULL or size_bytes == at_least_bytes:
                    raise
                size_bytes = max(at_least_bytes, size_bytes // 2)

    def _open(self, path: Path, number: int, size_bytes: int) -> Segment:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < size_bytes:
                os.posix_fallocate(descriptor, 0, size_bytes)
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        return Segment(number, descriptor, size_bytes)


def read_at(path: Path, offset: int, length: int) -> bytes:
    """Return the bytes there, fewer at the end of the file.

    Raises:
        OSError: the disk refused.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)


def read_if_cached(path: Path, offset: int, length: int) -> memoryview | None:
    """Return the bytes there if that needs no wait for the disk, else None."""
    if not _NO_WAIT:
        return None
    buffer = memoryview(bytearray(length))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            received = os.preadv(descriptor, [buffer], offset, _NO_WAIT)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return buffer if received == length else None


def flush(segments: Sequence[Segment], names: SegmentFiles | None) -> None:
    """Bring segments to disk, and their names if `names` is given.

    Raises:
        OSError: the disk refused; what it holds of them is unknown.
    """
    for segment in segments:
        segment.flush()
    if names is not None:
        names.flush_names()


def disk_fault(what: str, error: OSError) -> LocalFault:
    """Return what to tell of a disk that refused."""
    if error.errno in _FULL:
        return NoRoom(f"{what}: the disk is full")
    return LocalFault(f"{what}: {error.strerror}", hint="look at the disk of the state folder")
