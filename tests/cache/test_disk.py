"""The cache goes on whatever happens to its folder."""

import errno
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from blobfs.cache.buffers import BufferPool
from blobfs.cache.disk import PAUSE_S, DiskCache, Offer
from blobfs.cache.index import BlockId, Index
from blobfs.cache.lock import hold_folder
from blobfs.cache.segments import PAGE_BYTES, Segments
from blobfs.errors import Damaged, InUse
from blobfs.types import MIB


@pytest.fixture
async def disk(root: Path) -> AsyncIterator[DiskCache]:
    cache = DiskCache(root, 16 * MIB, BufferPool(16 * MIB))
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        yield cache
        nursery.cancel_scope.cancel()


async def put(disk: DiskCache, number: int) -> int:
    """Offer a block; return how often its buffer was given back."""
    freed: list[None] = []
    view = memoryview(b"%04d" % number * (PAGE_BYTES // 4))
    disk.offer(Offer([BlockId(b"%d" % number)], [view], lambda: freed.append(None)))
    await disk.wait_written()
    return len(freed)


async def get(disk: DiskCache, number: int) -> bytes | None:
    block = BlockId(b"%d" % number)
    place = disk.find([block])[0]
    data = None if place is None else await disk.read([block], [place])
    return None if data is None else bytes(data[:4])


async def test_offered_blocks_are_there(disk: DiskCache) -> None:
    """Users would download twice."""
    assert await put(disk, 1) == 1
    assert await get(disk, 1) == b"0001"
    assert disk.used_bytes == PAGE_BYTES


@pytest.mark.parametrize("what", ["", "data", "index.lmdb"])
async def test_folder_deleted_under_us_is_begun_anew(
    disk: DiskCache, root: Path, what: str
) -> None:
    """Users who clean up their caches would break their mounts (`rm -rf ~/.cache`)."""
    await put(disk, 1)
    shutil.rmtree(root / what)
    assert await get(disk, 1) is None or what == "index.lmdb"
    assert await put(disk, 2) == 1
    await put(disk, 3)
    assert await get(disk, 3) == b"0003"
    assert disk.paused_reason is None
    with pytest.raises(InUse), hold_folder(root):
        pass


async def test_folder_deleted_while_it_is_made_again(
    disk: DiskCache,
    root: Path,
    mock_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Users would lose their mount to an `rm -rf` that takes its time."""
    prepare = Segments.prepare

    def race(segments: Segments, known: frozenset[int]) -> None:
        shutil.rmtree(root)
        prepare(segments, known)

    shutil.rmtree(root)
    with monkeypatch.context() as patch:
        patch.setattr(Segments, "prepare", race)
        assert await put(disk, 1) == 1
    assert disk.paused_reason is not None
    mock_clock.jump(PAUSE_S + 1)
    while await get(disk, 2) is None:
        await put(disk, 2)


async def test_folder_taken_by_another_pauses_caching(
    disk: DiskCache, root: Path, mock_clock: trio.testing.MockClock
) -> None:
    """Two daemons would write into one folder after it was deleted and made again."""
    shutil.rmtree(root)
    with hold_folder(root):
        assert await put(disk, 1) == 1
        assert await get(disk, 1) is None
        assert disk.paused_reason is not None
        assert "another process" in disk.paused_reason
    mock_clock.jump(PAUSE_S + 1)
    await put(disk, 2)
    while await get(disk, 2) is None:
        await put(disk, 2)
    assert disk.paused_reason is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_disk_that_refuses_pauses_caching(
    disk: DiskCache,
    mock_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    """Users would get errors from reads because a cache is full (P8)."""
    await put(disk, 1)
    with monkeypatch.context() as patch:

        def refuse(*_: Any) -> int:
            raise OSError(code, os.strerror(code))

        patch.setattr(os, "pwrite", refuse)
        assert await put(disk, 2) == 1
        assert disk.paused_reason is not None
        assert os.strerror(code) in disk.paused_reason
        assert await get(disk, 1) == b"0001"
    assert await put(disk, 3) == 1
    assert await get(disk, 3) is None
    mock_clock.jump(PAUSE_S + 1)
    while await get(disk, 4) is None:
        await put(disk, 4)
    assert disk.paused_reason is None


async def test_bad_block_is_dropped_and_counted(disk: DiskCache, root: Path) -> None:
    """Users would read wrong bytes, or trip over the same bad block for ever (P6)."""
    await put(disk, 1)
    path = next((root / "data").iterdir())
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert await get(disk, 1) is None
    assert disk.damaged == 1
    await put(disk, 2)
    assert disk.find([BlockId(b"1")]) == [None]
    await put(disk, 1)
    assert await get(disk, 1) == b"0001"


async def test_index_damaged_while_open_is_begun_anew(
    disk: DiskCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users would get errors from reads until they mount again."""
    await put(disk, 1)
    with monkeypatch.context() as patch:

        def damaged(*_: Any) -> list[None]:
            raise Damaged("torn")

        patch.setattr(Index, "find", damaged)
        assert await get(disk, 1) is None
    await disk.wait_written()
    await put(disk, 2)
    assert [await get(disk, 1), await get(disk, 2)] == [None, b"0002"]


async def test_offers_are_let_go_at_the_end(root: Path) -> None:
    """Users would see memory that never comes back."""
    cache, freed = DiskCache(root, 16 * MIB, BufferPool(16 * MIB)), []
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        for number in range(100):
            offer = Offer([BlockId(b"%d" % number)], [memoryview(b"x")], lambda: freed.append(0))
            cache.offer(offer)
        nursery.cancel_scope.cancel()
    assert len(freed) == 100
