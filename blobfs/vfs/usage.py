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
    """Used is what native listings, the volume and unsaved data hold together, each in full."""

    used_bytes: int
    free_bytes: int
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
        native, saved = self._native.statistics(), self._tree.counters()
        unsaved = self._unsaved.statistics()
        return Usage(
            used_bytes=native.size_bytes + saved.content_bytes + unsaved.bytes,
            free_bytes=0 if self._read_only else max(0, unsaved.room_bytes),
            files=native.entries + saved.inodes + unsaved.files,
            free_files=0 if self._read_only else RANGE_NUMBERS,
        )
