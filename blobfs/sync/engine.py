"""Open the volume of a mount, put together what saves to it, and say how it does.

    look at the bucket -> journal and tree of this client -> finish what an earlier run began,
    catch up with the log; where the folder is a copy, as another client (L6)
    -> serve, saving behind programs' backs

Unsaved changes of an earlier run are shown and saved by every later one, a read-only mount as well:
its programs may change nothing, but what was acknowledged is kept (P1).

Concurrency: one nursery with one task that saves.
"""

import logging
import platform
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from blobfs import __version__
from blobfs.cache.reading import Reading
from blobfs.env import Env
from blobfs.errors import ReadOnly
from blobfs.formats.head import VolumeSettings
from blobfs.model.numbers import range_by_chance
from blobfs.model.settling import Settling
from blobfs.stores.base import Store
from blobfs.sync.access import Wishes, WriteAccess
from blobfs.sync.ahead import Ahead
from blobfs.sync.beginning import Beginner, BelowUnsaved, Contested
from blobfs.sync.binding import JOURNAL, TREE, Bucket, find_volume, keep_plan
from blobfs.sync.checkpoint import CheckpointWriter
from blobfs.sync.checkpointer import Checkpointer, CheckpointRules
from blobfs.sync.commit import Committer
from blobfs.sync.pipeline import StagePlaces
from blobfs.sync.push import Pusher
from blobfs.sync.renewal import become_another_client, made_here
from blobfs.sync.settings_watch import watch_settings
from blobfs.sync.stage import Stager
from blobfs.sync.uploads import Uploads
from blobfs.types import Serial
from blobfs.volume.client import Identity, open_identity
from blobfs.volume.conflicts import Conflicts
from blobfs.volume.content import Contents
from blobfs.volume.known_settings import KnownSettings
from blobfs.volume.log import Log
from blobfs.volume.membership import Membership
from blobfs.volume.namespace_numbers import Numbers, last_used
from blobfs.volume.orphans import Orphans
from blobfs.volume.presence import Volume
from blobfs.volume.registration import Copied
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.tree_loading import FetchChunks
from blobfs.volume.unsaved import Unsaved, open_unsaved
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
    checkpoints: CheckpointRules = field(default_factory=CheckpointRules)


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
    uploads: Uploads
    settings: KnownSettings
    volume_log: Log

    async def look_at_settings(self) -> VolumeSettings:
        """Return the settings that the volume has now, and heed them from now on.

        Raises:
            BlobfsError: they cannot be read.
        """
        return (await self.volume_log.head()).settings

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
    async with AsyncExitStack() as stack:
        fetch = reading.chunks.fetch
        kept = await _open_kept(stack, volume, options, env, fetch, exists=exists)
        wishes = Wishes(options.state_dir, options.read_write, options.single_writer)
        access = WriteAccess(bucket, volume, kept.identity, wishes, exists=exists)
        together = partial(_put_together, bucket, reading, options, env, kept, access)
        saving = await _begin(together, kept, env)
        reason = None
        if exists and (not options.read_only or kept.has_unsaved):
            reason = await access.why_none()
        elif not exists and options.read_write:
            await access.prepare()
        engine = await _engine(options, env, kept, saving, reason)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(watch_settings, kept.settings, partial(_look_at_head, saving, access))
        if reason is None:
            nursery.start_soon(saving.pusher.run)
            nursery.start_soon(saving.ahead.run)
            nursery.start_soon(saving.checkpointer.run)
        try:
            yield engine
        finally:
            nursery.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class _Kept:
    """What this machine keeps of the volume."""

    volume: Volume
    identity: Identity
    tree: Tree
    unsaved: Unsaved
    settings: KnownSettings

    @property
    def has_unsaved(self) -> bool:
        return bool(self.unsaved.inode_states or self.unsaved.dirent_states)


async def _open_kept(
    stack: AsyncExitStack,
    volume: Volume,
    options: EngineOptions,
    env: Env,
    fetch: FetchChunks,
    *,
    exists: bool,
) -> _Kept:
    """Open the state folder, which belongs to the volume from now on (S1)."""
    state_dir, info, settings = options.state_dir, volume.info, KnownSettings()
    if volume.head is not None:
        settings.note(volume.head)
    if not exists:
        await keep_plan(volume, state_dir)
    identity = await open_identity(state_dir, info.id, env)
    tree = await stack.enter_async_context(
        open_tree(state_dir / TREE, info.id, volume.origin.chain, fetch)
    )
    unsaved = await stack.enter_async_context(
        open_unsaved(
            state_dir / JOURNAL,
            env,
            BelowUnsaved(tree),
            limit_bytes=options.unsaved_size_bytes,
            settings=settings,
        )
    )
    return _Kept(volume, identity, tree, unsaved, settings)


@dataclass(frozen=True, slots=True)
class _Saving:
    """What brings unsaved rows into the bucket."""

    log: Log
    committer: Committer
    pusher: Pusher
    checkpointer: Checkpointer
    ahead: Ahead
    uploads: Uploads
    orphans: Orphans
    contents: Contents
    settling: Settling


