"""Put the file system of one mount together: store, namespace, cache, core, front-end."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import trio

from blobfs.cache.reading import Reading, open_reading
from blobfs.config import MountSettings
from blobfs.control.messages import (
    CacheStatus,
    CommitStatus,
    Gauges,
    Latency,
    ListingsStatus,
    OddKey,
    OddKeys,
    QuotaStatus,
    StoreStatus,
    SyncReply,
    TrashStatus,
    TreeStatus,
    UnsavedStatus,
)
from blobfs.env import Env
from blobfs.model.nodes import NativeLook
from blobfs.stores.base import Store
from blobfs.stores.breaker import Breaker
from blobfs.stores.metering import BUCKET_BOUNDS_S, Meter, Usage
from blobfs.stores.opening import StoreOptions, open_store, parse_source
from blobfs.sync.binding import Bucket
from blobfs.sync.engine import Engine, EngineOptions, SavingStatistics, open_engine
from blobfs.types import Serial
from blobfs.vfs.core import Vfs
from blobfs.vfs.opening import make_vfs
from blobfs.volume.native import NativeTree, open_native
from mountd.fuse3 import KERNEL, Front, FuseMount, open_mount
from mountd.invalidation import Invalidator
from mountd.mount_options import MountOptions

MOST_ODD_KEYS_NAMED = 100


@dataclass(frozen=True, slots=True)
class MountableFileSystem:
    """The parts of one mount, and what they measure of themselves."""

    settings: MountSettings
    meter: Meter
    native: NativeTree
    reading: Reading
    engine: Engine
    vfs: Vfs
    front: Front
    invalidator: Invalidator
    env: Env

    async def serve(self, mounted: Callable[[], None]) -> None:
        """Mount, call `mounted` once programs can use it, return when it was detached.

        Raises:
            LocalFault: the kernel, or fusermount3, refused.
        """
        async with (
            open_mount(self.front, self.settings.mountpoint) as mount,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_announce, mount, mounted)
            await self.invalidator.tell_while(mount.serve)
            nursery.cancel_scope.cancel()

    def gauges(self) -> Gauges:
        """Return what `blobfs status` shows: the numbers that the daemon itself decides by."""
        listings = self.native.statistics()
        return Gauges(
            cache=self._cache_status(),
            store=self._store_status(),
            fuse=dict(self.front.counts),
            listings=ListingsStatus(
                known=listings.folders, stale=listings.stale, last_error=listings.last_error
            ),
            odd_keys=OddKeys(
                count=listings.odd_count,
                names=tuple(
                    OddKey(key=odd.key, reason=odd.reason)
                    for odd in self.native.odd_keys(MOST_ODD_KEYS_NAMED)
                ),
            ),
            open_files=self.vfs.open_files,
            unsaved=self._unsaved_status(saving := self.engine.statistics()),
            safe=saving.is_safe,
            seq=saving.seq,
            quota=self._quota_status(),
            trash=self._trash_status(),
            last_commit=self._last_commit(),
            read_only_reason=self.engine.read_only_reason,
            incomplete=self.engine.tree.problem,
            behind=self.engine.puller.problem,
        )

    def sync(self, upto: int | None) -> SyncReply:
        """Hurry saving what was changed up to `upto` (None: up to now), and seeing what others
        saved; say how far it is.

        Raises:
            ReadOnly: nothing can be saved through this mount.
        """
        serial = self.engine.begin_sync() if upto is None else Serial(upto)
        saving = self.engine.statistics()
        return SyncReply(
            upto=serial,
            done=self.engine.is_synced(serial),
            seq=saving.seq,
            unsaved=self._unsaved_status(saving),
        )

    async def heed_settings(self) -> None:
        """Look at the settings of the volume, and heed them from now on.

        Raises:
            BlobfsError: they cannot be read.
        """
        await self.engine.look_at_settings()

    def tree(self) -> TreeStatus:
        """Return which tree is shown, for `blobfs check` to compare with the bucket."""
        state = self.engine.tree.state
        return TreeStatus(
            seq=state.seq,
            chain=state.chain.hex(),
            inodes=state.inodes,
            content_bytes=state.content_bytes,
            dirents_digest=state.dirents_digest.hex(),
        )

    def _unsaved_status(self, saving: SavingStatistics) -> UnsavedStatus:
        oldest_ns = saving.unsaved.oldest_ns
        age_s = 0.0 if oldest_ns is None else (self.env.now_ns() - oldest_ns) / 1e9
        return UnsavedStatus(
            files=saving.files,
            bytes=saving.unsaved.bytes,
            oldest_s=round(max(0.0, age_s), 3),
            uploading_files=saving.files_under_way,
            uploaded_bytes=saving.sent_bytes,
            room_bytes=max(0, saving.unsaved.room_bytes),
            problem=saving.problem,
            damaged=tuple(str(damage) for damage in saving.unsaved.damages),
        )

    def _quota_status(self) -> QuotaStatus:
        used_bytes = self.engine.unsaved.holdings.held_bytes
        return QuotaStatus(used_bytes, self.engine.settings.now.quota_bytes)

    def _trash_status(self) -> TrashStatus:
        trash = self.engine.trash
        kept = trash.kept()
        return TrashStatus(kept.objects, kept.bytes, trash.problem)

    def _last_commit(self) -> CommitStatus | None:
        last = self.engine.pusher.last_commit
        if last is None:
            return None
        age_s = max(0.0, (self.env.now_ns() - last.when_ns) / 1e9)
        return CommitStatus(last.seq, round(age_s, 3), last.files, last.stored_bytes)

    def _cache_status(self) -> CacheStatus:
        cache = self.reading.statistics()
        return CacheStatus(
            bytes=cache.bytes,
            limit_bytes=cache.limit_bytes,
            hits=cache.hits,
            misses=cache.misses,
        )

    def _store_status(self) -> StoreStatus:
        store = self.meter.snapshot()
        return StoreStatus(
            requests={str(kind): count for kind, count in store.requests.items()},
            bytes_received=store.bytes_received,
            bytes_sent=store.bytes_sent,
            errors=store.errors,
            retries=store.retries,
            latency=dict(_latencies(store)),
            latency_bounds_s=BUCKET_BOUNDS_S,
        )


def _latencies(usage: Usage) -> Iterator[tuple[str, Latency]]:
    for kind, counts in usage.latency_counts.items():
        half_s, most_s = usage.latency_s(kind, 0.5), usage.latency_s(kind, 0.99)
        if half_s is not None and most_s is not None:
            yield kind, Latency(half_s, most_s, counts)


async def _announce(mount: FuseMount, mounted: Callable[[], None]) -> None:
    await mount.wait_ready()
    mounted()


@asynccontextmanager
async def open_file_system(settings: MountSettings, env: Env) -> AsyncIterator[MountableFileSystem]:
    """Open all parts of the mount that `settings` describe; the state folder is locked.

    Raises:
        BlobfsError: one of them cannot be used.
    """
    opened = await open_store(parse_source(settings.source), _store_options(settings), env)
    try:
        store = Breaker(opened.store, env)
        bucket = Bucket(store, opened.outer, opened.prefix)
        async with open_native(
            store, settings.state_dir, ttl_s=settings.native_ttl_s, env=env
        ) as native:
            native.look_at_root()  # while the rest is being opened
            async with (
                _open_reading(store, settings, env) as reading,
                open_engine(bucket, reading, _engine_options(settings), env) as engine,
            ):
                invalidator = Invalidator(KERNEL)
                vfs = _make_vfs(settings, engine, native, reading, env, invalidator)
                options = MountOptions(settings.source, settings.allow_other, engine.is_read_only)
                front = Front(vfs, options, engine.tree.load, engine.programs.note_request)
                yield MountableFileSystem(
                    settings, opened.meter, native, reading, engine, vfs, front, invalidator, env
                )
    finally:
        await opened.store.aclose()


def _open_reading(
    store: Store, settings: MountSettings, env: Env
) -> AbstractAsyncContextManager[Reading]:
    return open_reading(
        store,
        settings.cache_dir,
        limit_bytes=settings.cache_size_bytes,
        memory_bytes=settings.memory_bytes,
        env=env,
    )


def _make_vfs(
    settings: MountSettings,
    engine: Engine,
    native: NativeTree,
    reading: Reading,
    env: Env,
    invalidator: Invalidator,
) -> Vfs:
    return make_vfs(
        engine,
        native,
        reading,
        env,
        source=settings.source,
        look=_look(settings),
        durability=settings.durability,
        deadline_s=settings.deadline_s,
        tell=invalidator.note,
    )


def _look(settings: MountSettings) -> NativeLook:
    return NativeLook(settings.uid, settings.gid, settings.umask)


def _engine_options(settings: MountSettings) -> EngineOptions:
    return EngineOptions(
        state_dir=settings.state_dir,
        read_only=settings.read_only,
        read_write=settings.read_write,
        single_writer=settings.single_writer,
        unsaved_size_bytes=settings.unsaved_size_bytes,
        settle_s=settings.settle_s,
        look=_look(settings),
    )


def _store_options(settings: MountSettings) -> StoreOptions:
    return StoreOptions(
        profile=settings.profile,
        region=settings.region,
        endpoint_url=settings.endpoint_url,
        anonymous=settings.anonymous,
        account=settings.account,
        deadline_s=settings.deadline_s,
    )
