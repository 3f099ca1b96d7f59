"""Find out whether a mount can save to its bucket, and make that a volume before the first save.

Concurrency: one task at a time makes it; others that are about to send something wait for it.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import trio

from blobfs.errors import OutcomeUnknown, ReadOnly, StoreFull, Unreachable
from blobfs.sync.binding import Bucket, create_planned, why_read_only
from blobfs.volume.client import Identity
from blobfs.volume.presence import Volume

log = logging.getLogger("blobfs.engine")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What whoever mounts said of writing."""

    state_dir: Path
    read_write: bool
    """Refuse the mount where nothing can be written."""
    single_writer: bool


class WriteAccess:
    """The way from a mount to its bucket. `exists`: that holds the volume already."""

    def __init__(
        self, bucket: Bucket, volume: Volume, identity: Identity, wishes: Wishes, *, exists: bool
    ) -> None:
        self._bucket = bucket
        self._volume = volume
        self._identity = identity
        self._wishes = wishes
        self.is_ready = exists
        """Whether it is a volume, and nothing is known that speaks against writing to it."""
        self._making = trio.Lock()
        self._made = trio.Event()
        if exists:
            self._made.set()

    async def why_none(self) -> str | None:
        """Return why nothing can be written to an existing volume; None: it can.

        A store that takes nothing now can be read: the first save finds out.

        Raises:
            ReadOnly: writing was asked for.
            Unreachable, OutcomeUnknown, StoreFull: likewise, and the store did not say.
        """
        try:
            reason = await why_read_only(
                self._bucket.store,
                self._volume,
                self._identity.client,
                single_writer=self._wishes.single_writer,
            )
        except (Unreachable, OutcomeUnknown, StoreFull) as error:
            if self._wishes.read_write:
                raise
            log.warning("whether anything can be saved is not known yet: %s", error)
            self.is_ready = False
            return None
        if reason is not None and self._wishes.read_write:
            raise ReadOnly(
                f"the bucket cannot be written to: {reason}", hint="leave away --read-write"
            )
        return reason

    async def wait_made(self) -> None:
        """Return when the bucket is a volume."""
        await self._made.wait()

    async def prepare(self) -> None:
        """Make the bucket a volume that can be written to, if it is not known to be one.

        Raises:
            BlobfsError: as `binding.create_planned`.
        """
        if self.is_ready:
            return
        async with self._making:
            if not self.is_ready:
                await self._make()
                self.is_ready = True
                self._made.set()

    async def _make(self) -> None:
        await create_planned(
            self._bucket,
            self._volume,
            self._wishes.state_dir,
            self._identity.client,
            single_writer=self._wishes.single_writer,
        )
