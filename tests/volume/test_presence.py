"""A bucket that is a volume is never shown as if it were none."""

import pytest

from blobfs.errors import AccessDenied, Unreachable, Unsupported
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.volume.presence import VOLUME_KEY, refuse_volume


async def test_a_bucket_without_a_volume_is_fine() -> None:
    """The usual case costs one request."""
    store = FaultyStore(MemoryStore())
    await refuse_volume(store)
    assert store.calls.total() == 1


async def test_a_volume_is_refused() -> None:
    """Otherwise deleted files would come back and written ones be gone."""
    store = MemoryStore()
    await store.put(VOLUME_KEY, b"whatever it says")
    with pytest.raises(Unsupported, match="volume"):
        await refuse_volume(store)


@pytest.mark.parametrize("error", [AccessDenied("no"), Unreachable("gone")])
async def test_not_knowing_is_not_absence(error: AccessDenied | Unreachable) -> None:
    """403 and silence are no 404 (volume format, L5)."""
    store = FaultyStore(MemoryStore())
    store.fail("get", error)
    with pytest.raises(type(error)):
        await refuse_volume(store)
