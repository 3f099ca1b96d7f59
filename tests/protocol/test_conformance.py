"""Real mounts do what the explored clients do, request by request."""

from pathlib import Path

import pytest
import trio

from blobfs.formats.volume import VolumeInfo
from blobfs.stores.memory import MemoryStore
from blobfs.sync.pull import Puller
from blobfs.volume.creation import create
from tests.protocol.telling import Mount, Teller, Way, new_mount, random_way
from tests.protocol.values import Left
from tests.protocol.worlds import Setting, writer
from tests.sync.place import opened_place

TWO_WRITE = Setting(
    "two write files of their own",
    (writer("A", writes=2), writer("B")),
    Left(crashes=1, late=1, failures=1),
    landed=1,
    batch=99,
)


THE_LOG_IS_CUT = Setting(
    "two write files of their own, the log is cut",
    (writer("A", writes=2), writer("B")),
    Left(crashes=1, late=1, checkpoints=1, sleeps=1),
    landed=1,
    batch=99,
)
COPIED = Setting(
    "one writes, its folder is copied",
    (writer("A", writes=2),),
    Left(crashes=1, late=1, copies=1),
    landed=1,
    batch=99,
)
SETTINGS = {"two": TWO_WRITE, "cut": THE_LOG_IS_CUT, "copied": COPIED}


async def tell(way: Way, folder: Path) -> None:
    bucket = MemoryStore()
    await create(bucket, VolumeInfo(id=b"v" * 16, created_ns=1))
    async with opened_place(bucket, folder / "Z") as place:
        await place.write("Z1", b"there from the beginning")
        await place.save()
    async with trio.open_nursery() as nursery:
        mounts: dict[str, Mount] = {}
        for client in way.worlds[0].clients:
            mount = mounts[client.machine] = new_mount(bucket, folder / client.machine, nursery)
            mount.start()
            await mount.served.wait()
            mount.gate.is_shut = True
        with trio.fail_after(60):
            await Teller(bucket, folder / "K", way, mounts).tell()
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("world", SETTINGS)
@pytest.mark.parametrize("seed", range(16))
async def test_mounts_take_the_ways_that_were_explored(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch, world: str, seed: int
) -> None:
    """What was shown of small worlds would be true of them alone."""

    async def look_for_nothing(_: Puller) -> None:
        """Nobody in these worlds looks for news without a reason."""
        await trio.sleep_forever()

    monkeypatch.setattr(Puller, "run", look_for_nothing)
    monkeypatch.setattr("blobfs.volume.log.PARALLEL_SLOTS", 1)
    monkeypatch.setattr("blobfs.volume.log.FIRST_PAUSE_S", 0)
    monkeypatch.setattr("blobfs.sync.push.FIRST_PAUSE_S", 0)
    await tell(random_way(SETTINGS[world], seed), quick_path)
