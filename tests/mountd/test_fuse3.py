"""The vfs contracts through a real mount, served by this process to its own threads."""

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from blobfs.stores.base import Store
from blobfs.stores.memory import MemoryStore
from tests.contracts.differential import Side, compare
from tests.contracts.kernel_files import KernelFiles, in_thread
from tests.contracts.vfs_attributes_contract import AttributesContract
from tests.contracts.vfs_content_contract import ContentContract
from tests.contracts.vfs_kernel_contract import KernelContract
from tests.contracts.vfs_mixed_contract import MixedContract
from tests.contracts.vfs_names_contract import NamesContract
from tests.contracts.vfs_saved_contract import SavedContract
from tests.mountd.mounted import mounted

pytestmark = pytest.mark.mount


class TestMount(
    MixedContract, SavedContract, ContentContract, NamesContract, AttributesContract, KernelContract
):
    @asynccontextmanager
    async def opened(
        self, store: Store, folder: Path, *, ttl_s: float = 60, read_only: bool = True
    ) -> AsyncIterator[KernelFiles]:
        async with mounted(store, folder, ttl_s=ttl_s, read_only=read_only) as files:
            yield files

    @asynccontextmanager
    async def writable(self, folder: Path) -> AsyncIterator[KernelFiles]:
        async with self.opened(MemoryStore(), folder, read_only=False) as files:
            yield files

    async def test_dot_and_dot_dot_are_listed(self, tmp_path: Path) -> None:
        """`ls -a` shows them, and some programs count on them."""
        store = await self.bucket(**{"d/f": b""})
        async with self.opened(store, tmp_path) as files:
            command = ["ls", "-fai", os.fsdecode(files.path(b"d"))]
            shown = await trio.run_process(command, capture_stdout=True)
            rows = [row.split() for row in shown.stdout.splitlines()]
            assert [row[1] for row in rows] == [b".", b"..", b"f"]
            assert int(rows[0][0]) == (await files.stat(b"d")).inode

    async def test_modes_and_owner_follow_the_options(self, tmp_path: Path) -> None:
        """The kernel checks permissions by these."""
        store = await self.bucket(**{"d/f": b""})
        async with self.opened(store, tmp_path) as files:
            file = await in_thread(lambda: os.stat(files.path(b"d/f")))
            folder = await in_thread(lambda: os.stat(files.path(b"d")))
            assert oct(file.st_mode) == oct(0o100644)
            assert oct(folder.st_mode) == oct(0o040755)
            assert (file.st_uid, file.st_gid) == (os.getuid(), os.getgid())

    async def test_a_second_read_never_reaches_us(self, tmp_path: Path) -> None:
        """What the kernel has is as fast as any local file."""
        store = await self.bucket(f=bytes(1024 * 1024))
        async with self.opened(store, tmp_path) as files:
            await files.read(b"f")
            threads = threading.active_count()
            store._objects.clear()  # whoever asks now gets nothing
            assert await files.read(b"f") == bytes(1024 * 1024)
            assert threading.active_count() <= threads + 1

    async def test_whatever_is_done_ends_as_on_a_disk(self, tmp_path: Path) -> None:
        """The kernel caches, the core answers, and no program can tell it from a disk."""
        plain = tmp_path / "plain"
        plain.mkdir()
        async with self.writable(tmp_path) as files:
            await compare(Side(files), Side(KernelFiles(plain)), seed=1, steps=300)
