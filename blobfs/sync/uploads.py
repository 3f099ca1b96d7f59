"""Remember what was uploaded and is named by no commit yet: a kill must not send it again.

Concurrency: tasks may `prove` at a time; both ask, and hear the same.
"""

import logging
from collections.abc import Collection, Iterable, Mapping

import trio

from blobfs.errors import NotFound
from blobfs.formats.keys import pack_key
from blobfs.formats.pack import FOOTER_BYTES, Pack, PackedChunk, decode_directory, tail_bytes
from blobfs.formats.rows import Extent
from blobfs.model.changes import Uploaded
from blobfs.stores.base import Store
from blobfs.sync.packs import extent_of
from blobfs.sync.pipeline import open_steps
from blobfs.types import ChunkId, PackName
from blobfs.volume.tree import Tree
from blobfs.volume.unsaved import Unsaved

PARALLEL = 16
"""Packs asked for side by side."""

log = logging.getLogger(__name__)


class Uploads:
    """The packs that the store has and no commit names, and where known chunks lie."""

    def __init__(self, unsaved: Unsaved, tree: Tree) -> None:
        self._unsaved = unsaved
        self._tree = tree
        self._sizes: dict[PackName, int] = {}
        self._chunks: dict[ChunkId, Extent] = {}
        self._unproven = {pack.name: pack.size_bytes for pack in unsaved.uploaded}
        """Of an earlier run: the bucket may have lost them since."""
        self.sent_bytes = 0
        """Of all packs since the mount."""
        for pack in unsaved.uploaded:
            self._remember(pack.name, pack.size_bytes, _directory(pack))

    async def prove(self, store: Store) -> None:
        """See that the store still has what an earlier run uploaded, and forget what it lost:
        a commit never names a pack that is not there (P3). Nothing is asked twice.

        Raises:
            BlobfsError: the store failed us.
        """
        if not self._unproven:
            return
        lost = await missing_packs(store, self._unproven)
        self._unproven = {}
        if lost:
            log.warning("the bucket lost packs, which are uploaded again. packs=%d", len(lost))
            self._forget(lost)
            self._unsaved.forget_uploaded(lost)

    def look_up(self, chunk: ChunkId) -> Extent | None:
        """Return where a chunk lies, if the volume has it or a pack that was uploaded."""
        return self._chunks.get(chunk) or self._tree.chunk(chunk)

    def note_sent(self, pack: Pack) -> None:
        """Note, in the journal too, that the store has `pack`."""
        tail = pack.body[-tail_bytes(pack.body[-FOOTER_BYTES:], key=pack_key(pack.name)) :]
        self._unsaved.note_uploaded(Uploaded(pack.name, tail, len(pack.body)))
        self._remember(pack.name, len(pack.body), pack.directory)
        self.sent_bytes += len(pack.body)

    def brought_bytes(self, name: PackName) -> int:
        """Return the size of a pack that no commit names yet, 0 for any other."""
        return self._sizes.get(name, 0)

    async def take_named(self, names: Iterable[PackName]) -> int:
        """Forget packs that a commit names now; return how many bytes they brought together.

        Their chunks are the tree's from now on, also those that only a long list names.
        """
        named = {name: self._sizes[name] for name in names if name in self._sizes}
        committed = [extent for extent in self._chunks.values() if extent.pack in named]
        unlisted = [extent for extent in committed if self._tree.chunk(extent.chunk) is None]
        if unlisted:
            await self._tree.note_chunks(unlisted)
        self._forget(named)
        return sum(named.values())

    def forget_unnamed(self) -> None:
        """Forget the rest: nothing is unsaved, so nobody will ever ask for it."""
        left = [pack.name for pack in self._unsaved.uploaded]
        if left:
            self._unsaved.forget_uploaded(left)
        self._sizes.clear()
        self._chunks.clear()

    def _forget(self, names: Collection[PackName]) -> None:
        for name in names:
            self._sizes.pop(name, None)
        self._chunks = {
            chunk: extent for chunk, extent in self._chunks.items() if extent.pack not in names
        }

    def _remember(self, name: PackName, size_bytes: int, directory: Iterable[PackedChunk]) -> None:
        self._sizes[name] = size_bytes
        for packed in directory:
            self._chunks[packed.chunk] = extent_of(name, packed)


async def missing_packs(store: Store, packs: Mapping[PackName, int]) -> list[PackName]:
    """Return those of `packs` that are not in the store with their size, 0 where nobody says it.

    Raises:
        BlobfsError: the store failed us.
    """
    missing: list[PackName] = []
    limit = trio.CapacityLimiter(PARALLEL)

    async def look(name: PackName, size_bytes: int) -> None:
        async with limit:
            try:
                found = await store.head(pack_key(name))
            except NotFound:
                missing.append(name)
            else:
                if size_bytes not in (0, found.size_bytes):
                    missing.append(name)

    async with open_steps() as nursery:
        for name, size_bytes in packs.items():
            nursery.start_soon(look, name, size_bytes)
    return missing


def _directory(pack: Uploaded) -> tuple[PackedChunk, ...]:
    return decode_directory(pack.directory, pack_bytes=pack.size_bytes, key=pack_key(pack.name))
