"""Open what this machine keeps of a volume: who it is, the replayed tree, what is unsaved.

Concurrency: opened once for a mount, by the task that serves it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from blobfs.env import Env
from blobfs.sync.beginning import BelowUnsaved
from blobfs.sync.binding import JOURNAL, TREE, keep_plan
from blobfs.volume.client import Identity, open_identity
from blobfs.volume.known_settings import KnownSettings
from blobfs.volume.presence import Volume
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.tree_loading import FetchChunks
from blobfs.volume.unsaved import Unsaved, open_unsaved


@dataclass(frozen=True, slots=True)
class LocalState:
    """The parts of an open state folder. Made by `open_local_state`."""

    folder: Path
    volume: Volume
    identity: Identity
    tree: Tree
    unsaved: Unsaved
    settings: KnownSettings

    @property
    def has_unsaved(self) -> bool:
        return bool(self.unsaved.inode_states or self.unsaved.dirent_states)


@asynccontextmanager
async def open_local_state(
    folder: Path,
    volume: Volume,
    fetch: FetchChunks,
    env: Env,
    *,
    exists: bool,
    unsaved_size_bytes: int | None,
) -> AsyncIterator[LocalState]:
    """Open the state folder, which belongs to the volume from now on (S1).

    `exists`: the bucket holds that volume already; else what it is to become is kept here first.
    `fetch` loads parts of the tree that lie in a checkpoint. In the end all is on the local disk.

    Raises:
        Changed: the folder belongs to another volume.
        Damaged: what is unsaved makes no sense.
        LocalFault: the disk refused.
        Unsupported: a newer version wrote it.
    """
    info, settings = volume.info, KnownSettings()
    if volume.head is not None:
        settings.note(volume.head)
    if not exists:
        await keep_plan(volume, folder)
    identity = await open_identity(folder, info.id, env)
    async with (
        open_tree(folder / TREE, info.id, volume.origin.chain, fetch) as tree,
        open_unsaved(
            folder / JOURNAL,
            env,
            BelowUnsaved(tree),
            limit_bytes=unsaved_size_bytes,
            settings=settings,
        ) as unsaved,
    ):
        yield LocalState(folder, volume, identity, tree, unsaved, settings)
