"""A part of a long list of extents stands for itself."""

import msgspec
import pytest

from blobfs.errors import Damaged, Unsupported
from blobfs.formats.extent_list import decode_extent_list, encode_extent_list
from blobfs.formats.rows import Extent
from blobfs.types import ChunkId, PackName

PACKS = [PackName(bytes([n]) * 40) for n in range(2)]
EXTENTS = (
    Extent(10, ChunkId(b"a" * 32), PACKS[1], 5, 10),
    Extent(1 << 40),
    Extent(20, ChunkId(b"b" * 32), PACKS[0], 15, 8),
    Extent(30, ChunkId(b"c" * 32), PACKS[1], 25, 30),
)
COVERED = (1 << 40) + 60


def test_extents_come_back() -> None:
    """Users would read other bytes in large files."""
    part = encode_extent_list(EXTENTS)
    assert decode_extent_list(part, covered_bytes=COVERED, key="k") == EXTENTS


def test_the_same_extents_are_the_same_bytes() -> None:
    """Users would pay for the whole list at each change of a large file."""
    assert encode_extent_list(EXTENTS) == encode_extent_list(list(EXTENTS))


def test_a_pack_is_named_once() -> None:
    """Users would pay for names twice as long as what they are about."""
    again = [*EXTENTS, *EXTENTS]
    assert len(encode_extent_list(again)) - len(encode_extent_list(EXTENTS)) < 4 * 48


def test_a_part_of_another_size_is_refused() -> None:
    """Users would read bytes at a wrong place."""
    with pytest.raises(Damaged, match="covers"):
        decode_extent_list(encode_extent_list(EXTENTS), covered_bytes=COVERED + 1, key="k")


def test_too_many_extents_are_refused() -> None:
    """Users would have a file that nobody can read."""
    with pytest.raises(ValueError, match="too many"):
        encode_extent_list(EXTENTS * 10_000)


@pytest.mark.parametrize(
    ("part", "refusal"),
    [
        ([2, [], []], Unsupported),
        ([3, "whatever"], Unsupported),
        ([1, [], [[10, b"c" * 32, 0, 0, 10]]], Damaged),
        ([1, [b"short"], []], Damaged),
        ([1, [], [-5]], Damaged),
        ([1, []], Damaged),
        (None, Damaged),
    ],
)
def test_newer_is_told_from_damaged(part: object, refusal: type[Exception]) -> None:
    """Users would be sent to repair what only wants an upgrade, or the other way round."""
    with pytest.raises(refusal, match="whose list"):
        decode_extent_list(msgspec.msgpack.encode(part), covered_bytes=0, key="whose list")
