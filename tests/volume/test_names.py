"""One name costs one round trip, and only a clear answer is one."""

import pytest
import trio
import trio.testing

from blobfs.errors import BlobfsError, Unreachable
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.volume.names import ask_name


async def bucket(*keys: str) -> FaultyStore:
    store = MemoryStore()
    for key in keys:
        await store.put(key, b"x")
    return FaultyStore(store)


async def test_a_directory_does_not_wait_for_the_answer_about_an_object(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Or each directory of a cold path would take as long as the slower of two answers."""
    store = await bucket("folder/file")
    store.slow("head", 10.0)
    began_s = trio.current_time()
    entry = (await ask_name(store, "", b"folder", nursery)).entry
    assert entry is not None
    assert entry.is_folder
    assert trio.current_time() - began_s < 1


async def test_what_nobody_waits_for_any_more_goes_on_to_its_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Or each directory of a cold path would cost a connection, and the next one a new one."""
    store = await bucket("folder/file")
    store.slow("head", 10.0)
    async with trio.open_nursery() as leftovers:
        began_s = trio.current_time()
        await ask_name(store, "", b"folder", leftovers)
        assert len(leftovers.child_tasks) == 1
    assert trio.current_time() - began_s >= 10


async def test_what_nobody_waits_for_any_more_may_fail(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Or a fault that concerns nobody would end the mount."""
    store = await bucket("folder/file")
    store.slow("head", 10.0)
    store.fail("head", RuntimeError("a fault of our own"))  # type: ignore[arg-type]
    async with trio.open_nursery() as leftovers:
        entry = (await ask_name(store, "", b"folder", leftovers)).entry
        assert entry is not None
        assert entry.is_folder


async def test_a_mount_that_ends_proves_no_absence(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Or a program would be told at the last moment that its file is gone (P5)."""
    store = await bucket("file")
    store.slow("head", 10.0)
    async with trio.open_nursery() as leftovers:
        nursery.start_soon(_cancel_after, 1.0, leftovers.cancel_scope)
        with trio.CancelScope(shield=True), pytest.raises(Unreachable, match="the mount ends"):
            await ask_name(store, "", b"file", leftovers)


async def _cancel_after(seconds: float, scope: trio.CancelScope) -> None:
    await trio.sleep(seconds)
    scope.cancel()


async def test_a_file_is_one_only_when_no_directory_has_its_name(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Or which of both is shown would be a matter of which answer comes first."""
    store = await bucket("both", "both/file")
    store.slow("list", 10.0)
    entry = (await ask_name(store, "", b"both", nursery)).entry
    assert entry is not None
    assert entry.is_folder


async def test_the_object_beside_a_directory_is_found_by_its_other_name(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """That takes both answers, or the object could be seen in the listing but not opened."""
    store = await bucket("both", "both/file")
    store.slow("head", 10.0, times=None)
    entry = (await ask_name(store, "", b"both.blobfs-object", nursery)).entry
    assert entry is not None
    assert not entry.is_folder
    assert entry.key == "both"


@pytest.mark.parametrize("kind", ["head", "list"])
@pytest.mark.parametrize("slow", ["head", "list"])
async def test_half_an_answer_is_no_absence(
    kind: str, slow: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Or a file would be gone while only one of two requests got through (P5)."""
    store = await bucket("other")
    store.slow(slow, 1.0)  # type: ignore[arg-type]
    store.fail(kind, Unreachable("no network"))  # type: ignore[arg-type]
    with pytest.raises(BlobfsError, match="no network"):
        await ask_name(store, "", b"name", nursery)
