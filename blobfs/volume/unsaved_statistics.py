"""Count what is unsaved, for `status` and for what the daemon decides by.

Concurrency: nothing here awaits.
"""

from dataclasses import dataclass

from blobfs.volume.journal_recovery import Damage
from blobfs.volume.unsaved_rows import Rows


@dataclass(frozen=True, slots=True)
class UnsavedStatistics:
    """What is unsaved at one moment."""

    files: int
    """Inodes that differ from what is saved."""
    names: int
    """Dirents that differ."""
    bytes: int
    oldest_ns: int | None
    """Since when the oldest of it is unsaved, on the wall clock."""
    room_bytes: int
    damages: tuple[Damage, ...]


def statistics_of(rows: Rows, room_bytes: int, damages: tuple[Damage, ...]) -> UnsavedStatistics:
    """Count all rows and spans: about 20 ms for 100,000 files."""
    since = [state.since_ns for state in rows.inodes.values()]
    since += [state.since_ns for state in rows.dirents.values()]
    return UnsavedStatistics(
        files=len(rows.inodes),
        names=len(rows.dirents),
        bytes=sum(spans.unsaved_bytes for spans in rows.spans.values()),
        oldest_ns=min(since, default=None),
        room_bytes=room_bytes,
        damages=damages,
    )
