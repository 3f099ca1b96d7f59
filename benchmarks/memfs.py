"""Serve a bare file system from memory through pyfuse3: the floor for any file system there.

`python -m benchmarks.memfs DIR` mounts it; it keeps nothing, checks nothing and ends when it is
unmounted. Only what `tar`, `cp` and `ls` need is there.
"""

import errno
import os
import stat
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyfuse3
import trio


@dataclass(slots=True)
class _Node:
    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, "_Node"] = field(default_factory=dict)
    target: bytes = b""
    mtime_ns: int = 0
    uid: int = 0
    gid: int = 0


class MemoryFileSystem(pyfuse3.Operations):
    """Files and directories as Python objects."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[int, _Node] = {}
        self._make(stat.S_IFDIR | 0o755)

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(self._child(parent_inode, name))

    async def getattr(
        self, inode: int, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(self._nodes[inode])

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        node = self._nodes[inode]
        if fields.update_mode:
            node.mode = attr.st_mode
        if fields.update_uid:
            node.uid = attr.st_uid
        if fields.update_gid:
            node.gid = attr.st_gid
        if fields.update_mtime:
            node.mtime_ns = attr.st_mtime_ns
        if fields.update_size:
            del node.data[attr.st_size :]
            node.data.extend(bytes(attr.st_size - len(node.data)))
        return self._attributes(node)

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        node = self._add(parent_inode, name, stat.S_IFREG | mode)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(node.number)), self._attributes(node)

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(self._add(parent_inode, name, stat.S_IFDIR | mode))

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        node = self._add(parent_inode, name, stat.S_IFLNK | 0o777)
        node.target = target
        return self._attributes(node)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return bytes(self._nodes[fh].data[off : off + size])

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self._nodes[fh].data[off : off + len(buf)] = buf
        return len(buf)

    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._child(parent_inode, name)
        del self._nodes[parent_inode].names[name]

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        node = self._nodes[parent_inode_old].names.pop(name_old)
        self._nodes[parent_inode_new].names[name_new] = node

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        raise pyfuse3.FUSEError(errno.EOPNOTSUPP)

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        names = list(self._nodes[fh].names.items())
        for position, (name, node) in enumerate(names[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, self._attributes(node), position):
                return

    async def flush(self, fh: int) -> None:
        return None

    async def release(self, fh: int) -> None:
        return None

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        return None

    def _make(self, mode: int) -> _Node:
        node = _Node(len(self._nodes) + 1, mode, mtime_ns=time.time_ns())
        self._nodes[node.number] = node
        return node

    def _add(self, parent: int, name: bytes, mode: int) -> _Node:
        node = self._nodes[parent].names[name] = self._make(mode)
        return node

    def _child(self, parent: int, name: bytes) -> _Node:
        node = self._nodes[parent].names.get(name)
        if node is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return node

    def _attributes(self, node: _Node) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(node.number)
        entry.st_mode = pyfuse3.ModeT(node.mode)
        entry.st_nlink = 1
        entry.st_uid, entry.st_gid = node.uid, node.gid
        entry.st_size = len(node.data)
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = node.mtime_ns
        entry.entry_timeout = entry.attr_timeout = 30
        return entry


def main(mountpoint: str) -> None:
    """Serve until unmounted."""
    pyfuse3.init(MemoryFileSystem(), mountpoint, {"fsname=memfs", "default_permissions"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main(os.path.realpath(sys.argv[1]))
