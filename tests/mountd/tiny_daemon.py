"""A daemon for tests: the real shell of mountd around a file system that is as small as can be.

Called with a mode and the number of the report pipe (none: in the foreground):

    plain    nothing is mounted, and there is no store to ask; serves until it is ended
    real     mounts a file system with one file, `hello`
    unsaved  as real, with something unsaved that cannot be saved
    slow     never becomes ready; opens the FIFO `started`, if the state folder has one
    deaf     never becomes ready, and ignores SIGTERM
    lingers  as real, and waits for a disk that never answers when it is to end
    stuck    mounts, but never becomes ready, and ignores SIGTERM
    denied   finds that the store refuses it
    crash    ends without a word
    fault    meets a fault in its own code
    closed   lets go of its report pipe, then goes on
"""

import errno
import os
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pyfuse3
import trio

from blobfs.config import MountSettings
from blobfs.control.messages import (
    CacheStatus,
    Gauges,
    ListingsStatus,
    QuotaStatus,
    StoreStatus,
    SyncReply,
    TreeStatus,
    UnsavedStatus,
)
from blobfs.env import Env
from blobfs.errors import AccessDenied, Unreachable
from mountd import ending
from mountd.__main__ import main

GAUGES = Gauges(
    cache=CacheStatus(bytes=10, limit_bytes=100, hits=3, misses=4),
    store=StoreStatus({"get": 1, "list": 2}, bytes_received=5, bytes_sent=0, errors=0, retries=0),
    fuse={"lookup": 7},
    listings=ListingsStatus(known=2, stale=0),
    open_files=0,
    unsaved=UnsavedStatus(),
    safe=True,
    seq=5,
    quota=QuotaStatus(used_bytes=50, limit_bytes=200),
)
STUCK_GAUGES = msgspec.structs.replace(
    GAUGES,
    unsaved=UnsavedStatus(files=2, bytes=300, oldest_s=5, problem="no answer"),
    safe=False,
    read_only_reason="the store said so",
)
"""Of a mount with unsaved changes, that nothing can be written through any more."""
HELLO = b"hello"


class OneFile(pyfuse3.Operations):
    """A root with one file in it."""

    async def getattr(self, inode: int, ctx: Any = None) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        if inode == pyfuse3.ROOT_INODE:
            entry.st_mode = stat.S_IFDIR | 0o755
        else:
            entry.st_mode, entry.st_size = stat.S_IFREG | 0o644, len(HELLO)
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: Any = None) -> pyfuse3.EntryAttributes:
        if name != b"hello":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(2)

    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    async def readdir(self, handle: int, start: int, token: Any) -> None:
        if start == 0:
            pyfuse3.readdir_reply(token, b"hello", await self.getattr(2), 1)

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        return HELLO[offset : offset + size]


class TinyFileSystem:
    def __init__(self, settings: MountSettings, mode: str) -> None:
        self._settings = settings
        self._mode = mode

    def gauges(self) -> Gauges:
        return STUCK_GAUGES if self._mode == "unsaved" else GAUGES

    def sync(self, upto: int | None) -> SyncReply:
        return SyncReply(upto=upto or 7, done=True, seq=GAUGES.seq, unsaved=GAUGES.unsaved)

    def tree(self) -> TreeStatus:
        return TreeStatus(seq=5, chain="c1", inodes=3, content_bytes=9, dirents_digest="d1")

    async def heed_settings(self) -> None:
        raise Unreachable("there is no store to ask")

    async def serve(self, mounted: Callable[[], None]) -> None:
        await getattr(self, "_" + self._mode)(mounted)

    async def _plain(self, mounted: Callable[[], None]) -> None:
        mounted()
        await trio.sleep_forever()

    async def _slow(self, mounted: Callable[[], None]) -> None:
        fifo = self._settings.state_dir / "started"
        if fifo.exists():
            fifo.write_bytes(b"")
        await trio.sleep_forever()

    async def _deaf(self, mounted: Callable[[], None]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)  # noqa: ASYNC251 - so that the whole loop stands still

    async def _real(self, mounted: Callable[[], None]) -> None:
        options = {*pyfuse3.default_options, f"fsname={self._settings.source}", "subtype=blobfs"}
        pyfuse3.init(OneFile(), str(self._settings.mountpoint), options)
        try:
            mounted()
            await pyfuse3.main()
        finally:
            pyfuse3.close(unmount=True)

    _unsaved = _lingers = _real

    async def _stuck(self, mounted: Callable[[], None]) -> None:
        await self._real(lambda: trio.lowlevel.spawn_system_task(self._deaf, mounted))

    async def _closed(self, mounted: Callable[[], None]) -> None:
        os.close(int(sys.argv[2]))
        await trio.sleep_forever()


@asynccontextmanager
async def open_tiny(settings: MountSettings, env: Env) -> AsyncIterator[TinyFileSystem]:
    mode = sys.argv[1]
    if mode == "denied":
        raise AccessDenied("the store refused us. sig=hunter2secret", hint="log in again")
    if mode == "crash":
        os._exit(3)
    if mode == "fault":
        raise ZeroDivisionError("one by none")
    try:
        yield TinyFileSystem(settings, mode)
    finally:
        if mode == "lingers":
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(time.sleep, 600)


if __name__ == "__main__":
    if sys.argv[1] == "lingers":
        ending.ENDS_WITHIN_S = 0.2
    os._exit(main(sys.argv[2:], open_tiny))
