"""What an fsync promises is the user's choice, and kept."""

import errno
import os
from pathlib import Path

from blobfs.env import Env
from blobfs.errors import Unreachable
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from tests.contracts.core_files import CoreFiles
from tests.contracts.files import failing
from tests.core import opened_core

CREATE = os.O_RDWR | os.O_CREAT


async def test_a_remote_fsync_is_in_the_bucket(tmp_path: Path) -> None:
    """Whoever asked for it may lose the machine the moment after, and loses nothing."""
    store = MemoryStore()
    here = opened_core(store, tmp_path / "here", Env(), 60, read_only=False, durability="remote")
    async with here as core:
        files = CoreFiles(core)
        handle = await files.open(b"f", CREATE)
        await handle.write(0, b"kept")
        await handle.sync()
        async with opened_core(store, tmp_path / "elsewhere", Env(), 60) as other:
            assert await CoreFiles(other).read(b"f") == b"kept"
        await handle.close()


async def test_a_local_fsync_asks_nothing_of_the_bucket(tmp_path: Path) -> None:
    """A database must not wait for the network at each transaction."""
    store = FaultyStore(MemoryStore())
    async with opened_core(store, tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        handle = await files.open(b"f", CREATE)
        store.fail("any", Unreachable("gone"), times=None)
        await handle.write(0, b"kept")
        await handle.sync()
        await handle.close()


async def test_a_remote_fsync_that_cannot_succeed_ends(tmp_path: Path) -> None:
    """A process that waits for ever cannot be killed; the data stays here, and is sent later."""
    store = FaultyStore(MemoryStore())
    here = opened_core(
        store, tmp_path, Env(), 60, read_only=False, durability="remote", deadline_s=0.05
    )
    async with here as core:
        files = CoreFiles(core)
        handle = await files.open(b"f", CREATE)
        await handle.write(0, b"kept")
        store.fail("any", Unreachable("gone"), times=None)
        with failing(errno.EIO):
            await handle.sync()
        store.heal()
        await handle.close()
        await files.save()
        assert await files.read(b"f") == b"kept"
