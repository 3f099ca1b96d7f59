"""The budget holds, waits in turn, and comes back to zero."""

import hypothesis.strategies as st
import pytest
import trio
import trio.testing
from hypothesis import given

from blobfs.cache.memory import OVERHEAD_BYTES, MemoryBudget, Piece, PieceCache
from blobfs.types import KIB, ByteRange

BLOCK = 64 * KIB


def piece(number: int, blocks: int = 1, digest: bytes = b"d") -> Piece:
    span = ByteRange(number * BLOCK, (number + blocks) * BLOCK)
    return Piece(digest, span, memoryview(bytes(len(span))))


def keep(pieces: PieceCache, each: Piece) -> None:
    assert pieces.budget.try_take(each.cost_bytes)
    pieces.add(each)
    pieces.settle(each)


@pytest.fixture
def pieces() -> PieceCache:
    return PieceCache(40 * (BLOCK + OVERHEAD_BYTES), BLOCK)


def test_least_recently_read_goes_first(pieces: PieceCache) -> None:
    """Users would lose read-ahead data just before they read it."""
    for number in range(30):
        keep(pieces, piece(number))
    assert pieces.find(b"d", 0)
    keep(pieces, piece(30))
    assert [n for n in range(31) if not pieces.has(b"d", n)] == [1]


def test_many_tiny_buffers_are_not_free(pieces: PieceCache) -> None:
    """Users with millions of tiny files would run out of memory within the budget."""
    for number in range(20_000):
        tiny = Piece(b"%d" % number, ByteRange(0, 1), memoryview(b"x"))
        keep(pieces, tiny)
    assert len(list(pieces.blocks(b"19999"))) == 1
    assert not pieces.has(b"0", 0)
    assert pieces.budget.idle_bytes <= pieces.budget.limit_bytes


def test_overlapping_pieces_leave_one_by_one(pieces: PieceCache) -> None:
    """Users would get an EIO from the bookkeeping when two requests brought one block."""
    keep(pieces, piece(0, 2))
    keep(pieces, piece(1))
    assert pieces.find(b"d", 1) != pieces.find(b"d", 0)
    pieces.clear()
    assert pieces.budget.used_bytes == 0
    assert not list(pieces.blocks(b"d"))


def test_background_work_takes_at_most_half() -> None:
    """Users would wait behind read-ahead for what they need now."""
    budget = MemoryBudget(100, lambda _: None)
    assert budget.try_take(50)
    assert not budget.try_take(1)


async def test_demand_waits_in_turn(autojump_clock: trio.testing.MockClock) -> None:
    """Users with a large read would starve behind small ones."""
    budget = MemoryBudget(100, lambda _: None)
    served: list[int] = []

    async def demand(count: int) -> None:
        await budget.take(count)
        served.append(count)
        await trio.sleep(1)
        budget.give_back(count)

    await budget.take(60)
    async with trio.open_nursery() as nursery:
        for count in (70, 40, 100):
            nursery.start_soon(demand, count)
            await trio.testing.wait_all_tasks_blocked()
        assert served == []
        assert not budget.try_take(1)
        budget.give_back(60)
    assert served == [70, 40, 100]
    assert budget.busy_bytes == 0


async def test_oversized_demand_is_served_alone(autojump_clock: trio.testing.MockClock) -> None:
    """Users with a tiny budget would hang for ever."""
    budget = MemoryBudget(10, lambda _: None)
    with trio.fail_after(1):
        await budget.take(1000)
    budget.give_back(1000)
    assert budget.used_bytes == 0


async def test_what_is_lent_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    """Saving would wait for memory that it holds itself, and nothing be saved any more."""
    budget = MemoryBudget(10, lambda _: None)
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery, budget.lent(8):
            await budget.take(4)
            nursery.start_soon(budget.take, 4)
            await trio.testing.wait_all_tasks_blocked()
            assert budget.busy_bytes == 12
            budget.give_back(4)
    budget.give_back(4)
    assert budget.used_bytes == 0


async def test_cancelled_waiter_lets_others_pass(autojump_clock: trio.testing.MockClock) -> None:
    """Users would hang behind a read that was interrupted."""
    budget = MemoryBudget(100, lambda _: None)
    await budget.take(60)
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(budget.take, 90)
    with trio.fail_after(1):
        await budget.take(40)
    assert budget.busy_bytes == 100


class RestingBuffers:
    """Memory that is kept to be used again."""

    def __init__(self, resting_bytes: int) -> None:
        self.resting_bytes = resting_bytes

    def release(self, count: int) -> None:
        self.resting_bytes -= min(count, self.resting_bytes)


def test_buffers_that_rest_count_and_go_first() -> None:
    """Users would see more memory in use than they allowed (P10)."""
    resting = RestingBuffers(50)
    budget = MemoryBudget(100, lambda _: None, resting)
    assert budget.held_bytes == 50
    assert budget.try_take(40)
    assert resting.resting_bytes == 50
    assert budget.try_take(10)
    budget.rest(50)
    assert budget.try_take(30)
    assert budget.held_bytes == 100
    assert resting.resting_bytes == 20


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 8), st.booleans()), max_size=80))
def test_gauges_are_what_is_held(steps: list[tuple[int, int, bool]]) -> None:
    """Users would see memory leak away, or a cache that holds nothing (P10)."""
    pieces = PieceCache(20 * (BLOCK + OVERHEAD_BYTES), BLOCK)
    held: dict[int, Piece] = {}
    for number, (first, blocks, read) in enumerate(steps):
        new = piece(first, blocks)
        if pieces.budget.try_take(new.cost_bytes):
            keep_this = Piece(b"d", new.span, new.data)
            pieces.add(keep_this)
            pieces.settle(keep_this)
            held[number] = keep_this
        if read:
            pieces.find(b"d", first)
        assert 0 <= pieces.budget.idle_bytes <= pieces.budget.limit_bytes * 3 // 4
        assert pieces.budget.busy_bytes == 0
    pieces.clear()
    assert pieces.budget.used_bytes == 0
    assert not list(pieces.blocks(b"d"))
