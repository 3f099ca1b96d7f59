"""Do what programs do through the kernel: on a mount of ours, or on a plain folder as oracle."""

import ctypes
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import trio

from tests.contracts.files import Files, Handle, Space, Stat

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100


async def in_thread(call: Callable[[], T]) -> T:
    """Run a system call on the mount; the loop has to stay free to answer it."""
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True)


class KernelHandle(Handle):
    """A file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    async def read(self, offset: int, size: int) -> bytes:
        return await in_thread(lambda: os.pread(self.descriptor, size, offset))

    async def write(self, offset: int, data: bytes) -> None:
        written = await in_thread(lambda: os.pwrite(self.descriptor, data, offset))
        assert written == len(data)

    async def append(self, data: bytes) -> None:
        assert await in_thread(lambda: os.write(self.descriptor, data)) == len(data)

    async def truncate(self, size: int) -> None:
        await in_thread(lambda: os.ftruncate(self.descriptor, size))

    async def stat(self) -> Stat:
        return as_stat(await in_thread(lambda: os.fstat(self.descriptor)))

    async def sync(self, *, data_only: bool = False) -> None:
        call = os.fdatasync if data_only else os.fsync
        await in_thread(lambda: call(self.descriptor))

    async def close(self) -> None:
        await in_thread(lambda: os.close(self.descriptor))


class KernelFiles(Files):
    """System calls on paths below `root`."""

    def __init__(self, root: Path, save: Callable[[], Awaitable[None]] | None = None) -> None:
        self.root = os.fsencode(root)
        self._save = save

    def path(self, path: bytes) -> bytes:
        return os.path.join(self.root, path) if path else self.root

    async def save(self) -> None:
        if self._save is not None:
            with trio.fail_after(30):
                await self._save()

    async def scan(self, path: bytes) -> AsyncIterator[bytes]:
        entries = await in_thread(lambda: os.scandir(self.path(path)))
        try:
            while (entry := await in_thread(lambda: next(entries, None))) is not None:
                yield entry.name
        finally:
            await in_thread(entries.close)

    async def listdir(self, path: bytes) -> list[bytes]:
        return sorted(await in_thread(lambda: os.listdir(self.path(path))))

    async def stat(self, path: bytes) -> Stat:
        return as_stat(await in_thread(lambda: os.lstat(self.path(path))))

    async def open(self, path: bytes, flags: int = os.O_RDONLY, permissions: int = 0o644) -> Handle:
        return KernelHandle(await in_thread(lambda: os.open(self.path(path), flags, permissions)))

    async def mkdir(self, path: bytes, permissions: int = 0o755) -> None:
        await in_thread(lambda: os.mkdir(self.path(path), permissions))

    async def mknod(self, path: bytes, mode: int) -> None:
        await in_thread(lambda: os.mknod(self.path(path), mode))

    async def symlink(self, target: bytes, path: bytes) -> None:
        await in_thread(lambda: os.symlink(target, self.path(path)))

    async def readlink(self, path: bytes) -> bytes:
        return await in_thread(lambda: os.readlink(self.path(path)))

    async def link(self, path: bytes, other: bytes) -> None:
        await in_thread(lambda: os.link(self.path(path), self.path(other), follow_symlinks=False))

    async def unlink(self, path: bytes) -> None:
        await in_thread(lambda: os.unlink(self.path(path)))

    async def rmdir(self, path: bytes) -> None:
        await in_thread(lambda: os.rmdir(self.path(path)))

    async def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        await in_thread(lambda: _rename(self.path(old), self.path(new), flags))

    async def truncate(self, path: bytes, size: int) -> None:
        await in_thread(lambda: os.truncate(self.path(path), size))

    async def chmod(self, path: bytes, permissions: int) -> None:
        await in_thread(lambda: os.chmod(self.path(path), permissions))

    async def chown(self, path: bytes, uid: int, gid: int) -> None:
        await in_thread(lambda: os.chown(self.path(path), uid, gid, follow_symlinks=False))

    async def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        times = (atime_ns, mtime_ns)
        await in_thread(lambda: os.utime(self.path(path), ns=times, follow_symlinks=False))

    async def touch(self, path: bytes) -> None:
        await in_thread(lambda: os.utime(self.path(path)))

    async def getxattr(self, path: bytes, name: str) -> bytes:
        return await in_thread(lambda: os.getxattr(self.path(path), name, follow_symlinks=False))

    async def setxattr(self, path: bytes, name: str, value: bytes, flags: int = 0) -> None:
        await in_thread(
            lambda: os.setxattr(self.path(path), name, value, flags, follow_symlinks=False)
        )

    async def removexattr(self, path: bytes, name: str) -> None:
        await in_thread(lambda: os.removexattr(self.path(path), name, follow_symlinks=False))

    async def listxattr(self, path: bytes) -> list[str]:
        return await in_thread(lambda: os.listxattr(self.path(path), follow_symlinks=False))

    async def sync_folder(self, path: bytes) -> None:
        await in_thread(lambda: _sync_folder(self.path(path)))

    async def space(self) -> Space:
        found = await in_thread(lambda: os.statvfs(self.root))
        used_bytes = (found.f_blocks - found.f_bfree) * found.f_frsize
        return Space(used_bytes, found.f_bavail * found.f_frsize, found.f_namemax)


def as_stat(result: os.stat_result) -> Stat:
    """Translate what the kernel says."""
    return Stat(
        result.st_ino,
        result.st_mode,
        result.st_nlink,
        result.st_uid,
        result.st_gid,
        result.st_size,
        result.st_atime_ns,
        result.st_mtime_ns,
        result.st_ctime_ns,
    )


def _rename(old: bytes, new: bytes, flags: int) -> None:
    # Not os.rename, which knows no flags.
    if _libc.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), old)


def _sync_folder(path: bytes) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
