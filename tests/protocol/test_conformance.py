"""Real mounts do what the explored clients do, request by request."""

import random
from pathlib import Path

import pytest
import trio

from blobfs.env import Env
from blobfs.formats.volume import VolumeInfo
from blobfs.stores.memory import MemoryStore
from blobfs.volume.creation import create
from tests.protocol.telling import Gate, Mount, Teller, Way, random_way
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


async def tell(way: Way, folder: Path, seed: int) -> None:
    bucket, chance = MemoryStore(), random.Random(seed)
    await create(bucket, VolumeInfo(id=b"v" * 16, created_ns=1))
    async with opened_place(bucket, folder / "Z") as place:
        await place.write("Z1", b"there from the beginning")
        await place.save()
    async with trio.open_nursery() as nursery:
        mounts: dict[str, Mount] = {}
        for client in way.worlds[0].clients:
            env = Env(chance=random.Random(chance.random()).random)
            mount = Mount(Gate(bucket), folder / client.machine, env, nursery)
            mounts[client.machine] = mount
            mount.start()
            await mount.served.wait()
            mount.gate.is_shut = True
        with trio.fail_after(60):
            await Teller(bucket, way, mounts).tell()
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
async def test_mounts_take_the_ways_that_were_explored(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What was shown of small worlds would be true of them alone."""
    monkeypatch.setattr("blobfs.volume.log.PARALLEL_SLOTS", 1)
    monkeypatch.setattr("blobfs.volume.log.FIRST_PAUSE_S", 0)
    monkeypatch.setattr("blobfs.sync.push.FIRST_PAUSE_S", 0)
    await tell(random_way(TWO_WRITE, seed), quick_path, seed)
