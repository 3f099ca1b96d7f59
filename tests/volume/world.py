"""Mount nothing, but do to a namespace what a kernel does: find paths, hold inodes, forget them."""

import shutil
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blobfs.env import Env
from blobfs.formats.commit import Grant
from blobfs.formats.rows import FileContent, Inline, InodeRow, Kind, Native
from blobfs.model.changes import Gone, LocalDirent, LocalInode
from blobfs.model.difference import InodeChange, NameChange, operations_for
from blobfs.model.nodes import NativeLook, Node
from blobfs.model.numbers import is_native, range_of
from blobfs.model.refusal import Refused
from blobfs.model.tree_rules import Maker
from blobfs.stores.breaker import Breaker
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import MIB, ROOT_INODE, InodeNo
from blobfs.volume.namespace import Namespace
from blobfs.volume.namespace_numbers import Numbers, last_used
from blobfs.volume.native import NativeTree, open_native
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.unsaved import Unsaved, open_unsaved
from tests.volume.story import ME, ORIGIN, Story

JOURNAL_BYTES = 64 * MIB
"""Small segments: every kill copies one."""

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


@dataclass(eq=False)
class World:
    """A namespace over its three layers, and a clock that tests set."""

    store: FaultyStore
    native: NativeTree
    tree: Tree
    unsaved: Unsaved
    reopened: Callable[[], Awaitable[Unsaved]]
    read_only: bool
    story: Story = field(default_factory=Story)
    now_ns: int = 10**18

    def __post_init__(self) -> None:
        self.held: list[Node] = []
        self.removed: dict[InodeNo, InodeRow] = {}
        """Committed rows that are gone, whose content an open file may still show."""
        self.namespace = self.mounted()

    def mounted(self) -> Namespace:
        """Return the namespace as a fresh mount has it."""
        used = last_used(self.tree.granted(ME), self.unsaved.inode_states)
        return Namespace(
            self.unsaved,
            self.tree,
            self.native,
            Env(now_ns=lambda: self.now_ns),
            numbers=Numbers(used, lambda: self.tree.state.granted_to, self.tree.inode),
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
        return list(await self.nodes_in((await self.find(path)).inode))

    async def nodes_in(self, folder: InodeNo) -> dict[bytes, Node]:
        """Return all entries of a directory as one reader gets them; each name is there once."""
        reader = await self.namespace.open_folder(folder)
        try:
            nodes: dict[bytes, Node] = {}
            cookie = 0
            while (entries := await reader.read(cookie)) is not None:
                for listed in entries:
                    assert listed.name not in nodes
                    nodes[listed.name] = listed.node
                    cookie = listed.next_cookie
            self.held += nodes.values()
            return nodes
        finally:
            reader.close()

    async def content(self, inode: InodeNo) -> bytes:
        """Return the bytes of a file: unsaved ones, over committed ones, over zeros."""
        row = self.namespace.node(inode).row
        content = bytearray(row.size_bytes)
        committed = self.tree.inode(inode) or self.removed.get(inode)
        held = row.bound if committed is None else committed.content
        if held is not None and row.base_limit_bytes:
            base = (await self._held_by(held))[: row.base_limit_bytes]
            content[: len(base)] = base
        for piece in self.unsaved.spans(inode):
            content[piece.start : piece.stop] = await self.unsaved.read(piece)
        assert len(content) == row.size_bytes
        return bytes(content)

    async def commit(self) -> None:
        """Bring all unsaved rows into the tree, by an entry of a log as a push would write it.

        An open file without a name is gone for the log, but its row stays unsaved.
        """
        unsaved = self.unsaved
        inodes = [
            InodeChange(number, self.tree.inode(number), _after(row), await self._content(number))
            for number, row in [(no, state.value) for no, state in unsaved.inode_states.items()]
        ]
        names = [
            NameChange(key, self.tree.dirent(*key), _if_there(state.value))
            for key, state in unsaved.dirent_states.items()
        ]
        operations = (*self._grants(inodes), *operations_for(inodes, names))
        gone = [change for change in inodes if change.after is None and change.before is not None]
        self.removed |= {change.inode: change.before for change in gone if change.before}
        covered = [no for no, state in unsaved.inode_states.items() if not _is_orphan(state.value)]
        with unsaved.snapshot(covered, unsaved.dirent_states) as taken:
            if operations:
                await self.tree.replay([self.story.entry(*operations)])
                unsaved.holdings.follow_tree([change.inode for change in inodes])
            await unsaved.clean(taken.covered)

    async def kill(self) -> None:
        """Go on as the next daemon does, from what the killed one left behind."""
        self.unsaved = await self.reopened()
        self.held.clear()
        self.namespace = self.mounted()

    async def _content(self, inode: InodeNo) -> FileContent | None:
        row = self.unsaved.inode(inode)
        if not isinstance(row, LocalInode) or row.kind is not Kind.FILE:
            return None
        committed = self.tree.inode(inode)
        held = row.bound if committed is None else committed.content
        if isinstance(held, Native) and not self._is_changed(inode, row, held):
            return held if committed is None else None
        return Inline(await self.content(inode))

    def _is_changed(self, inode: InodeNo, row: LocalInode, held: Native) -> bool:
        sizes = {held.size_bytes, row.size_bytes, row.base_limit_bytes}
        return len(sizes) > 1 or bool(self.unsaved.spans(inode))

    async def _held_by(self, content: FileContent) -> bytes:
        if isinstance(content, Inline):
            return content.data
        assert isinstance(content, Native)
        return bytes((await self.store.get(content.key.decode())).data)

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


def _after(row: LocalInode | Gone) -> LocalInode | None:
    return row if isinstance(row, LocalInode) and row.nlink else None


def _is_orphan(row: LocalInode | Gone) -> bool:
    return isinstance(row, LocalInode) and not row.nlink


def _if_there(row: LocalDirent | Gone) -> LocalDirent | None:
    return row if isinstance(row, LocalDirent) else None


@asynccontextmanager
async def opened_world(folder: Path, *keys: str, read_only: bool = False) -> AsyncIterator[World]:
    """Open a namespace over a bucket with objects under `keys`, each holding its key."""
    store = FaultyStore(MemoryStore())
    for key in keys:
        await store.put(key, key.encode())
    env = Env()
    async with AsyncExitStack() as stack:
        native = await stack.enter_async_context(
            open_native(Breaker(store, env), folder / "native", ttl_s=60, env=env)
        )
        tree = await stack.enter_async_context(open_tree(folder / "tree", b"v" * 16, ORIGIN))
        journals = [folder / "journal"]

        async def unsaved() -> Unsaved:
            return await stack.enter_async_context(
                open_unsaved(journals[-1], env, tree, limit_bytes=JOURNAL_BYTES)
            )

        async def reopened() -> Unsaved:
            """Leave the journal to the daemon that was killed; begin with a copy."""
            journals.append(folder / f"journal-{len(journals)}")
            shutil.copytree(*journals[-2:])
            return await unsaved()

        yield World(store, native, tree, await unsaved(), reopened, read_only)
