"""Serve the core to the Linux kernel through pyfuse3, and only translate.

pyfuse3 keeps its state in module globals: one mount a process. What every request has in common
is in `fuse_requests`.

There is no `access` handler: the mount option `default_permissions` makes the kernel check
modes itself. There is no `flush` either, which would be a request at each close: what was written
is kept already (P1), and synced on request. There is no interrupt, so no wait below may be
without a deadline.
"""

import errno
import itertools
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pyfuse3
import trio

from blobfs.control.mounts import Mounted, detach, find_mount
from blobfs.errors import BlobfsError, LocalFault
from blobfs.model.listing import MOST_NAME_BYTES
from blobfs.model.tree_rules import Maker
from blobfs.model.tree_rules_attributes import Wanted
from blobfs.types import ByteRange, HandleNo, NodeNo
from blobfs.vfs.attributes import Absent, Attributes
from blobfs.vfs.core import Vfs
from mountd.direct import Direct, Pages
from mountd.fuse_requests import Load, handler, log_failure
from mountd.greeting import Connection, connect
from mountd.invalidation import Kernel
from mountd.kernel_limits import raise_limits
from mountd.mount_options import MountOptions

log = logging.getLogger("blobfs.fuse")

MOST_TASKS = 512
"""Requests handled at once: many readers may hang on a dead server without blocking others."""

KERNEL = Kernel(
    forget_name=pyfuse3.invalidate_entry,
    forget_attributes=partial(pyfuse3.invalidate_inode, attr_only=True),
)
"""Of the one mount of this process."""

DOTS = 2
"""`.` and `..` come before everything else in a directory."""

KEPT_XATTRS = (b"user.", b"trusted.")
"""The extended attributes that a volume keeps. The others mean something to this machine alone."""

BLOCK_BYTES = 4096
UNIT_BYTES = 512
"""The unit of `st_blocks` (stat(2))."""


