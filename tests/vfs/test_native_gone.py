"""An object that goes while a program is on its way to it is an error, never another's bytes."""

import errno
from pathlib import Path

import pytest

from blobfs.env import Env
from blobfs.stores.memory import MemoryStore
from tests.contracts.core_files import CoreFiles
from tests.contracts.files import failing
from tests.core import opened_core


@pytest.mark.parametrize("now", [None, b"other bytes, and not as many"])
async def test_an_object_that_goes_between_listing_and_open(
    tmp_path: Path, now: bytes | None
) -> None:
    """A program would take half of one object, or another one, for what it saw listed (P6)."""
    store = MemoryStore()
    await store.put("f", b"old" * 1000)
    async with opened_core(store, tmp_path, Env(), 60) as core:
        files = CoreFiles(core)
        assert await files.listdir(b"") == [b"f"]
        await store.delete_many(["f"])
        if now is not None:
            await store.put("f", now)
        with failing(errno.ESTALE):
            await files.read(b"f")
        if now is None:
            with failing(errno.ENOENT):
                await files.read(b"f")
        else:
            assert await files.read(b"f") == now
