"""Show what each layer around a store does, in virtual time."""

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from blobfs.env import Env
from blobfs.errors import (
    AccessDenied,
    BlobfsError,
    Damaged,
    NotFound,
    OutcomeUnknown,
    Throttled,
    Unreachable,
)
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.layers import (
    Limited,
    Metered,
    Prefixed,
    pause_before_retry_s,
    with_layers,
)
from blobfs.stores.memory import MemoryStore
from blobfs.stores.metering import BUCKET_BOUNDS_S, Meter, bucket_of
from blobfs.types import ByteRange
from tests.contracts.store_contract import StoreContract

ENV = Env(chance=lambda: 1.0)


@pytest.fixture
def faulty() -> FaultyStore:
    return FaultyStore(MemoryStore())


class TestLayered(StoreContract):
    """All layers together change nothing of what a store is."""

    @pytest.fixture
    async def store(self) -> Store:
        return with_layers(MemoryStore(), env=Env())[0]

    async def peek(self, store: Store, key: str) -> bytes:
        return bytes((await store.get(key)).data)


class TestPrefixed(StoreContract):
    """A prefix of a store is a store."""

    @pytest.fixture
    async def store(self) -> Store:
        self.inner = MemoryStore()
        for key in ("under", "under.ground", "under0", "other/file", "z"):
            await self.inner.put(key, b"not yours")
        return Prefixed(self.inner, "under/")

    async def peek(self, store: Store, key: str) -> bytes:
        assert isinstance(store, Prefixed)
        assert isinstance(store.inner, MemoryStore)
        return store.inner.peek(f"under/{key}")


# -- retries --------------------------------------------------------------------------


