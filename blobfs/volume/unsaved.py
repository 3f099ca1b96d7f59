"""Hold everything that programs did and that is not saved yet: rows in memory over a journal.

The only writer of the journal; questions are answered in `unsaved_reading`. What a method changes
is in the page cache when it returns, so it survives a killed daemon (P1); `sync` makes it survive a
power cut (P2).

Concurrency: changes do not await, so what was planned from rows that were just read can be applied
as it is. Whoever takes in bytes awaits `wait_for_room` first, and plans after it.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
from msgspec.structs import replace

from blobfs.env import Env
from blobfs.errors import BlobfsError, LocalFault
from blobfs.model.changes import (
    Change,
    Covered,
    Intent,
    LocalInode,
    Outcome,
    Uploaded,
)
from blobfs.model.rebase import Rebased
from blobfs.types import MIB, InodeNo, PackName, Seq, Serial
from blobfs.volume.holdings import Holdings
from blobfs.volume.journal import CLOSE_S, PAYLOAD_BYTES, SEGMENT_BYTES, Journal, open_journal
from blobfs.volume.journal_records import (
    Cleaned,
    IntentNoted,
    OutcomeNoted,
    PackUploaded,
    Renumbered,
    Wrote,
)
from blobfs.volume.journal_segments import MOST_SPARES
from blobfs.volume.known_settings import KnownSettings
from blobfs.volume.room import Gate, Room, disk_of, no_room
from blobfs.volume.unsaved_cleaning import Cleaner
from blobfs.volume.unsaved_reading import UnsavedReading
from blobfs.volume.unsaved_state import Saved, UnsavedState
from blobfs.volume.unsaved_statistics import UnsavedStatistics, statistics_of

PATIENCE_S = 60.0
"""How long a writer waits for room while no pack is uploaded and no room made."""

PLENTY_BYTES = 64 * MIB
UNASKED_BYTES = MIB
"""While there is plenty of room, so much is taken in between two looks at the disk: a look costs
a fifth of what a small write does."""

_LEAST_SEGMENT_BYTES = 2 * MIB

log = logging.getLogger(__name__)


class Moving(BlobfsError):
    """Unsaved rows are being moved over what others committed, which takes some milliseconds.

    Nothing was changed. Whoever can wait does, plans anew, and tries again.
    """

    transient = True

    def __init__(self, over: trio.Event) -> None:
        super().__init__("what is unsaved is being moved over what others committed")
        self._over = over

    async def wait(self) -> None:
        """Return when it is over."""
        await self._over.wait()


@asynccontextmanager
async def open_unsaved(
    folder: Path,
    env: Env,
    saved: Saved,
    *,
    limit_bytes: int | None = None,
    patience_s: float = PATIENCE_S,
    settings: KnownSettings | None = None,
) -> AsyncIterator["Unsaved"]:
    """Open what is unsaved in `folder`, which this process holds, as the last daemon left it.

    `limit_bytes` bounds what the journal takes; None is whatever leaves 5 % of the disk free.
    `settings` are those of the volume, whose quota is heeded; None: it has none.
    In the end everything is on disk.

    Raises:
        Damaged: the journal makes no sense.
        LocalFault: the disk refused.
        Unsupported: a newer version wrote the journal.
    """
    state = UnsavedState(saved)
    holdings = Holdings(state.rows, saved, settings or KnownSettings())
    room = Room(limit_bytes, partial(disk_of, folder))
    segment_bytes = _segment_bytes(limit_bytes)
    async with open_journal(
        folder,
        env,
        state.replay,
        segment_bytes=segment_bytes,
        kept_spares=_kept_spares(limit_bytes, segment_bytes),
    ) as journal:
        unsaved = Unsaved(journal, state, env, room, patience_s, holdings)
        unsaved.drop_orphans()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(unsaved.clean_when_due)
                yield unsaved
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(CLOSE_S, shield=True):
                await unsaved.forget_journal_if_clean()


def _segment_bytes(limit_bytes: int | None) -> int:
    if limit_bytes is None:
        return SEGMENT_BYTES
    return min(SEGMENT_BYTES, max(_LEAST_SEGMENT_BYTES, limit_bytes // 16))


def _kept_spares(limit_bytes: int | None, segment_bytes: int) -> int:
    """Return how many emptied files are kept: a quarter of what may be unsaved, at most."""
    if limit_bytes is None:
        return MOST_SPARES
    return min(MOST_SPARES, max(2, limit_bytes // (4 * segment_bytes)))


class Unsaved(UnsavedReading):
    """The unsaved rows. Made by `open_unsaved`."""

    def __init__(
        self,
        journal: Journal,
        state: UnsavedState,
        env: Env,
        room: Room,
        patience_s: float,
        holdings: Holdings,
    ) -> None:
        super().__init__(journal, state)
        self.holdings = holdings
        self._env = env
        self._room = room
        self._gate = Gate(lambda: self.room_bytes, patience_s, lambda: self._note_news(-1))
        self._cleaner = Cleaner(journal, state, env, self._gate.note_progress)
        self._news: trio.Event | None = None
        self._cleaning_due = trio.Event()
        self._newest_segment = 0
        self._unasked_bytes = 0
        """What can be taken in before anybody has to look how much room there is."""
        self._moved: trio.Event | None = None
        self._moving: Collection[InodeNo] = ()
        self._dropped: list[InodeNo] = []
        """Files without a name that go once rows may be changed again."""

    # Changes

    def apply(self, change: Change) -> Serial:
        """Change rows, all of them or none.

        A row that goes and that the tree never knew leaves nothing behind: a temporary file that
        dies young costs no upload.

        Raises:
            NoRoom: a name would be added, and there is no room for more; or a file would grow,
                and the volume exceed its quota.
            LocalFault: the disk refused.
            Moving: they are being moved; plan again when that is over.
        """
        self._require_still()
        self.holdings.require_quota(change.inodes)
        if any(change.dirents.values()) and self.room_bytes < 0:
            raise no_room("there are too many changes")
        body = self._state.changed(change, self._next_serial, self._env.now_ns())
        at = self._journal.append(body)
        self._state.change(body, at.serial, at.segment)
        self._note_news(at.segment)
        return at.serial

    async def wait_for_room(self, length_bytes: int) -> None:
        """Return when `length_bytes` can be written. Plan the write after it, without awaiting.

        Saving makes room; a writer waits for as long as it does.

        Raises:
            NoRoom: none was made for some time, or nothing can be saved.
        """
        if length_bytes <= self._unasked_bytes:
            self._unasked_bytes -= length_bytes
            return
        if self.room_bytes < length_bytes:
            await self._gate.wait(length_bytes)
        self._unasked_bytes = UNASKED_BYTES if self.room_bytes >= PLENTY_BYTES else 0

    def write(
        self, inode: InodeNo, row: LocalInode, offset: int, data: bytes | memoryview
    ) -> Serial:
        """Write `data` at `offset`; `row` is the inode's row after it, size and times included.

        Raises:
            NoRoom: the disk is full, or the volume would exceed its quota; nothing was written.
            LocalFault: the disk refused.
            Moving: as `apply`.
        """
        self._require_still()
        self.holdings.require_quota({inode: row})
        while len(data) > PAYLOAD_BYTES:
            stop = offset + PAYLOAD_BYTES
            # Its end is not there yet: a size that says so would show zeros after a power cut.
            # What is committed shows in any case, also where no unsaved row says so.
            size_bytes = max(self._size_of(inode), row.base_limit_bytes, stop)
            shorter = replace(row, size_bytes=size_bytes)
            self._write(inode, shorter, offset, memoryview(data)[:PAYLOAD_BYTES])
            data, offset = memoryview(data)[PAYLOAD_BYTES:], stop
        if data:
            self._write(inode, row, offset, data)
        return self._journal.serial

    async def sync(self) -> None:
        """Return when everything done so far survives a power cut.

        Raises:
            LocalFault: the disk refused, now or before.
        """
        await self._journal.sync()

    def drop_orphans(self) -> None:
        """Remove files without a name: nobody has them open any more."""
        orphans = [
            inode
            for inode, state in self._rows.inodes.items()
            if isinstance(state.value, LocalInode) and not state.value.nlink
        ]
        if orphans:
            self.apply(Change(inodes=dict.fromkeys(orphans)))

    async def renumber(self, numbers: Mapping[InodeNo, InodeNo]) -> None:
        """Give inodes that no commit has yet other numbers, durably, and all of them at once.

        Nobody holds an old number, nothing has the new ones, and no commit is under way.

        Raises:
            NoRoom, LocalFault: the disk refused.
        """
        assert self.intent is None, "a commit may bring the old numbers"
        async with self._cleaner.held():  # which finds what it moves by number
            self._note(Renumbered(tuple(numbers.items())))
        await self._journal.sync()

    # What others commit

    @contextlib.asynccontextmanager
    async def held(self, moving: Collection[InodeNo] = ()) -> AsyncIterator[None]:
        """Let nobody change rows while we are inside, nor look at the files that are `moving`: who
        tries is told to wait, by `Moving`."""
        assert self._moved is None, "one moves them at a time"
        async with self._cleaner.held():  # which finds what it moves by number
            self._moved, self._moving = trio.Event(), moving
            try:
                yield
            finally:
                moved, self._moved, self._moving = self._moved, None, ()
                moved.set()
                self._drop_dropped()

    async def rebase(self, seq: Seq, rebased: Rebased) -> None:
        """Let rows be what they are over the tree at `seq`, durably; inside of `held`.

        Raises:
            NoRoom, LocalFault: the disk refused.
        """
        body = self._state.rebased(seq, rebased, self._next_serial, self._env.now_ns())
        at = self._journal.append(body, urgent=True)
        self._state.rebase(body, at.serial, at.segment)
        self._dropped = [rebased.numbers.get(inode, inode) for inode in self._dropped]
        self._note_news(at.segment)
        await self._journal.sync()

    @property
    def rebased_to(self) -> Seq:
        """The last seq that rows were rebased on, as far as the journal still says so."""
        return self._state.rebased_to

    def drop(self, inode: InodeNo) -> None:
        """Let go of a file without a name, now or as soon as rows may be changed."""
        if self._moved is not None:
            self._dropped.append(inode)
            return
        self.apply(Change(inodes={inode: None}))

    def require_still(self, inode: InodeNo) -> None:
        """Make sure that a file can be looked at.

        Raises:
            Moving: its content is becoming another, or its number.
        """
        if self._moved is not None and inode in self._moving:
            raise Moving(self._moved)

    def covers(self, inode: InodeNo) -> bool:
        """Return whether the tree alone does not say what an inode is."""
        return inode in self._rows.inodes or inode in self._moving

    def _drop_dropped(self) -> None:
        dropped, self._dropped = self._dropped, []
        if dropped:
            self.apply(Change(inodes=dict.fromkeys(dropped)))

    def _require_still(self) -> None:
        if self._moved is not None:
            raise Moving(self._moved)

    # Saving

    async def wait_change(self, since: Serial) -> None:
        """Return when something changed after `since`, or when a writer waits for room."""
        if self._journal.serial > since:
            return
        if self._news is None:
            self._news = trio.Event()
        await self._news.wait()

    @property
    def wants_room(self) -> bool:
        """Whether a writer waits: save now what could wait otherwise."""
        return bool(self._gate.waiting)

    @property
    def room_bytes(self) -> int:
        """How much more can be taken in; negative when it is too much already."""
        return self._room.left_bytes(self._journal.used_bytes, self._journal.ready_bytes)

    def set_saving(self, stopped: str | None) -> None:
        """Say why nothing can be saved, so that writers need not wait for room; None: it can."""
        self._gate.set_saving(stopped)

    def note_uploaded(self, pack: Uploaded) -> None:
        """Remember a pack whose upload was answered, so that a kill repeats none."""
        self._note(PackUploaded(pack))
        self._gate.note_progress()

    async def note_intent(self, intent: Intent) -> None:
        """Remember a commit durably, before any byte of it leaves this machine (L2).

        Raises:
            NoRoom, LocalFault: the disk refused; the commit must not be tried.
        """
        self._note(IntentNoted(intent))
        await self._journal.sync()

    def note_outcome(self, seq: Seq, outcome: Outcome, packs: Collection[PackName] = ()) -> None:
        """Forget the intent for `seq`; `packs` are named by a commit now, or not wanted."""
        self._note(OutcomeNoted(seq, outcome, tuple(packs)))

    def forget_uploaded(self, packs: Collection[PackName]) -> None:
        """Forget uploaded packs that no commit will name."""
        self._note(OutcomeNoted(Seq(0), "void", tuple(packs)))

    async def clean(self, covered: Covered) -> None:
        """Forget rows that are committed and replayed; keep what changed since, over them.

        Returns when the room that they took is free.

        Raises:
            LocalFault: the disk refused.
        """
        self._forget(covered)
        await self._cleaner.clean()

    async def clean_landed(self, intent: Intent, packs: Collection[PackName]) -> None:
        """Forget the rows that `intent` brought, and then it: its entry, which names `packs`, is
        replayed. Killed between the two, the next run does both again.

        Raises: as `clean`.
        """
        self._forget(intent.covered)
        self.note_outcome(intent.seq, "landed", packs)
        await self._cleaner.clean()

    async def clean_when_due(self) -> None:
        """Remove segments whenever that is worth it, for ever; also those of files that died."""
        while True:
            await self._cleaning_due.wait()
            self._cleaning_due = trio.Event()
            try:
                await self._cleaner.clean(pressed=self.wants_room)
            except LocalFault as error:
                log.warning("cannot clean the journal: %s", error)

    async def forget_journal_if_clean(self) -> None:
        """Give all room back if nothing is unsaved. Nothing may be changed any more."""
        if self._state:
            return
        try:
            await self._journal.forget_all()
        except LocalFault as error:
            log.warning("cannot remove the journal: %s", error)

    def statistics(self) -> UnsavedStatistics:
        """Return what `status` says of unsaved data."""
        return statistics_of(self._rows, self.room_bytes, self._damages.current())

    @property
    def _next_serial(self) -> Serial:
        """The first serial that the next change can have; a new segment takes one, too."""
        return Serial(self._journal.serial + 1)

    def _write(
        self, inode: InodeNo, row: LocalInode, offset: int, data: bytes | memoryview
    ) -> None:
        state = self._rows.next_inode(inode, row, self._next_serial, self._env.now_ns())
        body = Wrote(inode, offset, state)
        written = self._journal.append_bytes(body, data)
        self._state.write(body, written)
        self._note_news(written.segment)

    def _forget(self, covered: Covered) -> None:
        self._note(Cleaned(self._env.now_ns(), covered))
        self._env.crash_point("unsaved.cleaned")

    def _note(self, body: PackUploaded | IntentNoted | OutcomeNoted | Cleaned | Renumbered) -> None:
        at = self._journal.append(body, urgent=True)
        self._state.note(body, at.segment)

    def _note_news(self, segment: int) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None
        if segment != self._newest_segment:
            self._newest_segment = segment
            self._cleaning_due.set()
