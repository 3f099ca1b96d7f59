"""Hold the faulty store to the contract, and to going wrong exactly when it is told to."""

import pytest
import trio
from trio.testing import MockClock

from blobfs.errors import AlreadyExists, NotFound, OutcomeUnknown, Throttled, Unreachable
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from tests.contracts.store_contract import StoreContract


class TestFaultyStore(StoreContract):
    """With rules for every kind of call, none of which fires."""

    @pytest.fixture
    async def store(self) -> Store:
        store = FaultyStore(MemoryStore())
        never = 10**9
        store.fail("any", Unreachable("never"), nth=never)
        store.lose_reply("put", OutcomeUnknown("never"), nth=never)
        store.shorten(nth=never)
        store.flip_bit(nth=never)
        store.slow("list", 1, nth=never)
        store.hang("any", key="no such key")
        store.throttle("delete", nth=never)
        store.repeat_late(nth=never)
        return store

    async def peek(self, store: Store, key: str) -> bytes:
        assert isinstance(store, FaultyStore)
        assert isinstance(store.inner, MemoryStore)
        return store.inner.peek(key)


@pytest.fixture
async def store() -> FaultyStore:
    inner = MemoryStore()
    await inner.put("key", b"content")
    return FaultyStore(inner)


async def test_the_nth_call_of_a_kind_fails(store: FaultyStore) -> None:
    """Or a test of recovery would pass without anything to recover from."""
    store.fail("get", Unreachable("gone"), nth=2, times=2)
    outcomes = []
    for _ in range(4):
        await store.head("key")
        try:
            outcomes.append(bytes((await store.get("key")).data))
        except Unreachable:
            outcomes.append(b"failed")
    assert outcomes == [b"content", b"failed", b"failed", b"content"]
    assert store.calls == {"get": 4, "head": 4}


async def test_a_rule_for_a_key_leaves_other_keys_alone(store: FaultyStore) -> None:
    """Or a fault meant for one object would hit the one that was asked for first."""
    await store.put("other", b"x")
    store.fail("any", Unreachable("gone"), key="other", times=None)
    assert bytes((await store.get("key")).data) == b"content"
    for _ in range(3):
        with pytest.raises(Unreachable):
            await store.get("other")
    with pytest.raises(Unreachable):
        await store.delete_many(["key", "other"])
    assert (await store.head("key")).key == "key"


async def test_a_failed_put_did_not_happen(store: FaultyStore) -> None:
    """Or "not applied" could not be told from "applied"."""
    store.fail("put", Unreachable("gone"))
    with pytest.raises(Unreachable):
        await store.put("new", b"x")
    with pytest.raises(NotFound):
        await store.head("new")


async def test_a_put_whose_reply_is_lost_did_happen(store: FaultyStore) -> None:
    """Or a client that repeats its own commit would never meet it."""
    store.lose_reply("put", OutcomeUnknown("lost"))
    with pytest.raises(OutcomeUnknown):
        await store.put("log/1", b"mine", if_absent=True)
    with pytest.raises(AlreadyExists):
        await store.put("log/1", b"mine", if_absent=True)
    assert bytes((await store.get("log/1")).data) == b"mine"


async def test_a_refusal_is_lost_with_the_reply(store: FaultyStore) -> None:
    """Or a lost reply would still tell how the race ended."""
    store.lose_reply("put", OutcomeUnknown("lost"))
    with pytest.raises(OutcomeUnknown):
        await store.put("key", b"mine", if_absent=True)


async def test_bodies_come_short_or_with_one_bit_changed(store: FaultyStore) -> None:
    """Or nothing would show that what arrives is checked."""
    store.shorten(by_bytes=3)
    store.flip_bit(bit=9, nth=2)
    short, changed, whole = [await store.get("key") for _ in range(3)]
    assert bytes(short.data) == b"cont"
    assert bytes(changed.data) == b"cmntent"
    assert bytes(whole.data) == b"content"
    assert short.info == changed.info == whole.info


async def test_throttling_says_how_long(store: FaultyStore) -> None:
    """Or nothing would show that the pause asked for is kept."""
    store.throttle("list", retry_after_s=2.5)
    with pytest.raises(Throttled) as caught:
        await store.list()
    assert caught.value.retry_after_s == 2.5
    assert [found.key for found in (await store.list()).objects] == ["key"]


async def test_slow_calls_take_their_time_and_hanging_ones_all_of_it(
    store: FaultyStore, autojump_clock: MockClock
) -> None:
    """Or deadlines would be tested with waits that end by themselves."""
    store.slow("get", 5)
    store.hang("head")
    start = trio.current_time()
    await store.get("key")
    assert trio.current_time() - start == pytest.approx(5)
    with trio.move_on_after(3600) as scope:
        await store.head("key")
    assert scope.cancelled_caught
    await store.head("key")


@pytest.mark.parametrize("behind", [1, 2])
async def test_a_put_arrives_again_behind_later_calls(store: FaultyStore, behind: int) -> None:
    """Or a duplicate that a network delivers late could overwrite what came after, unseen."""
    store.repeat_late(behind=behind)
    await store.put("head", b"old")
    await store.put("head", b"new")
    arrived_after_one = bytes((await store.get("head")).data)
    assert arrived_after_one == (b"old" if behind == 1 else b"new")
    assert bytes((await store.get("head")).data) == b"old"
    await store.put("head", b"newest")
    assert bytes((await store.get("head")).data) == b"newest"


async def test_a_late_duplicate_keeps_its_condition(store: FaultyStore) -> None:
    """Or put-if-absent would seem unsafe where it is safe."""
    store.repeat_late()
    await store.put("log/1", b"mine", if_absent=True)
    await store.delete_many(["key"])
    assert bytes((await store.get("log/1")).data) == b"mine"


async def test_rules_that_meet_act_one_around_the_other(
    store: FaultyStore, autojump_clock: MockClock
) -> None:
    """Or "slow, and then the reply is lost" would need a rule of its own."""
    store.slow("put", 2)
    store.lose_reply("put", OutcomeUnknown("lost"))
    start = trio.current_time()
    with pytest.raises(OutcomeUnknown):
        await store.put("new", b"x")
    assert trio.current_time() - start == pytest.approx(2)
    assert (await store.head("new")).size_bytes == 1