async def test_what_fails_once_is_tried_again(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """Or each hiccup of the network would be an error in a program."""
    store, meter = with_layers(faulty, env=ENV)
    await store.put("key", b"x")
    for error in (Unreachable("gone"), Damaged("short"), Throttled("busy")):
        faulty.fail("get", error)
        assert bytes((await store.get("key")).data) == b"x"
    assert meter.snapshot().retries == 3
    assert meter.snapshot().errors == 3
    assert meter.snapshot().requests["get"] == 6


@pytest.mark.parametrize("error", [AccessDenied("no"), NotFound("no"), OutcomeUnknown("lost")])
async def test_what_will_not_change_is_not_tried_again(
    faulty: FaultyStore, error: BlobfsError, autojump_clock: MockClock
) -> None:
    """Or a commit would be repeated on top of its own success, and a refusal take 30 s."""
    store, meter = with_layers(faulty, env=ENV)
    faulty.fail("put", error)
    with pytest.raises(type(error)):
        await store.put("key", b"x", if_absent=True)
    assert meter.snapshot().retries == 0
    assert trio.current_time() < 0.1


async def test_the_reason_is_told_when_time_is_up(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """Or the user would read "no answer" where the server said why."""
    store, _ = with_layers(faulty, env=ENV, deadline_s=30)
    faulty.fail("get", Unreachable("connection refused"), times=None)
    began_s = trio.current_time()
    with pytest.raises(Unreachable, match="connection refused"):
        await store.get("key")
    assert 20 < trio.current_time() - began_s <= 30


async def test_a_pause_that_was_asked_for_is_kept(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """Or the store would slow us down further."""
    store, _ = with_layers(faulty, env=Env(chance=lambda: 0.0))
    faulty.fail("list", Throttled("busy", retry_after_s=4.0))
    began_s = trio.current_time()
    await store.list()
    assert trio.current_time() - began_s == pytest.approx(4.0)


def test_pauses_grow_up_to_a_bound() -> None:
    """Or a store that comes back would be met by all clients at once."""
    error = Unreachable("gone")
    pauses = [pause_before_retry_s(error, attempt, 30, 1.0) for attempt in range(8)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert pause_before_retry_s(error, 7, 30, 0.5) == pytest.approx(2.5)
    busy = [pause_before_retry_s(Throttled(""), attempt, 30, 1.0) for attempt in range(5)]
    assert busy == pytest.approx([1, 2, 4, 5, 5])
    assert pause_before_retry_s(Throttled("", retry_after_s=7), 0, 30, 1.0) == pytest.approx(7.1)
    assert pause_before_retry_s(error, 7, 4.9, 1.0) is None
    assert pause_before_retry_s(Throttled("", retry_after_s=40), 0, 30, 0.0) is None
    assert pause_before_retry_s(NotFound(""), 0, 30, 1.0) is None


# -- deadlines ------------------------------------------------------------------------

Ask = Callable[[Store], Awaitable[object]]


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda store: store.get("key"), Unreachable),
        (lambda store: store.head("key"), Unreachable),
        (lambda store: store.list(), Unreachable),
        (lambda store: store.put("key", b"x"), Unreachable),
        (lambda store: store.put("key", b"x", if_absent=True), OutcomeUnknown),
        (lambda store: store.put("key", b"x", if_match="e"), OutcomeUnknown),
        (lambda store: store.delete_many(["key"]), Unreachable),
        (lambda store: store.delete_if_match("key", "e"), Unreachable),
    ],
)
async def test_every_call_ends(
    faulty: FaultyStore, ask: Ask, error: type[BlobfsError], autojump_clock: MockClock
) -> None:
    """Or a program would wait for ever for a server that went silent (P8)."""
    store, _ = with_layers(faulty, env=ENV, deadline_s=30)
    faulty.hang("any", times=None)
    began_s = trio.current_time()
    with pytest.raises(error, match="no answer within 30 s"):
        await ask(store)
    assert trio.current_time() - began_s == pytest.approx(30, abs=0.01)


async def test_an_upload_has_time_for_its_bytes(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """Or a pack could never be saved over a slow line."""
    store, _ = with_layers(faulty, env=ENV, deadline_s=30)
    faulty.slow("put", 90)
    await store.put("key", bytes(16 * 1024 * 1024))


# -- limit ----------------------------------------------------------------------------


async def test_lookups_do_not_wait_behind_reads(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """Or `ls` would hang while a large file is read ahead."""
    store = Limited(faulty, parallel=2, reserve=1)
    await store.put("key", b"x")
    faulty.slow("get", 10, times=None)
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(store.get, "key")
        await trio.testing.wait_all_tasks_blocked()
        assert faulty.calls["get"] == 2
        began_s = trio.current_time()
        await store.head("key")
        await store.list()
        assert trio.current_time() == began_s
    assert trio.current_time() - began_s == pytest.approx(30)


async def test_turns_are_given_in_order_and_given_back(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """Or a reader could wait for ever while later ones are served."""
    store = Limited(faulty, parallel=1)
    for number in range(5):
        await store.put(str(number), b"x")
    faulty.slow("get", 1, times=None)
    served: list[int] = []

    async def read(number: int) -> None:
        with trio.move_on_after(0.5 if number == 0 else 100):
            await store.get(str(number))
            served.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(read, number)
            await trio.testing.wait_all_tasks_blocked()
    assert served == [1, 2, 3, 4]


# -- meter ----------------------------------------------------------------------------


async def test_the_meter_counts_what_goes_over_the_wire() -> None:
    """Or `blobfs status` would tell a wrong bill."""
    store, meter = with_layers(MemoryStore(), env=ENV)
    await store.put("key", bytes(1000))
    await store.get("key", span=ByteRange(0, 300))
    await store.head("key")
    await store.list()
    await store.list()
    with pytest.raises(NotFound):
        await store.head("absent")
    await store.delete_many(["key"])
    usage = meter.snapshot()
    assert usage.requests == {"get": 1, "head": 2, "list": 2, "put": 1, "delete": 1}
    assert (usage.bytes_sent, usage.bytes_received) == (1000, 300)
    assert (usage.errors, usage.retries) == (0, 0)


async def test_the_meter_tells_how_long_answers_take(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    """Or nobody could tell a slow store from a slow program."""
    meter = Meter()
    store = Metered(faulty, ENV, meter)
    await store.put("key", b"x")
    assert meter.snapshot().latency_s("get", 0.5) is None
    for _ in range(9):
        await store.get("key")
    faulty.slow("get", 3)
    await store.get("key")
    usage = meter.snapshot()
    assert sum(usage.latency_counts["get"]) == 10
    assert usage.latency_s("get", 0.5) == BUCKET_BOUNDS_S[0]
    assert usage.latency_s("get", 1.0) == pytest.approx(4.096)


@pytest.mark.parametrize(
    ("duration_s", "bucket"), [(0, 0), (0.001, 0), (0.0011, 1), (32.0, 15), (1000, 16)]
)
def test_durations_fall_into_their_buckets(duration_s: float, bucket: int) -> None:
    """Or the histogram would show times that nobody measured."""
    assert bucket_of(duration_s) == bucket


async def test_each_request_leaves_a_line_in_the_log(
    faulty: FaultyStore, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """Or nobody could find out afterwards what a mount had asked for."""
    store, _ = with_layers(faulty, env=ENV)
    faulty.fail("get", Unreachable("gone"))
    with caplog.at_level(logging.DEBUG, logger="blobfs.store"), pytest.raises(NotFound):
        await store.get("folder/key")
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("get 'folder/key': Unreachable in ")
    assert second.startswith("get 'folder/key': NotFound in ")


async def test_a_prefixed_store_names_failed_keys_as_asked(faulty: FaultyStore) -> None:
    """Or a delete that failed would be blamed on a key that nobody gave."""
    store = Prefixed(faulty, "under/")
    await store.put("a", b"x")
    assert store.url == "memory:///under"
    assert (await faulty.list()).objects[0].key == "under/a"
    assert (await store.list(start_after="a")).objects == ()
