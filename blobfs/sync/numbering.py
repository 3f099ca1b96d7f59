"""Find out which inode numbers this client may use, when the first one is needed.

Concurrency: for the tasks of one mount.
"""

import trio

from blobfs.env import Env
from blobfs.model.numbers import range_by_chance
from blobfs.sync.local_state import LocalState
from blobfs.sync.renewal import made_here
from blobfs.volume.namespace_numbers import Numbers, last_used


class Numbering:
    """The numbers of one client, the same for all who ask."""

    def __init__(self, local: LocalState, env: Env) -> None:
        self._local = local
        self._env = env
        self._found: Numbers | None = None
        self._finding = trio.Lock()

    async def numbers(self) -> Numbers:
        """Return what hands them out.

        Raises:
            BlobfsError: a part of the tree is not here, and the store failed us.
        """
        async with self._finding:
            if self._found is None:
                self._found = await self._find()
            return self._found

    async def _find(self) -> Numbers:
        """Go on with the numbers of this client: unsaved changes of others' files have theirs.

        Where the tree lacks a commit that this client has put, and a power cut took it back, its
        numbers are not known while it cannot be replayed: new ones come from a new range (M1).
        """
        local = self._local
        granted = local.tree.granted(local.identity.client)
        used = last_used(granted, await made_here(local.tree, local.unsaved))
        last = local.tree.client(local.identity.client)
        replayed = 0 if last is None else last.counter
        if replayed < local.identity.last.counter and local.unsaved.intent is None:
            used = None
        return Numbers(used, lambda: range_by_chance(self._env.chance()), local.tree.inode)
