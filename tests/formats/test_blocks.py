"""Long lists come back in order, block by block, within bounds."""

import msgspec
import pytest

from blobfs.errors import Damaged, Unsupported
from blobfs.formats.blocks import (
    MOST_BLOCK_BYTES,
    decode_operation_block,
    decode_pack_block,
    encode_operation_blocks,
    encode_pack_blocks,
)
from blobfs.formats.commit import AddLinks, SetContent, SetXattr, UsedPack
from blobfs.formats.rows import Extent, Extents
from blobfs.types import ChunkId, InodeNo, PackName, Seq

INODE = InodeNo(5)
PACKS = [PackName(bytes([n]) * 40) for n in range(2)]


class TestOperations:
    def test_many_come_back_in_order(self) -> None:
        """Users would see the commits of large trees in pieces."""
        operations = [AddLinks(InodeNo(n), n) for n in range(1, 10_000)]
        blocks = encode_operation_blocks(operations, [])
        assert len(blocks) > 1
        read = [op for block in blocks for op in decode_operation_block(block, packs=[], key="k")]
        assert read == operations

    def test_blocks_are_bounded(self) -> None:
        """Readers would need memory for a whole commit at once."""
        operations = [SetXattr(InodeNo(n), b"user.x", bytes(60_000)) for n in range(1, 50)]
        blocks = encode_operation_blocks(operations, [])
        assert all(len(block) <= MOST_BLOCK_BYTES for block in blocks)
        assert len(blocks) >= 3

    def test_one_that_fits_no_block_is_refused(self) -> None:
        """All clients of a volume would stop at an entry, for good."""
        chunk = Extent(1, ChunkId(bytes(32)), PACKS[0], 0, 1)
        huge = SetContent(INODE, 30_000, Extents((chunk,) * 30_000), Seq(0))
        with pytest.raises(ValueError, match="too long"):
            encode_operation_blocks([huge], PACKS)

    def test_packs_are_counted_across_the_table(self) -> None:
        """Users would read other files' bytes."""
        extent = Extent(1, ChunkId(bytes(32)), PACKS[1], 0, 1)
        operation = SetContent(INODE, 1, Extents((extent,)), Seq(0))
        (block,) = encode_operation_blocks([operation], PACKS)
        assert decode_operation_block(block, packs=PACKS, key="k") == (operation,)
        with pytest.raises(Damaged, match="pack number 1 of 1"):
            decode_operation_block(block, packs=PACKS[:1], key="k")

    def test_a_pack_that_is_not_listed_is_refused(self) -> None:
        """Garbage collection would take a pack that files still need."""
        extent = Extent(1, ChunkId(bytes(32)), PACKS[1], 0, 1)
        with pytest.raises(ValueError, match="not listed"):
            encode_operation_blocks([SetContent(INODE, 1, Extents((extent,)), Seq(0))], PACKS[:1])


class TestPacks:
    def test_many_come_back_in_order(self) -> None:
        """Users would read other files' bytes after a large commit."""
        packs = [UsedPack(PackName(n.to_bytes(40, "big")), n) for n in range(20_000)]
        blocks = encode_pack_blocks(packs)
        assert len(blocks) > 1
        assert [pack for block in blocks for pack in decode_pack_block(block, key="k")] == packs


@pytest.mark.parametrize(
    ("block", "refusal"),
    [
        ([2, []], Unsupported),
        ([1, [[99, 5]]], Unsupported),
        ([1, [[6, 5, 1]], "more"], Damaged),
        ([0, []], Damaged),
        ([1], Damaged),
        ([1, [[6, 5]]], Damaged),
    ],
)
def test_newer_is_told_from_damaged(block: object, refusal: type[Exception]) -> None:
    """Users would be sent to repair what only wants an upgrade, or the other way round."""
    with pytest.raises(refusal):
        decode_operation_block(msgspec.msgpack.encode(block), packs=[], key="k")


def test_a_block_that_is_too_long_is_refused() -> None:
    """Users would lose the mount to one object that swells in memory."""
    with pytest.raises(Damaged, match="too many"):
        decode_pack_block(bytes(MOST_BLOCK_BYTES + 1), key="k")
