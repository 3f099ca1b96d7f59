"""Read and describe unsaved rows as they were at one moment, for a commit to take along.

Concurrency: a snapshot stands still while programs go on; its bytes stay where they are in the
journal until it is left.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import trio
from msgspec.structs import replace

from blobfs.errors import BlobfsError, Damaged
from blobfs.formats.chunk import Buffer
from blobfs.formats.rows import (
    EMPTY,
    DirentRow,
    ExtentList,
    Extents,
    FileContent,
    InodeRow,
    Kind,
)
from blobfs.formats.wire import covered_bytes
from blobfs.model.changes import Covered, DirentKey, LocalDirent, LocalInode
from blobfs.model.chunking import Placed, plan_content
from blobfs.model.difference import InodeChange, NameChange
from blobfs.model.spans import FromBase, Piece, ReadPart, SpanMap
from blobfs.sync.pipeline import Wanted
from blobfs.sync.stage import FileToStage
from blobfs.types import ByteRange, InodeNo, Serial
from blobfs.volume.content import ContentReader, Contents, Gone
from blobfs.volume.tree import Tree
from blobfs.volume.unsaved import Unsaved
from blobfs.volume.unsaved_reading import Snapshot


class Unreadable(Damaged):
    """Unsaved bytes of a file cannot be read back from the local disk."""

    transient = False

    def __init__(self, inode: InodeNo, message: str) -> None:
        super().__init__(message)
        self.inode = inode


class BaseGone(BlobfsError):
    """What a file was changed from is lost: another tool replaced or removed the object."""

    def __init__(self, inode: InodeNo, error: Gone) -> None:
        super().__init__(str(error))
        self.inode = inode
        self.is_replaced = error.is_replaced


@dataclass(slots=True)
class Taken:
    """A snapshot, and the committed rows below it at the same moment."""

    snapshot: Snapshot
    unsaved: Unsaved
    contents: Contents
    inodes_before: Mapping[InodeNo, InodeRow | None]
    names_before: Mapping[DirentKey, DirentRow | None]
    _readers: dict[InodeNo, ContentReader] = field(default_factory=dict)

    @property
    def covered(self) -> Covered:
        """What a commit takes along: not what only lives on because a program has it open."""
        covered = self.snapshot.covered
        living = tuple(each for each in covered.inodes if not self._is_orphan(each[0]))
        return replace(covered, inodes=living)

    def close(self) -> None:
        """Let go of what was opened for reading."""
        for reader in self._readers.values():
            reader.close()

    async def files(
        self, staged: Callable[[InodeNo, SpanMap, Serial], Sequence[Placed]]
    ) -> list[FileToStage]:
        """Return the files whose bytes changed, with the chunks to be made of them.

        `staged` returns chunks of a file that were uploaded before and are still right, given its
        spans and the last change that they know.
        """
        upto = self.snapshot.covered.serial
        return [
            await self._to_stage(inode, row, staged(inode, self.snapshot.spans[inode], upto))
            for inode, row in self._living()
            if self._is_new_content(inode, row)
        ]

    async def read(self, wanted: Sequence[Wanted]) -> list[Buffer]:
        """Return the bytes of spans of files, as they were when the snapshot was taken.

        Raises:
            Unreadable: the disk lost some of them.
            BaseGone: another tool replaced or removed the object that held some of them.
            BlobfsError: committed bytes below them could not be had.
        """
        plans = [(inode, self._plan(inode, span)) for inode, span in wanted]
        below = [[await self._below(inode, part) for part in plan] for inode, plan in plans]
        return await trio.to_thread.run_sync(self._assemble, plans, below)

    def inode_changes(self, contents: Mapping[InodeNo, FileContent]) -> Iterator[InodeChange]:
        """Yield all inodes, before and after; `contents` is what was staged."""
        living = dict(self._living())
        for inode, before in self.inodes_before.items():
            after = living.get(inode)
            content = contents.get(inode)
            if content is None and after is not None:
                content = self._unstaged(inode, after)
            yield InodeChange(inode, before, after, content)

    def name_changes(self) -> Iterator[NameChange]:
        """Yield all dirents, before and after."""
        for key, before in self.names_before.items():
            after = self.snapshot.dirents[key].value
            yield NameChange(key, before, after if isinstance(after, LocalDirent) else None)

    def _living(self) -> Iterator[tuple[InodeNo, LocalInode]]:
        """Yield the inodes that have a name."""
        for inode, state in self.snapshot.inodes.items():
            if isinstance(state.value, LocalInode) and state.value.nlink:
                yield inode, state.value

    def _unstaged(self, inode: InodeNo, row: LocalInode) -> FileContent | None:
        """Return the content of a file of which no bytes had to be staged; None: as it was."""
        if self._is_new_content(inode, row):
            return EMPTY
        return row.bound if self.inodes_before[inode] is None else None

    def _base(self, inode: InodeNo, row: LocalInode) -> FileContent | None:
        """Return what the unsaved bytes of a file lie over; None: nothing."""
        before = self.inodes_before[inode]
        return row.bound if before is None else before.content

    def _is_orphan(self, inode: InodeNo) -> bool:
        row = self.snapshot.inodes[inode].value
        return isinstance(row, LocalInode) and not row.nlink

    def _is_new_content(self, inode: InodeNo, row: LocalInode) -> bool:
        if row.kind is not Kind.FILE:
            return False
        base = self._base(inode, row)
        if base is None:
            return row.size_bytes > 0
        if self.inodes_before[inode] is None and isinstance(base, Extents | ExtentList):
            return True  # staged without a read: the commit has to list the packs of its chunks
        base_bytes = covered_bytes(base)
        return (
            bool(len(self.snapshot.spans[inode]))
            or row.size_bytes != base_bytes
            or row.base_limit_bytes < base_bytes
        )

    async def _to_stage(
        self, inode: InodeNo, row: LocalInode, staged: Sequence[Placed]
    ) -> FileToStage:
        content = self._base(inode, row)
        base = () if content is None else await self.contents.extents(content)
        changed = [ByteRange(piece.start, piece.stop) for piece in self.snapshot.spans[inode]]
        if content is not None and not base:
            # No chunk can be taken over: small content lies in the row, and another tool's in
            # its object. All that still shows of it is read, range by range (N3).
            changed.append(ByteRange(0, min(row.base_limit_bytes, row.size_bytes)))
        plan = plan_content(
            size_bytes=row.size_bytes,
            base=base,
            base_limit_bytes=row.base_limit_bytes,
            changed=changed,
            staged=staged,
        )
        return FileToStage(inode, row.size_bytes, plan)

    def _plan(self, inode: InodeNo, span: ByteRange) -> list[ReadPart]:
        row = self.snapshot.inodes[inode].value
        assert isinstance(row, LocalInode)
        spans = self.snapshot.spans[inode]
        return spans.plan_read(span, row.size_bytes, row.base_limit_bytes)

    async def _below(self, inode: InodeNo, part: ReadPart) -> Buffer | None:
        """Return committed bytes that show through, None for other parts."""
        if not isinstance(part, FromBase):
            return None
        row = self.snapshot.inodes[inode].value
        assert isinstance(row, LocalInode)
        base = self._base(inode, row)
        if base is None:
            return bytes(len(part.span))
        if inode not in self._readers:
            self._readers[inode] = self.contents.open(covered_bytes(base), base)
        try:
            found = await self._readers[inode].read(part.span)
        except Gone as error:
            raise BaseGone(inode, error) from error
        return found if len(found) == len(part.span) else bytes(found).ljust(len(part.span), b"\0")

    def _assemble(
        self,
        plans: Sequence[tuple[InodeNo, Sequence[ReadPart]]],
        below: Sequence[Sequence[Buffer | None]],
    ) -> list[Buffer]:
        """Put the bytes of each span together, on a worker thread."""
        unsaved = iter(self._unsaved_bytes(plans))
        whole: list[Buffer] = []
        for (_, plan), found in zip(plans, below, strict=True):
            parts: list[Buffer] = []
            for part, bytes_below in zip(plan, found, strict=True):
                if isinstance(part, Piece):
                    parts.append(next(unsaved))
                else:
                    parts.append(bytes(len(part.span)) if bytes_below is None else bytes_below)
            whole.append(parts[0] if len(parts) == 1 else b"".join(parts))
        return whole

    def _unsaved_bytes(
        self, plans: Sequence[tuple[InodeNo, Sequence[ReadPart]]]
    ) -> Sequence[Buffer]:
        """Return the bytes of all unsaved pieces of `plans`, in order."""
        try:
            return self.unsaved.read_now([part for _, plan in plans for part in _pieces(plan)])
        except Damaged:
            for inode, plan in plans:
                self._check_readable(inode, plan)
            raise

    def _check_readable(self, inode: InodeNo, plan: Sequence[ReadPart]) -> None:
        try:
            self.unsaved.read_now(list(_pieces(plan)))
        except Damaged as error:
            raise Unreadable(inode, f"{error} inode={inode}") from error


def _pieces(plan: Sequence[ReadPart]) -> Iterator[Piece]:
    return (part for part in plan if isinstance(part, Piece))


def take(snapshot: Snapshot, unsaved: Unsaved, contents: Contents, tree: Tree) -> Taken:
    """Add to a snapshot, at the moment when it is taken, the committed rows below it."""
    return Taken(
        snapshot,
        unsaved,
        contents,
        {inode: tree.inode(inode) for inode in snapshot.inodes},
        {key: tree.dirent(*key) for key in snapshot.dirents},
    )
