"""Empty the journal's oldest segment and remove it, so that what is saved gives its room back.

What still counts in it is appended anew. Oldest first: a record that cancels another is never
removed before it. A segment is worth emptying when little in it counts, or when most of
the journal does not; so each byte freed costs about one byte copied at most.

Concurrency: one run at a time. Programs change rows between its steps: each step
copies what counts at that moment, and nothing awaits between looking and appending.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import trio

from blobfs.env import Env
from blobfs.errors import Damaged
from blobfs.model.spans import Piece
from blobfs.types import InodeNo
from blobfs.volume.journal import Journal
from blobfs.volume.journal_records import (
    IntentNoted,
    LostBytes,
    MovedBytes,
    MovedRows,
    PackUploaded,
)
from blobfs.volume.unsaved_state import UnsavedState

ROWS_AT_ONCE = 500
"""Rows to a record: about a millisecond in which nothing else happens."""

CHEAP = 4
"""A segment of which no more than one part in so many counts is emptied at once."""

SLACK_SEGMENTS = 4
"""So many may be there beyond twice of what counts."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Cleaner:
    """Removes segments of one journal; calls `freed` after each."""

    def __init__(
        self, journal: Journal, state: UnsavedState, env: Env, freed: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._state = state
        self._env = env
        self._freed = freed
        self._running = trio.Lock()

    def held(self) -> AbstractAsyncContextManager[None]:
        """Return what keeps all segments where they are while one is inside of it."""
        return self._running

    async def clean(self, *, pressed: bool = False) -> None:
        """Remove segments while that is worth it; when `pressed`, while it brings any room.

        Raises:
            LocalFault: the disk refused, or is too full to copy what counts.
        """
        async with self._running:
            while (number := self._journal.oldest) is not None and self._is_worth(number, pressed):
                await self._empty(number)
                await self._journal.remove_oldest()
                self._state.rows.live_bytes.pop(number, None)
                self._freed()

    def _is_worth(self, number: int, pressed: bool) -> bool:
        segment_bytes, live = self._journal.segment_bytes, self._state.rows.live_bytes
        if live[number] * CHEAP <= segment_bytes:
            return True
        spare_bytes = self._journal.used_bytes - sum(live.values())
        if pressed:
            return spare_bytes >= 2 * segment_bytes
        return spare_bytes >= sum(live.values()) + SLACK_SEGMENTS * segment_bytes

    async def _empty(self, number: int) -> None:
        """Append anew what counts in a segment."""
        self._move_commit(number)
        rows = self._state.rows
        inodes = [(key, row) for key, row in rows.inodes.items() if row.segment == number]
        dirents = [(key, row) for key, row in rows.dirents.items() if row.segment == number]
        # Rows that change while others move go to a newer segment by themselves: look again.
        for some in _batches(inodes):
            still = [(key, row) for key, row in some if rows.inodes.get(key) is row]
            self._note(MovedRows(tuple(still), ()))
            await trio.lowlevel.checkpoint()
        for names in _batches(dirents):
            there = [(key, row) for key, row in names if rows.dirents.get(key) is row]
            self._note(MovedRows((), tuple(there)))
            await trio.lowlevel.checkpoint()
        for inode, piece in list(rows.in_segment(number)):
            await self._move_piece(inode, piece)
            await trio.lowlevel.checkpoint()
        self._env.crash_point("cleaning.emptied")

    def _move_commit(self, number: int) -> None:
        intent = self._state.intent
        if intent is not None and intent.segment == number:
            self._note(IntentNoted(intent.intent))
        for noted in list(self._state.packs.values()):
            if noted.segment == number:
                self._note(PackUploaded(noted.pack))

    async def _move_piece(self, inode: InodeNo, piece: Piece) -> None:
        try:
            data = await self._journal.read(piece)
        except Damaged as error:
            log.error("%s", error)
            data = None
        for still in self._state.rows.spans_of(inode).inside(piece.start, piece.stop):
            if still.written is not piece.written:
                continue  # overwritten while we read
            serial = piece.written.serial
            if data is None:
                self._note(LostBytes(inode, still.start, still.length_bytes, serial))
                continue
            part = memoryview(data)[still.start - piece.start : still.stop - piece.start]
            body = MovedBytes(inode, still.start, serial)
            self._state.rows.write(inode, self._journal.append_bytes(body, part, urgent=True))
        self._env.crash_point("cleaning.moved")

    def _note(self, body: MovedRows | LostBytes | PackUploaded | IntentNoted) -> None:
        appended = self._journal.append(body, urgent=True)
        self._state.note(body, appended.segment)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), ROWS_AT_ONCE):
        yield items[start : start + ROWS_AT_ONCE]
