"""Do what programs do on the core alone: as a kernel would that keeps nothing between two calls.

What the kernel decides itself (permissions, where an append goes) is not asked of the core;
every errno comes from it.
"""

import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

import trio

from blobfs.errors import BlobfsError
from blobfs.model.tree_rules import Maker
from blobfs.model.tree_rules_attributes import Wanted
from blobfs.types import ByteRange, HandleNo, NodeNo
from blobfs.vfs.attributes import Absent, Attributes
from blobfs.vfs.core import Vfs
from blobfs.vfs.lookups import ROOT_NODE
from blobfs.volume.tree_blocks import NotLoaded
from tests.contracts.files import Files, Handle, Space, Stat
from tests.core import Core

T = TypeVar("T")

COARSE_CLOCK = 5
"""CLOCK_REALTIME_COARSE: the kernel's now."""

MAKER = Maker(os.getuid(), os.getgid())


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Show errors of ours as programs see them."""
    try:
        yield
    except BlobfsError as error:
        raise OSError(error.errno, str(error)) from error


class CoreHandle(Handle):
    """An open file of the core."""

    def __init__(self, vfs: Vfs, inode: NodeNo, handle: HandleNo) -> None:
        self.vfs = vfs
        self.inode = inode
        self.handle = handle

    async def read(self, offset: int, size: int) -> bytes:
        await trio.lowlevel.checkpoint()  # as between any two requests of a kernel
        with as_os_errors():
            return bytes(await self.vfs.read(self.handle, ByteRange(offset, offset + size)))

    async def write(self, offset: int, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if data:  # a kernel sends no write of nothing
            with as_os_errors():
                await self.vfs.write(self.handle, offset, data)

    async def append(self, data: bytes) -> None:
        await self.write((await self.stat()).size_bytes, data)

    async def truncate(self, size: int) -> None:
        with as_os_errors():
            self.vfs.setattr(self.inode, Wanted(size_bytes=size), handle=self.handle)

    async def stat(self) -> Stat:
        with as_os_errors():
            return as_stat(self.vfs.getattr(self.inode))

    async def sync(self, *, data_only: bool = False) -> None:
        with as_os_errors():
            await self.vfs.fsync(self.handle)

    async def close(self) -> None:
        self.vfs.release(self.handle)


class Loading:
    """A core whose requests begin anew behind what has to be loaded first: as a front-end's do."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        ask = getattr(self._core.vfs, name)
        return self._when_loaded(ask) if iscoroutinefunction(ask) else ask

    def _when_loaded(self, ask: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        async def call(*args: Any, **kwargs: Any) -> T:
            while True:
                try:
                    return await ask(*args, **kwargs)
                except NotLoaded as missing:
                    await self._core.engine.tree.load(missing)

        return call


class CoreFiles(Files):
    """Walks paths anew each time, and forgets every inode that nothing holds open."""

    def __init__(self, core: Core) -> None:
        self.vfs = cast(Vfs, Loading(core))
        self.core = core

    async def save(self) -> None:
        with trio.fail_after(30):
            await self.core.engine.save()

    @asynccontextmanager
    async def at(self, path: bytes) -> AsyncIterator[Attributes]:
        """Hold the inode that a path leads to."""
        names = [name for name in path.split(b"/") if name]
        looked_up: list[NodeNo] = []
        try:
            with as_os_errors():
                found = self.vfs.getattr(ROOT_NODE)
                for name in names:
                    below = await self.vfs.lookup(found.inode, name)
                    if isinstance(below, Absent):
                        raise FileNotFoundError(errno.ENOENT, "absent", path)
                    found = below
                    looked_up.append(found.inode)
                yield found
        finally:
            for inode in looked_up:
                self.vfs.forget(inode, 1)

    @asynccontextmanager
    async def place(self, path: bytes) -> AsyncIterator[tuple[NodeNo, bytes]]:
        """Hold the directory that a name lies in."""
        folder, _, name = path.rpartition(b"/")
        async with self.at(folder) as found:
            if not stat.S_ISDIR(found.mode):
                with as_os_errors():  # a kernel asks no further; what the core says is ENOTDIR
                    await self.vfs.lookup(found.inode, name)
            yield found.inode, name

    async def scan(self, path: bytes) -> AsyncIterator[bytes]:
        async with self.at(path) as found:
            handle = await self.vfs.opendir(found.inode)
            try:
                cookie = 0
                # One entry a call: the most a small buffer of a kernel would ask of cookies.
                while dirents := await self.vfs.readdir(handle, cookie):
                    dirent = next(dirents)
                    cookie = dirent.next_cookie
                    yield dirent.name
            finally:
                self.vfs.releasedir(handle)

    async def stat(self, path: bytes) -> Stat:
        async with self.at(path) as found:
            return as_stat(found)

    async def open(self, path: bytes, flags: int = os.O_RDONLY, permissions: int = 0o644) -> Handle:
        if flags & os.O_CREAT:
            return await self._create(path, flags, permissions)
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        async with self.at(path) as found:
            truncate = bool(flags & os.O_TRUNC)
            handle = self.vfs.open(found.inode, for_writing=writing, truncate=truncate)
            return CoreHandle(self.vfs, found.inode, handle)

    async def _create(self, path: bytes, flags: int, permissions: int) -> Handle:
        async with self.place(path) as (folder, name):
            found, handle = await self.vfs.create(
                folder,
                name,
                permissions,
                MAKER,
                exclusive=bool(flags & os.O_EXCL),
                truncate=bool(flags & os.O_TRUNC),
            )
            self._drop(found)
            return CoreHandle(self.vfs, found.inode, handle)

    async def mkdir(self, path: bytes, permissions: int = 0o755) -> None:
        async with self.place(path) as (folder, name):
            self._drop(await self.vfs.mkdir(folder, name, permissions, MAKER))

    async def mknod(self, path: bytes, mode: int) -> None:
        async with self.place(path) as (folder, name):
            self._drop(await self.vfs.mknod(folder, name, mode, 0, MAKER))

    async def symlink(self, target: bytes, path: bytes) -> None:
        async with self.place(path) as (folder, name):
            self._drop(await self.vfs.symlink(folder, name, target, MAKER))

    async def readlink(self, path: bytes) -> bytes:
        async with self.at(path) as found:
            return self.vfs.readlink(found.inode)

    async def link(self, path: bytes, other: bytes) -> None:
        async with self.at(path) as found, self.place(other) as (folder, name):
            self._drop(await self.vfs.link(found.inode, folder, name))

    async def unlink(self, path: bytes) -> None:
        async with self.place(path) as (folder, name):
            await self.vfs.unlink(folder, name)

    async def rmdir(self, path: bytes) -> None:
        async with self.place(path) as (folder, name):
            await self.vfs.rmdir(folder, name)

    async def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        async with self.place(old) as (old_folder, name), self.place(new) as (folder, new_name):
            await self.vfs.rename(old_folder, name, folder, new_name, flags)

    async def truncate(self, path: bytes, size: int) -> None:
        await self._set(path, Wanted(size_bytes=size))

    async def chmod(self, path: bytes, permissions: int) -> None:
        await self._set(path, Wanted(mode=permissions))

    async def chown(self, path: bytes, uid: int, gid: int) -> None:
        wanted = Wanted(uid=None if uid < 0 else uid, gid=None if gid < 0 else gid)
        await self._set(path, wanted)

    async def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        await self._set(path, Wanted(mtime_ns=mtime_ns), atime_ns)

    async def touch(self, path: bytes) -> None:
        now_ns = time.clock_gettime_ns(COARSE_CLOCK)
        await self.utime(path, now_ns, now_ns)

    async def getxattr(self, path: bytes, name: str) -> bytes:
        async with self.at(path) as found:
            return await self.vfs.getxattr(found.inode, name.encode())

    async def setxattr(self, path: bytes, name: str, value: bytes, flags: int = 0) -> None:
        modes = {os.XATTR_CREATE: "create", os.XATTR_REPLACE: "replace"}
        async with self.at(path) as found:
            self.vfs.setxattr(found.inode, name.encode(), value, modes.get(flags, "either"))

    async def removexattr(self, path: bytes, name: str) -> None:
        async with self.at(path) as found:
            self.vfs.removexattr(found.inode, name.encode())

    async def listxattr(self, path: bytes) -> list[str]:
        async with self.at(path) as found:
            return [name.decode() for name in self.vfs.listxattr(found.inode)]

    async def sync_folder(self, path: bytes) -> None:
        async with self.at(path):
            await self.vfs.fsyncdir()

    async def space(self) -> Space:
        usage = self.vfs.usage()
        return Space(usage.used_bytes, usage.free_bytes, 255)

    async def _set(self, path: bytes, wanted: Wanted, atime_ns: int | None = None) -> None:
        async with self.at(path) as found:
            self.vfs.setattr(found.inode, wanted, atime_ns)

    def _drop(self, made: Attributes) -> None:
        """Forget at once what was made."""
        self.vfs.forget(made.inode, 1)


def as_stat(found: Attributes) -> Stat:
    """Translate what the core says."""
    return Stat(
        found.inode,
        found.mode,
        found.nlink,
        found.uid,
        found.gid,
        found.size_bytes,
        found.atime_ns,
        found.mtime_ns,
        found.ctime_ns,
    )
