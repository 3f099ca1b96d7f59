"""Find out where others committed the very bytes that are unsaved here: that is no conflict (C1).

What they committed is known by the hashes of its chunks, so nothing of it is fetched.

Concurrency: programs go on meanwhile. What changed since counts as different.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from blobfs.errors import BlobfsError
from blobfs.formats.chunk import Buffer
from blobfs.formats.commit import Entry, NewInode, PutDirent, SetContent
from blobfs.formats.rows import Extent, FileContent, Inline, Kind, Native
from blobfs.model.changes import LocalDirent, LocalInode
from blobfs.sync.snapshots import Taken, take
from blobfs.types import ByteRange, InodeNo, Serial
from blobfs.volume.content import Contents
from blobfs.volume.tree import Tree
from blobfs.volume.unsaved import Unsaved


@dataclass(frozen=True, slots=True)
class Pair:
    """A file of ours and one of theirs, perhaps the same one, that hold the same bytes."""

    mine: InodeNo
    theirs: InodeNo
    serial: Serial
    """Of the last change of ours that was looked at."""


@dataclass(frozen=True, slots=True)
class _Question:
    mine: InodeNo
    theirs: InodeNo
    size_bytes: int
    content: FileContent


class Equality:
    """Compares unsaved files with what an entry says of them."""

    def __init__(self, unsaved: Unsaved, tree: Tree, contents: Contents) -> None:
        self._unsaved = unsaved
        self._tree = tree
        self._contents = contents

    async def pairs(self, entry: Entry) -> list[Pair]:
        """Return the files that hold here what they, or others of their name, hold in `entry`.

        What cannot be read now is not among them: it differs, as far as anybody can tell.
        """
        found = []
        for question in list(self._questions(entry)):
            state = self._unsaved.inode_states.get(question.mine)
            if state is not None and await self._is_equal(question):
                found.append(Pair(question.mine, question.theirs, state.serial))
        return found

    def _questions(self, entry: Entry) -> Iterator[_Question]:
        """Yield the files of one size that an entry gives bytes, here and there."""
        contents = {
            operation.inode: (operation.size_bytes, operation.content)
            for operation in entry.operations
            if isinstance(operation, SetContent)
        }
        made = {each.inode for each in entry.operations if isinstance(each, NewInode)}
        for inode, (size_bytes, content) in contents.items():
            if inode not in made and self._size(inode) == size_bytes:
                yield _Question(inode, inode, size_bytes, content)
        for operation in entry.operations:
            if isinstance(operation, PutDirent) and operation.inode in contents:
                mine = self._unsaved.dirent(operation.parent, operation.name)
                size_bytes, content = contents[operation.inode]
                if isinstance(mine, LocalDirent) and self._size(mine.inode) == size_bytes:
                    yield _Question(mine.inode, operation.inode, size_bytes, content)

    def _size(self, inode: InodeNo) -> int | None:
        """Return the size of an unsaved file; None: this is none."""
        row = self._unsaved.inode(inode)
        is_file = isinstance(row, LocalInode) and row.kind is Kind.FILE
        return row.size_bytes if isinstance(row, LocalInode) and is_file else None

    async def _is_equal(self, question: _Question) -> bool:
        if isinstance(question.content, Native):
            return False
        with self._unsaved.snapshot([question.mine], []) as snapshot:
            taken = take(snapshot, self._unsaved, self._contents, self._tree)
            try:
                return await self._holds(taken, question)
            except BlobfsError:
                return False
            finally:
                taken.close()

    async def _holds(self, taken: Taken, question: _Question) -> bool:
        if isinstance(question.content, Inline):
            (data,) = await taken.read([(question.mine, ByteRange(0, question.size_bytes))])
            return bytes(data) == question.content.data
        start = 0
        for extent in await self._contents.extents(question.content):
            span = ByteRange(start, start + extent.length_bytes)
            if extent.is_hole or not await self._is_chunk(taken, question.mine, span, extent):
                return False
            start = span.stop
        return True

    async def _is_chunk(
        self, taken: Taken, inode: InodeNo, span: ByteRange, extent: Extent
    ) -> bool:
        (data,) = await taken.read([(inode, span)])
        return await trio.to_thread.run_sync(_hash, data) == extent.chunk


def _hash(data: Buffer) -> bytes:
    return hashlib.sha256(data).digest()
