"""The vfs contract on the core alone."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from blobfs.env import Env
from blobfs.errors import BlobfsError
from blobfs.stores.base import Store
from blobfs.types import ROOT_INODE, ByteRange, HandleNo, InodeNo
from blobfs.vfs.core import Absent, Attributes, Vfs
from tests.contracts.vfs_contract import Files, Handle, Stat, VfsContract
from tests.core import opened_vfs


def _raise(error: BlobfsError) -> OSError:
    return OSError(error.errno, str(error))


class CoreHandle(Handle):
    def __init__(self, vfs: Vfs, handle: HandleNo) -> None:
        self.vfs = vfs
        self.handle = handle

    async def read(self, offset: int, size: int) -> bytes:
        try:
            return bytes(await self.vfs.read(self.handle, ByteRange(offset, offset + size)))
        except BlobfsError as error:
            raise _raise(error) from error

    async def close(self) -> None:
        self.vfs.release(self.handle)


class CoreFiles(Files):
    """Walks paths as a kernel without any cache would, and forgets at once."""

    def __init__(self, vfs: Vfs) -> None:
        self.vfs = vfs

    async def resolve(self, path: bytes) -> Attributes:
        found = self.vfs.getattr(ROOT_INODE)
        for name in filter(None, path.split(b"/")):
            below = await self.vfs.lookup(found.inode, name)
            if isinstance(below, Absent):
                raise FileNotFoundError(2, "absent", path)
            found = below
        return found

    async def inode(self, path: bytes) -> InodeNo:
        try:
            return (await self.resolve(path)).inode
        except BlobfsError as error:
            raise _raise(error) from error

    async def listdir(self, path: bytes) -> list[bytes]:
        inode = await self.inode(path)
        try:
            handle = await self.vfs.opendir(inode)
            names: list[bytes] = []
            cookie = 0
            # One entry a call: the most a small buffer of a kernel would ask of cookies.
            while dirents := await self.vfs.readdir(handle, cookie):
                dirent = next(dirents)
                names.append(dirent.name)
                cookie = dirent.next_cookie
            self.vfs.releasedir(handle)
        except BlobfsError as error:
            raise _raise(error) from error
        return sorted(names)

    async def stat(self, path: bytes) -> Stat:
        found = await self.resolve(path)
        return Stat(found.inode, found.is_folder, found.size_bytes, found.mtime_ns)

    async def open(self, path: bytes, flags: int = os.O_RDONLY) -> Handle:
        inode = await self.inode(path)
        writing = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        try:
            return CoreHandle(self.vfs, self.vfs.open(inode, for_writing=writing))
        except BlobfsError as error:
            raise _raise(error) from error

    async def getxattr(self, path: bytes, name: str) -> bytes:
        value = await self.vfs.getxattr(await self.inode(path), name.encode())
        if value is None:
            raise OSError(61, "no such attribute")
        return value

    async def listxattr(self, path: bytes) -> list[str]:
        return []

    async def used_bytes(self) -> int:
        return self.vfs.usage().size_bytes


class TestCore(VfsContract):
    @asynccontextmanager
    async def opened(
        self, store: Store, folder: Path, *, ttl_s: float = 60
    ) -> AsyncIterator[Files]:
        async with opened_vfs(store, folder, Env(), ttl_s) as vfs:
            yield CoreFiles(vfs)
            assert vfs.open_files == 0
