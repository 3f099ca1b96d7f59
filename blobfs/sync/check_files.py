"""Check the files of a volume: what their rows name is where they say.

That it comes to their sizes, and that names, inodes and counts fit together, replay has made sure.

Concurrency: one file after the other, but for objects of other tools; nothing else changes the
tree.
"""

from collections.abc import Iterator

import trio

from blobfs.errors import Damaged
from blobfs.formats.extent_list import decode_extent_list
from blobfs.formats.keys import pack_key
from blobfs.formats.pack import FOOTER_BYTES, PackedChunk
from blobfs.formats.rows import (
    Extent,
    ExtentList,
    Extents,
    FileContent,
    InodeRow,
    Kind,
    ListPart,
    Native,
)
from blobfs.stores.base import Store
from blobfs.sync.check_natives import Bound, NativeCheck, follows
from blobfs.sync.check_packs import Packs, place_of
from blobfs.sync.check_report import Findings, shown_path
from blobfs.types import ROOT_INODE, InodeNo
from blobfs.volume.log_entries import fetch_chunk
from blobfs.volume.tree import Tree

PAGE = 1000

_DIRECTORY_ROW_BYTES = 40
"""A pack ends with its footer, and such a row for each frame."""


class FileCheck:
    """Looks at every name of the tree."""

    def __init__(self, store: Store, tree: Tree, packs: Packs, findings: Findings) -> None:
        self._store = store
        self._tree = tree
        self._packs = packs
        self._findings = findings
        self._natives = NativeCheck(store, findings)
        self._bound: list[Bound] = []
        """Files whose objects are still to be looked at."""
        self._prefixes: dict[bytes, str] = {}
        """What directories show of other tools' objects, by their paths."""
        self.files = 0

    @property
    def objects(self) -> int:
        """How many objects of other tools files refer to."""
        return self._natives.objects

    async def run(self) -> None:
        """Check all files, then name the packs that are bad with the files they affect.

        Raises:
            BlobfsError: the store failed us.
        """
        root = self._tree.inode(ROOT_INODE)
        self._note_prefix(b"", None if root is None else root.prefix)
        for path, row in walk(self._tree):
            await trio.lowlevel.checkpoint()
            if row.kind is Kind.FOLDER:
                self._note_prefix(path, row.prefix)
            else:
                self.files += 1
                await self._check(path, row.content)
        await self._look_at_objects()
        for name, bad in self._packs.bad.items():
            self._findings.damaged("pack", pack_key(name), bad.problem, bad.affected)

    async def _check(self, path: bytes, content: FileContent) -> None:
        if isinstance(content, Extents):
            self._are_there(path, content.extents)
        elif isinstance(content, ExtentList):
            for part in content.parts:
                is_whole = self._are_there(path, (part.chunk,))
                if not is_whole or not self._are_there(path, await self._load(path, part)):
                    return  # the file is named; once is enough
        elif isinstance(content, Native):
            await self._look_later(path, content)

    def _note_prefix(self, path: bytes, prefix: str | None) -> None:
        if prefix is not None:
            self._prefixes[path] = prefix

    async def _look_later(self, path: bytes, native: Native) -> None:
        prefix = self._prefixes.get(path.rpartition(b"/")[0])
        is_own_name = prefix is not None and follows(path, native, prefix)
        self._bound.append(Bound(path, native, is_own_name))
        if len(self._bound) >= PAGE:
            await self._look_at_objects()

    async def _look_at_objects(self) -> None:
        bound, self._bound = self._bound, []
        await self._natives.look_at(bound)

    async def _load(self, path: bytes, part: ListPart) -> tuple[Extent, ...]:
        """Return the extents in a part of a long list, none if it cannot be read."""
        key = f"list {part.chunk.chunk.hex()}"
        try:
            data = await fetch_chunk(self._store, part.chunk)
            return decode_extent_list(data, covered_bytes=part.covered_bytes, key=key)
        except Damaged as error:
            self._refuse(path, str(error))
            return ()

    def _are_there(self, path: bytes, extents: tuple[Extent, ...]) -> bool:
        return all(each.is_hole or self._is_there(path, each) for each in extents)

    def _is_there(self, path: bytes, extent: Extent) -> bool:
        """Check that a chunk is where its extent says; name the file if it is not."""
        bad = self._packs.bad.get(extent.pack)
        if bad is not None and bad.concerns(extent.offset):
            bad.affected.add(path)
            return False
        problem = self._misplaced(extent)
        if problem is not None:
            self._refuse(path, f"{problem}. pack={pack_key(extent.pack)} offset={extent.offset}")
        return problem is None

    def _misplaced(self, extent: Extent) -> str | None:
        size_bytes = self._packs.sizes.get(extent.pack)
        if size_bytes is None:
            return "a chunk lies in a pack that no commit names"
        stop = extent.offset + extent.stored_bytes
        if stop > size_bytes - FOOTER_BYTES - _DIRECTORY_ROW_BYTES:
            return "a chunk lies outside of its pack"
        packed = PackedChunk(extent.chunk, extent.offset, extent.stored_bytes, extent.length_bytes)
        places = self._packs.places
        if places is not None and place_of(extent.pack, packed) not in places:
            return "its pack has no such chunk at this place"
        return None

    def _refuse(self, path: bytes, problem: str) -> None:
        self._findings.damaged("file", shown_path(path), problem)


def walk(tree: Tree) -> Iterator[tuple[bytes, InodeRow]]:
    """Yield every path of a replayed tree, and what it leads to."""
    folders: list[tuple[bytes, InodeNo]] = [(b"", ROOT_INODE)]
    while folders:
        above, folder = folders.pop()
        after = b""
        while page := tree.dirents(folder, after, PAGE):
            for name, dirent in page:
                path = above + b"/" + name if above else name
                row = tree.inode(dirent.inode)
                assert row is not None, "replay has made sure"
                yield path, row
                if row.kind is Kind.FOLDER:
                    folders.append((path, dirent.inode))
            after = page[-1][0]
