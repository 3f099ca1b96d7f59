"""Check what this machine keeps of a volume, against the log; make its tree anew.

Only the replayed tree is ever made anew: what is unsaved is not touched, whatever was found.

Concurrency: the caller holds the state folder.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from blobfs.env import Env
from blobfs.errors import Changed, Damaged, LocalFault, NotFound
from blobfs.formats.commit import Counters
from blobfs.model.chain import Landed
from blobfs.model.commit_outcome import Author
from blobfs.stores.base import Store
from blobfs.sync.binding import JOURNAL, TREE, has_segments
from blobfs.sync.check_checkpoints import Found, fetch_blocks, follow_log
from blobfs.sync.check_report import Findings
from blobfs.types import Seq
from blobfs.volume.client import Identity, bound_volume, open_identity
from blobfs.volume.log import Log
from blobfs.volume.presence import Volume
from blobfs.volume.tree import Tree, open_kept_tree, open_tree


@dataclass(frozen=True, slots=True)
class Shown:
    """Which tree a mount shows."""

    seq: Seq
    chain: bytes
    counters: Counters

    def compare(self, tree: Tree, name: str, findings: Findings) -> None:
        """Compare with what the log says that it is; `tree` is at the same seq."""
        state = tree.state
        if state.chain != self.chain:
            problem = f"at commit {self.seq}, the mount knows another one than the bucket has"
            findings.damaged("local", name, problem)
        elif state.counters != self.counters:
            problem = f"the mount does not show what the log says up to commit {self.seq}"
            findings.damaged("local", name, problem)


@dataclass(slots=True)
class Kept:
    """The state folder of this machine, as far as it can be read."""

    folder: Path
    findings: Findings
    tree: Tree | None = None
    identity: Identity | None = None
    has_unsaved: bool = False
    own_seq: Seq = field(default=Seq(0))
    """The last commit of this client that the log has."""

    def compare(self, scratch: Tree) -> None:
        """Compare with what the log says, row by row; `scratch` is at the same seq."""
        if self.tree is None:
            return
        seq = self.tree.position.seq
        try:
            found = self.tree.first_difference(scratch)
        except Damaged as error:
            self._damaged(str(error))
            return
        if found is not None:
            self._damaged(f"its tree is not what the log says up to commit {seq}. {found}")

    def note(self, landed: Landed) -> None:
        """Look at an entry of the log: who wrote those that carry this client's id?"""
        if self.identity is None:
            return
        author = self.identity.author_of(landed)
        if author is Author.MINE:
            self.own_seq = landed.entry.seq
        elif author is Author.COPY:
            problem = (
                f"somebody else wrote commit {landed.entry.seq} under this client's id: one of "
                "two state folders is a copy. Mount it here: it becomes another client then"
            )
            self.findings.damaged("identity", str(self.folder), problem)

    def _damaged(self, problem: str) -> None:
        self.findings.damaged("local", str(self.folder), problem)


@asynccontextmanager
async def open_kept(
    folder: Path, volume: Volume, findings: Findings, env: Env
) -> AsyncIterator[Kept]:
    """Open what this machine keeps in `folder`, and note what cannot be read of it."""
    kept = Kept(folder, findings)
    kept.has_unsaved = await trio.to_thread.run_sync(has_segments, folder / JOURNAL)
    try:
        if await bound_volume(folder) is not None:
            kept.identity = await open_identity(folder, volume.info.id, env)
    except (Changed, LocalFault) as error:
        findings.damaged("identity", str(folder), str(error))
    async with AsyncExitStack() as stack:
        try:
            kept.tree = await stack.enter_async_context(
                open_kept_tree(folder / TREE, volume.info.id)
            )
        except NotFound:
            pass  # the next mount makes one
        except Damaged as error:
            findings.damaged("local", str(folder), str(error))
        yield kept


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A tree that was made anew."""

    seq: Seq
    """The commit that it is at."""
    begun_at: Seq
    """The commit of the checkpoint that it began from, 0 where it was made from the log alone."""


async def rebuild(
    store: Store,
    volume: Volume,
    folder: Path,
    env: Env,
    checkpoint: Found | None,
    *,
    upto: Seq | None,
) -> Rebuilt:
    """Make the tree in `folder` anew from a checkpoint and the log; return what it is now.

    With changes unsaved, `upto` is the last commit that is sure to lie below them: what others
    committed later is compared with them by the next mount, as ever (C1).

    Raises:
        Changed: the folder belongs to another volume.
        Damaged: the log or the checkpoint is not right.
        BlobfsError: store or disk failed us.
    """
    await open_identity(folder, volume.info.id, env)
    await trio.to_thread.run_sync(_remove, folder / TREE)
    fetch = partial(fetch_blocks, store)
    async with open_tree(folder / TREE, volume.info.id, volume.origin.chain, fetch) as tree:
        if checkpoint is not None:
            await tree.begin(await tree.prepare(checkpoint.name, checkpoint.checkpoint))
        begun_at = tree.position.seq
        await follow_log(tree, Log(store, env), upto)
        return Rebuilt(tree.position.seq, begun_at)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
