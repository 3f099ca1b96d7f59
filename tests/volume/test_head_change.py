"""`head` is changed by several clients, and no change of it is lost."""

import pytest
import trio
from msgspec.structs import replace

from blobfs.errors import Changed, Damaged, InUse, OutcomeUnknown, Unsupported
from blobfs.formats.head import Head, VolumeSettings, encode_head
from blobfs.formats.keys import checkpoint_name, head_key
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import Seq
from blobfs.volume import head_change
from blobfs.volume.head_change import change_head, find_head, prove_if_match
from tests.volume.careless import Careless
from tests.volume.story import ME, SOMEBODY

LOST = OutcomeUnknown("the answer was lost")
QUOTA = VolumeSettings(quota_bytes=7)


class Unconditional(Careless):
    """A store that says that it takes no conditions."""

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        if if_absent or if_match is not None:
            raise Unsupported("no conditions here")
        return await self.inner.put(key, data)


def set_quota(head: Head) -> Head:
    return replace(head, settings=QUOTA)


def add_checkpoint(head: Head) -> Head:
    return replace(head, checkpoint=checkpoint_name(Seq(9), bytes(32)))


async def store_with(head: Head) -> FaultyStore:
    store = MemoryStore()
    await store.put(head_key(), encode_head(head))
    return FaultyStore(store)


async def head_of(store: Store) -> Head:
    return (await find_head(store)).head


async def test_a_change_leaves_all_else() -> None:
    """Who set a quota would take the newest checkpoint from everybody."""
    store = await store_with(add_checkpoint(Head()))
    assert await change_head(store, set_quota) == set_quota(add_checkpoint(Head()))
    assert await head_of(store) == set_quota(add_checkpoint(Head()))


async def test_what_changes_nothing_is_not_put() -> None:
    """Who asks twice would pay twice, and disturb those who change it meanwhile."""
    store = await store_with(set_quota(Head()))
    await change_head(store, set_quota)
    assert store.calls["put"] == 0


async def test_two_at_a_time_both_count() -> None:
    """One of two changes would be gone, and nobody would be told."""
    store = await store_with(Head())
    async with trio.open_nursery() as nursery:
        for change in (set_quota, add_checkpoint):
            nursery.start_soon(change_head, store, change)
    assert await head_of(store) == set_quota(add_checkpoint(Head()))
    assert store.calls["put"] == 3


async def test_a_lost_answer_is_looked_for() -> None:
    """What was done would be reported as failed, or be done over what others did since."""
    store = await store_with(Head())
    store.lose_reply("put", LOST)
    assert await change_head(store, set_quota) == set_quota(Head())
    assert store.calls["put"] == 1


async def test_a_put_that_was_lost_is_made_again() -> None:
    """What was not done would be reported as done."""
    store = await store_with(Head())
    store.fail("put", LOST)
    await change_head(store, set_quota)
    assert await head_of(store) == set_quota(Head())


async def test_it_gives_up_in_the_end() -> None:
    """The command would hang."""
    store = await store_with(Head())
    store.fail("put", Changed("another version"), times=None)
    with pytest.raises(Changed):
        await change_head(store, set_quota)
    assert store.calls["put"] == head_change.MOST_PUTS


async def test_nothing_is_made_of_nothing() -> None:
    """A head that is gone would come back with a floor of 0, over a log that was cut (L5)."""
    with pytest.raises(Damaged, match="lost its head"):
        await change_head(MemoryStore(), set_quota)


class TestOneWriter:
    """Volumes on stores that keep no writers apart (L8)."""

    async def test_others_are_refused(self) -> None:
        """The one writer's commits would be lost to somebody else's."""
        store = await store_with(Head(owner=SOMEBODY))
        with pytest.raises(InUse, match="one writer"):
            await change_head(store, set_quota, me=ME)
        assert await head_of(store) == Head(owner=SOMEBODY)

    async def test_the_owner_may_without_conditions(self) -> None:
        """Who has such a store could set nothing."""
        store = Unconditional(await store_with(Head(owner=ME)))
        await change_head(store, set_quota, me=ME)
        assert await head_of(store) == set_quota(Head(owner=ME))

    async def test_nobody_else_may_without_conditions(self) -> None:
        """Two clients would undo each other's changes."""
        store = Unconditional(await store_with(Head()))
        with pytest.raises(Unsupported):
            await change_head(store, set_quota, me=ME)
        assert await head_of(store) == Head()


class TestProof:
    async def test_a_good_store_passes_and_nothing_changes(self) -> None:
        """Users of good stores could set nothing."""
        store = await store_with(add_checkpoint(Head()))
        before = await find_head(store)
        await prove_if_match(store)
        assert await find_head(store) == before

    async def test_a_careless_store_is_found_out(self) -> None:
        """Two clients would undo each other's changes on it."""
        store = Careless(await store_with(add_checkpoint(Head())))
        with pytest.raises(Unsupported, match="whatever version"):
            await prove_if_match(store)
        assert await head_of(store) == add_checkpoint(Head())

    async def test_a_lost_answer_proves_nothing(self) -> None:
        """A careless store would pass on a bad line."""
        store = Careless(await store_with(Head()))
        faulty = FaultyStore(store)
        faulty.lose_reply("put", LOST)
        with pytest.raises(Unsupported):
            await prove_if_match(faulty)
        assert faulty.calls["put"] == 2
