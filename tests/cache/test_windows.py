"""Stretches of packs, for who reads many small files that were written together."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio

from blobfs.cache.memory import MemoryBudget
from blobfs.cache.windows import WINDOW_BYTES, PackWindows
from blobfs.formats.keys import pack_key
from blobfs.stores.base import Fetched, Store
from blobfs.stores.layers import Ask, Layer
from blobfs.stores.memory import MemoryStore
from blobfs.types import KIB, MIB, ByteRange, PackName

T = TypeVar("T")

PACK = PackName(b"p" * 40)
BODY = bytes(range(256)) * (5 * MIB // 256)


class Counting(Layer):
    """Counts what is asked for; fails while it is told to."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.gets = 0
        self.fails = False

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        self.gets += 1
        return await super().get("gone" if self.fails else key, span=span, if_match=if_match)

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        return await call()


@pytest.fixture
async def store() -> Counting:
    inner = MemoryStore()
    await inner.put(pack_key(PACK), BODY)
    return Counting(inner)


@pytest.fixture
def budget() -> MemoryBudget:
    return MemoryBudget(256 * MIB, lambda _: None)


def small(number: int) -> ByteRange:
    return ByteRange(number * 4 * KIB, (number + 1) * 4 * KIB)


async def test_a_walk_through_small_files_takes_few_requests(
    store: Counting, budget: MemoryBudget
) -> None:
    """A thousand small files would be a thousand round trips, as with every peer."""
    windows = PackWindows(store, budget)
    alone = 0
    for number in range(len(BODY) // (4 * KIB)):
        found = await windows.find(PACK, small(number))
        if found is None:
            alone += 1
        else:
            span = small(number)
            assert found == BODY[span.start : span.stop]
    assert alone == 2
    assert store.gets == 3
    windows.close()
    assert budget.used_bytes == 0


async def test_a_few_files_here_and_there_fetch_nothing_else(
    store: Counting, budget: MemoryBudget
) -> None:
    """Two small files would cost megabytes."""
    windows = PackWindows(store, budget)
    assert await windows.find(PACK, small(3)) is None
    assert await windows.find(PACK, small(700)) is None
    assert await windows.find(PACK, small(9)) is None
    assert store.gets == 0


async def test_readers_share_a_window(store: Counting, budget: MemoryBudget) -> None:
    """Eight programs would fetch the same megabytes eight times."""
    windows = PackWindows(store, budget)
    for number in range(2):
        await windows.find(PACK, small(number))
    found: list[bytes] = []

    async def read(number: int) -> None:
        part = await windows.find(PACK, small(number))
        assert part is not None
        found.append(bytes(part))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(read, number)
    assert len(found) == 8
    assert store.gets == 1


async def test_a_window_that_fails_leaves_it_to_single_requests(
    store: Counting, budget: MemoryBudget
) -> None:
    """One lost answer would be an error in hundreds of files, or room that never comes back."""
    windows = PackWindows(store, budget)
    store.fails = True
    for number in range(5):
        assert await windows.find(PACK, small(number)) is None
    assert budget.used_bytes == 0
    store.fails = False
    for number in range(5, 8):
        found = await windows.find(PACK, small(number))
    assert found == BODY[small(7).start : small(7).stop]


async def test_what_reaches_over_two_stretches_is_asked_for_alone(
    store: Counting, budget: MemoryBudget
) -> None:
    """Half of a file would be missing."""
    windows = PackWindows(store, budget)
    span = ByteRange(WINDOW_BYTES - KIB, WINDOW_BYTES + KIB)
    for _ in range(5):
        assert await windows.find(PACK, span) is None


async def test_windows_stay_within_their_share(store: Counting) -> None:
    """Small reads would take the memory that streams were promised (P10)."""
    budget = MemoryBudget(32 * MIB, lambda _: None)
    windows = PackWindows(store, budget)
    for number in range(len(BODY) // (4 * KIB)):
        await windows.find(PACK, small(number))
        assert budget.used_bytes <= 4 * MIB
    tiny = PackWindows(store, MemoryBudget(8 * MIB, lambda _: None))
    for number in range(10):
        assert await tiny.find(PACK, small(number)) is None
