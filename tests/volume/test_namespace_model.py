"""Whatever programs do, in whatever order, the tree is the one that POSIX says it is.

Lists of operations, with commits, remounts and kills among them, are done to a namespace and to an
independent oracle (`tests.oracle`). Both have to come to the same results and errnos, and to the
same tree after every operation.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blobfs.errors import BlobfsError
from blobfs.model.nodes import Node
from blobfs.model.tree_rules import Maker
from blobfs.model.tree_rules_attributes import Wanted, row_after_write
from blobfs.types import ROOT_INODE, InodeNo
from tests.oracle import EXCHANGE, NOREPLACE, Oracle, Thing, fail
from tests.volume.world import KIND_OF_TYPE, LOOK, Names, World, opened_world

OBJECTS = ("n/1", "n/sub/2", "n/sub/deep/3", "top")

UID, GID = LOOK.uid, LOOK.gid


@dataclass(frozen=True)
class Do:
    """One operation: a method of `Program` and of `OracleProgram`, and its arguments."""

    what: str
    args: tuple[object, ...] = ()


class Program:
    """What a program does, on a namespace: paths in, OSError out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.open: list[InodeNo] = []

    async def find(self, path: Names) -> Node:
        return await self.world.find(path)

    async def at(self, path: Names) -> tuple[InodeNo, bytes]:
        folder = await self.world.find(path[:-1])
        if not folder.is_folder:
            fail(errno.ENOTDIR)
        return folder.inode, path[-1]

    async def make(self, path: Names, type: int, mode: int, uid: int) -> None:
        parent, name = await self.at(path)
        target = b"target" if type == stat.S_IFLNK else b""
        await self.world.namespace.make(
            parent, name, KIND_OF_TYPE[type], mode, Maker(uid, GID), target=target
        )

    async def link(self, old: Names, new: Names) -> None:
        node = await self.find(old)
        await self.world.namespace.link(node.inode, *await self.at(new))

    async def unlink(self, path: Names) -> None:
        self.drop_if_gone(await self.world.namespace.unlink(*await self.at(path)))

    async def rmdir(self, path: Names) -> None:
        self.drop_if_gone(await self.world.namespace.rmdir(*await self.at(path)))

    async def rename(self, old: Names, new: Names, flags: int) -> None:
        places = (*await self.at(old), *await self.at(new))
        replaced = await self.world.namespace.rename(*places, flags)
        if replaced is not None:
            self.drop_if_gone(replaced)

    async def chmod(self, path: Names, mode: int) -> None:
        await self.setattr(path, Wanted(mode=mode))

    async def chown(self, path: Names, uid: int, gid: int) -> None:
        await self.setattr(path, Wanted(uid=uid, gid=gid))

    async def utime(self, path: Names, mtime_ns: int) -> None:
        await self.setattr(path, Wanted(mtime_ns=mtime_ns))

    async def truncate(self, path: Names, size: int) -> None:
        await self.setattr(path, Wanted(size_bytes=size))

    async def setattr(self, path: Names, wanted: Wanted) -> None:
        self.world.namespace.setattr((await self.find(path)).inode, wanted)

    async def setxattr(self, path: Names, name: bytes, value: bytes) -> None:
        self.world.namespace.setxattr((await self.find(path)).inode, name, value)

    async def removexattr(self, path: Names, name: bytes) -> None:
        self.world.namespace.removexattr((await self.find(path)).inode, name)

    async def hold(self, path: Names) -> None:
        """Open a file and keep it open: it outlives its names."""
        node = await self.find(path)
        if stat.S_ISREG(node.mode):
            self.open.append(self.world.namespace.adopt(node.inode).inode)

    async def write(self, which: int, offset: int, data: bytes) -> None:
        """Write through a file that is held."""
        if not self.open:
            return
        inode = self.open[which % len(self.open)]
        row = self.world.namespace.node(inode).row
        row = row_after_write(row, offset + len(data), self.world.now_ns)
        self.world.unsaved.write(inode, row, offset, data)

    async def close_all(self) -> None:
        held, self.open = self.open, []
        for inode in dict.fromkeys(held):
            self.drop_if_gone(self.world.namespace.node(inode))

    async def commit(self) -> None:
        await self.world.commit()

    async def kill(self) -> None:
        self.open = []
        await self.world.kill()

    def drop_if_gone(self, node: Node) -> None:
        if node.is_gone and node.inode not in self.open:
            self.world.namespace.drop(node.inode)


