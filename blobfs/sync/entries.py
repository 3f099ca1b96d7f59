"""Spell a commit as the exact bytes of its slot, in chunks where it is too long for one (L7)."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from blobfs.formats.blocks import encode_operation_blocks, encode_pack_blocks
from blobfs.formats.chunk import Buffer
from blobfs.formats.commit import Entry, Grant, NewInode, Operation, UsedPack
from blobfs.formats.entry import encode_entry, entry_hash
from blobfs.formats.envelope import TooLong
from blobfs.formats.rows import Extent
from blobfs.formats.tables import GrantedRange
from blobfs.model.chain import Landed
from blobfs.model.numbers import is_native, range_of
from blobfs.types import ROOT_INODE, InodeNo, PackName

SaveBlocks = Callable[[Sequence[Buffer]], Awaitable[Sequence[Extent]]]
"""Saves each of some blocks as a chunk and returns where they are."""

BroughtBytes = Callable[[PackName], int]
"""Returns the size of a pack that no commit named before, 0 for others."""

NO_PACK_YET = PackName(bytes(40))


@dataclass(frozen=True, slots=True)
class Spelled:
    """An entry and the bytes that say it."""

    landed: Landed
    """With its operations, wherever they lie."""
    data: bytes


def grants_for(operations: Iterable[Operation], granted: Iterable[GrantedRange]) -> list[Grant]:
    """Return the grants that new inodes need before they are made (M1)."""
    known = {each.first for each in granted}
    needed = {
        range_of(operation.inode)
        for operation in operations
        if isinstance(operation, NewInode)
        and operation.inode != ROOT_INODE
        and not is_native(operation.inode)
    }
    return [
        Grant(InodeNo(each.first), InodeNo(each.stop))
        for each in sorted(needed)
        if each.first not in known
    ]


async def spell_entry(entry: Entry, save_blocks: SaveBlocks, brought: BroughtBytes) -> Spelled:
    """Return the bytes of `entry`, whose operations and packs are all in it.

    Raises:
        BlobfsError: it is long, and its chunks could not be saved.
    """
    try:
        data = encode_entry(entry)
    except TooLong:
        short = await _in_parts(entry, save_blocks, brought)
        data = encode_entry(short)
        # As everybody else will read it: all trees hold the same rows (C6).
        entry = replace(entry, packs=(*short.packs, *entry.packs))
    return Spelled(Landed(entry, entry_hash(data)), data)


async def _in_parts(entry: Entry, save_blocks: SaveBlocks, brought: BroughtBytes) -> Entry:
    """Move operations and packs into chunks.

    Operations name packs by number, and the packs of these chunks come first in the table: how many
    those are has to be known before they are made. It is one, nearly always.
    """
    count = 1
    while True:
        names = [NO_PACK_YET] * count + [pack.name for pack in entry.packs]
        operations = encode_operation_blocks(entry.operations, names)
        packs = encode_pack_blocks(entry.packs) if entry.packs else []
        saved = await save_blocks([*operations, *packs])
        packs_of_blocks = list(dict.fromkeys(extent.pack for extent in saved))
        if len(packs_of_blocks) == count:
            return replace(
                entry,
                operations=(),
                packs=tuple(UsedPack(name, brought(name)) for name in packs_of_blocks),
                operation_parts=tuple(saved[: len(operations)]),
                pack_parts=tuple(saved[len(operations) :]),
            )
        count = len(packs_of_blocks)
