"""Say how much room there is for unsaved data.

Concurrency: nothing here awaits.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KEPT_FREE = 20
"""Without a limit, one part in so many of the disk stays free: 5 %."""


@dataclass(frozen=True, slots=True)
class Disk:
    """What the file system of a folder says of itself."""

    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Room:
    """`limit_bytes`, or whatever leaves 5 % of the disk free."""

    limit_bytes: int | None
    look: Callable[[], Disk]

    def left_bytes(self, used_bytes: int, ready_bytes: int) -> int:
        """Return how much more is taken in; negative when it is too much already.

        `used_bytes` is what is held, `ready_bytes` what the disk has set aside for more.
        """
        if self.limit_bytes is not None:
            return self.limit_bytes - used_bytes
        disk = self.look()
        return disk.free_bytes + ready_bytes - disk.total_bytes // KEPT_FREE


def disk_of(folder: Path) -> Disk:
    """Look at the disk that holds `folder`."""
    found = os.statvfs(folder)
    return Disk(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
