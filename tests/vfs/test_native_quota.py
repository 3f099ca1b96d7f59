"""The quota of a volume stands between the content of other tools' objects and the volume."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from blobfs.env import Env
from blobfs.formats.head import Head, VolumeSettings
from blobfs.stores.memory import MemoryStore
from blobfs.volume.head_change import change_head
from tests.contracts.core_files import CoreFiles
from tests.contracts.files import failing
from tests.core import opened_core

FILM = b"film" * 1250


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[CoreFiles]:
    """A volume of at most 1,000 bytes, that holds 10, beside an object of 5,000."""
    store = MemoryStore()
    await store.put("film", FILM)
    async with opened_core(store, tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        await files.write(b"own", b"x" * 10)
        await files.save()
        settings = VolumeSettings(quota_bytes=1000)
        await change_head(store, lambda head: _with(head, settings))
        await core.engine.look_at_settings()
        yield files


def _with(head: Head, settings: VolumeSettings) -> Head:
    return replace(head, settings=settings)


def held_bytes(files: CoreFiles) -> int:
    return files.core.engine.unsaved.holdings.held_bytes


async def write(files: CoreFiles, offset: int, data: bytes) -> None:
    handle = await files.open(b"film", os.O_RDWR)
    try:
        await handle.write(offset, data)
    finally:
        await handle.close()


@pytest.mark.parametrize("referred", ["native", "bound", "committed"])
async def test_content_is_not_taken_over_beyond_it(files: CoreFiles, referred: str) -> None:
    """One byte written into a large object would bring in all of it, and the bill with it."""
    if referred != "native":
        await files.chmod(b"film", 0o600)
    if referred == "committed":
        await files.save()
    before = held_bytes(files)
    with failing(errno.ENOSPC):
        await write(files, 100, b"!")
    with failing(errno.ENOSPC):
        await files.truncate(b"film", 991)
    assert held_bytes(files) == before, "nothing of it was taken in"
    assert await files.read(b"film") == FILM


async def test_what_fits_is_taken_over(files: CoreFiles) -> None:
    """Whoever cuts a file to what fits, or writes it anew, would be refused for what is gone."""
    await files.truncate(b"film", 990)
    await write(files, 0, b"FILM")
    assert held_bytes(files) == 1000
    assert await files.read(b"film") == b"FILM" + FILM[4:990]
    with failing(errno.ENOSPC):
        await write(files, 990, b"!")
    await files.save()
    assert held_bytes(files) == 1000


async def test_a_length_that_it_has_is_no_change(files: CoreFiles) -> None:
    """Programs that set the length of what they copied would fail where nothing grows."""
    await files.truncate(b"film", 5000)
    assert await files.read(b"film") == FILM
