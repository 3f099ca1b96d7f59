"""Do the same to a file system and to the oracle, and compare what they show.

Operations are data, so that a list of them can be told again, cut short, and printed when a test
fails. Paths are tuples of names, as the oracle takes them.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from blobfs.env import Env
from tests.contracts.core_files import CoreFiles
from tests.contracts.files import Handle
from tests.oracle import Oracle, Path, Thing

UID, GID = os.getuid(), os.getgid()
STEP_NS = 1_000
FIRST_NS = 10**18

Seen = dict[Path, tuple[object, ...]]
"""All that programs see below the root."""


@dataclass(frozen=True)
class Do:
    """One operation: a method of `Program` and of `OracleProgram`, and its arguments."""

    what: str
    args: tuple[object, ...] = ()


@dataclass(eq=False)
class Moment:
    """The wall clock of a test: it moves when the next operation begins."""

    now_ns: int = FIRST_NS

    def env(self, crash_point: Callable[[str], None] = lambda _name: None) -> Env:
        return Env(now_ns=lambda: self.now_ns, crash_point=crash_point)


class Program:
    """What a program does, on the core: OSError says what went wrong."""

    def __init__(self, files: CoreFiles) -> None:
        self.files = files
        self.held: list[Handle] = []

    async def make(self, path: Path, type: int, mode: int) -> None:
        name = b"/".join(path)
        if type == stat.S_IFREG:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            await (await self.files.open(name, flags, mode)).close()
        elif type == stat.S_IFDIR:
            await self.files.mkdir(name, mode)
        elif type == stat.S_IFLNK:
            await self.files.symlink(b"target", name)
        else:
            await self.files.mknod(name, type | mode)

    async def write(self, path: Path, offset: int, data: bytes) -> None:
        handle = await self.files.open(b"/".join(path), os.O_WRONLY)
        try:
            await handle.write(offset, data)
        finally:
            await handle.close()

    async def hold(self, path: Path) -> None:
        """Open a file and keep it open: it outlives its names."""
        self.held.append(await self.files.open(b"/".join(path), os.O_RDWR))

    async def write_held(self, which: int, offset: int, data: bytes) -> None:
        if self.held:
            await self.held[which % len(self.held)].write(offset, data)

    async def close_all(self) -> None:
        while self.held:
            await self.held.pop().close()

    async def rename(self, old: Path, new: Path, flags: int = 0) -> None:
        await self.files.rename(b"/".join(old), b"/".join(new), flags)

    async def link(self, old: Path, new: Path) -> None:
        await self.files.link(b"/".join(old), b"/".join(new))

    async def setxattr(self, path: Path, name: bytes, value: bytes) -> None:
        await self.files.setxattr(b"/".join(path), name.decode(), value)

    async def removexattr(self, path: Path, name: bytes) -> None:
        await self.files.removexattr(b"/".join(path), name.decode())

    async def unlink(self, path: Path) -> None:
        await self.files.unlink(b"/".join(path))

    async def rmdir(self, path: Path) -> None:
        await self.files.rmdir(b"/".join(path))

    async def truncate(self, path: Path, size: int) -> None:
        await self.files.truncate(b"/".join(path), size)

    async def chmod(self, path: Path, mode: int) -> None:
        await self.files.chmod(b"/".join(path), mode)

    async def utime(self, path: Path, mtime_ns: int) -> None:
        await self.files.utime(b"/".join(path), 0, mtime_ns)

    async def do(self, operation: Do) -> None:
        await getattr(self, operation.what)(*operation.args)


@dataclass(eq=False)
class OracleProgram:
    """The same on the oracle."""

    oracle: Oracle = field(
        default_factory=lambda: Oracle(Thing(stat.S_IFDIR, 0o755, UID, GID, None, None))
    )
    held: list[Thing] = field(default_factory=list)

    def make(self, path: Path, type: int, mode: int) -> None:
        is_link = type == stat.S_IFLNK
        target = b"target" if is_link else b""
        self.oracle.make(path, type, 0o777 if is_link else mode, UID, GID, target)

    def write(self, path: Path, offset: int, data: bytes) -> None:
        self.oracle.write(self.oracle.find(path), offset, data)

    def hold(self, path: Path) -> None:
        self.held.append(self.oracle.find(path))

    def write_held(self, which: int, offset: int, data: bytes) -> None:
        if self.held:
            self.oracle.write(self.held[which % len(self.held)], offset, data)

    def close_all(self) -> None:
        self.held.clear()

    def do(self, operation: Do) -> None:
        method = getattr(self, operation.what, None) or getattr(self.oracle, operation.what)
        method(*operation.args)

    def seen(self) -> Seen:
        """Return what programs should see."""
        return {
            path: (
                *_facts(thing.type | thing.mode, thing.nlink, thing.mtime_ns, thing.ctime_ns),
                thing.content,
                tuple(sorted(thing.xattrs.items())),
            )
            for path, thing in self.oracle.walk()
            if path
        }


async def seen(files: CoreFiles, folder: Path = ()) -> Seen:
    """Return what programs see below a directory."""
    found: Seen = {}
    for name in await files.listdir(b"/".join(folder)):
        path = (*folder, name)
        below = b"/".join(path)
        about = await files.stat(below)
        names = sorted(await files.listxattr(below))
        xattrs = tuple([(each.encode(), await files.getxattr(below, each)) for each in names])
        content = await _content(files, below, about.mode)
        facts = _facts(about.mode, about.nlink, about.mtime_ns, about.ctime_ns)
        found[path] = (*facts, content, xattrs)
        if about.is_folder:
            found |= await seen(files, path)
    return found


async def _content(files: CoreFiles, path: bytes, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return await files.readlink(path)
    return await files.read(path) if stat.S_ISREG(mode) else b""


def _facts(mode: int, nlink: int, mtime_ns: int | None, ctime_ns: int | None) -> tuple[object, ...]:
    """How many links a directory has is nobody's business: file systems differ."""
    return oct(mode), 1 if stat.S_ISDIR(mode) else nlink, mtime_ns, ctime_ns
