"""The composition root: what starts, ends and fails together."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing

from blobfs.config import MountSettings
from blobfs.control.client import (
    mount_statuses,
    request_description,
    request_heed_settings,
    request_unmount,
)
from blobfs.control.messages import (
    CacheStatus,
    Gauges,
    ListingsStatus,
    QuotaStatus,
    StoreStatus,
    SyncReply,
    TreeStatus,
    UnsavedStatus,
)
from blobfs.control.registry import registrations
from blobfs.env import Env
from blobfs.errors import AccessDenied, BlobfsError, InUse, Unreachable
from mountd import app
from tests.mountd.home import Home

GAUGES = Gauges(
    cache=CacheStatus(bytes=10, limit_bytes=100, hits=3, misses=4),
    store=StoreStatus({"get": 1}, bytes_received=5, bytes_sent=0, errors=0, retries=0),
    fuse={"lookup": 7},
    listings=ListingsStatus(known=2, stale=0),
    open_files=1,
    unsaved=UnsavedStatus(files=2, bytes=300),
    safe=False,
    seq=5,
    quota=QuotaStatus(used_bytes=9, limit_bytes=100),
)
TREE = TreeStatus(seq=5, chain="c1", inodes=3, content_bytes=9, dirents_digest="d1")


class FakeFileSystem:
    """Counts as mounted at once, and as detached when `detached` is set."""

    def __init__(self) -> None:
        self.detached = trio.Event()
        self.taken_down = False
        self.read_only_reason: str | None = None
        self.heeded = 0

    def gauges(self) -> Gauges:
        return msgspec.structs.replace(GAUGES, read_only_reason=self.read_only_reason)

    def sync(self, upto: int | None) -> SyncReply:
        return SyncReply(upto=upto or 7, done=False, seq=GAUGES.seq, unsaved=GAUGES.unsaved)

    def tree(self) -> TreeStatus:
        return TREE

    async def heed_settings(self) -> None:
        self.heeded += 1

    async def serve(self, mounted: Callable[[], None]) -> None:
        mounted()
        await self.detached.wait()

    @asynccontextmanager
    async def open(self, settings: MountSettings, env: Env) -> AsyncIterator["FakeFileSystem"]:
        try:
            yield self
        finally:
            self.taken_down = True


@pytest.fixture
async def file_system() -> FakeFileSystem:
    return FakeFileSystem()


@asynccontextmanager
async def running(
    home: Home, file_system: FakeFileSystem, **chosen: object
) -> AsyncIterator[trio.Event]:
    """Run the mount until it ends by itself; yield once it is ready."""
    ready, ended = trio.Event(), trio.Event()

    async def run() -> None:
        await app.run(home.settings(**chosen), lambda why: ready.set(), file_system.open)
        ended.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await ready.wait()
            yield ended


async def test_status_comes_from_the_file_system(
    home: Home, file_system: FakeFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`blobfs status` would show figures that nothing decides by."""
    async with running(home, file_system):
        mounts = registrations(home.runtime)
        (found,) = await trio.to_thread.run_sync(mount_statuses, home.runtime, mounts)
        file_system.detached.set()
    assert found.mountpoint == str(home.mountpoint)
    assert (found.source, found.state, found.pid) == ("s3://bucket", "mounted", os.getpid())
    assert (found.cache, found.store, found.fuse) == (GAUGES.cache, GAUGES.store, GAUGES.fuse)
    assert found.quota == GAUGES.quota
    assert found.uptime_s is not None
    assert (found.memory_bytes or 0) > 1 << 20
    assert found.problem is None


async def test_the_mount_says_how_to_get_at_its_bucket(
    home: Home, file_system: FakeFileSystem
) -> None:
    """`blobfs check ~/data` would look into another bucket, or compare with another tree."""
    async with running(home, file_system, region="here", profile="mine"):
        (mount,) = registrations(home.runtime)
        told = await trio.to_thread.run_sync(request_description, home.runtime, mount)
        file_system.detached.set()
    assert (told.source, told.region, told.profile) == ("s3://bucket", "here", "mine")
    assert told.state_dir == str(home.settings().state_dir)
    assert told.tree == TREE


async def test_the_mount_heeds_new_settings_when_it_is_told(
    home: Home, file_system: FakeFileSystem
) -> None:
    """Who raised the quota would have to unmount, or to wait."""
    async with running(home, file_system):
        (mount,) = registrations(home.runtime)
        await trio.to_thread.run_sync(request_heed_settings, home.runtime, mount)
        file_system.detached.set()
    assert file_system.heeded == 1


