"""Remember what was uploaded and is named by no commit yet: a kill must not send it again.

Concurrency: nothing here awaits.
"""

from collections.abc import Iterable

from blobfs.formats.keys import pack_key
from blobfs.formats.pack import FOOTER_BYTES, Pack, PackedChunk, decode_directory, tail_bytes
from blobfs.formats.rows import Extent
from blobfs.model.changes import Uploaded
from blobfs.sync.packs import extent_of
from blobfs.types import ChunkId, PackName
from blobfs.volume.tree import Tree
from blobfs.volume.unsaved import Unsaved


class Uploads:
    """The packs that the store has and no commit names, and where known chunks lie."""

    def __init__(self, unsaved: Unsaved, tree: Tree) -> None:
        self._unsaved = unsaved
        self._tree = tree
        self._sizes: dict[PackName, int] = {}
        self._chunks: dict[ChunkId, Extent] = {}
        self.sent_bytes = 0
        """Of all packs since the mount."""
        for pack in unsaved.uploaded:
            self._remember(pack.name, pack.size_bytes, _directory(pack))

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
        named = {name: self._sizes.pop(name) for name in names if name in self._sizes}
        committed = [extent for extent in self._chunks.values() if extent.pack in named]
        unlisted = [extent for extent in committed if self._tree.chunk(extent.chunk) is None]
        if unlisted:
            await self._tree.note_chunks(unlisted)
        self._chunks = {
            chunk: extent for chunk, extent in self._chunks.items() if extent.pack not in named
        }
        return sum(named.values())

    def forget_unnamed(self) -> None:
        """Forget the rest: nothing is unsaved, so nobody will ever ask for it."""
        left = [pack.name for pack in self._unsaved.uploaded]
        if left:
            self._unsaved.forget_uploaded(left)
        self._sizes.clear()
        self._chunks.clear()

    def _remember(self, name: PackName, size_bytes: int, directory: Iterable[PackedChunk]) -> None:
        self._sizes[name] = size_bytes
        for packed in directory:
            self._chunks[packed.chunk] = extent_of(name, packed)


def _directory(pack: Uploaded) -> tuple[PackedChunk, ...]:
    return decode_directory(pack.directory, pack_bytes=pack.size_bytes, key=pack_key(pack.name))
