"""A mount finds out by itself what others committed, and costs little while nobody uses it."""

from pathlib import Path

import trio
from trio.testing import MockClock

from blobfs.env import Env
from blobfs.errors import BlobfsError, Unreachable
from blobfs.stores.memory import MemoryStore
from blobfs.sync.programs import Programs
from blobfs.sync.pull import Puller
from blobfs.types import InodeNo
from tests.sync.place import opened_place


class Committer:
    """Stands in for the one that looks; notes when it did."""

    def __init__(self) -> None:
        self.looks: list[float] = []
        self.error: BlobfsError | None = None

    async def catch_up(self) -> None:
        self.looks.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error


class Log:
    doubts = 0

    def doubt(self) -> None:
        self.doubts += 1


class World:
    """A puller whose clocks are virtual."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.committer, self.log, self.programs = Committer(), Log(), Programs()
        self.slept_ns = 0
        start = trio.current_time()
        env = Env(
            now_ns=lambda: int((trio.current_time() - start) * 1e9) + self.slept_ns,
            monotonic_s=trio.current_time,
        )
        self.puller = Puller(
            committer=self.committer,  # type: ignore[arg-type]
            log=self.log,  # type: ignore[arg-type]
            programs=self.programs,
            env=env,
        )
        nursery.start_soon(self.puller.run)

    def looks_since(self, when_s: float) -> int:
        return sum(look >= when_s for look in self.committer.looks)


async def test_an_idle_mount_looks_twice_a_minute(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """All mounts that nobody uses would cost requests, day and night."""
    world = World(nursery)
    await trio.sleep(601)
    assert world.looks_since(0) == 20


async def test_who_comes_back_does_not_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Whoever opens the laptop would see yesterday's files for half a minute."""
    world = World(nursery)
    await trio.sleep(45)
    now = trio.current_time()
    world.programs.note_request()
    await trio.sleep(0.01)
    assert world.looks_since(now) == 1
    await trio.sleep(10)
    assert world.looks_since(now) == 6


async def test_a_mount_with_open_files_is_in_use(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World(nursery)
    world.programs.held = lambda: {InodeNo(7)}
    await trio.sleep(35)
    now = trio.current_time()
    await trio.sleep(20)
    assert world.looks_since(now) == 10


async def test_a_machine_that_slept_looks_anew(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """What was the tip of the log yesterday need not be so today (L4)."""
    world = World(nursery)
    await trio.sleep(31)
    now = trio.current_time()
    world.slept_ns = 8 * 3600 * 10**9
    await trio.sleep(5.01)
    assert world.looks_since(now) == 1
    assert world.log.doubts == 1


async def test_an_outage_is_waited_out(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """After an outage somebody would have to mount again."""
    world = World(nursery)
    world.committer.error = Unreachable("nobody answers")
    world.programs.held = lambda: {InodeNo(7)}
    await trio.sleep(300)
    assert world.looks_since(0) < 20
    assert "nobody answers" in str(world.puller.problem)
    world.committer.error = None
    await trio.sleep(31)
    assert world.puller.problem is None


async def test_a_look_that_is_asked_for_is_one_look(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """`blobfs sync` would ask the store hundreds of times until it is told."""
    world = World(nursery)
    await trio.sleep(1)
    world.puller.hurry(1)
    assert not world.puller.has_looked(1)
    await trio.sleep(20)
    assert world.looks_since(0) == 1
    assert world.puller.has_looked(1)


async def test_others_commits_show_by_themselves(tmp_path: Path) -> None:
    """Somebody would have to ask for them."""
    store = MemoryStore()
    async with opened_place(store, tmp_path / "here", read_write=True) as here:
        async with opened_place(store, tmp_path / "there") as there:
            await there.write("f", b"1")
            await there.save()
        here.engine.programs.note_request()
        with trio.fail_after(10):
            while await here.find("f") is None:  # noqa: ASYNC110 - nothing says it
                await trio.sleep(0.01)
