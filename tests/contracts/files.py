"""Name what programs do with files, so that one test runs on a core, a mount and a plain folder.

Paths are bytes below the root of what is tested. A failure is an OSError with the errno that
the program would see. Symbolic links are never followed here.
"""

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

MIB = 1024 * 1024

NOREPLACE, EXCHANGE = 1, 2
"""Flags of renameat2(2)."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What stat(2) says, as far as contracts speak of it."""

    inode: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size_bytes: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def permissions(self) -> int:
        return stat.S_IMODE(self.mode)


@dataclass(frozen=True, slots=True)
class Space:
    """What `df` says, in bytes and files."""

    used_bytes: int
    free_bytes: int
    most_name_bytes: int


class Handle(ABC):
    """An open file of a program."""

    @abstractmethod
    async def read(self, offset: int, size: int) -> bytes: ...

    @abstractmethod
    async def write(self, offset: int, data: bytes) -> None: ...

    @abstractmethod
    async def append(self, data: bytes) -> None:
        """Write where the file ends; it was opened with O_APPEND."""

    @abstractmethod
    async def truncate(self, size: int) -> None: ...

    @abstractmethod
    async def stat(self) -> Stat: ...

    @abstractmethod
    async def sync(self, *, data_only: bool = False) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...


class Files(ABC):
    """What programs do with names."""

    @abstractmethod
    def scan(self, path: bytes) -> AsyncIterator[bytes]:
        """Yield the names in a directory while others may change it."""

    @abstractmethod
    async def stat(self, path: bytes) -> Stat: ...

    @abstractmethod
    async def open(
        self, path: bytes, flags: int = os.O_RDONLY, permissions: int = 0o644
    ) -> Handle: ...

    @abstractmethod
    async def mkdir(self, path: bytes, permissions: int = 0o755) -> None: ...

    @abstractmethod
    async def mknod(self, path: bytes, mode: int) -> None: ...

    @abstractmethod
    async def symlink(self, target: bytes, path: bytes) -> None: ...

    @abstractmethod
    async def readlink(self, path: bytes) -> bytes: ...

    @abstractmethod
    async def link(self, path: bytes, other: bytes) -> None: ...

    @abstractmethod
    async def unlink(self, path: bytes) -> None: ...

    @abstractmethod
    async def rmdir(self, path: bytes) -> None: ...

    @abstractmethod
    async def rename(self, old: bytes, new: bytes, flags: int = 0) -> None: ...

    @abstractmethod
    async def truncate(self, path: bytes, size: int) -> None: ...

    @abstractmethod
    async def chmod(self, path: bytes, permissions: int) -> None: ...

    @abstractmethod
    async def chown(self, path: bytes, uid: int, gid: int) -> None:
        """Give it away; -1 leaves one as it is."""

    @abstractmethod
    async def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None: ...

    @abstractmethod
    async def touch(self, path: bytes) -> None:
        """Set both times to now, whatever the machine takes for it."""

    @abstractmethod
    async def getxattr(self, path: bytes, name: str) -> bytes: ...

    @abstractmethod
    async def setxattr(self, path: bytes, name: str, value: bytes, flags: int = 0) -> None: ...

    @abstractmethod
    async def removexattr(self, path: bytes, name: str) -> None: ...

    @abstractmethod
    async def listxattr(self, path: bytes) -> list[str]: ...

    @abstractmethod
    async def sync_folder(self, path: bytes) -> None: ...

    @abstractmethod
    async def space(self) -> Space: ...

    @abstractmethod
    async def save(self) -> None:
        """Return when everything done so far is in the bucket, where there is one."""

    async def listdir(self, path: bytes) -> list[bytes]:
        """Return the names in a directory, sorted."""
        return sorted([name async for name in self.scan(path)])

    async def read(self, path: bytes) -> bytes:
        """Read a file whole, as `cat` does."""
        handle = await self.open(path)
        try:
            parts = []
            while part := await handle.read(sum(map(len, parts)), MIB):
                parts.append(part)
            return b"".join(parts)
        finally:
            await handle.close()

    async def write(self, path: bytes, data: bytes = b"", permissions: int = 0o644) -> None:
        """Make a file with this content, or replace its content, as `>` in a shell does."""
        handle = await self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, permissions)
        try:
            await handle.write(0, data)
        finally:
            await handle.close()

    async def exists(self, path: bytes) -> bool:
        """Whether the name leads anywhere."""
        try:
            await self.stat(path)
        except FileNotFoundError:
            return False
        return True


@contextmanager
def failing(number: int) -> Iterator[None]:
    """Expect an OSError with this errno, as a program would."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - judged by errno below
        yield
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]
