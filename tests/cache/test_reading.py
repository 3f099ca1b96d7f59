"""What an open file gives: the right bytes, with as few requests as can be."""

import errno
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
import trio
import trio.testing
from hypothesis import given, settings

from blobfs.cache.reading import Reader, Reading, open_reading
from blobfs.cache.source import BLOCK_BYTES
from blobfs.env import Env
from blobfs.errors import Changed, Damaged, InUse, Unreachable
from blobfs.types import KIB, MIB, ByteRange, Content
from tests.cache.conftest import OpenReading, RecordingStore

Body = Callable[[int], bytes]


async def written(reading: Reading) -> None:
    """Wait for what happens behind the readers' backs."""
    await reading._disk.wait_written()


async def read_through(reader: Reader, size_bytes: int, step_bytes: int = 128 * KIB) -> bytes:
    parts = [
        bytes(await reader.read(ByteRange(at, at + step_bytes)))
        for at in range(0, size_bytes, step_bytes)
    ]
    return b"".join(parts)


class TestRequests:
    """What is asked of the store."""

    async def test_small_file_is_one_request(
        self, store: RecordingStore, opened: OpenReading, body: Body
    ) -> None:
        """Users with many small files would wait for several round trips each."""
        content = await store.add("f", body(MIB))
        async with opened() as reading:
            assert await read_through(reading.open(content), MIB) == body(MIB)
        assert store.spans == [ByteRange(0, MIB)]

    async def test_random_read_fetches_one_block(
        self, store: RecordingStore, opened: OpenReading, body: Body
    ) -> None:
        """Users of databases would download megabytes for a page."""
        content = await store.add("f", body(16 * MIB))
        async with opened() as reading:
            got = await reading.open(content).read(ByteRange(8 * MIB + 5, 8 * MIB + 9))
            assert got == body(16 * MIB)[8 * MIB + 5 : 8 * MIB + 9]
        assert store.spans == [ByteRange(8 * MIB, 8 * MIB + BLOCK_BYTES)]

    async def test_straight_read_fetches_each_byte_once_in_large_requests(
        self,
        store: RecordingStore,
        opened: OpenReading,
        body: Body,
        autojump_clock: trio.testing.MockClock,
    ) -> None:
        """Users would pay for bytes twice, or wait for thousands of round trips."""
        size = 24 * MIB + 5
        content = await store.add("f", body(size))
        store.slow("get", 0.02, times=None)
        async with opened() as reading:
            assert await read_through(reading.open(content), size) == body(size)
        assert sum(map(len, store.spans)) == size
        assert len(store.spans) <= 14

    async def test_parallel_readers_share_a_request(
        self,
        store: RecordingStore,
        opened: OpenReading,
        body: Body,
        autojump_clock: trio.testing.MockClock,
    ) -> None:
        """Users who start ten programs on one file would download it ten times."""
        content = await store.add("f", body(MIB))
        store.slow("get", 1.0)
        async with opened() as reading, trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(read_through, reading.open(content), MIB)
        assert store.spans == [ByteRange(0, MIB)]

    async def test_remount_reads_from_disk(
        self, store: RecordingStore, opened: OpenReading, body: Body
    ) -> None:
        """Users would download again after each mount."""
        size = 3 * MIB + 7
        content = await store.add("f", body(size))
        async with opened() as reading:
            await read_through(reading.open(content), size)
            await written(reading)
            assert await reading.cached_bytes(content) == size
        store.spans.clear()
        async with opened() as reading:
            assert await reading.cached_bytes(content) == size
            assert await read_through(reading.open(content), size) == body(size)
            assert reading.statistics().misses == 0
            assert reading.statistics().hits > 0
        assert store.spans == []

    async def test_half_of_a_file_on_disk_is_not_fetched(
        self, store: RecordingStore, opened: OpenReading, body: Body
    ) -> None:
        """Users would download what they have."""
        content = await store.add("f", body(4 * BLOCK_BYTES))
        async with opened() as reading:
            await reading.open(content).read(ByteRange(BLOCK_BYTES + 1, BLOCK_BYTES + 2))
            await written(reading)
            assert await reading.cached_bytes(content) == BLOCK_BYTES
        store.spans.clear()
        async with opened() as reading:
            size = content.size_bytes
            assert await read_through(reading.open(content), size) == body(size)
        assert sorted(store.spans) == [
            ByteRange(0, BLOCK_BYTES),
            ByteRange(2 * BLOCK_BYTES, 4 * BLOCK_BYTES),
        ]

    async def test_empty_file_and_reads_behind_the_end(
        self, store: RecordingStore, opened: OpenReading
    ) -> None:
        """Users would get errors for empty files."""
        empty, tiny = await store.add("e", b""), await store.add("t", b"tiny")
        async with opened() as reading:
            assert await reading.open(empty).read(ByteRange(0, 10)) == b""
            assert await reading.open(tiny).read(ByteRange(2, 10)) == b"ny"
            assert await reading.open(tiny).read(ByteRange(4, 10)) == b""
            assert await reading.cached_bytes(empty) == 0


