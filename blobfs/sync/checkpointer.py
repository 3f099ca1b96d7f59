"""Write checkpoints when they fall due (L9), behind programs' backs.

The client whose commit makes one due writes it; so one that only reads writes nothing, and whoever
writes has proven by its commits that the store takes conditions (L8). A failure is logged, and
tried again later; saving goes on all the same.

Concurrency: one task, beside the one that saves. A commit that comes while a checkpoint is being
written counts for the next.
"""

import logging
from dataclasses import dataclass, field

import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError
from blobfs.model.backoff import backoff_s
from blobfs.sync.checkpoint import CheckpointWriter, seq_of
from blobfs.sync.checkpoint_making import CheckpointSizes
from blobfs.types import MIB
from blobfs.volume.tree import Tree

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 600.0

log = logging.getLogger("blobfs.checkpoint")


@dataclass(frozen=True, slots=True)
class CheckpointRules:
    """When a checkpoint falls due, and how it is cut."""

    due_entries: int = 64
    """As many entries of the log are replayed by whoever opens the volume."""
    due_bytes: int = 4 * MIB
    """Likewise by what they change: the keys of all rows, wherever their operations lie (L7)."""
    sizes: CheckpointSizes = field(default_factory=CheckpointSizes)


class Checkpointer:
    """Has checkpoints of one tree written."""

    def __init__(
        self, writer: CheckpointWriter, tree: Tree, rules: CheckpointRules, env: Env
    ) -> None:
        self._writer = writer
        self._tree = tree
        self._rules = rules
        self._env = env
        self._newest = seq_of(tree.base)
        """The commit of the newest checkpoint that is known of."""
        self._committed = trio.Event()
        self._failures = 0

    def note_committed(self) -> None:
        """Note that a commit of this client has landed and was replayed."""
        self._committed.set()

    async def run(self) -> None:
        """Write checkpoints for ever."""
        while True:
            await self._committed.wait()
            self._committed = trio.Event()
            while self._is_due():
                try:
                    await self._write()
                    self._failures = 0
                except BlobfsError as error:
                    await self._pause_after(str(error))
                except Exception as error:
                    # There is the log: a mount that ends for a checkpoint would be worse.
                    log.exception("a checkpoint failed for a reason of our own")
                    await self._pause_after(f"{type(error).__name__}: {error}")

    async def _write(self) -> None:
        self._newest = max(self._newest, await self._writer.newest())
        if self._is_due():
            self._newest = await self._writer.write()
            log.info("there is a new checkpoint. seq=%d", self._newest)

    def _is_due(self) -> bool:
        seq = self._tree.position.seq
        if self._tree.base is not None and self._tree.base in self._tree.doubted():
            return False  # it would name what is damaged again
        if seq - self._newest >= self._rules.due_entries:
            return True
        changed = self._tree.changed_bytes(self._newest, self._rules.due_bytes)
        return changed >= self._rules.due_bytes

    async def _pause_after(self, problem: str) -> None:
        self._failures += 1
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        log.log(
            level,
            "a checkpoint could not be written, and will be later. failures=%d (%s)",
            self._failures,
            problem,
        )
        chance = self._env.chance()
        await trio.sleep(backoff_s(self._failures, FIRST_PAUSE_S, LONGEST_PAUSE_S, chance))