def _put_together(
    bucket: Bucket,
    reading: Reading,
    options: EngineOptions,
    env: Env,
    kept: _Kept,
    access: WriteAccess,
) -> _Saving:
    unsaved, tree = kept.unsaved, kept.tree
    orphans = Orphans(tree.inode)
    contents = Contents(reading)
    settling = Settling(
        settle_s=options.settle_s, on_closed=lambda inode: pusher.note_closed(inode)
    )
    uploads = Uploads(unsaved, tree)
    places = StagePlaces(
        uploads.look_up,
        uploads.note_sent,
        reading.chunks.keep,
        compress=kept.volume.info.compression != "none",
    )
    stager = Stager(bucket.store, env, reading.budget, places)

    async def prepare() -> None:
        """Make sure that the bucket is a volume, and still has what an earlier run uploaded."""
        await access.prepare()
        await uploads.prove(bucket.store)

    ahead = Ahead(unsaved, tree, contents, stager, settling, prepare)
    log = Log(bucket.store, env, kept.identity.client, kept.settings.note)
    checkpointer = _checkpointer(bucket.store, env, kept, options.checkpoints)
    committer = _committer(bucket.store, log, env, kept, orphans, stager, uploads, checkpointer)
    pusher = Pusher(
        unsaved=unsaved,
        tree=tree,
        committer=committer,
        stager=stager,
        uploads=uploads,
        ahead=ahead,
        contents=contents,
        conflicts=Conflicts(unsaved, tree, env, platform.node()),
        settling=settling,
        prepare=prepare,
        env=env,
    )
    return _Saving(
        log, committer, pusher, checkpointer, ahead, uploads, orphans, contents, settling
    )


def _committer(
    store: Store,
    log: Log,
    env: Env,
    kept: _Kept,
    orphans: Orphans,
    stager: Stager,
    uploads: Uploads,
    checkpointer: Checkpointer,
) -> Committer:
    me = kept.identity.client
    beginner = Beginner(
        store=store,
        tree=kept.tree,
        unsaved=kept.unsaved,
        orphans=orphans,
        identity=kept.identity,
        volume=kept.volume,
    )
    return Committer(
        tree=kept.tree,
        beginner=beginner,
        log=log,
        unsaved=kept.unsaved,
        orphans=orphans,
        identity=kept.identity,
        membership=Membership(store, me, env, host=platform.node(), program=__version__),
        save_blocks=stager.stage_data,
        brought=uploads.brought_bytes,
        committed=checkpointer.note_committed,
        env=env,
    )


def _checkpointer(store: Store, env: Env, kept: _Kept, rules: CheckpointRules) -> Checkpointer:
    writer = CheckpointWriter(store, kept.tree, env, kept.identity.client, rules.sizes)
    return Checkpointer(writer, kept.tree, rules, env)


async def _engine(
    options: EngineOptions, env: Env, kept: _Kept, saving: _Saving, reason: str | None
) -> Engine:
    return Engine(
        tree=kept.tree,
        unsaved=kept.unsaved,
        orphans=saving.orphans,
        contents=saving.contents,
        numbers=await _numbers(kept, env),
        settling=saving.settling,
        is_read_only=options.read_only or reason is not None,
        read_only_reason=reason,
        pusher=saving.pusher,
        uploads=saving.uploads,
        settings=kept.settings,
        volume_log=saving.log,
    )


async def _numbers(kept: _Kept, env: Env) -> Numbers:
    """Go on with the numbers of this client: unsaved changes of others' files have theirs."""
    granted = kept.tree.granted(kept.identity.client)
    used = last_used(granted, await made_here(kept.tree, kept.unsaved))
    return Numbers(used, lambda: range_by_chance(env.chance()), kept.tree.inode)


async def _look_at_head(saving: _Saving, access: WriteAccess) -> None:
    """Read `head` of the volume, if there is one by now. Raises as `Log.head`."""
    if access.is_ready:
        await saving.log.head()


async def _begin(together: Callable[[], _Saving], kept: _Kept, env: Env) -> _Saving:
    """Put together what saves, bring the tree up to the log, and end what an earlier run began.

    Raises:
        Damaged: the log is broken.
        BlobfsError: the store failed us.
    """
    saving = together()
    if kept.volume.head is None:
        return saving  # nothing was ever written to it
    try:
        await _catch_up(saving.committer)
    except Copied as error:
        log.warning("from now on this is another client. (%s)", error)
        await become_another_client(kept.identity, kept.tree, kept.unsaved, env)
        saving = together()  # nothing knows the old id any more
        await _catch_up(saving.committer)
    return saving


async def _catch_up(committer: Committer) -> None:
    """Replay what was committed since; what is contested stops saving, not the mount."""
    try:
        await committer.catch_up()
    except Contested as error:
        log.error("what is unsaved here was changed elsewhere: %s", error)
