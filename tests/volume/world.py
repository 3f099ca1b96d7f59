"""Mount nothing, but do to a namespace what a kernel does: find paths, hold inodes, forget them."""

import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blobfs.env import Env
from blobfs.formats.commit import Grant
from blobfs.formats.rows import Inline, Kind
from blobfs.model.changes import GONE, Change, DirentKey, Gone, LocalDirent, LocalInode
from blobfs.model.difference import InodeChange, NameChange, operations_for
from blobfs.model.nodes import NativeLook, Node
from blobfs.model.numbers import is_native, range_of
from blobfs.model.refusal import Refused
from blobfs.model.tree_rules import Maker
from blobfs.stores.breaker import Breaker
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import ROOT_INODE, InodeNo, Serial
from blobfs.volume.namespace import Namespace
from blobfs.volume.namespace_numbers import Numbers
from blobfs.volume.native import NativeTree, open_native
from blobfs.volume.tree import Tree, open_tree
from tests.volume.story import ME, ORIGIN, Story

LOOK = NativeLook(uid=1000, gid=1000)
ME_MYSELF = Maker(1000, 1000)

KIND_OF_TYPE = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.FOLDER,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}

Names = tuple[bytes, ...]


class MemoryRows:
    """Unsaved rows without a journal."""

    def __init__(self) -> None:
        self.inodes: dict[InodeNo, LocalInode | Gone] = {}
        self.names: dict[InodeNo, dict[bytes, LocalDirent | Gone]] = {}
        self.serial = 0

    def inode(self, inode: InodeNo) -> LocalInode | Gone | None:
        return self.inodes.get(inode)

    def dirent(self, parent: InodeNo, name: bytes) -> LocalDirent | Gone | None:
        return self.names.get(parent, {}).get(name)

    def dirents(self, parent: InodeNo) -> Mapping[bytes, LocalDirent | Gone]:
        return self.names.get(parent, {})

    def apply(self, change: Change) -> Serial:
        for inode, row in change.inodes.items():
            self.inodes[inode] = row or GONE
        for (parent, name), dirent in change.dirents.items():
            self.names.setdefault(parent, {})[name] = dirent or GONE
        self.serial += 1
        return Serial(self.serial)

    def clear(self) -> None:
        self.inodes.clear()
        self.names.clear()

    @property
    def dirent_rows(self) -> dict[DirentKey, LocalDirent | Gone]:
        return {
            (parent, name): row
            for parent, names in self.names.items()
            for name, row in names.items()
        }


@dataclass(eq=False)
class World:
    """A namespace over its three layers, and a clock that tests set."""

    store: FaultyStore
    native: NativeTree
    tree: Tree
    unsaved: MemoryRows
    story: Story = field(default_factory=Story)
    now_ns: int = 10**18
    read_only: bool = False

    def __post_init__(self) -> None:
        self.held: list[Node] = []
        self.namespace = self.mounted()

    def mounted(self) -> Namespace:
        """Return the namespace as a fresh mount has it."""
        own = [number for number in self.unsaved.inodes if not is_native(number)]
        own += [InodeNo(granted.unused - 1) for granted in self.tree.granted(ME)]
        last_used = max((number for number in own if number > ROOT_INODE), default=None)
        return Namespace(
            self.unsaved,
            self.tree,
            self.native,
            Env(now_ns=lambda: self.now_ns),
            numbers=Numbers(last_used, lambda: self.tree.state.granted_to),
            source="memory://",
            look=LOOK,
            read_only=self.read_only,
        )

    async def find(self, path: Names) -> Node:
        """Walk a path as the kernel does.

        Raises:
            Refused: ENOENT, ENOTDIR.
        """
        node = self.namespace.node(ROOT_INODE)
        for name in path:
            named = await self.namespace.lookup(node.inode, name)
            if named.node is None:
                raise Refused(2, f"no such entry. name={name!r}")
            node = named.node
            self.held.append(node)
        return node

    async def at(self, path: Names) -> tuple[InodeNo, bytes]:
        """Return directory and name of a path."""
        return (await self.find(path[:-1])).inode, path[-1]

    async def make(
        self, path: Names, kind: Kind = Kind.FILE, mode: int = 0o644, target: bytes = b""
    ) -> Node:
        parent, name = await self.at(path)
        return await self.namespace.make(parent, name, kind, mode, ME_MYSELF, target=target)

    async def listed(self, path: Names) -> list[bytes]:
        """Return all names of a directory as one reader gets them."""
        reader = await self.namespace.open_folder((await self.find(path)).inode)
        try:
            names, cookie = [], 0
            while (entries := await reader.read(cookie)) is not None:
                for listed in entries:
                    names.append(listed.name)
                    cookie = listed.next_cookie
            return names
        finally:
            reader.close()

    async def commit(self) -> None:
        """Bring all unsaved rows into the tree, by an entry of a log as a push would write it."""
        inodes = [
            InodeChange(number, self.tree.inode(number), self._after(row), self._content(row))
            for number, row in self.unsaved.inodes.items()
        ]
        names = [
            NameChange(key, self.tree.dirent(*key), None if isinstance(row, Gone) else row)
            for key, row in self.unsaved.dirent_rows.items()
        ]
        operations = (*self._grants(inodes), *operations_for(inodes, names))
        if operations:
            await self.tree.replay([self.story.entry(*operations)])
        self.unsaved.clear()

    def _after(self, row: LocalInode | Gone) -> LocalInode | None:
        return row if isinstance(row, LocalInode) and row.nlink else None

    def _content(self, row: LocalInode | Gone) -> Inline | None:
        if isinstance(row, LocalInode) and row.kind is Kind.FILE:
            return Inline(bytes(row.size_bytes))
        return None

    def _grants(self, inodes: list[InodeChange]) -> list[Grant]:
        fresh = [
            change.inode
            for change in inodes
            if change.before is None and change.after is not None
            if change.inode > ROOT_INODE and not is_native(change.inode)
        ]
        ranges = {range_of(number) for number in fresh}
        granted_to = self.tree.state.granted_to
        return [Grant(each.first, each.stop) for each in sorted(ranges) if each.first >= granted_to]


@asynccontextmanager
async def opened_world(folder: Path, *keys: str, read_only: bool = False) -> AsyncIterator[World]:
    """Open a namespace over a bucket with objects under `keys`, each holding its key."""
    store = FaultyStore(MemoryStore())
    for key in keys:
        await store.put(key, key.encode())
    env = Env()
    async with (
        open_native(Breaker(store, env), folder / "native", ttl_s=60, env=env) as native,
        open_tree(folder / "tree.lmdb", b"v" * 16, ORIGIN) as tree,
    ):
        yield World(store, native, tree, MemoryRows(), read_only=read_only)
