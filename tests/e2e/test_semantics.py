"""What docs/semantics.md says and no contract executes: claims that need the kernel's own clock."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blobfs.stores.memory import MemoryStore
from tests.contracts.kernel_files import KernelFiles, in_thread
from tests.mountd.mounted import mounted

pytestmark = pytest.mark.mount


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[KernelFiles]:
    async with mounted(MemoryStore(), tmp_path, read_only=False) as files:
        yield files


async def test_a_touched_file_is_not_older_than_before(files: KernelFiles) -> None:
    """`make` decides by such times; those that a kernel sends and ours are of one clock."""

    def touch() -> list[int]:
        times = []
        for number in range(20):
            path = Path(os.fsdecode(files.path(b"f%d" % number)))
            path.write_bytes(b"x")
            written_ns = path.stat().st_mtime_ns
            os.utime(path)
            times.append(path.stat().st_mtime_ns - written_ns)
        return times

    assert min(await in_thread(touch)) >= 0
