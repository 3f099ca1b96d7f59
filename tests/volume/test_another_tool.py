"""Whatever programs and another tool do side by side, no edit disappears (P4, N1, N2, N4).

Chance decides who does what. After each step it is looked which objects show, by any name: what
showed before still does, unless the step was to remove it, and what the tool has just put
there does, too.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blobfs.errors import BlobfsError
from blobfs.formats.rows import Native
from blobfs.formats.version import spell_version
from blobfs.model.nodes import Node
from blobfs.model.tree_rules_attributes import Wanted, row_after_write
from blobfs.types import ROOT_INODE
from tests.volume.world import Names, World, opened_world

KEYS = ("a", "b", "d/a", "d/e/c")
STEPS = 25

Shown = dict[Names, Native | None]
"""Files by their paths, with the objects that hold them; None for what was written here."""


@dataclass(eq=False)
class Together:
    """A program, and another tool that knows nothing of it."""

    world: World
    chance: random.Random
    shown: Shown = field(default_factory=dict)
    puts: int = 0

    async def step(self) -> None:
        doings: list[Callable[[], Awaitable[set[Native | None]]]] = [
            *(self.put, self.put, self.delete, self.write, self.chmod, self.unlink),
            *(self.rename, self.rename, self.rename_folder, self.commit),
        ]
        before = set(self.shown.values())
        given_up = await self.chance.choice(doings)()
        self.shown = await self.look()
        left = {native for native in before - given_up if await self.is_there(native)}
        assert left <= set(self.shown.values())

    async def look(self) -> Shown:
        """Return what programs see, directory by directory."""
        found: Shown = {}
        folders: list[tuple[Names, int]] = [((), ROOT_INODE)]
        while folders:
            path, folder = folders.pop()
            for name, node in (await self.world.nodes_in(folder)).items():  # type: ignore[arg-type]
                if node.is_folder:
                    folders.append(((*path, name), node.inode))
                else:
                    found[(*path, name)] = self.held_by(await self.world.find((*path, name)))
        return found

    def held_by(self, node: Node) -> Native | None:
        return self.world.namespace.bound(node.inode) if node.native is None else node.native.object

    async def is_there(self, native: Native | None) -> bool:
        """Whether the bucket still holds this version."""
        if native is None:
            return False
        try:
            info = await self.world.store.head(native.key.decode())
        except BlobfsError:
            return False
        return spell_version(info.etag, info.size_bytes, info.mtime_ns) == native.version

    # --- the tool --------------------------------------------------------------------

    async def put(self) -> set[Native | None]:
        self.puts += 1
        key, data = self.chance.choice(KEYS), b"version %d" % self.puts
        await self.world.store.put(key, data)
        self.tell(key)
        info = await self.world.store.head(key)
        version = spell_version(info.etag, info.size_bytes, info.mtime_ns)
        assert Native(key.encode(), len(data), version) in (await self.look()).values()
        return set()

    async def delete(self) -> set[Native | None]:
        key = self.chance.choice(KEYS)
        await self.world.store.delete_many([key])
        self.tell(key)
        return set()

    def tell(self, key: str) -> None:
        """Let the time to live pass for all that leads to a key."""
        while key:
            above, slash, name = key.rstrip("/").rpartition("/")
            self.world.native.forget(above + slash, name.encode())
            key = above

    # --- the program -----------------------------------------------------------------

    async def any_file(self) -> tuple[Names, Node] | None:
        paths = sorted(await self.look())
        if not paths:
            return None
        path = self.chance.choice(paths)
        return path, await self.world.find(path)

    async def write(self) -> set[Native | None]:
        if (found := await self.any_file()) is None:
            return set()
        held = self.held_by(found[1])
        node = self.world.namespace.setattr(found[1].inode, Wanted(size_bytes=0))
        self.world.unsaved.write(node.inode, row_after_write(node.row, 4, 1), 0, b"mine")
        return {held}

    async def chmod(self) -> set[Native | None]:
        if (found := await self.any_file()) is not None:
            self.world.namespace.setattr(found[1].inode, Wanted(mode=0o600))
        return set()

    async def unlink(self) -> set[Native | None]:
        if (found := await self.any_file()) is None:
            return set()
        held = self.held_by(found[1])
        self.drop(await self.world.namespace.unlink(*await self.world.at(found[0])))
        return {held}

    async def rename(self) -> set[Native | None]:
        old, new = await self.any_file(), await self.any_file()
        if old is None or new is None or old[0] == new[0]:
            return set()
        target = new[0] if self.chance.random() < 0.5 else (b"new%d" % self.puts,)
        replaced = {self.held_by(new[1])} if target == new[0] else set()
        places = *await self.world.at(old[0]), *await self.world.at(target)
        gone = await self.world.namespace.rename(*places)
        if gone is not None:
            replaced.add(self.shown.get(target))
            self.drop(gone)
        return replaced

    async def rename_folder(self) -> set[Native | None]:
        """Give any directory a name that nothing had; objects that come later have theirs (N2)."""
        folders = sorted({path[:-1] for path in await self.look() if path[1:]})
        if folders:
            self.puts += 1
            old, new = self.chance.choice(folders), (b"folder%d" % self.puts,)
            await self.world.namespace.rename(*await self.world.at(old), *await self.world.at(new))
        return set()

    async def commit(self) -> set[Native | None]:
        await self.world.commit()
        return set()

    def drop(self, node: Node) -> None:
        if node.is_gone:
            self.world.namespace.drop(node.inode)


@pytest.mark.parametrize("seed", range(12))
async def test_no_edit_disappears(tmp_path: Path, seed: int) -> None:
    """Two tools in one bucket would silently undo each other's work."""
    async with opened_world(tmp_path, *KEYS) as world:
        together = Together(world, random.Random(seed))
        together.shown = await together.look()
        for _ in range(STEPS):
            await together.step()
