"""Open the volume of a mount, let it be saved to, and say how that goes.

    look at the bucket -> journal and tree of this client -> finish what an earlier run began,
    catch up with the log; where the folder is a copy, as another client (L6)
    -> serve, saving behind programs' backs

Unsaved changes of an earlier run are shown and saved by every later one, a read-only mount as well:
its programs may change nothing, but what was acknowledged is kept (P1).

Concurrency: one nursery, for the tasks that save (`sync.saving`).
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from blobfs.cache.reading import Reading
from blobfs.env import Env
from blobfs.errors import ReadOnly
from blobfs.formats.head import VolumeSettings
from blobfs.model.nodes import NativeLook
from blobfs.model.settling import Settling
from blobfs.sync.access import Wishes, WriteAccess
from blobfs.sync.beginning import Contested
from blobfs.sync.binding import Bucket, find_volume
from blobfs.sync.checkpointer import CheckpointRules
from blobfs.sync.commit import Committer
from blobfs.sync.local_state import LocalState, open_local_state
from blobfs.sync.programs import Programs
from blobfs.sync.pull import Puller
from blobfs.sync.push import Pusher
from blobfs.sync.renewal import become_another_client
from blobfs.sync.saving import Saving, put_together
from blobfs.sync.settings_watch import watch_settings
from blobfs.sync.trash import Trash, TrashRules
from blobfs.sync.uploads import Uploads
from blobfs.types import Serial
from blobfs.volume.content import Contents
from blobfs.volume.known_settings import KnownSettings
from blobfs.volume.log import Log
from blobfs.volume.namespace_numbers import Numbers
from blobfs.volume.orphans import Orphans
from blobfs.volume.registration import Copied
from blobfs.volume.tree import Tree
from blobfs.volume.unsaved import Unsaved
from blobfs.volume.unsaved_statistics import UnsavedStatistics

log = logging.getLogger("blobfs.engine")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a mount writes."""

    state_dir: Path
    read_only: bool = False
    read_write: bool = False
    """Refuse to open where nothing can be written, and make the bucket a volume at once."""
    single_writer: bool = False
    unsaved_size_bytes: int | None = None
    settle_s: float = 0.5
    look: NativeLook | None = None
    """What other tools' objects look like here: whoever changed nothing of that has no say in it
    where another client did."""
    checkpoints: CheckpointRules = field(default_factory=CheckpointRules)
    trash: TrashRules = field(default_factory=TrashRules)


@dataclass(frozen=True, slots=True)
class SavingStatistics:
    """What `status` says of saving."""

    unsaved: UnsavedStatistics
    files: int
    """Inodes and names that no commit has yet."""
    is_safe: bool
    seq: int
    problem: str | None
    files_under_way: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Engine:
    """The volume of one mount. Made by `open_engine`."""

    tree: Tree
    unsaved: Unsaved
    orphans: Orphans
    contents: Contents
    numbers: Numbers
    settling: Settling
    is_read_only: bool
    """Whether programs may change nothing."""
    read_only_reason: str | None
    """Why, where nobody asked for it."""
    pusher: Pusher
    puller: Puller
    programs: Programs
    """For whoever serves this to them."""
    uploads: Uploads
    settings: KnownSettings
    volume_log: Log
    trash: Trash

    async def look_at_settings(self) -> VolumeSettings:
        """Return the settings that the volume has now, and heed them from now on.

        Raises:
            BlobfsError: they cannot be read.
        """
        return (await self.volume_log.head()).settings

    def begin_sync(self) -> Serial:
        """Begin to save all that is unsaved now, and to see what others saved.

        Return what to ask `is_synced` about.

        Raises:
            ReadOnly: nothing can be saved through this mount.
        """
        serial = self.hurry()
        self.puller.hurry(serial)
        return serial

    def is_synced(self, serial: Serial) -> bool:
        """Return whether all that a call of `begin_sync` began has ended."""
        return self.puller.has_looked(serial) and self.is_saved(serial)

    def hurry(self) -> Serial:
        """Begin to save all that is unsaved now; return what to ask `is_saved` about.

        Raises:
            ReadOnly: nothing can be saved through this mount.
        """
        if self.read_only_reason is not None:
            raise ReadOnly(f"nothing can be saved: {self.read_only_reason}")
        return self.pusher.hurry()

    def is_saved(self, serial: Serial) -> bool:
        """Return whether all that was unsaved at a call of `hurry` is committed."""
        return self.pusher.is_saved(serial)

    async def save(self) -> None:
        """Return when all that is unsaved now is committed.

        Raises:
            ReadOnly: nothing can be saved through this mount.
        """
        await self.pusher.wait_saved(self.hurry())

    def statistics(self) -> SavingStatistics:
        is_safe = self.pusher.is_clean
        statistics = self.unsaved.statistics()
        return SavingStatistics(
            unsaved=statistics,
            files=0 if is_safe else max(1, statistics.files),
            is_safe=is_safe,
            seq=self.tree.state.seq,
            problem=self.pusher.problem or self.read_only_reason,
            files_under_way=self.pusher.files_under_way,
            sent_bytes=self.uploads.sent_bytes,
        )


