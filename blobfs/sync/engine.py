"""Open the volume of a mount, put together what saves to it, and say how it does.

    look at the bucket -> journal and tree of this client -> finish what an earlier run began,
    catch up with the log -> serve, saving behind programs' backs

Unsaved changes of an earlier run are shown and saved by every later one, a read-only mount as well:
its programs may change nothing, but what was acknowledged is kept (P1).

Concurrency: one nursery with one task that saves.
"""

import logging
import platform
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from blobfs import __version__
from blobfs.cache.reading import Reading
from blobfs.env import Env
from blobfs.errors import OutcomeUnknown, ReadOnly, Unreachable
from blobfs.formats.head import VolumeSettings
from blobfs.model.numbers import RANGE_NUMBERS
from blobfs.model.settling import Settling
from blobfs.stores.base import Store
from blobfs.sync.ahead import Ahead
from blobfs.sync.binding import (
    JOURNAL,
    TREE,
    create_planned,
    find_volume,
    forget_plan,
    keep_plan,
    why_read_only,
)
from blobfs.sync.commit import Committer, Contested
from blobfs.sync.pipeline import StagePlaces
from blobfs.sync.push import Pusher
from blobfs.sync.settings_watch import watch_settings
from blobfs.sync.stage import Stager
from blobfs.sync.uploads import Uploads
from blobfs.types import Serial
from blobfs.volume.client import Identity, open_identity
from blobfs.volume.content import Contents
from blobfs.volume.creation import refuse_nested
from blobfs.volume.known_settings import KnownSettings
from blobfs.volume.log import Log
from blobfs.volume.membership import Membership
from blobfs.volume.namespace_numbers import Numbers, last_used
from blobfs.volume.orphans import Orphans
from blobfs.volume.presence import Volume
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.unsaved import Unsaved, open_unsaved
from blobfs.volume.unsaved_statistics import UnsavedStatistics

RANGES = 1 << 36
"""Ranges of inode numbers to choose from: nobody meets another client in one by chance."""

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


@dataclass(frozen=True, slots=True)
class Bucket:
    """A store, and what lies around it."""

    store: Store
    outer: Store
    prefix: str


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
    store, state_dir = bucket.store, options.state_dir
    volume, exists = await find_volume(store, state_dir, env)
    settings = KnownSettings()
    if volume.head is not None:
        settings.note(volume.head)
    async with AsyncExitStack() as stack:
        identity = await _identity(volume, options, env, exists=exists)
        tree = await stack.enter_async_context(
            open_tree(state_dir / TREE, volume.info.id, volume.origin.chain)
        )
        unsaved = await stack.enter_async_context(
            open_unsaved(
                state_dir / JOURNAL,
                env,
                tree,
                limit_bytes=options.unsaved_size_bytes,
                settings=settings,
            )
        )
        parts = _Parts(bucket, reading, options, env, volume, identity, tree, unsaved, settings)
        engine = parts.engine(await parts.why_read_only(exists=exists))
        await parts.begin(exists=exists)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(watch_settings, settings, parts.look_at_head)
        if engine.read_only_reason is None:
            nursery.start_soon(engine.pusher.run)
            nursery.start_soon(parts.ahead.run)
        try:
            yield engine
        finally:
            nursery.cancel_scope.cancel()


async def _identity(volume: Volume, options: EngineOptions, env: Env, *, exists: bool) -> Identity:
    """Return who this client is; what the volume would be is on the local disk before."""
    if not exists:
        await keep_plan(volume, options.state_dir)
    return await open_identity(options.state_dir, volume.info.id, env)