class TestFailures:
    """What goes wrong is told, once, and is over when it is over."""

    async def test_changed_object_is_stale(
        self, store: RecordingStore, opened: OpenReading, body: Body
    ) -> None:
        """Users would read half of one version and half of another."""
        content = await store.add("f", body(16 * MIB))
        async with opened() as reading:
            reader = reading.open(content)
            assert await reader.read(ByteRange(0, 10)) == body(10)
            await store.add("f", body(16 * MIB)[::-1])
            with pytest.raises(Changed) as caught:
                await reader.read(ByteRange(12 * MIB, 12 * MIB + 10))
            assert caught.value.errno == errno.ESTALE
            assert await reader.read(ByteRange(0, 10)) == body(10)

    async def test_deleted_object_is_stale(
        self, store: RecordingStore, opened: OpenReading
    ) -> None:
        """Programs would be told "no such file" of a file that they hold open."""
        content = await store.add("f", b"bytes")
        async with opened() as reading:
            await store.delete_many(["f"])
            with pytest.raises(Changed):
                await reading.open(content).read(ByteRange(0, 5))

    async def test_short_body_is_damage_and_not_kept(
        self, store: RecordingStore, opened: OpenReading
    ) -> None:
        """Users would read zeros or short files, for ever (P6)."""
        content = await store.add("f", b"bytes")
        store.shorten()
        async with opened() as reading:
            reader = reading.open(content)
            with pytest.raises(Damaged):
                await reader.read(ByteRange(0, 5))
            assert await reader.read(ByteRange(0, 5)) == b"bytes"

    async def test_error_reaches_all_waiters_and_is_not_remembered(
        self,
        store: RecordingStore,
        opened: OpenReading,
        autojump_clock: trio.testing.MockClock,
    ) -> None:
        """Users would hang, or see an outage long after it is over."""
        content = await store.add("f", b"bytes")
        store.fail("get", Unreachable("gone"))
        failed: list[Unreachable] = []

        async def expect_failure(reader: Reader) -> None:
            with pytest.raises(Unreachable) as caught:
                await reader.read(ByteRange(0, 5))
            failed.append(caught.value)

        async with opened() as reading:
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(expect_failure, reading.open(content))
            assert len(failed) == 5
            assert await reading.open(content).read(ByteRange(0, 5)) == b"bytes"
        assert len(store.spans) == 2

    async def test_cancelled_reader_leaves_the_request_to_others(
        self,
        store: RecordingStore,
        opened: OpenReading,
        autojump_clock: trio.testing.MockClock,
    ) -> None:
        """Users would get errors because somebody else pressed Ctrl-C."""
        content = await store.add("f", b"bytes")
        store.slow("get", 10.0)
        async with opened() as reading:
            with trio.move_on_after(1) as gave_up:
                await reading.open(content).read(ByteRange(0, 5))
            assert gave_up.cancelled_caught
            assert await reading.open(content).read(ByteRange(0, 5)) == b"bytes"
        assert len(store.spans) == 1

    async def test_closing_ends_reads_that_hang(
        self,
        store: RecordingStore,
        opened: OpenReading,
    ) -> None:
        """Users could not unmount while a server is silent (P8)."""
        content = await store.add("f", b"bytes")
        store.hang("get")

        async def expect_failure(reader: Reader) -> None:
            with pytest.raises(Unreachable):
                await reader.read(ByteRange(0, 5))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery, opened() as reading:
                nursery.start_soon(expect_failure, reading.open(content))
                await trio.testing.wait_all_tasks_blocked()

    async def test_second_mount_is_refused_plainly(
        self, store: RecordingStore, opened: OpenReading
    ) -> None:
        """Users would see an exception group instead of who uses the folder."""
        async with opened():
            with pytest.raises(InUse):
                async with opened():
                    pass


