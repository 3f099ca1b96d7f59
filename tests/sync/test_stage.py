"""What is staged lies in the store, once, and whatever fails leaves nothing behind in memory."""

import random
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from blobfs.cache.memory import MemoryBudget
from blobfs.env import Env
from blobfs.errors import AccessDenied, Damaged, OutcomeUnknown, Unreachable
from blobfs.formats.chunk import Buffer, chunk_id, decode_frame
from blobfs.formats.extent_list import decode_extent_list
from blobfs.formats.keys import pack_key, parse_pack_key
from blobfs.formats.pack import Pack, verify_name
from blobfs.formats.rows import EMPTY, Extent, ExtentList, Extents, FileContent, Inline
from blobfs.model.chunking import plan_content
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.sync.packs import MOST_NAMES, extent_of
from blobfs.sync.pipeline import StagePlaces, Wanted
from blobfs.sync.stage import FileToStage, Staged, Stager
from blobfs.types import KIB, MIB, ByteRange, ChunkId, InodeNo, PackName

CELL = 256 * KIB


class Volume:
    """A store, what is known to lie there, and files to save in it."""

    def __init__(self, memory_bytes: int = 64 * MIB) -> None:
        self.memory = MemoryStore()
        self.store = FaultyStore(self.memory)
        self.budget = MemoryBudget(memory_bytes, lambda _: None)
        self.files: dict[InodeNo, bytes] = {}
        self.sent: list[Pack] = []
        self.kept: dict[ChunkId, bytes] = {}
        self._places: dict[ChunkId, Extent] = {}
        chance = random.Random(1)
        places = StagePlaces(look_up=self._places.get, sent=self._note, keep=self._keep)
        self.stager = Stager(self.store, Env(chance=chance.random), self.budget, places)

    async def stage(self, **content: bytes) -> Staged:
        """Save files, named `f<inode>`, as new ones."""
        self.files |= {InodeNo(int(name[1:])): data for name, data in content.items()}
        return await self.stager.stage(
            [whole(InodeNo(int(name[1:])), data) for name, data in content.items()], self.read
        )

    async def read(self, wanted: Sequence[Wanted]) -> Sequence[Buffer]:
        await trio.lowlevel.checkpoint()
        return [memoryview(self.files[inode])[span.start : span.stop] for inode, span in wanted]

    def check(self, staged: Staged) -> None:
        """Compare what the store gives with the files, and the packs with what is said of them."""
        for inode, content in staged.contents.items():
            assert self.content(content) == self.files[inode]
        for key in self.packs:
            name = parse_pack_key(key)
            assert name is not None
            verify_name(name, self.memory.peek(key), key=key)
        assert {pack_key(name) for name in staged.packs} <= set(self.packs)
        assert self.budget.used_bytes == 0

    def content(self, content: FileContent) -> bytes:
        if isinstance(content, Inline):
            return content.data
        return b"".join(map(self._bytes, self.extents(content)))

    def extents(self, content: FileContent) -> list[Extent]:
        if isinstance(content, Extents):
            return list(content.extents)
        assert isinstance(content, ExtentList)
        return [
            extent
            for part in content.parts
            for extent in decode_extent_list(
                self._bytes(part.chunk), covered_bytes=part.covered_bytes, key="list"
            )
        ]

    @property
    def packs(self) -> list[str]:
        return list(self.memory._objects)

    def _bytes(self, extent: Extent) -> bytes:
        if extent.is_hole:
            return bytes(extent.length_bytes)
        body = self.memory.peek(pack_key(extent.pack))
        frame = body[extent.offset : extent.offset + extent.stored_bytes]
        return bytes(decode_frame(frame, chunk=extent.chunk, length_bytes=extent.length_bytes))

    def _note(self, pack: Pack) -> None:
        self.sent.append(pack)
        for packed in pack.directory:
            self._places[packed.chunk] = extent_of(pack.name, packed)

    def _keep(self, chunk: ChunkId, data: Buffer) -> None:
        self.kept[chunk] = bytes(data)


def whole(inode: InodeNo, data: bytes) -> FileToStage:
    changed = [ByteRange(0, len(data))]
    plan = plan_content(size_bytes=len(data), base=[], base_limit_bytes=0, changed=changed)
    return FileToStage(inode, len(data), plan)


@pytest.fixture
def volume() -> Volume:
    return Volume()


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


