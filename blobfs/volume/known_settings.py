"""Know the settings of a volume as they were at the last look at `head`, and heed its quota.

Anybody may change them at any time. Who reads `head` notes them here: at mount, with every commit,
within the hour, and soon after a program was refused something because of them.

Concurrency: nothing here waits but `wait_refused` and `wait_changed`; any number of tasks.
"""

import logging

import trio

from blobfs.errors import NoRoom
from blobfs.formats.head import Head, VolumeSettings

log = logging.getLogger("blobfs.settings")


class KnownSettings:
    """What this mount knows of the settings of its volume. At first, that nothing is set."""

    def __init__(self) -> None:
        self._now = VolumeSettings()
        self._refused = trio.Event()
        self._changed = trio.Event()
        self._warned_of: int | None = None

    @property
    def now(self) -> VolumeSettings:
        return self._now

    def note(self, head: Head) -> None:
        """Heed the settings of `head`, which was just read, from now on."""
        if head.settings != self._now:
            log.info("the settings of the volume are %s", head.settings)
            self._changed.set()
            self._changed = trio.Event()
        self._now = head.settings
        self._refused = trio.Event()

    def require_quota(self, held_bytes: int, growth_bytes: int) -> None:
        """Refuse a change that would let the volume exceed its quota.

        `held_bytes` is what the volume comes to once everything is saved, without the change;
        `growth_bytes` what the change adds to it. What adds nothing is never refused, so that
        names can be changed, and files made smaller, in a volume that is too large already.

        Raises:
            NoRoom: it would. ENOSPC, not EDQUOT, since the quota is no user's but the volume's
                own size, which `df` shows: so do directory trees with a quota on XFS, and
                programs as SQLite know by ENOSPC alone that a disk is full.
        """
        limit_bytes = self._now.quota_bytes
        if limit_bytes is None or growth_bytes <= 0 or held_bytes + growth_bytes <= limit_bytes:
            return
        self._refused.set()
        if self._warned_of != limit_bytes:
            log.warning("the quota is used up. quota=%d used=%d", limit_bytes, held_bytes)
            self._warned_of = limit_bytes
        raise NoRoom(
            f"the quota of the volume is used up. quota={limit_bytes} used={held_bytes} "
            f"wanted={growth_bytes}",
            hint="remove something, or raise it with `blobfs settings --quota`",
        )

    async def wait_changed(self) -> None:
        """Return when others are known than at this moment."""
        await self._changed.wait()

    async def wait_refused(self) -> None:
        """Return when a change was refused since the last look at `head`."""
        await self._refused.wait()
