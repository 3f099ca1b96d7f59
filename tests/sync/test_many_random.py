"""Two or three clients do what chance has it, are killed and cut off, and nothing disappears."""

import os
import random
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from blobfs.model.refusal import Refused
from blobfs.model.tree_rules_attributes import Wanted
from blobfs.stores.memory import MemoryStore
from blobfs.types import ROOT_INODE
from blobfs.volume.unsaved import Moving
from tests.sync.place import Place, opened_place

LIVES = int(os.environ.get("BLOBFS_MODEL_EXAMPLES", "0")) or 12
"""As many different ones."""
STEPS = 40
FOLDERS = ("", "a/", "b/", "a/c/")
NAMES = ("x", "y", "z")
TOKEN_BYTES = 8


@dataclass
class Ledger:
    """Which contents have to be there in the end."""

    rng: random.Random
    written: set[bytes] = field(default_factory=set)
    superseded: set[bytes] = field(default_factory=set)
    """Those that somebody saw and replaced or removed."""

    def token(self) -> bytes:
        token = b"%08x" % self.rng.getrandbits(32)
        self.written.add(token)
        return token

    def give_up(self, content: bytes) -> None:
        """Note that somebody saw this, and replaced or removed it."""
        self.superseded.update(tokens(content))

    def missing(self, tree: dict[str, bytes | None]) -> set[bytes]:
        there = {token for content in tree.values() if content for token in tokens(content)}
        return self.written - self.superseded - there


def tokens(content: bytes) -> set[bytes]:
    """Return what was written at one time each; several in a row say the same."""
    return {content[at : at + TOKEN_BYTES] for at in range(0, len(content), TOKEN_BYTES)}


class Client:
    """One machine, which can be killed and comes back."""

    def __init__(
        self, store: MemoryStore, folder: Path, ledger: Ledger, nursery: trio.Nursery
    ) -> None:
        self.store = store
        self.folder = folder
        self.ledger = ledger
        self.nursery = nursery
        self.place: Place
        self.stopping = trio.Event()
        self.stopped = trio.Event()

    async def start(self) -> None:
        self.stopping, self.stopped = trio.Event(), trio.Event()
        await self.nursery.start(self._live)

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        async with opened_place(self.store, self.folder) as self.place:
            task_status.started()
            await self.stopping.wait()
        self.stopped.set()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        self.stopping.set()
        await self.stopped.wait()

    async def act(self, rng: random.Random) -> None:
        """Do something, if it can be done."""
        doing = rng.choice(
            (self.write, self.write, self.write, self.rename, self.unlink, self.mkdir, self.rmdir)
        )
        # There is nothing of that name, or something else.
        with suppress(Refused, AssertionError, Moving):
            await doing(rng)

    def path(self, rng: random.Random) -> str:
        return rng.choice(FOLDERS) + rng.choice(NAMES)

    async def write(self, rng: random.Random) -> None:
        """Replace what a file holds, or add to it."""
        path = self.path(rng)
        before = await self.content_of(path)
        inode = await self.place.find(path)
        token = self.ledger.token()
        try:
            if rng.random() < 0.5:
                await self.place.write(path, token, len(before))
                return
            if inode is not None:
                self.ledger.give_up(before)
                self.place.namespace.setattr(inode, Wanted(size_bytes=0))
            await self.place.write(path, token * rng.choice((1, 1, 300)))
        except BaseException:
            self.ledger.written.discard(token)
            raise

    async def rename(self, rng: random.Random) -> None:
        old, new = self.path(rng), self.path(rng)
        if rng.random() < 0.3:
            old, new = rng.choice(("a", "b", "a/c")), rng.choice(("a", "b", "a/c", "b/d"))
        replaced = await self.content_of(new)
        await self.place.rename(old, new)
        if old != new:
            self.ledger.give_up(replaced)

    async def unlink(self, rng: random.Random) -> None:
        path = self.path(rng)
        before = await self.content_of(path)
        await self.place.unlink(path)
        self.ledger.give_up(before)

    async def mkdir(self, rng: random.Random) -> None:
        await self.place.mkdir(rng.choice(("a", "b", "a/c", "b/d")))

    async def rmdir(self, rng: random.Random) -> None:
        path = rng.choice(("a", "b", "a/c", "b/d"))
        folder, _, name = path.rpartition("/")
        parent = await self.place.find(folder) if folder else ROOT_INODE
        assert parent is not None
        node = await self.place.namespace.rmdir(parent, name.encode())
        self.place.namespace.drop(node.inode)

    async def content_of(self, path: str) -> bytes:
        inode = await self.place.find(path)
        if inode is None or self.place.namespace.node(inode).is_folder:
            return b""
        return await self.place.read(inode)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(LIVES))
async def test_nothing_disappears(seed: int, tmp_path: Path) -> None:
    """An edit that was acknowledged would be gone, and nobody had thrown it away (P4, P5)."""
    async with trio.open_nursery() as nursery:
        await live(random.Random(seed), tmp_path, nursery)
        nursery.cancel_scope.cancel()


async def live(rng: random.Random, folder: Path, nursery: trio.Nursery) -> None:
    store, ledger = MemoryStore(), Ledger(rng)
    clients = [Client(store, folder / name, ledger, nursery) for name in ("one", "two", "three")]
    for client in clients:
        await client.start()
        await client.place.mkdir(client.folder.name)
        await client.place.sync()
        await client.stop()
    for client in clients:
        await client.start()
    for _ in range(STEPS):
        client = rng.choice(clients)
        await client.act(rng)
        if rng.random() < 0.2:
            await client.place.sync()
        if rng.random() < 0.05:
            await client.restart()
    for _ in range(3):
        for client in clients:
            await client.place.sync()
    trees = [await client.place.tree() for client in clients]
    assert trees[0] == trees[1] == trees[2]
    for other in clients[1:]:
        assert clients[0].place.engine.tree.first_difference(other.place.engine.tree) is None
    assert not ledger.missing(trees[0])
    for client in clients:
        await client.stop()
