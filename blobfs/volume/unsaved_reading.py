"""Answer what is unsaved: rows, and the bytes that lie over what was committed.

Concurrency: nothing here awaits but `read`. What is returned of rows follows changes: who awaits
over it takes a `snapshot`, or is `pinned`.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from blobfs.errors import Damaged
from blobfs.model.changes import (
    Covered,
    DirentKey,
    Gone,
    Intent,
    LocalDirent,
    LocalInode,
    Uploaded,
)
from blobfs.model.spans import Piece, SpanMap
from blobfs.types import InodeNo, Serial
from blobfs.volume.journal import Journal
from blobfs.volume.unsaved_damage import Damages
from blobfs.volume.unsaved_rows import DirentState, InodeState
from blobfs.volume.unsaved_state import UnsavedState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Some rows as they are at one moment, and their bytes, for a commit to take along."""

    covered: Covered
    inodes: Mapping[InodeNo, InodeState]
    dirents: Mapping[DirentKey, DirentState]
    spans: Mapping[InodeNo, SpanMap]


class UnsavedReading:
    """The questions to what `journal` holds, and `state` adds up to."""

    def __init__(self, journal: Journal, state: UnsavedState) -> None:
        self._journal = journal
        self._state = state
        self._rows = state.rows
        self._damages = Damages(journal.damages, state.rows)

    def inode(self, inode: InodeNo) -> LocalInode | Gone | None:
        """Return the unsaved row, GONE if it was removed, None if there is nothing unsaved."""
        state = self._rows.inodes.get(inode)
        return None if state is None else state.value

    def dirent(self, parent: InodeNo, name: bytes) -> LocalDirent | Gone | None:
        """Return the unsaved row, GONE if it was removed, None if there is nothing unsaved."""
        state = self._rows.dirents.get((parent, name))
        return None if state is None else state.value

    def dirents(self, parent: InodeNo) -> Mapping[bytes, LocalDirent | Gone]:
        """Return the unsaved dirents of a directory. It follows changes: do not await over it."""
        return self._rows.in_folder(parent)

    def spans(self, inode: InodeNo) -> SpanMap:
        """Return the unsaved bytes of a file. It follows changes: do not await over it."""
        return self._rows.spans_of(inode)

    @property
    def inode_states(self) -> Mapping[InodeNo, InodeState]:
        """All unsaved inode rows, with serials and times; follows changes."""
        return self._rows.inodes

    @property
    def dirent_states(self) -> Mapping[DirentKey, DirentState]:
        """All unsaved dirent rows, with serials and times; follows changes."""
        return self._rows.dirents

    def take_news(self) -> set[InodeNo]:
        """Return the inodes whose unsaved rows changed since the last call. One caller only."""
        news, self._rows.news = self._rows.news, set()
        return news

    @property
    def serial(self) -> Serial:
        """Of the last change."""
        return self._journal.serial

    async def read(self, piece: Piece) -> bytes | memoryview:
        """Return the bytes of a piece of `spans`, verified.

        Raises:
            Damaged: they cannot be read back.
        """
        try:
            return await self._journal.read(piece)
        except Damaged:
            self._damages.note(piece)
            raise

    def pinned(self) -> contextlib.AbstractContextManager[None]:
        """Keep all pieces of now readable while we are inside, whatever is saved meanwhile."""
        return self._journal.pinned()

    @contextlib.contextmanager
    def snapshot(
        self, inodes: Iterable[InodeNo], dirents: Iterable[DirentKey]
    ) -> Iterator[Snapshot]:
        """Return unsaved rows as they are now, for a commit.

        While we are inside their bytes stay readable, and a removal of one of them is
        remembered, since the commit may bring what was removed.
        """
        taken = {inode: self._rows.inodes[inode] for inode in inodes}
        names = {key: self._rows.dirents[key] for key in dirents}
        sizes = tuple((inode, _size(state.value)) for inode, state in taken.items())
        covered = Covered(self._journal.serial, sizes, tuple(names))
        spans = {inode: self._rows.spans_of(inode).copy() for inode in taken}
        with self._state.flying(covered), self._journal.pinned():
            yield Snapshot(covered, taken, names, spans)

    def read_now(self, pieces: Sequence[Piece]) -> list[bytes | memoryview]:
        """Return the bytes of pieces of a snapshot, verified: blocking, on a worker thread.

        Raises:
            Damaged: some of them cannot be read back.
        """
        return self._journal.read_now(pieces)

    @property
    def intent(self) -> Intent | None:
        """The commit whose outcome is not known yet."""
        return None if self._state.intent is None else self._state.intent.intent

    @property
    def uploaded(self) -> list[Uploaded]:
        """Packs that the store has and that no commit names yet."""
        return [noted.pack for noted in self._state.packs.values()]

    def _size_of(self, inode: InodeNo) -> int:
        state = self._rows.inodes.get(inode)
        return 0 if state is None else _size(state.value)


def _size(value: LocalInode | Gone) -> int:
    return value.size_bytes if isinstance(value, LocalInode) else 0
