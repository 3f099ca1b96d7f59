"""Write a checkpoint of the tree: the blocks that changed, the manifest, then `head`.

    what changed is here -> a snapshot -> blocks, in packs -> manifest -> `head` -> the tree's next
    checkpoint is based on this one

Nobody sees any of it before `head` names it (P3), so whatever fails or is killed on the way leaves
objects that nobody refers to, and the checkpoint before. Two clients may write one at a time: the
later one at `head` finds a newer one there, and leaves it.

Concurrency: one at a time, beside everything else; `checkpoint_making` says what it takes.
"""

from functools import partial

import trio
from msgspec.structs import replace

from blobfs.env import Env
from blobfs.errors import AlreadyExists, Changed, OutcomeUnknown
from blobfs.formats.checkpoint import encode_checkpoint
from blobfs.formats.head import Head
from blobfs.formats.keys import checkpoint_key, parse_checkpoint_name
from blobfs.stores.base import Store
from blobfs.sync.checkpoint_making import CheckpointSizes, Making
from blobfs.types import ClientId, Seq
from blobfs.volume.head_change import change_head, find_head
from blobfs.volume.tree import Tree
from blobfs.volume.tree_snapshot import TreeSnapshot

MOST_LOADS = 5
"""Looks for changed rows that are not here, while more of them come."""
MOST_PUTS = 4
"""Of a manifest, before it is given up for this time."""


class CheckpointWriter:
    """Writes checkpoints of one tree, for the client `me`."""

    def __init__(
        self, store: Store, tree: Tree, env: Env, me: ClientId, sizes: CheckpointSizes
    ) -> None:
        self._store = store
        self._tree = tree
        self._env = env
        self._me = me
        self._sizes = sizes

    async def newest(self) -> Seq:
        """Return the commit after which the checkpoint that `head` names was made, 0 for none."""
        return seq_of((await find_head(self._store)).head.checkpoint)

    async def write(self) -> Seq:
        """Make a checkpoint of the tree as it is now; return the seq of the one in `head` then.

        That is another one where somebody else was quicker.

        Raises:
            Changed: commits came faster than what they changed could be loaded.
            Damaged: what the tree was made from is damaged, or the tree itself.
            BlobfsError: the store failed us.
        """
        for _ in range(MOST_LOADS):
            beginnings = self._tree.beginnings
            async with self._tree.snapshot() as snapshot:
                missing = await trio.to_thread.run_sync(snapshot.missing)
                if not missing:
                    return await self._write(snapshot, beginnings)
            await self._tree.load_keys(missing)
        raise Changed(f"what was committed could not be loaded in time. looks={MOST_LOADS}")

    async def _write(self, snapshot: TreeSnapshot, beginnings: int) -> Seq:
        before = (await find_head(self._store)).head.checkpoint
        if seq_of(before) >= snapshot.state.seq:
            return seq_of(before)
        making = Making(self._store, snapshot, self._env, self._sizes)
        checkpoint = await making.make(before)
        name, data = await trio.to_thread.run_sync(encode_checkpoint, checkpoint)
        self._env.crash_point("checkpoint.made")
        await self._put(checkpoint_key(name), data)
        self._env.crash_point("checkpoint.stored")
        head = await change_head(self._store, partial(_name_newer, name=name), me=self._me)
        self._env.crash_point("checkpoint.named")
        if head.checkpoint == name:
            await self._tree.take_up(making.written(name), beginnings)
            self._env.crash_point("checkpoint.taken_up")
        return seq_of(head.checkpoint)

    async def _put(self, key: str, data: bytes) -> None:
        """Store the manifest. Its name vouches for its bytes: what lies there is the same."""
        if_absent = self._store.traits.put_if_absent
        for left in reversed(range(MOST_PUTS)):
            try:
                await self._store.put(key, data, if_absent=if_absent)
                return
            except AlreadyExists:
                return
            except OutcomeUnknown:
                if not left:
                    raise


def seq_of(name: str | None) -> Seq:
    """Return the commit after which the checkpoint `name` was made, 0 for none."""
    return Seq(0) if name is None else parse_checkpoint_name(name) or Seq(0)


def _name_newer(head: Head, *, name: str) -> Head:
    return replace(head, checkpoint=name) if seq_of(head.checkpoint) < seq_of(name) else head
