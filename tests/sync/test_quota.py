"""The quota of a volume, from its `head` to the programs of a mount."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from blobfs.env import Env
from blobfs.errors import NoRoom
from blobfs.formats.head import Head, VolumeSettings
from blobfs.stores.base import Store
from blobfs.stores.memory import MemoryStore
from blobfs.types import KIB
from blobfs.volume.head_change import change_head
from tests.sync.place import Place, opened_place


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    """A volume that holds 100 KiB in one file."""
    store = MemoryStore()
    async with opened_place(store, tmp_path / "before") as place:
        await place.write("first", b"1" * 100 * KIB)
        await place.save()
    return store


async def set_quota(store: Store, quota_bytes: int) -> None:
    def change(head: Head) -> Head:
        return replace(head, settings=VolumeSettings(quota_bytes=quota_bytes))

    await change_head(store, change)


async def require_refused(place: Place, name: str, data: bytes) -> None:
    before = await place.tree()
    with pytest.raises(NoRoom, match="quota"):
        await place.write(name, data)
    assert (await place.tree()) == {name: b"", **before}


async def test_it_is_known_at_mount(store: Store, tmp_path: Path) -> None:
    """The first program of a mount could write without limit."""
    await set_quota(store, 150 * KIB)
    async with opened_place(store, tmp_path) as place:
        await require_refused(place, "second", b"2" * 51 * KIB)
        await place.write("second", b"2" * 50 * KIB)
        await place.save()
        assert place.engine.unsaved.holdings.held_bytes == 150 * KIB
        assert place.engine.tree.counters().content_bytes == 150 * KIB


async def test_a_commit_learns_of_a_new_one(store: Store, tmp_path: Path) -> None:
    """Who lowers the quota while others write would wait for them to stop. What was written
    before is saved."""
    async with opened_place(store, tmp_path) as place:
        await place.write("second", b"2" * 50 * KIB)
        await set_quota(store, 10 * KIB)
        await place.write("third", b"3" * 50 * KIB)
        await place.save()
        await require_refused(place, "fourth", b"4")
        await place.unlink("first")
        await place.unlink("second")
        await place.write("third", b"x" * 50 * KIB)
        await place.save()
        assert place.engine.unsaved.holdings.held_bytes == 50 * KIB


async def test_who_asks_is_told_and_heeds_it(store: Store, tmp_path: Path) -> None:
    """A quota that was raised on this machine would not be heeded at once."""
    await set_quota(store, 100 * KIB)
    async with opened_place(store, tmp_path) as place:
        await require_refused(place, "second", b"2")
        await set_quota(store, 200 * KIB)
        assert (await place.engine.look_at_settings()).quota_bytes == 200 * KIB
        await place.write("second", b"2")


async def test_what_is_being_saved_counts_once(store: Store, tmp_path: Path) -> None:
    """Programs would be refused what fits, each time while a commit is under way."""
    held: list[int] = []
    opened: list[Place] = []

    def look(_step: str) -> None:
        held.extend(place.engine.unsaved.holdings.held_bytes for place in opened)

    env = Env(crash_point=look)
    async with opened_place(store, tmp_path, env=env) as place:
        opened.append(place)
        await place.write("first", b"x" * 10 * KIB, offset=95 * KIB)
        await place.write("second", b"2" * 300 * KIB)
        await place.unlink("first")
        await place.write("third", b"3")
        held.clear()
        await place.save()
        assert len(held) > 5
        assert set(held) == {300 * KIB + 1}


async def test_what_another_committed_counts(store: Store, tmp_path: Path) -> None:
    """Two machines would fill the volume twice."""
    await set_quota(store, 200 * KIB)
    async with opened_place(store, tmp_path / "one") as one:
        async with opened_place(store, tmp_path / "other") as other:
            await other.write("theirs", b"t" * 90 * KIB)
            await other.save()
        await one.write("mine", b"m")
        await one.save()
        assert one.engine.unsaved.holdings.held_bytes == 190 * KIB + 1
        await require_refused(one, "more", b"m" * 10 * KIB)
