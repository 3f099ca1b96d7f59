"""Be a plain POSIX tree in memory, written apart from blobfs, to compare it with.

Paths are tuples of names; () is the root. Failures are OSError with the errno that the man pages
name. Whoever drives it sets `now_ns` before each operation.

What a bucket held before blobfs came (`add_native`) stands beside what is made, and is changed
like it.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

Path = tuple[bytes, ...]

NOREPLACE, EXCHANGE = 1, 2


@dataclass(eq=False)
class Thing:
    """A file of any type, or a directory."""

    type: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int | None
    ctime_ns: int | None
    """Times are None where nobody can know them: of native directories."""
    content: bytes = b""
    """Of a symbolic link: its target."""
    nlink: int = 1
    entries: "dict[bytes, Thing]" = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return self.type == stat.S_IFDIR

    def facts(self) -> tuple[object, ...]:
        """Return all that stat(2) and getxattr(2) tell, less inode numbers."""
        nlink = 1 if self.is_folder else self.nlink
        xattrs = tuple(sorted(self.xattrs.items()))
        return self.type, self.mode, self.uid, self.gid, nlink, len(self.content), xattrs


def fail(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


class Oracle:
    """The tree."""

    def __init__(self, root: Thing) -> None:
        self.root = root
        self.now_ns = 0

    # --- looking ---------------------------------------------------------------------

    def find(self, path: Path) -> Thing:
        thing = self.root
        for name in path:
            if not thing.is_folder:
                fail(errno.ENOTDIR)
            if name not in thing.entries:
                fail(errno.ENOENT)
            thing = thing.entries[name]
        return thing

    def walk(self) -> Iterator[tuple[Path, Thing]]:
        """Yield everything, directories before what lies in them, names in order."""
        waiting: list[tuple[Path, Thing]] = [((), self.root)]
        while waiting:
            path, thing = waiting.pop()
            yield path, thing
            children = sorted(thing.entries.items(), reverse=True)
            waiting += [((*path, name), child) for name, child in children]

    def add_native(self, path: Path, content: bytes, *, mtime_ns: int) -> None:
        """Let the bucket hold an object, and the directories above it."""
        folder = self.root
        owner = self.root.uid, self.root.gid
        for name in path[:-1]:
            fresh = Thing(stat.S_IFDIR, 0o755, *owner, None, None)
            folder = folder.entries.setdefault(name, fresh)
        folder.entries[path[-1]] = Thing(stat.S_IFREG, 0o644, *owner, mtime_ns, mtime_ns, content)

    # --- names -----------------------------------------------------------------------

    def make(
        self, path: Path, type: int, mode: int, uid: int, gid: int, target: bytes = b""
    ) -> None:
        folder, name = self._place(path)
        if name in folder.entries:
            fail(errno.EEXIST)
        if folder.mode & stat.S_ISGID:
            gid = folder.gid
            if type == stat.S_IFDIR:
                mode |= stat.S_ISGID
        folder.entries[name] = Thing(type, mode, uid, gid, self.now_ns, self.now_ns, target)
        self._touch(folder)

    def link(self, old: Path, new: Path) -> None:
        thing = self.find(old)
        folder, name = self._place(new)
        if name in folder.entries:
            fail(errno.EEXIST)
        if thing.is_folder:
            fail(errno.EPERM)
        thing.nlink += 1
        thing.ctime_ns = self.now_ns
        folder.entries[name] = thing
        self._touch(folder)

    def unlink(self, path: Path) -> None:
        folder, name = self._place(path)
        thing = self._entry(folder, name)
        if thing.is_folder:
            fail(errno.EISDIR)
        self._lose(thing)
        del folder.entries[name]
        self._touch(folder)

    def rmdir(self, path: Path) -> None:
        folder, name = self._place(path)
        thing = self._entry(folder, name)
        if not thing.is_folder:
            fail(errno.ENOTDIR)
        if thing.entries:
            fail(errno.ENOTEMPTY)
        self._lose(thing)
        del folder.entries[name]
        self._touch(folder)

    def rename(self, old: Path, new: Path, flags: int = 0) -> None:
        old_folder, old_name = self._place(old)
        new_folder, new_name = self._place(new)
        thing = self._entry(old_folder, old_name)
        other = new_folder.entries.get(new_name)
        if flags & NOREPLACE and other is not None:
            fail(errno.EEXIST)
        if flags & EXCHANGE and other is None:
            fail(errno.ENOENT)
        if self._lies_below(new_folder, thing):
            fail(errno.EINVAL)
        if other is not None and self._lies_below(old_folder, other):
            fail(errno.EINVAL if flags & EXCHANGE else errno.ENOTEMPTY)
        if other is thing:
            return
        if flags & EXCHANGE:
            assert other is not None
            old_folder.entries[old_name] = other
            other.ctime_ns = self.now_ns
        else:
            if other is not None:
                self._replace(thing, other)
                self._lose(other)
            del old_folder.entries[old_name]
        new_folder.entries[new_name] = thing
        thing.ctime_ns = self.now_ns
        self._touch(old_folder)
        self._touch(new_folder)

    # --- attributes ------------------------------------------------------------------

    def chmod(self, path: Path, mode: int) -> None:
        thing = self._attributes(path)
        thing.mode = mode

    def chown(self, path: Path, uid: int, gid: int) -> None:
        thing = self._attributes(path)
        thing.uid, thing.gid = uid, gid
        if not thing.is_folder:
            self._lose_privileges(thing)

    def utime(self, path: Path, mtime_ns: int) -> None:
        self._attributes(path).mtime_ns = min(max(mtime_ns, -(1 << 63)), (1 << 63) - 1)

    def truncate(self, path: Path, size: int) -> None:
        thing = self.find(path)
        if thing.type != stat.S_IFREG:
            fail(errno.EISDIR if thing.is_folder else errno.EINVAL)
        thing.content = thing.content[:size] + bytes(max(0, size - len(thing.content)))
        self._written(thing)

    def write(self, thing: Thing, offset: int, data: bytes) -> None:
        """Write through an open file, which may have lost its name."""
        before = thing.content[:offset]
        gap = bytes(max(0, offset - len(before)))
        thing.content = before + gap + data + thing.content[offset + len(data) :]
        self._written(thing)

    def setxattr(self, path: Path, name: bytes, value: bytes) -> None:
        self._attributes(path).xattrs[name] = value

    def removexattr(self, path: Path, name: bytes) -> None:
        if name not in self.find(path).xattrs:
            fail(errno.ENODATA)
        del self._attributes(path).xattrs[name]

    # --- inside ----------------------------------------------------------------------

    def _place(self, path: Path) -> tuple[Thing, bytes]:
        folder = self.find(path[:-1])
        if not folder.is_folder:
            fail(errno.ENOTDIR)
        return folder, path[-1]

    def _entry(self, folder: Thing, name: bytes) -> Thing:
        if name not in folder.entries:
            fail(errno.ENOENT)
        return folder.entries[name]

    def _replace(self, thing: Thing, other: Thing) -> None:
        if thing.is_folder and not other.is_folder:
            fail(errno.ENOTDIR)
        if other.is_folder and not thing.is_folder:
            fail(errno.EISDIR)
        if other.entries:
            fail(errno.ENOTEMPTY)

    def _lies_below(self, folder: Thing, top: Thing) -> bool:
        return folder is top or any(
            self._lies_below(folder, child) for child in top.entries.values() if child.is_folder
        )

    def _attributes(self, path: Path) -> Thing:
        thing = self.find(path)
        thing.ctime_ns = self.now_ns
        return thing

    def _touch(self, folder: Thing) -> None:
        folder.mtime_ns = folder.ctime_ns = self.now_ns

    def _written(self, thing: Thing) -> None:
        self._touch(thing)
        self._lose_privileges(thing)

    def _lose(self, thing: Thing) -> None:
        thing.nlink -= 1
        thing.ctime_ns = self.now_ns

    def _lose_privileges(self, thing: Thing) -> None:
        """What another user wrote, or owns from now on, must not run as its old owner."""
        thing.mode &= ~stat.S_ISUID
        if thing.mode & stat.S_IXGRP:
            thing.mode &= ~stat.S_ISGID