class TestMemory:
    """The budget is kept, and nobody starves."""

    async def test_budget_holds_with_many_readers(
        self,
        store: RecordingStore,
        opened: OpenReading,
        body: Body,
        autojump_clock: trio.testing.MockClock,
    ) -> None:
        """Users would lose their memory to eight copies at once (P10)."""
        contents = [await store.add(f"f{n}", body(2 * MIB + n)) for n in range(8)]
        whole = body(3 * MIB)
        store.slow("get", 0.02, times=None)
        peak = 0
        async with opened(memory_bytes=4 * MIB) as reading:

            async def copy(content: Content) -> None:
                nonlocal peak
                reader, size = reading.open(content), content.size_bytes
                for at in range(0, size, 128 * KIB):
                    got = await reader.read(ByteRange(at, at + 128 * KIB))
                    assert got == whole[at : min(at + 128 * KIB, size)]
                    peak = max(peak, reading.statistics().memory_bytes)
                reader.close()

            async with trio.open_nursery() as nursery:
                for content in contents:
                    nursery.start_soon(copy, content)
        assert 0 < peak <= 4 * MIB

    async def test_budget_smaller_than_a_block_still_reads(
        self, store: RecordingStore, opened: OpenReading, body: Body
    ) -> None:
        """Users with tiny settings would hang."""
        content = await store.add("f", body(MIB))
        async with opened(memory_bytes=100 * KIB) as reading:
            with trio.fail_after(60):
                assert await read_through(reading.open(content), MIB) == body(MIB)

    async def test_read_in_memory_needs_no_thread(
        self,
        store: RecordingStore,
        opened: OpenReading,
        body: Body,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Users would pay a thread hop for each 128 KiB of a stream."""
        content = await store.add("f", body(MIB))
        async with opened() as reading:
            reader = reading.open(content)
            await read_through(reader, MIB)
            await written(reading)
            with monkeypatch.context() as patch:
                patch.setattr(trio.to_thread, "run_sync", None)
                assert await read_through(reader, MIB) == body(MIB)


class TestPrefetch:
    """Small files are there before they are asked for."""

    async def test_expected_files_need_no_wait(
        self,
        store: RecordingStore,
        opened: OpenReading,
        autojump_clock: trio.testing.MockClock,
    ) -> None:
        """Users would wait a round trip for each of a thousand small files."""
        contents = [await store.add(f"f{n}", b"%d" % n) for n in range(40)]
        store.slow("get", 1.0, times=None)
        async with opened() as reading:
            started = trio.current_time()
            reading.prefetch(contents)
            for number, content in enumerate(contents):
                assert await reading.open(content).read(ByteRange(0, 9)) == b"%d" % number
            assert trio.current_time() - started < 10
        assert len(store.spans) == 40

    async def test_what_is_cached_large_or_empty_is_passed_over(
        self, store: RecordingStore, opened: OpenReading, body: Body
    ) -> None:
        """Users would download what they have, or what they did not ask for."""
        known, large = await store.add("k", b"known"), await store.add("l", body(2 * MIB))
        empty = await store.add("e", b"")
        async with opened() as reading:
            await reading.open(known).read(ByteRange(0, 5))
            await written(reading)
        store.spans.clear()
        async with opened() as reading:
            reading.prefetch([known, large, empty])
            await trio.testing.wait_all_tasks_blocked()
        assert store.spans == []

    async def test_tight_memory_drops_expectations(
        self, store: RecordingStore, opened: OpenReading, body: Body
    ) -> None:
        """Users would wait for memory that guesses hold."""
        contents = [await store.add(f"f{n}", body(BLOCK_BYTES)) for n in range(10)]
        async with opened(memory_bytes=MIB) as reading:
            reading.prefetch(contents)
            await trio.testing.wait_all_tasks_blocked()
        assert len(store.spans) < 10

    async def test_failure_is_left_to_who_opens(
        self, store: RecordingStore, opened: OpenReading
    ) -> None:
        """Users would lose their mount to a guess about a file that was deleted."""
        contents = [Content("gone", "etag", 5), await store.add("f", b"there")]
        async with opened() as reading:
            reading.prefetch(contents)
            assert await reading.open(contents[1]).read(ByteRange(0, 5)) == b"there"
            with pytest.raises(Changed):
                await reading.open(contents[0]).read(ByteRange(0, 5))


class TestAgainstOracle:
    """Whatever is read, deleted, damaged or remounted: the bytes are right."""

    async def test_damaged_disk_is_fetched_again(
        self, store: RecordingStore, opened: OpenReading, root: Path, body: Body
    ) -> None:
        """Users would read what a dying disk makes of their files (P6)."""
        content = await store.add("f", body(2 * MIB))
        async with opened() as reading:
            await read_through(reading.open(content), 2 * MIB)
            await written(reading)
        path = next((root / "data").iterdir())
        raw = bytearray(path.read_bytes())
        raw[MIB + 5] ^= 4
        path.write_bytes(raw)
        for damaged in (1, 0):
            async with opened() as reading:
                assert await read_through(reading.open(content), 2 * MIB) == body(2 * MIB)
                await written(reading)
                assert reading.statistics().damaged == damaged

    async def test_folder_deleted_while_reading(
        self, store: RecordingStore, opened: OpenReading, root: Path, body: Body
    ) -> None:
        """Users who clean up their caches would get errors from open files."""
        content = await store.add("f", body(8 * MIB))
        async with opened(memory_bytes=2 * MIB) as reading:
            reader = reading.open(content)
            for round_ in range(3):
                assert await read_through(reader, 8 * MIB) == body(8 * MIB)
                if round_ == 0:
                    shutil.rmtree(root)
            await written(reading)
            assert reading.statistics().bytes > 0

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def test_random_life(self, seed: int) -> None:
        """Users would read wrong bytes after some order of events that nobody thought of."""
        with tempfile.TemporaryDirectory() as folder:
            trio.run(live, random.Random(seed), Path(folder) / "cache")


async def live(chance: random.Random, root: Path) -> None:
    """Read at random through tiny limits, with deletions, damage and remounts between."""
    store = RecordingStore()
    bodies = [chance.randbytes(size) for size in (0, 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 17, 2 * MIB)]
    contents = [await store.add(f"f{n}", body) for n, body in enumerate(bodies)]
    for _ in range(3):
        async with open_reading(
            store, root, limit_bytes=2 * MIB, memory_bytes=MIB, env=Env()
        ) as reading:
            readers = [reading.open(content) for content in contents]
            for _ in range(12):
                async with trio.open_nursery() as nursery:
                    for _ in range(chance.randrange(1, 5)):
                        number = chance.randrange(len(contents))
                        nursery.start_soon(
                            check,
                            readers[number],
                            bodies[number],
                            chance.randrange(2 * MIB),
                            chance.randrange(1, MIB),
                        )
                if chance.random() < 0.1:
                    shutil.rmtree(root, ignore_errors=True)
            await written(reading)
            assert reading.statistics().bytes <= 2 * MIB
        damage(chance, root)


async def check(reader: Reader, body: bytes, start: int, length: int) -> None:
    assert await reader.read(ByteRange(start, start + length)) == body[start : start + length]


def damage(chance: random.Random, root: Path) -> None:
    for path in root.glob("data/*"):
        raw = bytearray(path.read_bytes())
        if raw and chance.random() < 0.5:
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            path.write_bytes(raw[: chance.choice([len(raw), len(raw) // 2])])