async def test_a_mount_that_cannot_be_written_says_why_at_once(
    home: Home, file_system: FakeFileSystem
) -> None:
    """The first save would fail, long after somebody began to work."""
    file_system.read_only_reason = "the store said so"
    said: list[str | None] = []

    async def run() -> None:
        await app.run(home.settings(read_only=False), said.append, file_system.open)

    file_system.detached.set()
    await run()
    assert said == ["the store said so"]


async def test_a_detached_mount_ends_the_daemon(home: Home, file_system: FakeFileSystem) -> None:
    """After `umount` by hand, daemons would pile up."""
    async with running(home, file_system) as ended:
        file_system.detached.set()
        await ended.wait()
    assert file_system.taken_down
    assert home.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_takes_everything_down(
    home: Home, file_system: FakeFileSystem, number: int
) -> None:
    """Logging out, closing a terminal or stopping a service would leave a dead mount."""
    async with running(home, file_system) as ended:
        os.kill(os.getpid(), number)
        await ended.wait()
    assert file_system.taken_down
    assert home.leftovers() == []


async def test_unmounting_detaches_first(
    home: Home, file_system: FakeFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon would end and leave a mount without anybody behind it."""
    detached: list[str] = []

    def detach(mountpoint: str) -> None:
        detached.append(mountpoint)
        trio.from_thread.run_sync(file_system.detached.set)

    monkeypatch.setattr(app, "detach", detach)
    async with running(home, file_system) as ended:
        (mount,) = registrations(home.runtime)
        await trio.to_thread.run_sync(request_unmount, home.runtime, mount)
        await ended.wait()
    assert detached == [str(home.mountpoint)]


async def test_a_busy_mount_stays(
    home: Home, file_system: FakeFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs with open files would lose them."""

    def detach(mountpoint: str) -> None:
        raise InUse("files are open in the mount")

    monkeypatch.setattr(app, "detach", detach)
    async with running(home, file_system):
        (mount,) = registrations(home.runtime)
        with pytest.raises(BlobfsError, match="files are open"):
            await trio.to_thread.run_sync(request_unmount, home.runtime, mount)
        assert not file_system.taken_down
        file_system.detached.set()


def causes(group: BaseExceptionGroup) -> list[BaseException]:
    return list(group.exceptions)


async def test_a_fault_at_the_start_is_passed_on(home: Home) -> None:
    """`blobfs mount` could not say why not, or a socket would stay behind."""

    @asynccontextmanager
    async def denied(settings: MountSettings, env: Env) -> AsyncIterator[FakeFileSystem]:
        raise AccessDenied("refused")
        yield

    with pytest.raises(BaseExceptionGroup) as failed:
        await app.run(home.settings(), pytest.fail, denied)
    assert [type(cause) for cause in causes(failed.value)] == [AccessDenied]
    assert home.leftovers() == []


async def test_a_start_has_a_deadline(home: Home, autojump_clock: trio.testing.MockClock) -> None:
    """With a server that does not answer, `blobfs mount` would hang."""

    @asynccontextmanager
    async def silent(settings: MountSettings, env: Env) -> AsyncIterator[FakeFileSystem]:
        await trio.sleep_forever()
        yield FakeFileSystem()

    with pytest.raises(BaseExceptionGroup) as failed:
        await app.run(home.settings(), pytest.fail, silent)
    (cause,) = causes(failed.value)
    assert isinstance(cause, Unreachable)
    assert "s3://bucket" in str(cause)
    assert trio.current_time() < 9


async def test_a_mount_outlives_the_deadline_of_its_start(
    home: Home, file_system: FakeFileSystem, autojump_clock: trio.testing.MockClock
) -> None:
    """Every mount would end after some seconds."""
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.run, home.settings(), lambda why: ready.set(), file_system.open)
        await ready.wait()
        await trio.sleep(10 * app.START_WITHIN_S)
        assert not file_system.taken_down
        file_system.detached.set()


async def test_a_second_daemon_is_refused(home: Home, file_system: FakeFileSystem) -> None:
    """Two daemons would write the same state."""
    async with running(home, file_system):
        elsewhere = home.settings(mountpoint=home.root / "other")
        for settings in (home.settings(), elsewhere):
            with pytest.raises(BaseExceptionGroup) as failed:
                await app.run(settings, pytest.fail, file_system.open)
            assert [type(cause) for cause in causes(failed.value)] == [InUse]
        assert len(registrations(home.runtime)) == 1
        file_system.detached.set()
