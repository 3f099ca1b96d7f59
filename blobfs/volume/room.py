"""Say how much room there is for unsaved data, and let writers wait for more.

Concurrency: any number of tasks wait; whoever makes room wakes them all.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from blobfs.errors import NoRoom

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


class Gate:
    """Where writers wait while there is no room.

    They wait for as long as some is being made, and not a moment when none can be.
    """

    def __init__(
        self, left_bytes: Callable[[], int], patience_s: float, wanted: Callable[[], None]
    ) -> None:
        """Ask `left_bytes` for the room, and call `wanted` when somebody begins to wait."""
        self._left_bytes = left_bytes
        self._patience_s = patience_s
        self._wanted = wanted
        self._news = trio.Event()
        self._stopped: str | None = None
        self.waiting = 0

    async def wait(self, length_bytes: int) -> None:
        """Return when `length_bytes` can be written.

        Raises:
            NoRoom: no room was made for some time, or none can be.
        """
        self.waiting += 1
        try:
            self._wanted()
            await self._wait(length_bytes)
        finally:
            self.waiting -= 1

    def note_progress(self) -> None:
        """Wake who waits: there is more room, or will be, or there is nothing to wait for."""
        self._news.set()
        self._news = trio.Event()

    def set_saving(self, stopped: str | None) -> None:
        """Say why no room can be made; None: it can."""
        self._stopped = stopped
        self.note_progress()

    async def _wait(self, length_bytes: int) -> None:
        with trio.move_on_after(self._patience_s) as patience:
            while self._stopped is None:
                if self._left_bytes() >= length_bytes:
                    return
                patience.deadline = trio.current_time() + self._patience_s
                await self._news.wait()
        raise no_room(self._stopped or "saving makes none")


def no_room(why: str) -> NoRoom:
    """Return what to tell a program whose change is not taken in."""
    return NoRoom(
        f"no room is left for unsaved data: {why}",
        hint="wait until more is saved, or give more with --unsaved-size",
    )
