"""Serve the core to the Linux kernel through pyfuse3, and only translate.

pyfuse3 keeps its state in module globals: one mount a process. A handler that raised anything
but FUSEError would end the mount, so one wrapper turns our errors into their errnos and
everything else into a logged EIO.

There is no `access` handler: the mount option `default_permissions` makes the kernel check
modes itself. There is no interrupt either, so no wait below may be without a deadline.
"""

import errno
import itertools
import logging
import os
import stat
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio

from blobfs.errors import BlobfsError, LocalFault
from blobfs.trace import request_id
from blobfs.types import ByteRange, HandleNo, InodeNo
from blobfs.vfs.core import Absent, Attributes, Vfs

log = logging.getLogger("blobfs.fuse")

READ_AHEAD_KIB = 1024
"""What the kernel may ask for ahead of a reader; its default of 128 costs half the speed."""

MOST_IN_BACKGROUND = 128
"""Read-ahead requests that the kernel sends before the first is answered. With its default of
12, as many that wait for a dead server would hold up those that the cache could answer."""

MOST_TASKS = 512
"""Requests handled at once: many readers may hang on a dead server without blocking others."""

DOTS = 2
"""`.` and `..` come before everything else in a directory."""

BLOCK_BYTES = 4096
UNIT_BYTES = 512
"""The unit of `st_blocks` (stat(2))."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How the kernel shows the files: their owner, and who may enter."""

    source: str
    uid: int
    gid: int
    umask: int
    allow_other: bool

    def as_fuse(self) -> set[str]:
        # A comma would end the option.
        name = self.source.replace("\\", "\\\\").replace(",", "\\,")
        options = {"default_permissions", "ro", "subtype=blobfs", f"fsname={name}"}
        return options | {"allow_other"} if self.allow_other else options


