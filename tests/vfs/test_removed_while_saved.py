"""A file that loses its last name while it is being saved: who has it open keeps all of it."""

import os
import random
from pathlib import Path

import pytest
import trio

from blobfs.env import Env
from blobfs.stores.memory import MemoryStore
from tests.contracts.core_files import CoreFiles
from tests.core import opened_core

CREATE = os.O_RDWR | os.O_CREAT
CONTENT = random.Random(1).randbytes(300_000)


@pytest.mark.parametrize("point", ["push.uploaded", "commit.noted", "commit.replayed"])
async def test_an_open_file_outlives_its_commit(tmp_path: Path, point: str) -> None:
    """A temporary file that a program has just unlinked would turn into zeros or errors."""
    removed = trio.Event()

    def remove(name: str) -> None:
        if name == point and not removed.is_set():
            removed.set()
            nursery.start_soon(files.unlink, b"f")

    opening = opened_core(
        MemoryStore(), tmp_path, Env(crash_point=remove), 60, read_only=False, settle_s=3600
    )
    async with opening as core, trio.open_nursery() as nursery:
        files = CoreFiles(core)
        handle = await files.open(b"f", CREATE)
        await handle.write(0, CONTENT)
        await files.save()
        assert removed.is_set()
        await files.save()
        await handle.write(100, b"after")
        assert await handle.read(0, len(CONTENT)) == CONTENT[:100] + b"after" + CONTENT[105:]
        await handle.close()
        await files.save()
        assert core.engine.statistics().unsaved.files == 0
