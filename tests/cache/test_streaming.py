"""Bytes are served while the rest of their answer is under way."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
import trio.testing

from blobfs.cache.fetch import STREAMED_BYTES, Arrivals, Flight
from blobfs.cache.reading import Reader
from blobfs.cache.source import BLOCK_BYTES, source_of
from blobfs.errors import Changed, Unreachable
from blobfs.model.coalesce import Run
from blobfs.stores.base import Fetched, Inbox
from blobfs.types import KIB, MIB, ByteRange, Content, ObjectInfo
from tests.cache.conftest import OpenReading, RecordingStore

Body = Callable[[int], bytes]

LARGE = ByteRange(0, MIB)
"""A first read of this size is answered by a request of several MiB."""


class TricklingStore(RecordingStore):
    """Sends the first MiB of a large answer, and the rest when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = trio.Event()
        self.error: Exception | None = None
        self.etag: str | None = None
        self.lost_bytes = 0

    async def get_into(
        self, key: str, inbox: Inbox, *, span: ByteRange, if_match: str | None
    ) -> Fetched:
        fetched = await self.get(key, span=span, if_match=if_match)
        if self.etag is not None:
            fetched = replace(fetched, info=replace(fetched.info, etag=self.etag))
        self._hand_over(inbox, fetched, MIB)
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        sent = len(fetched.data) - self.lost_bytes
        self._hand_over(inbox, fetched, sent)
        return Fetched(fetched.info, inbox.buffer[:sent])

    def _hand_over(self, inbox: Inbox, fetched: Fetched, count: int) -> None:
        inbox.buffer[:count] = fetched.data[:count]
        inbox.arrived(fetched.info, count)


@pytest.fixture
def store() -> TricklingStore:
    return TricklingStore()


async def test_first_bytes_do_not_wait_for_the_last(
    store: TricklingStore, opened: OpenReading, body: Body
) -> None:
    """Users would wait for 16 MiB before a program sees the first byte."""
    content = await store.add("f", body(8 * MIB))
    async with opened() as reading:
        reader = reading.open(content)
        with trio.fail_after(60):
            assert await reader.read(LARGE) == body(MIB)
        store.go_on.set()
        rest = ByteRange(MIB, 8 * MIB)
        assert await reader.read(rest) == body(8 * MIB)[MIB:]
    assert sum(map(len, store.spans)) == 8 * MIB


async def test_bytes_that_have_not_arrived_are_waited_for(
    store: TricklingStore,
    opened: OpenReading,
    body: Body,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Users would read what was in the buffer before (P6)."""
    content = await store.add("f", body(8 * MIB))
    async with opened() as reading:
        reader = reading.open(content)
        await reader.read(LARGE)
        with trio.move_on_after(1) as waiting:
            await reader.read(ByteRange(MIB - 1, MIB + 1))
        assert waiting.cancelled_caught
        store.go_on.set()
        assert await reader.read(ByteRange(MIB - 1, MIB + 1)) == body(MIB + 1)[-2:]


async def test_failure_on_the_way_is_told_and_over_when_it_is_over(
    store: TricklingStore, opened: OpenReading, body: Body
) -> None:
    """Users would hang where a connection breaks in the middle of an answer."""
    content = await store.add("f", body(8 * MIB))
    async with opened() as reading:
        reader = reading.open(content)
        await reader.read(LARGE)
        store.error = Unreachable("gone")
        store.go_on.set()
        with pytest.raises(Unreachable):
            await reader.read(ByteRange(MIB, 2 * MIB))
        store.error = None
        assert await reader.read(ByteRange(MIB, 2 * MIB)) == body(2 * MIB)[MIB:]


async def test_nothing_of_another_version_is_served(
    store: TricklingStore, opened: OpenReading, body: Body
) -> None:
    """Users would read half of one version and half of another, from a server that does not
    look at If-Match (P6)."""
    content = await store.add("f", body(8 * MIB))
    store.etag = "another"
    async with opened() as reading, trio.open_nursery() as nursery:

        async def expect_failure(reader: Reader) -> None:
            with pytest.raises(Changed):
                await reader.read(LARGE)

        nursery.start_soon(expect_failure, reading.open(content))
        await trio.testing.wait_all_tasks_blocked()
        store.go_on.set()


async def test_answer_that_is_too_short_is_no_answer(
    store: TricklingStore, opened: OpenReading, body: Body
) -> None:
    """Users would read zeros at the end of a large file (P6)."""
    content = await store.add("f", body(8 * MIB))
    store.lost_bytes = 1
    store.go_on.set()
    async with opened() as reading:
        assert await reading.open(content).read(ByteRange(0, 8 * MIB)) == body(8 * MIB)
    assert sum(map(len, store.spans)) > 8 * MIB


async def test_slow_line_is_not_asked_for_more(
    store: TricklingStore,
    opened: OpenReading,
    body: Body,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Users of a slow line would get errors, as so much at a time misses its deadline."""
    size = 48 * MIB
    content = await store.add("f", body(size))
    store.go_on.set()
    store.slow("get", 10.0, times=None)
    async with opened() as reading:
        reader = reading.open(content)
        for at in range(0, size, MIB):
            assert len(await reader.read(ByteRange(at, at + MIB))) == MIB
    assert max(map(len, store.spans[4:])) <= 4 * MIB


def test_thread_that_outlives_the_mount_hurts_nobody() -> None:
    """Users would find a traceback in the log of each mount that ended while it read."""

    async def leave_behind() -> Arrivals:
        content = Content("f", "etag", STREAMED_BYTES)
        flight = Flight(source_of(content), Run(0, STREAMED_BYTES // BLOCK_BYTES, ()))
        return Arrivals(flight, memoryview(bytearray(STREAMED_BYTES)), lambda _, count: count)

    inbox = trio.run(leave_behind)
    inbox.arrived(ObjectInfo("f", STREAMED_BYTES, "etag", 0), 64 * KIB)