class TestContent:
    """What comes back is what went in."""

    async def test_small_files_ride_along(self, volume: Volume) -> None:
        """Users with thousands of tiny files would pay a chunk for each."""
        staged = await volume.stage(f2=b"", f3=b"tiny")
        assert staged.contents == {2: EMPTY, 3: Inline(b"tiny")}
        assert not volume.packs
        volume.check(staged)

    async def test_files_lie_in_one_pack_in_their_order(self, volume: Volume) -> None:
        """Users who read a folder again would pay a request for each of its files."""
        content = {f"f{inode}": noise(4 * KIB, inode) for inode in range(999, 0, -1)}
        staged = await volume.stage(**content)
        assert len(volume.packs) == 1
        expected = [chunk_id(noise(4 * KIB, inode)) for inode in range(1, 1000)]
        assert [packed.chunk for packed in volume.sent[0].directory] == expected
        volume.check(staged)

    async def test_large_file_fills_packs(self, volume: Volume) -> None:
        """Users would lose the order of their bytes where one pack ends and the next begins."""
        staged = await volume.stage(f1=noise(9 * MIB + 5))
        assert len(volume.packs) >= 3
        volume.check(staged)

    async def test_compressible_content_is_compressed(self, volume: Volume) -> None:
        """Users would pay for text by its full length."""
        staged = await volume.stage(f1=b"all work and no play\n" * 50_000)
        assert sum(len(pack.body) for pack in volume.sent) < 50_000
        volume.check(staged)

    async def test_zeros_are_holes(self, volume: Volume) -> None:
        """Users of disk images would upload their free room."""
        data = bytes(4 * CELL) + b"end"
        staged = await volume.stage(f1=data)
        content = staged.contents[InodeNo(1)]
        assert isinstance(content, Extents)
        assert content.extents[0] == Extent(4 * CELL)
        assert sum(len(pack.body) for pack in volume.sent) < KIB
        volume.check(staged)

    async def test_equal_chunks_are_sent_once(self, volume: Volume) -> None:
        """Users who copy files would upload them again."""
        same = noise(CELL)
        staged = await volume.stage(f1=same + noise(CELL, 1) + same, f2=same)
        assert sum(len(pack.directory) for pack in volume.sent) == 2
        volume.check(staged)
        again = await volume.stage(f3=same)
        assert len(volume.sent) == 1
        volume.check(again)

    async def test_new_chunks_are_offered_to_the_cache(self, volume: Volume) -> None:
        """Users would download what they have just written."""
        await volume.stage(f1=noise(CELL) + noise(CELL), f2=b"x" * 2 * KIB)
        assert volume.kept == {chunk_id(data): data for data in (noise(CELL), b"x" * 2 * KIB)}

    async def test_small_change_of_a_large_file_is_cheap(self, volume: Volume) -> None:
        """Users of databases would upload far more than they change."""
        size = 80 * MIB
        extents = [
            Extent(CELL, chunk_id(b"%d" % n), volume_pack(n), n % 64 * CELL, CELL)
            for n in range(size // CELL)
        ]
        changed = ByteRange(40 * MIB, 40 * MIB + 4 * KIB)
        volume.files[InodeNo(1)] = bytes(size - 8 * KIB) + noise(8 * KIB)
        plan = plan_content(size_bytes=size, base=extents, base_limit_bytes=size, changed=[changed])
        first = await volume.stager.stage([FileToStage(InodeNo(1), size, plan)], volume.read)
        content = first.contents[InodeNo(1)]
        assert isinstance(content, ExtentList)
        before = sum(len(pack.body) for pack in volume.sent)
        volume.files[InodeNo(1)] = bytes(40 * MIB) + noise(CELL) + bytes(40 * MIB - CELL)
        plan = plan_content(
            size_bytes=size,
            base=volume.extents(content),
            base_limit_bytes=size,
            changed=[changed],
        )
        second = await volume.stager.stage([FileToStage(InodeNo(1), size, plan)], volume.read)
        sent = sum(len(pack.body) for pack in volume.sent) - before
        assert CELL < sent < 290 * KIB
        later = second.contents[InodeNo(1)]
        assert isinstance(later, ExtentList)
        same = set(content.parts) & set(later.parts)
        assert len(same) == len(later.parts) - 1

    async def test_spans_staged_early_are_used_in_the_end(self, volume: Volume) -> None:
        """Users would wait for all of a large file when they close it."""
        data = noise(4 * CELL + 9)
        volume.files[InodeNo(1)] = data
        early = await volume.stager.stage_spans(
            InodeNo(1), [ByteRange(0, CELL), ByteRange(2 * CELL, 3 * CELL)], volume.read
        )
        plan = plan_content(
            size_bytes=len(data),
            base=[],
            base_limit_bytes=0,
            changed=[ByteRange(0, len(data))],
            staged=early,
        )
        staged = await volume.stager.stage([FileToStage(InodeNo(1), len(data), plan)], volume.read)
        assert sum(len(pack.directory) for pack in volume.sent) == 5
        volume.check(staged)

    async def test_data_of_our_own(self, volume: Volume) -> None:
        """Users with long commits could not save them."""
        extents = await volume.stager.stage_data([b"one", b"two"])
        assert list(map(volume._bytes, extents)) == [b"one", b"two"]


def volume_pack(number: int) -> PackName:
    return PackName(bytes(39) + bytes([number // 64]))


class TestFaults:
    """Each call fails once."""

    async def test_every_call_fails_once(self) -> None:
        """Users would lose files, or pay for them twice, when a request fails (P3)."""
        data = noise(9 * MIB)
        for nth in range(1, 100):
            volume = Volume()
            volume.store.fail("any", Unreachable("gone"), nth=nth)
            try:
                staged = await volume.stage(f1=data, f2=data[:CELL], f3=b"x" * 2000)
            except Unreachable:
                assert volume.budget.used_bytes == 0
                before = sum(len(pack.directory) for pack in volume.sent)
                staged = await volume.stage(f1=data, f2=data[:CELL], f3=b"x" * 2000)
                chunks = sum(len(pack.directory) for pack in volume.sent)
                assert before < chunks == 37
                volume.check(staged)
            else:
                volume.check(staged)
                assert nth == volume.store.calls["put"] + 1
                return
        pytest.fail("it never passes")

    async def test_lost_reply_takes_another_name(self, volume: Volume) -> None:
        """Users would find a pack removed that a late duplicate of a PUT had brought back."""
        volume.store.lose_reply("put", OutcomeUnknown("lost"), times=2)
        staged = await volume.stage(f1=noise(CELL))
        assert len(set(volume.packs)) == 3
        assert len({key[:-16] for key in volume.packs}) == 1
        assert len(volume.sent) == 1
        volume.check(staged)

    async def test_late_duplicate_changes_nothing(self, volume: Volume) -> None:
        """Users would read the bytes of another pack."""
        volume.store.repeat_late(times=None)
        staged = await volume.stage(f1=noise(9 * MIB), f2=noise(CELL, 2))
        volume.check(staged)

    async def test_gives_up_when_no_answer_ever_comes(self, volume: Volume) -> None:
        """Users would wait for ever, and never be told."""
        volume.store.lose_reply("put", OutcomeUnknown("lost"), times=None)
        with pytest.raises(OutcomeUnknown):
            await volume.stage(f1=noise(CELL))
        assert volume.store.calls["put"] == MOST_NAMES
        assert not volume.sent
        assert volume.budget.used_bytes == 0

    async def test_refusal_ends_all_steps(self, volume: Volume) -> None:
        """Users with read-only credentials would wait for gigabytes to be read first."""
        volume.store.fail("put", AccessDenied("no"), times=None)
        with trio.fail_after(60), pytest.raises(AccessDenied):
            await volume.stage(f1=noise(24 * MIB))
        assert volume.budget.used_bytes == 0

    async def test_error_of_reading_is_told(self, volume: Volume) -> None:
        """Users would save zeros for unsaved bytes that are damaged on their disk."""

        async def read(wanted: Sequence[Wanted]) -> Sequence[Buffer]:
            raise Damaged("unsaved bytes are damaged")

        with pytest.raises(Damaged):
            await volume.stager.stage([whole(InodeNo(1), noise(MIB))], read)
        with pytest.raises(Damaged):
            await volume.stager.stage([whole(InodeNo(1), b"tiny")], read)
        assert volume.budget.used_bytes == 0

    async def test_short_read_is_not_saved(self, volume: Volume) -> None:
        """Users would save half of a file as all of it."""

        async def read(wanted: Sequence[Wanted]) -> Sequence[Buffer]:
            return [bytes(len(span) - 1) for _, span in wanted]

        with pytest.raises(Damaged):
            await volume.stager.stage([whole(InodeNo(1), noise(MIB))], read)
        assert not volume.packs

    async def test_cancelled_staging_gives_its_memory_back(
        self, volume: Volume, autojump_clock: trio.testing.MockClock
    ) -> None:
        """Users who unmount during an upload would wait, or readers starve behind it."""
        volume.store.hang("put", times=None)
        with trio.move_on_after(5) as gave_up:
            await volume.stage(f1=noise(20 * MIB))
        assert gave_up.cancelled_caught
        assert volume.budget.used_bytes == 0


class TestMemory:
    """The budget is kept."""

    async def test_memory_is_bounded_while_the_store_is_slow(self) -> None:
        """Users would lose their memory to an upload (P10)."""
        volume = Volume(memory_bytes=36 * MIB)
        data = noise(MIB)
        read_bytes, is_filling = 0, trio.Event()

        async def read(wanted: Sequence[Wanted]) -> Sequence[Buffer]:
            nonlocal read_bytes
            read_bytes += sum(len(span) for _, span in wanted)
            if read_bytes > 8 * MIB:
                is_filling.set()
            return [data[8:] + span.start.to_bytes(8, "big") for _, span in wanted]

        volume.store.hang("put", times=None)
        size = 300 * MIB
        changed = [ByteRange(0, size)]
        plan = plan_content(size_bytes=size, base=[], base_limit_bytes=0, changed=changed)
        files = [FileToStage(InodeNo(1), size, plan)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(volume.stager.stage, files, read)
            await is_filling.wait()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert read_bytes <= 12 * MIB
            nursery.cancel_scope.cancel()
        assert volume.budget.used_bytes == 0

    async def test_two_at_once_share_the_budget(self) -> None:
        """Users whose saves overlap would hang, each waiting for the other's memory."""
        volume = Volume(memory_bytes=16 * MIB)
        results: list[Staged] = []

        async def stage(name: str, seed: int) -> None:
            results.append(await volume.stage(**{name: noise(6 * MIB, seed)}))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in (1, 2, 3):
                    nursery.start_soon(stage, f"f{number}", number)
        for staged in results:
            volume.check(staged)
