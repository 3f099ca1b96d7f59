"""What is committed reads as it was written, with as few requests as can be."""

import errno
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
import trio
import trio.testing
from hypothesis import given, settings

from blobfs.cache.chunks import ArrivalCheck
from blobfs.cache.memory import MemoryBudget
from blobfs.cache.reading import Reading, open_reading
from blobfs.env import Env
from blobfs.errors import Damaged, Unreachable
from blobfs.formats.chunk import Buffer, chunk_id
from blobfs.formats.keys import pack_key
from blobfs.formats.pack import Pack
from blobfs.formats.rows import Extent, ExtentList, Extents, FileContent, Inline
from blobfs.model.chunking import plan_content
from blobfs.stores.base import Fetched, Inbox
from blobfs.stores.memory import MemoryStore
from blobfs.sync.packs import extent_of
from blobfs.sync.pipeline import StagePlaces, Wanted
from blobfs.sync.stage import FileToStage, Stager
from blobfs.types import KIB, MIB, ByteRange, ChunkId, InodeNo
from blobfs.volume.content import ContentReader, Contents
from tests.cache.conftest import RecordingStore

CELL = 256 * KIB


class Bucket:
    """A store with committed contents."""

    def __init__(self, root: Path) -> None:
        self.store = RecordingStore()
        self._root = root
        self._places: dict[ChunkId, Extent] = {}

    @asynccontextmanager
    async def opened(
        self, *, memory_bytes: int = 64 * MIB, limit_bytes: int = 64 * MIB
    ) -> AsyncIterator[Reading]:
        """Open a cache; afterwards no byte of memory may be in use."""
        async with open_reading(
            self.store, self._root, limit_bytes=limit_bytes, memory_bytes=memory_bytes, env=Env()
        ) as reading:
            yield reading
        assert reading.budget.used_bytes == 0

    async def save(
        self,
        data: bytes,
        old: Sequence[Extent] = (),
        changed: ByteRange | None = None,
        reading: Reading | None = None,
    ) -> FileContent:
        """Save a file, as a change of the extents `old`; `reading` keeps what is sent."""

        async def read(wanted: Sequence[Wanted]) -> Sequence[Buffer]:
            return [memoryview(data)[span.start : span.stop] for _, span in wanted]

        plan = plan_content(
            size_bytes=len(data),
            base=old,
            base_limit_bytes=sum(extent.length_bytes for extent in old),
            changed=[changed or ByteRange(0, len(data))],
        )
        inode = InodeNo(1)
        stager = self._stager(reading)
        staged = await stager.stage([FileToStage(inode, len(data), plan)], read)
        return staged.contents[inode]

    async def save_cut(self, data: bytes, lengths: Sequence[int]) -> Extents:
        """Save `data` cut where nobody of ours would cut it; -n is a hole of n bytes."""
        cuts: list[bytes] = []
        start = 0
        for length in lengths:
            cuts += [data[start : start + length]] if length > 0 else []
            start += abs(length)
        made = iter(await self._stager(None).stage_data(cuts))
        return Extents(tuple(next(made) if n > 0 else Extent(-n) for n in lengths))

    def damage(self, extent: Extent) -> None:
        """Flip a bit of a chunk in its pack."""
        body = bytearray(self._object(extent))
        body[extent.offset + extent.stored_bytes // 2] ^= 4
        self._replace(extent, bytes(body))

    def truncate(self, extent: Extent) -> None:
        self._replace(extent, self._object(extent)[: extent.offset + 1])

    def _object(self, extent: Extent) -> bytes:
        assert isinstance(self.store.inner, MemoryStore)
        return self.store.inner.peek(pack_key(extent.pack))

    def _replace(self, extent: Extent, body: bytes) -> None:
        assert isinstance(self.store.inner, MemoryStore)
        objects = self.store.inner._objects
        found = objects[pack_key(extent.pack)]
        objects[pack_key(extent.pack)] = replace(found, data=body)

    def _stager(self, reading: Reading | None) -> Stager:
        keep = reading.chunks.keep if reading else lambda chunk, data: None
        places = StagePlaces(look_up=self._places.get, sent=self._note, keep=keep)
        budget = reading.budget if reading else MemoryBudget(64 * MIB, lambda _: None)
        return Stager(self.store, Env(), budget, places)

    def _note(self, pack: Pack) -> None:
        for packed in pack.directory:
            self._places[packed.chunk] = extent_of(pack.name, packed)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path / "cache")


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def text(size: int) -> bytes:
    return b"".join(b"line %d of a file\n" % n for n in range(size // 16))[:size]


async def read_through(reader: ContentReader, step: int = 128 * KIB) -> bytes:
    return b"".join(
        [
            bytes(await reader.read(ByteRange(at, at + step)))
            for at in range(0, reader.size_bytes, step)
        ]
    )


def extents_of(content: FileContent) -> tuple[Extent, ...]:
    assert isinstance(content, Extents)
    return content.extents


class TestRequests:
    """What is asked of the store."""

    async def test_rows_and_holes_cost_nothing(self, bucket: Bucket) -> None:
        """Users of small and of sparse files would wait for the bucket."""
        async with bucket.opened() as reading:
            contents = Contents(reading)
            tiny = contents.open(4, Inline(b"tiny"))
            assert await tiny.read(ByteRange(1, 10)) == b"iny"
            assert await tiny.read(ByteRange(4, 10)) == b""
            hole = contents.open(MIB, Extents((Extent(MIB),)))
            assert await read_through(hole) == bytes(MIB)
            tiny.close()
            hole.close()
        assert bucket.store.spans == []

    async def test_straight_read_is_few_large_requests(
        self, bucket: Bucket, autojump_clock: trio.testing.MockClock
    ) -> None:
        """Users would wait for a round trip for each chunk."""
        data = noise(12 * MIB + 5)
        content = await bucket.save(data)
        bucket.store.slow("get", 0.02, times=None)
        async with bucket.opened() as reading:
            reader = Contents(reading).open(len(data), content)
            assert await read_through(reader) == data
        assert sum(map(len, bucket.store.spans)) == len(data)
        assert len(bucket.store.spans) <= 14

    async def test_random_read_fetches_one_chunk(self, bucket: Bucket) -> None:
        """Users of databases would download megabytes for a page."""
        data = noise(8 * MIB)
        content = await bucket.save(data)
        async with bucket.opened() as reading:
            reader = Contents(reading).open(len(data), content)
            at = 4 * MIB + 5
            assert await reader.read(ByteRange(at, at + 4)) == data[at : at + 4]
        assert list(map(len, bucket.store.spans)) == [CELL]

    async def test_large_chunk_is_fetched_whole_and_once(self, bucket: Bucket) -> None:
        """Users of large files would fetch a chunk anew for each part of it."""
        data = noise(3 * MIB)
        content = await bucket.save_cut(data, [MIB, MIB, MIB])
        async with bucket.opened() as reading:
            reader = Contents(reading).open(len(data), content)
            for at in (MIB + 700 * KIB, MIB + 5, 2 * MIB - 9):
                assert await reader.read(ByteRange(at, at + 9)) == data[at : at + 9]
        assert list(map(len, bucket.store.spans)) == [MIB]

    async def test_remount_reads_from_disk(self, bucket: Bucket) -> None:
        """Users would download again after each mount."""
        data = noise(2 * MIB) + text(MIB)
        content = await bucket.save(data)
        for _ in range(2):
            async with bucket.opened() as reading:
                contents = Contents(reading)
                assert await read_through(contents.open(len(data), content)) == data
                await reading._disk.wait_written()
                assert await contents.cached_bytes(content) == len(data)
        assert sum(map(len, bucket.store.spans)) < 3 * MIB

    async def test_changed_file_fetches_what_changed(self, bucket: Bucket) -> None:
        """Users would download a large file again for each change of it."""
        data = noise(2 * MIB)
        before = await bucket.save(data)
        async with bucket.opened() as reading:
            await read_through(Contents(reading).open(len(data), before))
            await reading._disk.wait_written()
        bucket.store.spans.clear()
        later = data[:MIB] + noise(KIB, 2) + data[MIB + KIB :]
        after = await bucket.save(later, extents_of(before), ByteRange(MIB, MIB + KIB))
        async with bucket.opened() as reading:
            assert await read_through(Contents(reading).open(len(later), after)) == later
        assert list(map(len, bucket.store.spans)) == [CELL]

    async def test_what_was_written_here_is_not_fetched(self, bucket: Bucket) -> None:
        """Users would download what they have just written."""
        data = noise(2 * MIB) + text(MIB)
        async with bucket.opened() as reading:
            content = await bucket.save(data, reading=reading)
            await reading._disk.wait_written()
            contents = Contents(reading)
            assert await contents.cached_bytes(content) == len(data)
            assert await read_through(contents.open(len(data), content)) == data
        assert bucket.store.spans == []


class TestContent:
    """Any cut reads right."""

    async def test_foreign_cuts(self, bucket: Bucket) -> None:
        """Users could not read what other writers cut elsewhere."""
        data = text(100 * KIB) + noise(700 * KIB) + bytes(90 * KIB) + noise(333, 1) + text(MIB)
        lengths = [100 * KIB, 300 * KIB, 400 * KIB, -90 * KIB, 333, MIB - 16, 16]
        content = await bucket.save_cut(data, lengths)
        chance = random.Random(3)
        for _ in range(2):
            async with bucket.opened() as reading:
                reader = Contents(reading).open(len(data), content)
                for _ in range(60):
                    start = chance.randrange(len(data))
                    span = ByteRange(start, start + chance.choice([1, 5000, 300_000]))
                    assert await reader.read(span) == data[span.start : span.stop]
                await reading._disk.wait_written()

    async def test_long_list(self, bucket: Bucket) -> None:
        """Users could not read a file of many extents."""
        data, content = await fragmented(bucket)
        async with bucket.opened() as reading:
            contents = Contents(reading)
            bucket.store.spans.clear()
            reader = contents.open(len(data), content)
            assert bucket.store.spans == []
            async with trio.open_nursery() as nursery:
                for at in (5, 6 * CELL + 7):
                    nursery.start_soon(check, reader, data, ByteRange(at, at + 3))
            assert len(bucket.store.spans) == 3
            assert await read_through(reader) == data
            assert len(await contents.extents(content)) > 256
            await reading._disk.wait_written()
        async with bucket.opened() as reading:
            bucket.store.spans.clear()
            assert await Contents(reading).cached_bytes(content) == sum(
                extent.length_bytes
                for extent in await Contents(reading).extents(content)
                if not extent.is_hole
            )
            assert bucket.store.spans == []

    async def test_row_that_contradicts_itself(self, bucket: Bucket) -> None:
        """Users would read zeros, or less than the file's size, without a word."""
        async with bucket.opened() as reading:
            for content in (Inline(b"four"), Extents((Extent(4),)), ExtentList(())):
                with pytest.raises(Damaged):
                    Contents(reading).open(5, content)


class PouringStore(RecordingStore):
    """A store that hands over what has arrived, half a megabyte at a time, as servers send it."""

    def __init__(self) -> None:
        super().__init__()
        self.held_back = trio.Event()
        """Set for the second half of each answer to arrive."""
        self.flips: list[int] = []
        """Bytes to damage on their way, each in one answer."""

    async def get_into(
        self, key: str, inbox: Inbox, *, span: ByteRange, if_match: str | None
    ) -> Fetched:
        fetched = await self.get(key, span=span, if_match=if_match)
        body = bytearray(fetched.data)
        if self.flips:
            body[self.flips.pop()] ^= 1
        for part in ByteRange(0, len(body)).split(CELL * 2):
            if part.start * 2 >= len(body):
                await self.held_back.wait()
            inbox.buffer[part.start : part.stop] = body[part.start : part.stop]
            inbox.arrived(fetched.info, part.stop)
        return replace(fetched, data=inbox.buffer)


class TestStreaming:
    """Chunks are served while those behind them are under way, and never unverified."""

    @pytest.fixture
    def store(self, bucket: Bucket) -> PouringStore:
        bucket.store = PouringStore()
        return bucket.store

    async def test_first_chunks_are_served_while_the_rest_is_under_way(
        self, bucket: Bucket, store: PouringStore
    ) -> None:
        """Users would wait for sixteen megabytes to read the first."""
        data = noise(4 * MIB)
        content = await bucket.save_cut(data, [MIB] * 4)
        async with bucket.opened() as reading:
            reader = Contents(reading).open(len(data), content)
            with trio.fail_after(60):
                await check_whole(reader, data, store)
        assert sum(map(len, store.spans)) == len(data)

    async def test_damage_is_never_served(self, bucket: Bucket, store: PouringStore) -> None:
        """Users would read wrong bytes because they read fast (P6)."""
        data = noise(4 * MIB)
        content = await bucket.save_cut(data, [MIB] * 4)
        for at in (5, MIB + 5, 4 * MIB - 1):
            store.flips, store.held_back = [at], trio.Event()
            store.held_back.set()
            async with bucket.opened(limit_bytes=MIB) as reading:
                reader = Contents(reading).open(len(data), content)
                await check(reader, data, ByteRange(0, 4 * MIB))
            assert not store.flips

    def test_answer_that_begins_anew_is_verified_anew(self) -> None:
        """Users would read what a second try brought, on the word of the first (P6)."""
        data = noise(2 * MIB)
        buffer = memoryview(bytearray(data))
        extents = [Extent(MIB, chunk_id(data[:MIB])), Extent(MIB, chunk_id(data[MIB:]))]
        arriving = ArrivalCheck(extents, buffer)
        assert arriving.good_bytes(MIB - 1) == 0
        assert arriving.good_bytes(MIB + 1) == MIB
        buffer[5] ^= 1
        assert arriving.good_bytes(MIB // 2) == 0
        assert arriving.good_bytes(2 * MIB) == 0
        assert not arriving.is_whole
        buffer[5] ^= 1
        assert arriving.good_bytes(2 * MIB) == 2 * MIB
        assert arriving.is_whole


class TestDamage:
    """Right bytes or an error, and what is not damaged stays readable (P6)."""

    async def test_damaged_chunk_is_named_and_the_rest_is_readable(self, bucket: Bucket) -> None:
        """Users would read wrong bytes, or lose a whole pack to one bad bit."""
        data = noise(4 * MIB)
        content = await bucket.save(data)
        bad = extents_of(content)[9]
        bucket.damage(bad)
        async with bucket.opened() as reading:
            reader = Contents(reading).open(len(data), content)
            for number in range(16):
                span = ByteRange(number * CELL, (number + 1) * CELL)
                if number != 9:
                    assert await reader.read(span) == data[span.start : span.stop]
                    continue
                with pytest.raises(Damaged, match=pack_key(bad.pack)) as caught:
                    await reader.read(span)
                assert caught.value.errno == errno.EIO

    async def test_damaged_compressed_chunk(self, bucket: Bucket) -> None:
        """Users would see an error of the compressor, or its output."""
        content = await bucket.save(text(MIB))
        bucket.damage(extents_of(content)[2])
        async with bucket.opened() as reading:
            reader = Contents(reading).open(MIB, content)
            with pytest.raises(Damaged, match="pack"):
                await reader.read(ByteRange(2 * CELL, 3 * CELL))
            assert await reader.read(ByteRange(0, 2 * CELL)) == text(MIB)[: 2 * CELL]

    async def test_truncated_pack(self, bucket: Bucket) -> None:
        """Users would read a short file as a whole one."""
        content = await bucket.save(noise(MIB))
        bucket.truncate(extents_of(content)[1])
        async with bucket.opened() as reading:
            with pytest.raises(Damaged, match="length"):
                await Contents(reading).open(MIB, content).read(ByteRange(CELL, CELL + 1))

    async def test_missing_pack_is_an_error_of_reading(self, bucket: Bucket) -> None:
        """Programs would be told "no such file" of a file that is there (P5)."""
        content = await bucket.save(noise(MIB))
        key = pack_key(extents_of(content)[0].pack)
        other = await bucket.save(noise(MIB, 2))
        await bucket.store.delete_many([key])
        async with bucket.opened() as reading:
            reader = Contents(reading).open(MIB, content)
            with pytest.raises(Damaged, match=key) as caught:
                await reader.read(ByteRange(0, 1))
            assert caught.value.errno == errno.EIO
            assert await read_through(Contents(reading).open(MIB, other)) == noise(MIB, 2)

    async def test_damage_on_the_way_is_asked_for_again(self, bucket: Bucket) -> None:
        """Users would get an error for one bad packet."""
        content = await bucket.save(noise(MIB))
        bucket.store.flip_bit("get", bit=8 * CELL)
        async with bucket.opened() as reading:
            assert await read_through(Contents(reading).open(MIB, content)) == noise(MIB)

    async def test_damage_on_disk_is_fetched_again(self, bucket: Bucket, tmp_path: Path) -> None:
        """Users with a failing disk would read wrong bytes, or part of a chunk."""
        data = noise(2 * MIB)
        content = await bucket.save_cut(data, [MIB, MIB])
        async with bucket.opened() as reading:
            await read_through(Contents(reading).open(len(data), content))
            await reading._disk.wait_written()
        (path,) = (tmp_path / "cache" / "data").iterdir()
        raw = bytearray(path.read_bytes())
        raw[MIB + CELL + 7] ^= 1
        path.write_bytes(raw)
        bucket.store.spans.clear()
        async with bucket.opened() as reading:
            assert await read_through(Contents(reading).open(len(data), content)) == data
        assert bucket.store.spans
        assert set(map(len, bucket.store.spans)) <= {MIB, 2 * MIB}

    async def test_every_request_fails_once(self, bucket: Bucket) -> None:
        """Users would hang, or read wrong bytes, when one request fails."""
        data, content = await fragmented(bucket)
        for nth in range(1, 100):
            bucket.store.fail("get", Unreachable("gone"), nth=nth)
            calls = bucket.store.calls["get"]
            async with bucket.opened(limit_bytes=4 * MIB) as reading:
                reader = Contents(reading).open(len(data), content)
                failed = 0
                for at in range(0, len(data), 2 * CELL):
                    try:
                        await check(reader, data, ByteRange(at, at + 2 * CELL))
                    except Unreachable:
                        failed += 1
                        await check(reader, data, ByteRange(at, at + 2 * CELL))
            bucket.store.heal()
            if bucket.store.calls["get"] - calls < nth:
                return
        pytest.fail("it never passes")


async def fragmented(bucket: Bucket) -> tuple[bytes, FileContent]:
    """Save a file of more than 256 extents, some of them holes, with a list of its own."""
    data = noise(CELL) + bytes(5 * CELL) + noise(CELL, 1)
    lengths = [KIB, 3 * KIB] * 64 + [-5 * CELL] + [2 * KIB] * 128
    cut = await bucket.save_cut(data, lengths)
    content = await bucket.save(data, cut.extents, ByteRange(3 * CELL, 3 * CELL + 1))
    assert isinstance(content, ExtentList)
    return data, content


async def check_whole(reader: ContentReader, data: bytes, store: PouringStore) -> None:
    """Read the end of what is held back, and let it arrive when everything else waits for it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(check, reader, data, ByteRange(0, len(data)))
        await trio.testing.wait_all_tasks_blocked()
        await check(reader, data, ByteRange(MIB, MIB + 100))
        assert store.held_back.statistics().tasks_waiting == 1
        store.held_back.set()


async def check(reader: ContentReader, data: bytes, span: ByteRange) -> None:
    assert await reader.read(span) == data[span.start : span.stop]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_random_life(seed: int) -> None:
    """Users would read wrong bytes after some order of events that nobody thought of."""
    with tempfile.TemporaryDirectory() as folder:
        trio.run(live, random.Random(seed), Path(folder))


async def live(chance: random.Random, root: Path) -> None:
    """Read several versions of files at random through tiny limits, with damage between."""
    bucket = Bucket(root / "cache")
    saved: list[tuple[bytes, FileContent]] = []
    for _ in range(4):
        lengths = [chance.choice([CELL, MIB, 7, 300 * KIB, -CELL, -9]) for _ in range(4)]
        data = b"".join(bytes(-n) if n < 0 else chance.randbytes(n) for n in lengths)
        content = await bucket.save_cut(data, lengths)
        saved.append((data, content))
        start = chance.randrange(len(data))
        later = data[:start] + b"changed" + data[start + 7 :]
        span = ByteRange(start, start + 7)
        saved.append((later, await bucket.save(later, content.extents, span)))
    for _ in range(3):
        async with bucket.opened(memory_bytes=2 * MIB, limit_bytes=4 * MIB) as reading:
            readers = [Contents(reading).open(len(data), each) for data, each in saved]
            for _ in range(10):
                async with trio.open_nursery() as nursery:
                    for _ in range(chance.randrange(1, 5)):
                        number = chance.randrange(len(saved))
                        data = saved[number][0]
                        start = chance.randrange(len(data))
                        span = ByteRange(start, start + chance.randrange(1, MIB))
                        nursery.start_soon(check, readers[number], data, span)
        for path in (root / "cache" / "data").iterdir():
            raw = bytearray(path.read_bytes())
            if raw and chance.random() < 0.5:
                raw[chance.randrange(len(raw))] ^= 1
                path.write_bytes(raw)
