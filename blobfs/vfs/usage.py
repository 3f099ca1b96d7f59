"""Say what `df` shows: what the bucket is known to hold, and what can still be taken in."""

from dataclasses import dataclass
from typing import Protocol

from blobfs.formats.commit import Counters
from blobfs.model.numbers import RANGE_NUMBERS
from blobfs.volume.native import NativeTree
from blobfs.volume.unsaved import Unsaved


class Counted(Protocol):
    """What is needed of the replayed tree."""

    def counters(self) -> Counters: ...


@dataclass(frozen=True, slots=True)
class Usage:
    """Together used and free are the size of the volume, where it has one."""

    used_bytes: int
    """By the sizes of files: of those of the volume, saved or not. Where no quota is set, of the
    native objects that are known, too."""
    free_bytes: int
    """What the quota leaves; where none is set, the room for unsaved data."""
    files: int
    free_files: int


class UsageMeter:
    """Adds up what each layer holds. It costs no request."""

    def __init__(
        self, native: NativeTree, tree: Counted, unsaved: Unsaved, *, read_only: bool
    ) -> None:
        self._native = native
        self._tree = tree
        self._unsaved = unsaved
        self._read_only = read_only

    def usage(self) -> Usage:
        """Return the present figures. A read-only mount has nothing free."""
        native, holdings = self._native.statistics(), self._unsaved.holdings
        used_bytes, free_bytes = holdings.held_bytes, holdings.left_bytes
        if free_bytes is None:
            used_bytes, free_bytes = used_bytes + native.size_bytes, self._unsaved.room_bytes
        files = self._tree.counters().inodes + len(self._unsaved.inode_states)
        return Usage(
            used_bytes=used_bytes,
            free_bytes=0 if self._read_only else max(0, free_bytes),
            files=native.entries + files,
            free_files=0 if self._read_only else RANGE_NUMBERS,
        )