def _handler(
    method: Callable[Concatenate["Front", P], Awaitable[R]],
) -> Callable[Concatenate["Front", P], Coroutine[Any, Any, R]]:
    """Count a request, give it an id, and translate what it raises."""
    name = method.__name__.lstrip("_")

    @wraps(method)
    async def handle(self: "Front", /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.counts[name] += 1
        request_id.set(f"{name}-{next(self.serial)}")
        try:
            return await method(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except BlobfsError as error:
            _log_failure(name, error)
            raise pyfuse3.FUSEError(error.errno) from error
        except Exception as error:
            log.exception("%s failed for a reason of our own", name)
            raise pyfuse3.FUSEError(errno.EIO) from error

    return handle


def _log_failure(name: str, error: BlobfsError) -> None:
    level = logging.WARNING if error.errno in (errno.EIO, errno.ESTALE) else logging.DEBUG
    log.log(level, "%s: %s (%s)", name, error, errno.errorcode.get(error.errno, error.errno))


class Front(pyfuse3.Operations):
    """The requests of the kernel, each as a call of the core."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, vfs: Vfs, options: MountOptions) -> None:
        super().__init__()
        self._vfs = vfs
        self.options = options
        self.counts: Counter[str] = Counter()
        self.serial = itertools.count(1)
        self.greeted = trio.Event()

    def init(self) -> None:
        self.greeted.set()

    @_handler
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        found = await self._vfs.lookup(InodeNo(parent_inode), name)
        if not isinstance(found, Absent):
            return self._entry(found)
        negative = pyfuse3.EntryAttributes()  # inode 0: not there, for as long as it says
        negative.entry_timeout = found.valid_s
        return negative

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, count in inode_list:
            self._vfs.forget(InodeNo(inode), count)

    @_handler
    async def getattr(
        self, inode: int, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self._vfs.getattr(InodeNo(inode)))

    @_handler
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        usage = self._vfs.usage()
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK_BYTES
        data.f_blocks = -(-usage.size_bytes // BLOCK_BYTES)
        data.f_bfree = data.f_bavail = 0
        data.f_files = usage.files
        data.f_ffree = data.f_favail = 0
        data.f_namemax = 255
        return data

    @_handler
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return await self._vfs.opendir(InodeNo(inode))

    @_handler
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        handle = HandleNo(fh)
        for position, (name, attributes) in enumerate(self._vfs.dots(handle), 1):
            # The kernel takes no inode with these two, so they are not counted as lookups.
            if position > start_id and not pyfuse3.readdir_reply(
                token, name, self._entry(attributes), position
            ):
                return
        dirents = await self._vfs.readdir(handle, max(0, start_id - DOTS))
        for dirent in dirents or ():
            entry = self._entry(dirent.attributes)
            if not pyfuse3.readdir_reply(token, dirent.name, entry, dirent.next_cookie + DOTS):
                return
            self._vfs.count_lookup(dirent)

    @_handler
    async def releasedir(self, fh: int) -> None:
        self._vfs.releasedir(HandleNo(fh))

    @_handler
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        writing = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        handle = self._vfs.open(InodeNo(inode), for_writing=writing)
        # A node stands for one version of the bytes, so the kernel's pages stay right.
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), keep_cache=True)

    @_handler
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # Any buffer will do, whatever pyfuse3's stubs say; a copy would cost more than the rest.
        return await self._vfs.read(HandleNo(fh), ByteRange(off, off + size))  # type: ignore[return-value]

    @_handler
    async def flush(self, fh: int) -> None:
        return None

    @_handler
    async def release(self, fh: int) -> None:
        self._vfs.release(HandleNo(fh))

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        # Before anything else: `ls -l` asks for an ACL and a label of each file, every write for
        # capabilities. "Not supported" instead of "none" lets `ls` stop asking.
        if not name.startswith(b"user."):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        return await self._getxattr(inode, name)

    @_handler
    async def _getxattr(self, inode: int, name: bytes) -> bytes:
        value = await self._vfs.getxattr(InodeNo(inode), name)
        if value is None:
            raise pyfuse3.FUSEError(errno.ENODATA)
        return value

    @_handler
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return []

    @_handler
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        raise pyfuse3.FUSEError(errno.EINVAL)

    def _entry(self, attributes: Attributes) -> pyfuse3.EntryAttributes:
        options = self.options
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(attributes.inode)
        mode = stat.S_IFDIR | 0o777 if attributes.is_folder else stat.S_IFREG | 0o666
        entry.st_mode = pyfuse3.ModeT(mode & ~options.umask)
        entry.st_nlink = 1  # of directories too: nobody has counted what lies below
        entry.st_uid, entry.st_gid = options.uid, options.gid
        entry.st_size = attributes.size_bytes
        entry.st_blksize = BLOCK_BYTES
        entry.st_blocks = -(-attributes.size_bytes // UNIT_BYTES)
        mtime_ns = attributes.mtime_ns
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = mtime_ns
        entry.entry_timeout = attributes.valid_s
        entry.attr_timeout = attributes.valid_s
        return entry


class FuseMount:
    """A mount that the kernel knows. Made by `open_mount`."""

    def __init__(self, front: Front, mountpoint: Path) -> None:
        self._front = front
        self._mountpoint = mountpoint

    async def serve(self) -> None:
        """Answer requests until the directory is unmounted or `stop` is called."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._greet)
            await pyfuse3.main(min_tasks=1, max_tasks=MOST_TASKS)
            nursery.cancel_scope.cancel()

    async def wait_ready(self) -> None:
        """Wait until the kernel has greeted us: from then on the directory works."""
        await self._front.greeted.wait()

    async def _greet(self) -> None:
        # The greeting (FUSE_INIT) sets the read-ahead back, so it is raised after it.
        await self._front.greeted.wait()
        await trio.to_thread.run_sync(_tune, self._mountpoint)

    def stop(self) -> None:
        """Let `serve` return."""
        pyfuse3.terminate()


@asynccontextmanager
async def open_mount(front: Front, mountpoint: Path) -> AsyncIterator[FuseMount]:
    """Mount what `front` serves; unmount it at the end, at the latest.

    Raises:
        LocalFault: the kernel, or fusermount3, refused.
    """
    try:
        # fusermount3 is waited for in here, and it never needs us.
        await trio.to_thread.run_sync(
            pyfuse3.init, front, os.fspath(mountpoint), front.options.as_fuse()
        )
    except RuntimeError as error:
        raise LocalFault(
            f"cannot mount: {error}. mountpoint={str(mountpoint)!r}",
            hint="see the daemon's log for what fusermount3 said",
        ) from error
    try:
        yield FuseMount(front, mountpoint)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(pyfuse3.close)


def _tune(mountpoint: Path) -> None:
    """Raise what the kernel allows us, where we may: the first needs root, the others do not."""
    device = _device_of(mountpoint)
    connection = f"/sys/fs/fuse/connections/{device.rpartition(':')[2]}"
    for setting, value in (
        (f"/sys/class/bdi/{device}/read_ahead_kb", READ_AHEAD_KIB),
        (f"{connection}/max_background", MOST_IN_BACKGROUND),
        (f"{connection}/congestion_threshold", MOST_IN_BACKGROUND * 3 // 4),
    ):
        try:
            Path(setting).write_text(str(value))
        except OSError as error:
            log.debug("the kernel's setting stays as it is: %s", error)


def _device_of(mountpoint: Path) -> str:
    """Return `major:minor` of the newest mount there, without touching the mount itself."""
    wanted = os.fsencode(mountpoint)
    device = ""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields = line.split(b" ")
        if fields[4].decode("unicode_escape").encode("latin-1") == wanted:
            device = fields[2].decode()
    return device
