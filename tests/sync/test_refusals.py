"""A bucket that refuses what is to be saved: it is said why, and everything stays and goes on."""

from pathlib import Path

import pytest
import trio
import trio.testing

from blobfs.errors import AccessDenied, BlobfsError, StoreFull, Throttled, Unreachable
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from tests.sync.place import opened_place

REFUSALS = [
    AccessDenied("these credentials do not allow it"),
    Unreachable("insufficient storage"),
    Throttled("slow down"),
    StoreFull("its quota is used up"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
async def test_a_bucket_that_takes_nothing_more(tmp_path: Path, refusal: BlobfsError) -> None:
    """A used-up quota would lose what comes after it, or hang whoever works on (P7)."""
    store = FaultyStore(MemoryStore())
    async with opened_place(store, tmp_path) as place:
        await place.write("old", b"saved")
        await place.save()
        store.fail("put", refusal, times=None)
        await place.write("new", b"n" * 5000)
        place.engine.hurry()
        await trio.testing.wait_all_tasks_blocked(0.05)
        await place.write("later", b"goes on")
        assert place.engine.statistics().problem == str(refusal)
        assert not place.engine.statistics().is_safe
        expected = {"old": b"saved", "new": b"n" * 5000, "later": b"goes on"}
        assert await place.tree() == expected
        store.heal()
        with trio.fail_after(10):
            await place.save()
        assert place.engine.statistics().problem is None
    async with opened_place(store, tmp_path / "elsewhere") as place:
        assert await place.tree() == expected


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
async def test_what_takes_nothing_can_be_read(tmp_path: Path, refusal: BlobfsError) -> None:
    """A used-up quota would lock everybody out of what is there."""
    store = FaultyStore(MemoryStore())
    async with opened_place(store, tmp_path) as place:
        await place.write("f", b"saved")
        await place.save()
        await place.write("g", b"unsaved")
    store.fail("put", refusal, times=None)
    async with opened_place(store, tmp_path) as place:
        assert await place.tree() == {"f": b"saved", "g": b"unsaved"}
        store.heal()
        if place.engine.read_only_reason is None:  # nobody said that it is for ever
            with trio.fail_after(10):
                await place.save()
    async with opened_place(store, tmp_path) as place:
        with trio.fail_after(10):
            await place.save()


async def test_who_wants_to_write_is_told_at_once(tmp_path: Path) -> None:
    """A script would go on, and fail after hours."""
    store = FaultyStore(MemoryStore())
    async with opened_place(store, tmp_path, read_write=True):
        pass
    store.fail("put", REFUSALS[1], times=None)
    with pytest.RaisesGroup(Unreachable, flatten_subgroups=True, allow_unwrapped=True):
        async with opened_place(store, tmp_path, read_write=True):
            pass


async def test_a_full_bucket_is_not_one_for_reading_only(tmp_path: Path) -> None:
    """Nothing would be saved after somebody made room, until the next mount."""
    store = FaultyStore(MemoryStore())
    async with opened_place(store, tmp_path, read_write=True):
        pass
    store.fail("put", StoreFull("its quota is used up"), times=None)
    async with opened_place(store, tmp_path) as place:
        assert place.engine.read_only_reason is None
        await place.write("f", b"written meanwhile")
        store.heal()
        with trio.fail_after(10):
            await place.save()
