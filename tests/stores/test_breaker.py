"""A store that does not answer is waited for once, not by everybody in turn."""

import pytest
import trio
import trio.testing

from blobfs.env import Env
from blobfs.errors import Changed, Unreachable
from blobfs.stores.breaker import FAIL_AT_ONCE_S, Breaker
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore

GONE = Unreachable("gone", hint="check the network")


@pytest.fixture
async def faulty() -> FaultyStore:
    store = MemoryStore()
    await store.put("key", b"content")
    return FaultyStore(store)


@pytest.fixture
def breaker(faulty: FaultyStore) -> Breaker:
    return Breaker(faulty, Env())


async def fail_after(breaker: Breaker, wait_s: float) -> None:
    started = trio.current_time()
    with pytest.raises(Unreachable, match="gone"):
        await breaker.get("key")
    assert trio.current_time() - started == wait_s


async def test_the_second_fails_at_once_and_the_third_asks_again(
    breaker: Breaker, faulty: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """A kernel reads a failed page twice; a recovered store must be found out soon."""
    faulty.slow("any", 30.0, times=None)
    faulty.fail("any", GONE, times=None)
    await fail_after(breaker, 30.0)
    await fail_after(breaker, 0.0)
    faulty.heal()
    await fail_after(breaker, 0.0)
    await trio.sleep(FAIL_AT_ONCE_S)
    assert bytes((await breaker.get("key")).data) == b"content"
    assert breaker.outage_within(100) is None


async def test_a_store_that_fails_at_once_is_asked_at_once(
    breaker: Breaker, faulty: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody waited, so nobody has to be spared a wait."""
    faulty.fail("any", GONE)
    await fail_after(breaker, 0.0)
    assert bytes((await breaker.get("key")).data) == b"content"


async def test_one_lost_request_among_many_is_no_outage(
    breaker: Breaker, faulty: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """One bad object would otherwise make all others fail."""
    faulty.slow("get", 30.0, key="key")
    faulty.fail("get", GONE, key="key")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_after, breaker, 30.0)
        await trio.sleep(10)
        assert (await breaker.list()).objects
    assert (await breaker.head("key")).size_bytes == 7


async def test_a_refusal_is_an_answer(
    breaker: Breaker, faulty: FaultyStore, autojump_clock: trio.testing.MockClock
) -> None:
    """Only silence is an outage."""
    faulty.slow("any", 30.0)
    faulty.fail("any", Changed("another version"))
    with pytest.raises(Changed):
        await breaker.get("key")
    assert breaker.outage_within(100) is None
