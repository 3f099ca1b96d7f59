"""Turn the changed bytes of files into chunks that the store has.

A file's new chunks go through the pipeline, those of many files into one pack; what they come to
is put between the extents that stay. A chunk that is known is not sent again, one of zeros is
a hole. Long lists of extents become chunks themselves, small contents ride in their rows.

Nothing here touches the log: what was staged is in nobody's way until a commit names it.

Concurrency: any number of stagings at a time, each within its own share of the memory budget,
which it takes at once and gives back at its end, so that it never waits for memory while it
holds some.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import trio

from blobfs.cache.memory import MemoryBudget
from blobfs.env import Env
from blobfs.formats.chunk import Buffer
from blobfs.formats.extent_list import encode_extent_list
from blobfs.formats.rows import (
    EMPTY,
    INLINE_BYTES,
    NO_PACK,
    Extent,
    ExtentList,
    Extents,
    FileContent,
    Inline,
    ListPart,
)
from blobfs.model.chunking import Placed, Plan, join_holes
from blobfs.model.extent_parts import is_long, parts_of
from blobfs.stores.base import Store
from blobfs.sync.packs import PackSender, Room, Slot
from blobfs.sync.pipeline import (
    BATCH_BYTES,
    Batch,
    ReadMany,
    Run,
    StagePlaces,
    Wanted,
    batches_of,
    check_lengths,
    open_steps,
)
from blobfs.types import MIB, ByteRange, InodeNo, PackName

PACK_BYTES = 16 * MIB
MOST_ROOM_BYTES = 80 * MIB
"""Frames held by one staging: a pack being filled, and those being sent."""
LEAST_ROOM_BYTES = 12 * MIB
ROOM_SHARE = 3
"""One part in three of the memory budget is what a staging may hold, copies included."""


@dataclass(frozen=True, slots=True)
class FileToStage:
    """A file whose content is to be saved, and how (`model.chunking`)."""

    inode: InodeNo
    size_bytes: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class Staged:
    """What a commit can say of the files that were staged."""

    contents: Mapping[InodeNo, FileContent]
    packs: frozenset[PackName]
    """All packs that the contents refer to, also by way of extent lists."""


class Stager:
    """Saves bytes as chunks. One for each mount."""

    def __init__(self, store: Store, env: Env, budget: MemoryBudget, places: StagePlaces) -> None:
        self._store = store
        self._env = env
        self._budget = budget
        self._places = places
        self._threads = trio.CapacityLimiter(max(2, os.cpu_count() or 1))

    async def stage(self, files: Sequence[FileToStage], read: ReadMany) -> Staged:
        """Save the new content of `files`; return what their rows have to say.

        Raises:
            BlobfsError: reading or sending failed; what was sent is known to `places`.
        """
        small = [file for file in files if file.size_bytes <= INLINE_BYTES]
        large = [file for file in files if file.size_bytes > INLINE_BYTES]
        contents = await _inline(small, read)
        large.sort(key=lambda file: file.inode)
        wanted = [(file.inode, span) for file in large for span in file.plan.spans]
        made = iter(await self._chunks(wanted, read))
        whole = {file.inode: _whole(file.plan, made) for file in large}
        packs = {extent.pack for extents in whole.values() for extent in extents}
        lists = await self._lists({file.inode: file.size_bytes for file in large}, whole)
        contents |= {inode: Extents(extents) for inode, extents in whole.items()}
        contents |= lists
        packs |= {part.chunk.pack for each in lists.values() for part in each.parts}
        return Staged(contents, frozenset(packs - {NO_PACK}))

    async def stage_spans(
        self, inode: InodeNo, spans: Sequence[ByteRange], read: ReadMany
    ) -> list[Placed]:
        """Save `spans` of a file that is still being written, each as a chunk.

        The caller keeps what it gets for as long as nobody writes there, and gives it to
        `plan_content` in the end.
        """
        extents = await self._chunks([(inode, span) for span in spans], read)
        return [Placed(span.start, extent) for span, extent in zip(spans, extents, strict=True)]

    async def stage_data(self, data: Sequence[Buffer]) -> list[Extent]:
        """Save each of `data` as a chunk, in packs of their own."""

        async def read(wanted: Sequence[Wanted]) -> Sequence[Buffer]:
            await trio.lowlevel.checkpoint()
            return [data[number] for number, _ in wanted]

        wanted = [(InodeNo(n), ByteRange(0, len(each))) for n, each in enumerate(data)]
        return await self._chunks(wanted, read)

    def side_by_side(self, length_bytes: int) -> int:
        """Return how many stagings of so many bytes half of the memory budget holds."""
        return self._budget.limit_bytes // 2 // self._share_bytes(length_bytes)

    def _share_bytes(self, length_bytes: int) -> int:
        """Return what a staging of so many bytes takes of the memory budget."""
        room_bytes = self._room_bytes()
        return min(room_bytes + min(PACK_BYTES, room_bytes // 5), 2 * length_bytes)

    def _room_bytes(self) -> int:
        share_bytes = self._budget.limit_bytes // ROOM_SHARE
        return max(LEAST_ROOM_BYTES, min(MOST_ROOM_BYTES, share_bytes))

    async def _lists(
        self, sizes: Mapping[InodeNo, int], whole: Mapping[InodeNo, tuple[Extent, ...]]
    ) -> dict[InodeNo, ExtentList]:
        """Save the extents of files that have many; their packs have names by now."""
        parts = [
            (inode, part)
            for inode, extents in whole.items()
            if is_long(extents)
            for part in parts_of(extents, sizes[inode])
        ]
        chunks = await self.stage_data([encode_extent_list(part) for _, part in parts])
        lists: dict[InodeNo, list[ListPart]] = {}
        for (inode, part), chunk in zip(parts, chunks, strict=True):
            covered = sum(extent.length_bytes for extent in part)
            lists.setdefault(inode, []).append(ListPart(covered, chunk))
        return {inode: ExtentList(tuple(each)) for inode, each in lists.items()}

    async def _chunks(self, wanted: Sequence[Wanted], read: ReadMany) -> list[Extent]:
        """Save each of `wanted` as a chunk or a hole, in this order."""
        if not wanted:
            return []
        room_bytes = self._room_bytes()
        pack_bytes = min(PACK_BYTES, room_bytes // 5)
        async with self._budget.lent(self._share_bytes(sum(len(span) for _, span in wanted))):
            batches = list(batches_of(wanted, min(BATCH_BYTES, pack_bytes)))
            await self._run(batches, read, Room(room_bytes), pack_bytes)
        return [_extent(slot) for batch in batches for slot in batch.slots]

    async def _run(
        self, batches: Sequence[Batch], read: ReadMany, room: Room, pack_bytes: int
    ) -> None:
        async with open_steps() as nursery:
            sender = PackSender(
                self._store,
                self._env,
                nursery,
                room,
                pack_bytes=pack_bytes,
                sent=self._places.sent,
            )
            run = Run(self._places, self._threads, read, room, sender, nursery)
            await run.stage(batches)


async def _inline(small: Sequence[FileToStage], read: ReadMany) -> dict[InodeNo, FileContent]:
    """Return the content of files that ride in their rows."""
    contents: dict[InodeNo, FileContent] = {
        file.inode: EMPTY for file in small if not file.size_bytes
    }
    wanted = [(file.inode, ByteRange(0, file.size_bytes)) for file in small if file.size_bytes]
    for batch in batches_of(wanted, BATCH_BYTES):
        data = await read(batch.wanted)
        check_lengths(batch.wanted, data)
        for (inode, _), each in zip(batch.wanted, data, strict=True):
            contents[inode] = Inline(bytes(each))
    return contents


def _whole(plan: Plan, made: Iterator[Extent]) -> tuple[Extent, ...]:
    """Return the extents of a file: those that stayed, and the next ones of `made` between."""
    return join_holes(
        next(made) if isinstance(piece, ByteRange) else piece for piece in plan.pieces
    )


def _extent(slot: Slot) -> Extent:
    assert slot.extent is not None  # all packs were sent
    return slot.extent