@asynccontextmanager
async def open_engine(
    bucket: Bucket, reading: Reading, options: EngineOptions, env: Env
) -> AsyncIterator[Engine]:
    """Open the volume that the bucket holds, or would become with the first write.

    The state folder is held by this process. In the end what is unsaved is on the local disk.

    Raises:
        ReadOnly: writing was asked for, and is not possible.
        Changed: the bucket holds another volume than the one whose changes are unsaved here.
        Damaged: parts of the volume are missing, or its log is broken.
        BlobfsError: store or disk failed us.
    """
    volume, exists = await find_volume(bucket.store, options.state_dir, env)
    async with open_local_state(
        options.state_dir,
        volume,
        reading.chunks.fetch,
        env,
        exists=exists,
        unsaved_size_bytes=options.unsaved_size_bytes,
    ) as local:
        wishes = Wishes(options.state_dir, options.read_write, options.single_writer)
        access = WriteAccess(bucket, volume, local.identity, wishes, exists=exists)
        together = partial(
            put_together,
            bucket,
            reading,
            env,
            local,
            access,
            settle_s=options.settle_s,
            look=options.look,
            checkpoints=options.checkpoints,
            trash_rules=options.trash,
        )
        saving = await _begin(together, local, env)
        reason = None
        if exists and (not options.read_only or local.has_unsaved):
            reason = await access.why_none()
        elif not exists and options.read_write:
            await access.prepare()
        engine = await _engine(options, env, local, saving, reason)
        async with trio.open_nursery() as nursery:
            look = partial(_look_at_head, saving, access)
            nursery.start_soon(watch_settings, local.settings, look)
            nursery.start_soon(local.tree.load_ahead)
            nursery.start_soon(_pull, saving, access)
            if reason is None:
                for task in (saving.pusher.run, saving.ahead.run, saving.checkpointer.run):
                    nursery.start_soon(task)
            if not engine.is_read_only:
                nursery.start_soon(saving.trash.run)
            yield engine
            nursery.cancel_scope.cancel()


async def _engine(
    options: EngineOptions, env: Env, local: LocalState, saving: Saving, reason: str | None
) -> Engine:
    return Engine(
        tree=local.tree,
        unsaved=local.unsaved,
        orphans=saving.orphans,
        contents=saving.contents,
        numbers=await saving.numbering.numbers(),
        settling=saving.settling,
        is_read_only=options.read_only or reason is not None,
        read_only_reason=reason,
        pusher=saving.pusher,
        puller=saving.puller,
        programs=saving.programs,
        uploads=saving.uploads,
        settings=local.settings,
        volume_log=saving.log,
        trash=saving.trash,
    )


async def _pull(saving: Saving, access: WriteAccess) -> None:
    """Show what others commit, from when there is a volume."""
    await access.wait_made()
    await saving.puller.run()


async def _look_at_head(saving: Saving, access: WriteAccess) -> None:
    """Read `head` of the volume, if there is one by now. Raises as `Log.head`."""
    if access.is_ready:
        await saving.log.head()


async def _begin(together: Callable[[], Saving], local: LocalState, env: Env) -> Saving:
    """Put together what saves, bring the tree up to the log, and end what an earlier run began.

    Raises:
        Damaged: the log is broken.
        BlobfsError: the store failed us.
    """
    saving = together()
    if local.volume.head is None:
        return saving  # nothing was ever written to it
    try:
        await _catch_up(saving.committer)
    except Copied as error:
        log.warning("from now on this is another client. (%s)", error)
        await become_another_client(local.identity, local.tree, local.unsaved, env)
        saving = together()  # nothing knows the old id any more
        await _catch_up(saving.committer)
    return saving


async def _catch_up(committer: Committer) -> None:
    """Replay what was committed since; what is contested stops saving, not the mount."""
    try:
        await committer.catch_up()
    except Contested as error:
        log.error("what is unsaved here was changed elsewhere: %s", error)