class _Parts:
    """The parts of an engine, while it is put together."""

    def __init__(
        self,
        bucket: Bucket,
        reading: Reading,
        options: EngineOptions,
        env: Env,
        volume: Volume,
        identity: Identity,
        tree: Tree,
        unsaved: Unsaved,
        settings: KnownSettings,
    ) -> None:
        self._bucket = bucket
        self._options = options
        self._env = env
        self._volume = volume
        self._identity = identity
        self._tree = tree
        self._unsaved = unsaved
        self._settings = settings
        self._log = Log(bucket.store, env, identity.client, settings.note)
        self._orphans = Orphans(tree.inode)
        self._contents = Contents(reading)
        self._settling = Settling(settle_s=options.settle_s, on_closed=self._note_closed)
        self._uploads = Uploads(unsaved, tree)
        places = StagePlaces(
            self._uploads.look_up,
            self._uploads.note_sent,
            reading.chunks.keep,
            compress=volume.info.compression != "none",
        )
        self._stager = Stager(bucket.store, env, reading.budget, places)
        self.ahead = Ahead(
            unsaved, tree, self._contents, self._stager, self._settling, self._prepare
        )
        self._creating = trio.Lock()
        self._committer = Committer(
            tree=tree,
            log=self._log,
            unsaved=unsaved,
            orphans=self._orphans,
            identity=identity,
            membership=Membership(
                bucket.store,
                identity.client,
                env,
                host=platform.node(),
                program=__version__,
            ),
            save_blocks=self._stager.stage_data,
            brought=self._uploads.brought_bytes,
            env=env,
        )
        self._is_proven = True
        self._is_there = False
        self._pusher = self._make_pusher()

    def engine(self, read_only_reason: str | None) -> Engine:
        return Engine(
            tree=self._tree,
            unsaved=self._unsaved,
            orphans=self._orphans,
            contents=self._contents,
            numbers=self._numbers(),
            settling=self._settling,
            is_read_only=self._options.read_only or read_only_reason is not None,
            read_only_reason=read_only_reason,
            pusher=self._pusher,
            uploads=self._uploads,
            settings=self._settings,
            volume_log=self._log,
        )

    async def look_at_head(self) -> None:
        """Read `head` of the volume, if there is one by now. Raises as `Log.head`."""
        if self._is_there:
            await self._log.head()

    async def why_read_only(self, *, exists: bool) -> str | None:
        """Return why nothing can be written; None: it can, or nobody wants to.

        Raises:
            ReadOnly: writing was asked for.
        """
        reason = None
        if exists and (not self._options.read_only or self._has_unsaved()):
            reason = await self._try_to_write()
        if reason is not None and self._options.read_write:
            raise ReadOnly(
                f"the bucket cannot be written to: {reason}", hint="leave away --read-write"
            )
        return reason

    async def _try_to_write(self) -> str | None:
        """As `why_read_only`. A store that takes nothing now can be read: the first save finds out.

        Raises:
            Unreachable, OutcomeUnknown: it did not say, and writing was asked for.
        """
        try:
            return await why_read_only(
                self._bucket.store,
                self._volume,
                self._identity.client,
                single_writer=self._options.single_writer,
            )
        except (Unreachable, OutcomeUnknown) as error:
            if self._options.read_write:
                raise
            log.warning("whether anything can be saved is not known yet: %s", error)
            self._is_proven = False
            return None

    async def begin(self, *, exists: bool) -> None:
        """Bring the tree up to the log, and end what an earlier run began.

        Raises:
            Damaged: the log is broken.
            BlobfsError: the store failed us.
        """
        self._is_there = exists and self._is_proven
        if not exists:
            if self._options.read_write:
                await self._create()
            return
        if self._volume.head is None:
            return  # created, and never written to
        try:
            await self._committer.catch_up()
        except Contested as error:
            log.error("what is unsaved here was changed elsewhere: %s", error)

    def _has_unsaved(self) -> bool:
        return bool(self._unsaved.inode_states or self._unsaved.dirent_states)

    def _note_closed(self) -> None:
        self._pusher.note_closed()

    def _numbers(self) -> Numbers:
        granted = self._tree.granted(self._identity.client)
        used = last_used(granted, self._unsaved.inode_states)
        return Numbers(used, self._fresh_range, self._tree.inode)

    def _fresh_range(self) -> int:
        """Choose the first number of a range by chance, so that no two clients meet in one."""
        return (1 + int(self._env.chance() * (RANGES - 1))) * RANGE_NUMBERS

    def _make_pusher(self) -> Pusher:
        return Pusher(
            unsaved=self._unsaved,
            tree=self._tree,
            committer=self._committer,
            stager=self._stager,
            uploads=self._uploads,
            ahead=self.ahead,
            contents=self._contents,
            settling=self._settling,
            prepare=self._prepare,
            env=self._env,
        )

    async def _prepare(self) -> None:
        """Make sure that the bucket is a volume, and still has what an earlier run uploaded."""
        await self._create()
        await self._uploads.prove(self._bucket.store)

    async def _create(self) -> None:
        """Make the bucket a volume that can be written to, if it is not known to be one."""
        if self._is_there:
            return
        async with self._creating:
            if not self._is_there:
                await self._create_now()
                self._is_there = True

    async def _create_now(self) -> None:
        bucket = self._bucket
        nested = partial(refuse_nested, bucket.store, bucket.outer, bucket.prefix)
        await create_planned(
            bucket.store,
            self._volume,
            nested,
            self._identity.client,
            single_writer=self._options.single_writer,
        )
        await forget_plan(self._options.state_dir)