class OracleProgram:
    """The same on the oracle."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.open: list[Thing] = []

    def make(self, path: Names, type: int, mode: int, uid: int) -> None:
        self.oracle.make(path, type, mode, uid, GID, b"target" if type == stat.S_IFLNK else b"")

    def hold(self, path: Names) -> None:
        thing = self.oracle.find(path)
        if thing.type == stat.S_IFREG:
            self.open.append(thing)

    def write(self, which: int, offset: int, data: bytes) -> None:
        if self.open:
            self.oracle.write(self.open[which % len(self.open)], offset, data)

    def close_all(self) -> None:
        self.open = []

    def commit(self) -> None:
        pass

    kill = close_all

    def __getattr__(self, name: str) -> Callable[..., None]:
        method: Callable[..., None] = getattr(self.oracle, name)
        return method


NAMES = st.sampled_from([b"a", b"b", b"c", b"d", b"x" * 255])


@dataclass(frozen=True)
class There:
    """A path that exists when the operation is done: which one, of all in order."""

    which: int


@dataclass(frozen=True)
class Below:
    """A name in a directory that exists then."""

    which: int
    name: bytes


Where = Names | There | Below


def path_of(where: object, oracle: Oracle) -> object:
    """Turn a `Where` into the path that it means now; leave other arguments as they are."""
    if isinstance(where, There):
        paths = [path for path, _ in oracle.walk() if path]
        return paths[where.which % len(paths)]
    if isinstance(where, Below):
        folders = [path for path, thing in oracle.walk() if thing.is_folder and len(path) < 4]
        return (*folders[where.which % len(folders)], where.name)
    return where


WHICH = st.integers(0, 40)
BELOW = st.builds(Below, WHICH, NAMES)
ANYWHERE = st.lists(NAMES, min_size=1, max_size=3).map(tuple)


def where(luck: int, which: int, name: bytes) -> Where:
    """Most programs use what is there."""
    return There(which) if luck < 9 else Below(which, name)


PATHS = st.builds(where, st.integers(0, 9), WHICH, NAMES)
MODES = st.sampled_from([0o644, 0o4755, 0o2755, 0o6711, 0o2644, 0o1777, 0o700])
MOST_TYPES = st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFDIR])
TYPES = MOST_TYPES | st.sampled_from([stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK])
FLAGS = st.sampled_from([0, 0, NOREPLACE, EXCHANGE])
OFFSETS = st.integers(0, 300)
DATA = st.binary(min_size=1, max_size=100)
XATTRS = st.sampled_from([b"user.a", b"user.b"])


def do(what: str, *args: st.SearchStrategy[object]) -> st.SearchStrategy[Do]:
    return st.builds(Do, st.just(what), st.tuples(*args))


CHANGES = st.one_of(
    do("chmod", PATHS | st.just(()), MODES),
    do("chown", PATHS, st.sampled_from([UID, 1]), st.sampled_from([GID, 7])),
    do("utime", PATHS, st.integers(-(10**9), 10**19)),
    do("truncate", PATHS, OFFSETS),
    do("setxattr", PATHS, XATTRS, DATA),
    do("removexattr", PATHS, XATTRS),
    do("hold", PATHS),
    do("write", st.integers(0, 9), OFFSETS, DATA),
)
OPERATIONS = st.one_of(
    do("make", ANYWHERE | PATHS, TYPES, MODES, st.sampled_from([UID, 1])),
    do("make", BELOW, MOST_TYPES, MODES, st.just(UID)),
    do("make", BELOW, MOST_TYPES, MODES, st.just(GID)),
    do("link", PATHS, BELOW),
    do("unlink", PATHS),
    do("rmdir", PATHS),
    do("rename", PATHS, PATHS, FLAGS),
    do("rename", PATHS, BELOW, FLAGS),
    do("hold", PATHS),
    do("write", st.integers(0, 9), OFFSETS, DATA),
    CHANGES.map(lambda change: change),  # as one of these, not eight
    CHANGES.map(lambda change: change),
    do("commit"),
    st.sampled_from([Do("commit"), Do("kill"), Do("close_all")]),
)


async def both_do(program: Program, oracle: OracleProgram, operation: Do) -> None:
    """Do it to both; they have to come to the same errno, 0 for success."""
    program.world.now_ns += 1000
    oracle.oracle.now_ns = program.world.now_ns
    expected = found = 0
    args = [path_of(arg, oracle.oracle) for arg in operation.args]
    try:
        getattr(oracle, operation.what)(*args)
    except OSError as error:
        expected = error.errno or 0
    try:
        await getattr(program, operation.what)(*args)
    except (BlobfsError, OSError) as error:
        found = error.errno or 0
    assert os.strerror(found) == os.strerror(expected), (operation.what, args)


async def compare(program: Program, oracle: OracleProgram) -> None:
    """Compare the whole trees, and the files that are held."""
    world = program.world
    nodes: dict[Names, Node] = {(): world.namespace.node(ROOT_INODE)}
    for path, thing in oracle.oracle.walk():
        assert_same(nodes[path], thing, path)
        if (prefix := nodes[path].row.prefix) is not None:
            # So none belongs to two directories: what comes below it has one place (N2).
            assert prefix.encode() == b"".join(name + b"/" for name in path)
        if thing.is_folder:
            entries = await world.nodes_in(nodes[path].inode)
            assert sorted(entries) == sorted(thing.entries), path
            nodes |= {(*path, name): node for name, node in entries.items()}
        elif nodes[path].native is None and thing.type == stat.S_IFREG:
            assert await world.content(nodes[path].inode) == thing.content, path
    held = {node.inode: node.row.size_bytes for node in nodes.values() if node.native is None}
    assert world.unsaved.holdings.held_bytes == sum(held.values())
    for inode, thing in zip(program.open, oracle.open, strict=True):
        assert world.namespace.node(inode).row.nlink == thing.nlink
        assert await world.content(inode) == thing.content


def assert_same(node: Node, thing: Thing, path: Names) -> None:
    row = node.row
    size = row.size_bytes
    facts = (stat.S_IFMT(node.mode), row.mode, row.uid, row.gid, row.nlink, size, row.xattrs)
    assert facts == thing.facts(), path
    for time_ns, expected_ns in ((row.mtime_ns, thing.mtime_ns), (row.ctime_ns, thing.ctime_ns)):
        if expected_ns is not None:
            assert time_ns == expected_ns, path


async def run(operations: list[Do], folder: Path) -> None:
    root = Thing(stat.S_IFDIR, 0o755, UID, GID, None, None)
    oracle = Oracle(root)
    async with opened_world(folder, *OBJECTS) as world:
        for key in OBJECTS:
            info = await world.store.head(key)
            path = tuple(key.encode().split(b"/"))
            oracle.add_native(path, key.encode(), mtime_ns=info.mtime_ns)
        programs = Program(world), OracleProgram(oracle)
        await compare(*programs)
        for operation in operations:
            await both_do(*programs, operation)
            await compare(*programs)


@pytest.mark.slow
@settings(
    max_examples=int(os.environ.get("BLOBFS_MODEL_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(OPERATIONS, min_size=20, max_size=60))
def test_any_list_of_operations(operations: list[Do]) -> None:
    """A tree that differs from what programs made of it is lost work."""
    with tempfile.TemporaryDirectory() as folder:
        trio.run(run, operations, Path(folder))
