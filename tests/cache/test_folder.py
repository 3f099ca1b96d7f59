"""What is kept, what goes when room is needed, and what survives."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from blobfs.cache.buffers import BufferPool
from blobfs.cache.folder import Folder, open_folder, segment_bytes
from blobfs.cache.index import BlockId
from blobfs.cache.segments import PAGE_BYTES
from blobfs.errors import InUse, LocalFault
from blobfs.types import GIB, MIB

LIMIT = 64 * PAGE_BYTES  # segments of 4 pages


def block(number: int) -> BlockId:
    return BlockId(b"%04d" % number)


def bytes_of(number: int) -> bytes:
    return b"%04d" % number * (PAGE_BYTES // 4)


async def put(folder: Folder, *numbers: int) -> None:
    await folder.put([block(n) for n in numbers], [memoryview(bytes_of(n)) for n in numbers])


async def get(folder: Folder, number: int) -> bytes | None:
    place = folder.find([block(number)])[0]
    if place is None:
        return None
    back = await folder.read([place])
    assert not back.bad
    return bytes(back.data)


async def test_blocks_survive_a_remount(root: Path) -> None:
    """Users would download everything again after each mount."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        await put(folder, 1, 2, 3)
        used = folder.used_bytes
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        assert [await get(folder, n) for n in (1, 2, 3, 4)] == [*map(bytes_of, (1, 2, 3)), None]
        assert folder.used_bytes == used == 3 * PAGE_BYTES


async def test_killed_process_loses_only_what_was_not_committed(root: Path, tmp_path: Path) -> None:
    """Users would download everything again after each crash."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        await put(folder, 1, 2)
        shutil.copytree(root, tmp_path / "as-it-was")
        newest = max((tmp_path / "as-it-was" / "data").iterdir())
        newest.write_bytes(newest.read_bytes() + b"not committed")
    async with open_folder(tmp_path / "as-it-was", LIMIT, BufferPool(LIMIT)) as folder:
        await put(folder, 3)
        assert [await get(folder, n) for n in (1, 2, 3)] == [*map(bytes_of, (1, 2, 3))]


async def test_second_opener_is_refused(root: Path) -> None:
    """Two daemons would overwrite each other's blocks."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)):
        with pytest.raises(InUse):
            async with open_folder(root, LIMIT, BufferPool(LIMIT)):
                pass


async def test_size_stays_below_the_limit_and_old_blocks_go_first(root: Path) -> None:
    """Users would lose their disk to the cache."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        for n in range(200):
            await put(folder, n)
            on_disk = sum(path.stat().st_size for path in (root / "data").iterdir())
            assert folder.used_bytes == on_disk <= LIMIT
        kept = [n for n in range(200) if await get(folder, n) is not None]
        assert kept == list(range(kept[0], 200))
        assert len(kept) >= 56
        assert folder.evicted_bytes == kept[0] * PAGE_BYTES


async def test_block_that_was_read_again_gets_a_second_chance(root: Path) -> None:
    """Users would lose what they use every day to one large copy."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        for n in range(100):
            await put(folder, n)
            assert await get(folder, 0) == bytes_of(0)
        assert folder.find([block(1)]) == [None]


async def test_second_chance_is_one_chance(root: Path) -> None:
    """Users would never get rid of what they read twice, long ago."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        await put(folder, 0)
        await get(folder, 0)
        for n in range(1, 200):
            await put(folder, n)
        assert folder.find([block(0)]) == [None]


async def test_all_blocks_read_again_still_make_room(root: Path) -> None:
    """Users who read all of a full cache would wait for an eviction that never ends."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        for n in range(64):
            await put(folder, n)
        for n in range(64):
            await get(folder, n)
        await put(folder, 64)
        assert await get(folder, 64) == bytes_of(64)
        assert folder.used_bytes <= LIMIT


async def test_dropped_block_is_gone_and_a_newer_copy_stays(root: Path) -> None:
    """Users would download a block again and again, or lose the good copy with the bad one."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        await put(folder, 1, 2)
        old = folder.find([block(1), block(2)])
        await put(folder, 2)
        await folder.drop([block(1), block(2)], [place for place in old if place])
        assert folder.find([block(1)]) == [None]
        assert await get(folder, 2) == bytes_of(2)


async def test_evicting_a_superseded_copy_keeps_the_newer_one(root: Path) -> None:
    """Users would download again what was written just now."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        for n in range(63):
            await put(folder, n)
        await put(folder, 0)
        await put(folder, 63, 64)
        assert folder.find([block(1)]) == [None]
        assert await get(folder, 0) == bytes_of(0)


async def test_damaged_index_is_begun_anew(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Users would have to repair a cache by hand, or could not mount at all."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        await put(folder, 1)
    (root / "index.lmdb" / "data.mdb").write_bytes(b"garbage" * 5000)
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        assert await get(folder, 1) is None
        assert list((root / "data").iterdir()) == []
        await put(folder, 1)
        assert await get(folder, 1) == bytes_of(1)
    assert "begun anew" in caplog.text


async def test_stopped_machine_begins_anew(root: Path) -> None:
    """Users would read through an index that was written without a flush, and torn."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        await put(folder, 1)
    (root / "lock").write_text("1 of-another-boot\n")
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        assert folder.find([block(1)]) == [None]


def disk_with_free(free_bytes: int) -> SimpleNamespace:
    return SimpleNamespace(f_frsize=1, f_blocks=1000 * MIB, f_bavail=free_bytes)


async def test_five_percent_of_the_disk_stay_free(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users would find their disk full because of a cache."""
    async with open_folder(root, LIMIT, BufferPool(LIMIT)) as folder:
        for n in range(20):
            await put(folder, n)
        monkeypatch.setattr(os, "statvfs", lambda _: disk_with_free(50 * MIB - 8 * PAGE_BYTES))
        await put(folder, 20)
        assert folder.used_bytes <= 12 * PAGE_BYTES
        monkeypatch.setattr(os, "statvfs", lambda _: disk_with_free(0))
        with pytest.raises(LocalFault, match="no room"):
            await put(folder, 21)


async def test_full_disk_refuses_to_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users would mount a cache that can hold nothing, and wonder."""
    monkeypatch.setattr(os, "statvfs", lambda _: disk_with_free(MIB - 1))
    with pytest.raises(LocalFault, match="no room"):
        async with open_folder(root, LIMIT, BufferPool(LIMIT)):
            pass


def test_segments_are_bounded_in_number_and_small_caches_have_several() -> None:
    """Users of large caches would wait at mount; users of small ones would lose all at once."""
    assert segment_bytes(20 * GIB) == 64 * MIB
    assert 10_000 * GIB / segment_bytes(10_000 * GIB) <= 1024
    assert segment_bytes(64 * MIB) == 4 * MIB
