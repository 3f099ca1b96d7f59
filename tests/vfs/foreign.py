"""Let others change a volume that is in use, step by step as an engine would do it."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from msgspec.structs import replace

from blobfs.env import Env
from blobfs.model.changes import Change, DirentKey
from blobfs.model.nodes import as_local
from blobfs.model.rebase import Foreign
from blobfs.stores.base import Store
from blobfs.stores.memory import MemoryStore
from blobfs.types import InodeNo
from tests.contracts.core_files import CoreFiles
from tests.core import Core, opened_core


@dataclass(frozen=True)
class Two:
    """Two clients of one volume; `mine` takes in what the other did when it is told to."""

    mine: Core
    theirs: CoreFiles

    async def seen(self) -> None:
        """Let the engine of `mine` take in what the other did, and save what is unsaved here."""
        await self.theirs.save()
        serial = self.mine.engine.begin_sync()
        with trio.fail_after(30):
            while not self.mine.engine.is_synced(serial):
                await trio.lowlevel.checkpoint()

    async def take_in(
        self,
        *,
        keep: Sequence[InodeNo] = (),
        contents: Sequence[InodeNo] = (),
        inodes: Sequence[InodeNo] = (),
        dirents: Sequence[DirentKey] = (),
    ) -> dict[InodeNo, InodeNo]:
        """Replay what the other saved; the versions of files to `keep` get other numbers."""
        await self.theirs.save()
        engine = self.mine.engine
        kept = {inode: engine.tree.inode(inode) for inode in keep}
        numbers = {inode: engine.numbers.take() for inode in keep}
        await engine.tree.replay((await engine.volume_log.newer(engine.tree.position)).landed)
        for inode, row in kept.items():
            assert row is not None
            old = replace(as_local(row), nlink=0, bound=row.content)
            engine.unsaved.apply(Change(inodes={numbers[inode]: old}))
        changed = (*inodes, *contents)
        self.mine.vfs.note_foreign(Foreign(tuple(dirents), changed, tuple(contents), numbers))
        return numbers


@asynccontextmanager
async def two_clients(folder: Path, native: bytes = b"") -> AsyncIterator[Two]:
    """Open a volume twice, with the file `f` in it, and beside it an object with `native` bytes."""
    store = MemoryStore()
    if native:
        await store.put("object", native)
    async with (
        other_client(store, folder / "theirs") as theirs,
        opened_core(store, folder / "mine", Env(), 60, read_only=False, settle_s=3600) as mine,
    ):
        yield Two(mine, theirs)


@asynccontextmanager
async def other_client(store: Store, folder: Path) -> AsyncIterator[CoreFiles]:
    """Open a volume that was begun with the file `f`."""
    async with opened_core(store, folder, Env(), 60, read_only=False, settle_s=3600) as core:
        files = CoreFiles(core)
        await put(files, b"f", OLD)
        await files.save()
        yield files


async def put(files: CoreFiles, path: bytes, content: bytes) -> None:
    """Write a file anew."""
    handle = await files.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    await handle.write(0, content)
    await handle.close()


OLD = b"old" * 2000
NEW = b"the new one" * 3000
