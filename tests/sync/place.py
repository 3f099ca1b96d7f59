"""Open the volume of a bucket as a mount does, without front-end, and do what programs do."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from blobfs.cache.reading import open_reading
from blobfs.env import Env
from blobfs.formats.rows import Kind
from blobfs.formats.wire import covered_bytes
from blobfs.model.nodes import NativeLook
from blobfs.model.spans import FromBase, Piece
from blobfs.model.tree_rules import Maker
from blobfs.model.tree_rules_attributes import row_after_write
from blobfs.stores.base import Store
from blobfs.stores.breaker import Breaker
from blobfs.sync.binding import Bucket
from blobfs.sync.engine import Engine, EngineOptions, open_engine
from blobfs.types import GIB, MIB, ROOT_INODE, ByteRange, InodeNo
from blobfs.volume.namespace import Namespace
from blobfs.volume.native import open_native

LOOK = NativeLook(uid=1000, gid=1000)
MAKER = Maker(1000, 1000)


@dataclass(eq=False)
class Place:
    """An open volume and what programs would do in its root and below."""

    engine: Engine
    namespace: Namespace
    env: Env
    _held: list[object] = field(default_factory=list)

    async def write(self, path: str, data: bytes, offset: int = 0) -> InodeNo:
        """Write into a file, made if it is not there; close it."""
        inode = await self.find(path)
        if inode is None:
            parent, name = await self._parent(path)
            node = await self.namespace.make(parent, name, Kind.FILE, 0o644, MAKER)
            inode = node.inode
        self.engine.settling.opened(inode)
        await self.engine.unsaved.wait_for_room(len(data))
        row = row_after_write(
            self.namespace.adopt(inode).row, offset + len(data), self.env.now_ns()
        )
        self.engine.unsaved.write(inode, row, offset, data)
        self.engine.settling.closed(inode, self.env.monotonic_s())
        return inode

    async def mkdir(self, path: str) -> InodeNo:
        parent, name = await self._parent(path)
        return (await self.namespace.make(parent, name, Kind.FOLDER, 0o755, MAKER)).inode

    async def rename(self, old: str, new: str) -> None:
        replaced = await self.namespace.rename(*await self._parent(old), *await self._parent(new))
        if replaced is not None and replaced.is_gone:
            self.namespace.drop(replaced.inode)

    async def unlink(self, path: str) -> None:
        node = await self.namespace.unlink(*await self._parent(path))
        if node.is_gone:
            self.namespace.drop(node.inode)

    async def save(self) -> None:
        """Commit everything, and see that nothing is left."""
        await self.engine.save()
        assert self.engine.pusher.is_clean

    async def sync(self) -> None:
        """Save everything, and see what others saved."""
        serial = self.engine.begin_sync()
        with trio.fail_after(60):
            while not self.engine.is_synced(serial):  # noqa: ASYNC110 - as `blobfs sync` asks
                await trio.sleep(0.005)

    async def tree(self) -> dict[str, bytes | None]:
        """Return all paths with their contents, None for directories."""
        found: dict[str, bytes | None] = {}
        await self._walk(ROOT_INODE, "", found)
        return found

    async def read(self, inode: InodeNo) -> bytes:
        row = self.namespace.node(inode).row
        plan = self.engine.unsaved.spans(inode).plan_read(
            ByteRange(0, row.size_bytes), row.size_bytes, row.base_limit_bytes
        )
        parts = []
        for part in plan:
            if isinstance(part, Piece):
                parts.append(bytes(await self.engine.unsaved.read(part)))
            elif isinstance(part, FromBase):
                parts.append(await self._below(inode, part.span))
            else:
                parts.append(bytes(len(part.span)))
        return b"".join(parts)

    async def find(self, path: str) -> InodeNo | None:
        inode = ROOT_INODE
        for name in filter(None, path.split("/")):
            found = await self.namespace.lookup(inode, name.encode())
            if found.node is None:
                return None
            self._held.append(found.node)
            inode = found.node.inode
        return inode

    async def _below(self, inode: InodeNo, span: ByteRange) -> bytes:
        committed = self.engine.tree.inode(inode)
        content = self.namespace.node(inode).row.bound if committed is None else committed.content
        if content is None:
            return bytes(len(span))
        reader = self.engine.contents.open(covered_bytes(content), content)
        try:
            return bytes(await reader.read(span)).ljust(len(span), b"\0")
        finally:
            reader.close()

    async def _walk(self, folder: InodeNo, path: str, found: dict[str, bytes | None]) -> None:
        reader = await self.namespace.open_folder(folder)
        entries, cookie = [], 0
        while (page := await reader.read(cookie)) is not None:
            for listed in page:
                entries.append(listed)
                cookie = listed.next_cookie
        reader.close()
        for listed in entries:
            self._held.append(listed.node)
            below = f"{path}/{listed.name.decode()}".lstrip("/")
            if listed.node.is_folder:
                found[below] = None
                await self._walk(listed.node.inode, below, found)
            elif listed.node.native is None:
                found[below] = await self.read(listed.node.inode)

    async def _parent(self, path: str) -> tuple[InodeNo, bytes]:
        folder, _, name = path.rpartition("/")
        parent = await self.find(folder)
        assert parent is not None, f"no such directory: {folder}"
        return parent, name.encode()


@asynccontextmanager
async def opened_place(
    store: Store,
    folder: Path,
    *,
    env: Env | None = None,
    settle_s: float = 3600,
    read_only: bool = False,
    read_write: bool = False,
    single_writer: bool = False,
    cache: str = "cache",
    memory_bytes: int = 64 * MIB,
) -> AsyncIterator[Place]:
    """Open the volume in `store`, with its state below `folder`.

    Nothing is saved by itself for an hour, unless `settle_s` says so.
    """
    env = env or Env()
    state = folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    breaker = Breaker(store, env)
    options = EngineOptions(
        state_dir=state,
        settle_s=settle_s,
        look=LOOK,
        read_only=read_only,
        read_write=read_write,
        single_writer=single_writer,
    )
    async with (
        open_native(breaker, state, ttl_s=60, env=env) as native,
        open_reading(
            breaker, folder / cache, limit_bytes=GIB, memory_bytes=memory_bytes, env=env
        ) as reading,
        open_engine(Bucket(store, store, ""), reading, options, env) as engine,
    ):
        namespace = Namespace(
            engine.unsaved,
            engine.tree,
            native,
            env,
            numbers=engine.numbers,
            source=store.url,
            look=LOOK,
            read_only=engine.is_read_only,
        )
        yield Place(engine, namespace, env)


def copy_if_there(source: str, target: str) -> None:
    """Copy a file, unless a thread of the living has just renamed it."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)