class Front(pyfuse3.Operations):
    """The requests of the kernel, each as a call of the core."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self,
        vfs: Vfs,
        options: MountOptions,
        load: Load,
        note_request: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._vfs = vfs
        self.load = load
        self.note_request = note_request
        self.options = options
        self.counts: Counter[str] = Counter()
        self.serial = itertools.count(1)
        self._direct = Direct()

    @handler
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        found = await self._vfs.lookup(NodeNo(parent_inode), name)
        if not isinstance(found, Absent):
            return self._entry(found)
        negative = pyfuse3.EntryAttributes()  # inode 0: not there, for as long as it says
        negative.entry_timeout = found.valid_s
        return negative

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        # Nobody waits for an answer, and not even an errno may be raised here.
        self._direct.forgot(NodeNo(inode) for inode, _ in inode_list)
        for inode, count in inode_list:
            try:
                self._vfs.forget(NodeNo(inode), count)
            except BlobfsError as error:
                log_failure("forget", error)
            except Exception:
                log.exception("forget failed for a reason of our own")

    @handler
    async def getattr(
        self, inode: int, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self._vfs.getattr(NodeNo(inode)))

    @handler
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        usage = self._vfs.usage()
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK_BYTES
        data.f_bfree = data.f_bavail = usage.free_bytes // BLOCK_BYTES
        data.f_blocks = -(-usage.used_bytes // BLOCK_BYTES) + data.f_bfree
        data.f_ffree = data.f_favail = usage.free_files
        data.f_files = usage.files + usage.free_files
        data.f_namemax = MOST_NAME_BYTES
        return data

    @handler
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return await self._vfs.opendir(NodeNo(inode))

    @handler
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        handle = HandleNo(fh)
        dots = list(self._vfs.dots(handle)) if start_id < DOTS else ()
        for position, (name, attributes) in enumerate(dots, 1):
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

    @handler
    async def releasedir(self, fh: int) -> None:
        self._vfs.releasedir(HandleNo(fh))

    @handler
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        truncate = bool(flags & os.O_TRUNC)
        handle = self._vfs.open(NodeNo(inode), for_writing=writing, truncate=truncate)
        pages = self._direct.opened(NodeNo(inode), handle, for_writing=writing)
        return _file_info(handle, pages)

    @handler
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # Any buffer will do, whatever pyfuse3's stubs say; a copy would cost more than the rest.
        return await self._vfs.read(HandleNo(fh), ByteRange(off, off + size))  # type: ignore[return-value]

    @handler
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        await self._vfs.write(HandleNo(fh), off, buf)
        return len(buf)

    @handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._vfs.fsync(HandleNo(fh))

    @handler
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._vfs.fsyncdir()

    @handler
    async def release(self, fh: int) -> None:
        self._direct.closed(HandleNo(fh))
        self._vfs.release(HandleNo(fh))

    @handler
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        attributes, handle = await self._vfs.create(
            NodeNo(parent_inode),
            name,
            mode,
            _maker(ctx),
            exclusive=bool(flags & os.O_EXCL),
            truncate=bool(flags & os.O_TRUNC),
        )
        pages = self._direct.created(attributes.inode, handle, flags)
        return _file_info(handle, pages), self._entry(attributes)

    @handler
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = NodeNo(parent_inode)
        return self._entry(await self._vfs.mknod(parent, name, mode, rdev, _maker(ctx)))

    @handler
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = NodeNo(parent_inode)
        return self._entry(await self._vfs.mkdir(parent, name, mode, _maker(ctx)))

    @handler
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = NodeNo(parent_inode)
        return self._entry(await self._vfs.symlink(parent, name, target, _maker(ctx)))

    @handler
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = NodeNo(new_parent_inode)
        return self._entry(await self._vfs.link(NodeNo(inode), parent, new_name))

    @handler
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._vfs.unlink(NodeNo(parent_inode), name)

    @handler
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._vfs.rmdir(NodeNo(parent_inode), name)

    @handler
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        old, new = NodeNo(parent_inode_old), NodeNo(parent_inode_new)
        await self._vfs.rename(old, name_old, new, name_new, flags)

    @handler
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        wanted = Wanted(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size_bytes=attr.st_size if fields.update_size else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        atime_ns = attr.st_atime_ns if fields.update_atime else None
        handle = None if fh is None else HandleNo(fh)
        return self._entry(self._vfs.setattr(NodeNo(inode), wanted, atime_ns, handle=handle))

    @handler
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return self._vfs.readlink(NodeNo(inode))

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        # Before anything else: `ls -l` asks for an ACL and a label of each file, every write for
        # capabilities. "Not supported" instead of "none" lets `ls` stop asking.
        if not name.startswith(KEPT_XATTRS):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        return await self._getxattr(inode, name)

    @handler
    async def _getxattr(self, inode: int, name: bytes) -> bytes:
        return await self._vfs.getxattr(NodeNo(inode), name)

    @handler
    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        # pyfuse3 has looked already whether it may, or has to, be there.
        _refuse_foreign(name)
        self._vfs.setxattr(NodeNo(inode), name, value)

    @handler
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        _refuse_foreign(name)
        self._vfs.removexattr(NodeNo(inode), name)

    @handler
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return self._vfs.listxattr(NodeNo(inode))

    def _entry(self, attributes: Attributes) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(attributes.inode)
        entry.st_mode = pyfuse3.ModeT(attributes.mode)
        entry.st_nlink = attributes.nlink
        entry.st_uid, entry.st_gid = attributes.uid, attributes.gid
        entry.st_rdev = attributes.rdev
        entry.st_size = attributes.size_bytes
        entry.st_blksize = BLOCK_BYTES
        entry.st_blocks = -(-attributes.size_bytes // UNIT_BYTES)
        entry.st_atime_ns = attributes.atime_ns
        entry.st_mtime_ns = attributes.mtime_ns
        entry.st_ctime_ns = attributes.ctime_ns
        entry.entry_timeout = attributes.valid_s
        entry.attr_timeout = attributes.valid_s
        return entry


def _file_info(handle: HandleNo, pages: Pages) -> pyfuse3.FileInfo:
    # A native node stands for one version of its bytes, and all writes to others come through
    # the kernel: its pages stay right either way, where they are not passed by.
    return pyfuse3.FileInfo(
        fh=pyfuse3.FileHandleT(handle),
        direct_io=pages is Pages.PASSED,
        keep_cache=pages is Pages.KEPT,
    )


def _maker(ctx: pyfuse3.RequestContext) -> Maker:
    return Maker(ctx.uid, ctx.gid)


def _refuse_foreign(name: bytes) -> None:
    if not name.startswith(KEPT_XATTRS):
        raise pyfuse3.FUSEError(errno.EOPNOTSUPP)


class FuseMount:
    """A mount that the kernel knows. Made by `open_mount`."""

    def __init__(self, mountpoint: Path, connection: Connection) -> None:
        self._mountpoint = mountpoint
        self._connection = connection
        self._greeted = trio.Event()

    async def serve(self) -> None:
        """Answer requests until the directory is unmounted or `stop` is called."""
        try:
            await self._connection.greet(_serve_session)
        except OSError as error:
            log.info("unmounted before it was ready. mountpoint=%s (%s)", self._mountpoint, error)
            return
        # The greeting sets the read-ahead back, so it is raised after it.
        await trio.to_thread.run_sync(raise_limits, self._mountpoint)
        self._greeted.set()
        await _serve_session()

    async def wait_ready(self) -> None:
        """Wait until the kernel has greeted us: from then on the directory works."""
        await self._greeted.wait()

    def stop(self) -> None:
        """Let `serve` return."""
        pyfuse3.terminate()


async def _serve_session() -> None:
    await pyfuse3.main(min_tasks=1, max_tasks=MOST_TASKS)


@asynccontextmanager
async def open_mount(front: Front, mountpoint: Path) -> AsyncIterator[FuseMount]:
    """Mount what `front` serves; unmount it at the end, at the latest.

    Raises:
        LocalFault: the kernel, or fusermount3, refused.
    """
    options = front.options.as_fuse()
    # fusermount3 is waited for in here, and it never needs us.
    connection = Connection(await trio.to_thread.run_sync(connect, mountpoint, options))
    try:
        mounted = find_mount(os.fspath(mountpoint))
        _begin_session(front, connection, options)
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_give_up, os.fspath(mountpoint), connection)
        raise
    try:
        yield FuseMount(mountpoint, connection)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_close, os.fspath(mountpoint), mounted, connection)


def _begin_session(front: Front, connection: Connection, options: set[str]) -> None:
    try:
        pyfuse3.init(front, f"/dev/fd/{connection.session}", options)
    except RuntimeError as error:
        raise LocalFault(
            f"libfuse refuses to serve the mount: {error}. options={sorted(options)}",
            hint="the daemon's log has libfuse's own words",
        ) from error


def _give_up(mountpoint: str, connection: Connection) -> None:
    """Take away what was mounted and nobody will serve. Where a session did not begin, libfuse
    has nothing that could be closed, and did not take what it was given."""
    _detach(mountpoint)
    connection.close()
    os.close(connection.session)


def _close(mountpoint: str, mounted: Mounted | None, connection: Connection) -> None:
    # Who took it away while files were open may have mounted something else there since.
    if connection.is_mounted and find_mount(mountpoint) == mounted:
        _detach(mountpoint)
    connection.close()
    pyfuse3.close(unmount=False)


def _detach(mountpoint: str) -> None:
    try:
        detach(mountpoint, lazy=True)
    except BlobfsError as error:
        log.warning("the directory stays mounted, and dead: %s", error)
