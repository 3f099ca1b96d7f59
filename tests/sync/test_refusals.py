"""A bucket that refuses what is to be saved: it is said why, and everything stays and goes on."""

from pathlib import Path

import pytest
import trio
import trio.testing

from blobfs.errors import AccessDenied, BlobfsError, Throttled, Unreachable
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from tests.sync.place import opened_place

REFUSALS = [
    AccessDenied("the quota is used up"),
    Unreachable("insufficient storage"),
    Throttled("slow down"),
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
