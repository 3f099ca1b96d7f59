"""Files of the volume under pressure: no room, no bytes, several programs at once."""

import errno
import os
import random
from pathlib import Path

import pytest
import trio

from blobfs.env import Env
from blobfs.errors import AccessDenied
from blobfs.model.settling import SETTLE_S
from blobfs.stores.base import Fetched
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import MIB, ByteRange
from tests.contracts.core_files import CoreFiles
from tests.contracts.files import failing
from tests.core import opened_core

CREATE = os.O_RDWR | os.O_CREAT
ROOM_BYTES = 8 * MIB


async def test_no_room_is_enospc_and_loses_nothing(tmp_path: Path) -> None:
    """The writer is told at once, what was accepted stays, and saving makes room again (P7)."""
    store = FaultyStore(MemoryStore())
    content = random.Random(1).randbytes(ROOM_BYTES)
    here = opened_core(store, tmp_path, Env(), 60, read_only=False, unsaved_size_bytes=ROOM_BYTES)
    async with here as core:
        files = CoreFiles(core)
        handle = await files.open(b"f", CREATE)
        await files.save()
        store.fail("any", AccessDenied("no"), times=None)
        written = 0
        with failing(errno.ENOSPC):
            for written in range(0, len(content), MIB):
                await handle.write(written, content[written : written + MIB])
        assert 0 < written < len(content)
        assert await handle.read(0, ROOM_BYTES) == content[:written]
        store.heal()
        await files.save()
        for start in range(written, len(content), MIB):
            await handle.write(start, content[start : start + MIB])
            await files.save()
        assert await handle.read(0, ROOM_BYTES) == content
        await handle.close()


async def test_a_reader_sees_one_moment_while_all_is_saved_below_it(tmp_path: Path) -> None:
    """Commits and the cleaning of the journal must not tear what a read puts together."""
    content = random.Random(2).randbytes(2 * MIB)
    async with opened_core(MemoryStore(), tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        handle = await files.open(b"f", CREATE)
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                for start in range(0, len(content), 64 * 1024):
                    await handle.write(start, content[start : start + 64 * 1024])
                    if start % (256 * 1024) == 0:
                        await files.save()
                nursery.cancel_scope.cancel()

            async def read() -> None:
                while True:
                    found = await handle.read(0, len(content))
                    assert found == content[: len(found)]

            nursery.start_soon(write)
            for _ in range(3):
                nursery.start_soon(read)
        assert await handle.read(0, len(content)) == content
        await handle.close()


async def test_two_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """The size that one of them made must not be undone by the other."""
    async with opened_core(MemoryStore(), tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        handle = await files.open(b"f", CREATE)
        async with trio.open_nursery() as nursery:
            for number in reversed(range(50)):
                nursery.start_soon(handle.write, number * 10, b"%010d" % number)
        assert await handle.read(0, 1000) == b"".join(b"%010d" % number for number in range(50))
        await handle.close()


async def test_a_file_opened_for_reading_is_not_written(tmp_path: Path) -> None:
    """The kernel sees to it, other front-ends may not."""
    async with opened_core(MemoryStore(), tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        await files.write(b"f", b"kept")
        handle = await files.open(b"f")
        with failing(errno.EBADF):
            await handle.write(0, b"lost")
        await handle.close()
        assert await files.read(b"f") == b"kept"


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
async def test_only_writers_hold_a_file_back(tmp_path: Path, flags: int) -> None:
    """A file that is merely read must not stay unsaved for half a minute."""
    async with opened_core(MemoryStore(), tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        await files.write(b"f", b"x")
        handle = await files.open(b"f", flags)
        inode = (await files.stat(b"f")).inode
        assert core.engine.settling.writers(inode) == (flags == os.O_RDWR)
        await handle.close()
        assert core.engine.settling.writers(inode) == 0


async def test_nothing_is_remembered_of_files_that_came_and_went(tmp_path: Path) -> None:
    """A machine that makes a million temporary files a day must not run out of memory."""
    async with opened_core(MemoryStore(), tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        inodes = []
        for name in (b"dies", b"saved", b"opened"):
            await files.write(name, b"x")
            inodes.append((await files.stat(name)).inode)
        await files.unlink(b"dies")
        await files.save()
        handle = await files.open(b"opened", os.O_RDWR)
        await handle.sync()
        await handle.close()
        # As of a file that nobody ever had open.
        assert [core.engine.settling.due_s(inode, 0.0) for inode in inodes] == [SETTLE_S] * 3


class GatedStore(MemoryStore):
    """Gives packs away only while the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        if "/packs/" in key:
            await self.gate.wait()
        return await super().get(key, span=span, if_match=if_match)


async def test_a_read_that_waits_finds_its_unsaved_bytes_where_they_were(tmp_path: Path) -> None:
    """Saving removes them from the journal meanwhile, and a reader would get EIO for nothing."""
    content = random.Random(3).randbytes(MIB)
    store = GatedStore()
    async with opened_core(store, tmp_path / "first", Env(), 60, read_only=False) as core:
        await CoreFiles(core).write(b"f", content)
        await CoreFiles(core).save()
    here = opened_core(
        store, tmp_path / "here", Env(), 60, read_only=False, unsaved_size_bytes=4 * ROOM_BYTES
    )
    async with here as core, trio.open_nursery() as nursery:
        files = CoreFiles(core)
        handle = await files.open(b"f", os.O_RDWR)
        await handle.write(MIB, b"unsaved")
        await files.write(b"other", bytes(ROOM_BYTES))  # the journal goes on in other segments
        read: list[bytes] = []

        async def read_all() -> None:
            read.append(await handle.read(0, 2 * MIB))

        nursery.start_soon(read_all)
        await files.save()
        assert not read
        store.gate.set()
    assert read == [content + b"unsaved"]


async def test_a_large_file_shows_each_version_that_is_saved(tmp_path: Path) -> None:
    """Its long row is decoded once and kept, but never for longer than it holds."""
    content = bytearray(random.Random(4).randbytes(16 * MIB))
    async with opened_core(MemoryStore(), tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        await files.write(b"f", bytes(content))
        handle = await files.open(b"f", os.O_RDWR)
        for step in range(3):
            await files.save()
            assert await handle.read(MIB, 10) == content[MIB : MIB + 10]
            await handle.write(MIB, b"%010d" % step)
            content[MIB : MIB + 10] = b"%010d" % step
        await files.save()
        assert await handle.read(0, len(content)) == content
        await handle.close()
