"""The vfs contract through a real mount, served by this process to its own threads."""

import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from blobfs.env import Env
from blobfs.stores.base import Store
from mountd.fuse3 import Front, MountOptions, open_mount
from tests.contracts.vfs_contract import Files, Handle, Stat, VfsContract, as_stat
from tests.core import opened_vfs

pytestmark = pytest.mark.mount

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Run a system call on the mount; the loop has to stay free to answer it."""
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True)


class MountHandle(Handle):
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    async def read(self, offset: int, size: int) -> bytes:
        return await in_thread(lambda: os.pread(self.descriptor, size, offset))

    async def close(self) -> None:
        await in_thread(lambda: os.close(self.descriptor))


class MountFiles(Files):
    def __init__(self, root: Path) -> None:
        self.root = os.fsencode(root)

    def path(self, path: bytes) -> bytes:
        return os.path.join(self.root, path)

    async def listdir(self, path: bytes) -> list[bytes]:
        return sorted(await in_thread(lambda: os.listdir(self.path(path))))

    async def stat(self, path: bytes) -> Stat:
        return as_stat(await in_thread(lambda: os.stat(self.path(path))))

    async def open(self, path: bytes, flags: int = os.O_RDONLY) -> Handle:
        return MountHandle(await in_thread(lambda: os.open(self.path(path), flags)))

    async def getxattr(self, path: bytes, name: str) -> bytes:
        return await in_thread(lambda: os.getxattr(self.path(path), name))

    async def listxattr(self, path: bytes) -> list[str]:
        return await in_thread(lambda: os.listxattr(self.path(path)))

    async def used_bytes(self) -> int:
        usage = await in_thread(lambda: os.statvfs(self.root))
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


class TestMount(VfsContract):
    @asynccontextmanager
    async def opened(
        self, store: Store, folder: Path, *, ttl_s: float = 60
    ) -> AsyncIterator[Files]:
        mountpoint = folder / "mountpoint"
        mountpoint.mkdir(exist_ok=True)
        options = MountOptions("memory://test", os.getuid(), os.getgid(), 0o022, False)
        async with (
            opened_vfs(store, folder, Env(), ttl_s) as vfs,
            open_mount(Front(vfs, options), mountpoint) as mount,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(mount.serve)
            await mount.wait_ready()
            yield MountFiles(mountpoint)
            mount.stop()

    async def test_dot_and_dot_dot_are_listed(self, tmp_path: Path) -> None:
        """`ls -a` shows them, and some programs count on them."""
        store = await self.bucket(**{"d/f": b""})
        async with self.opened(store, tmp_path) as files:
            assert isinstance(files, MountFiles)
            command = ["ls", "-fai", os.fsdecode(files.path(b"d"))]
            shown = await trio.run_process(command, capture_stdout=True)
            rows = [row.split() for row in shown.stdout.splitlines()]
            assert [row[1] for row in rows] == [b".", b"..", b"f"]
            assert int(rows[0][0]) == (await files.stat(b"d")).inode

    async def test_modes_and_owner_follow_the_options(self, tmp_path: Path) -> None:
        """The kernel checks permissions by these."""
        store = await self.bucket(**{"d/f": b""})
        async with self.opened(store, tmp_path) as files:
            assert isinstance(files, MountFiles)
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
