"""Refs that are too many for a manifest lie in blocks, each at its place."""

import pytest

from blobfs.formats.checkpoint_blocks import BlockRef
from blobfs.formats.rows import Extent
from blobfs.model.checkpoint_index import Bundle, bundle, refs_bytes


def ref(number: int, level: int = 0) -> BlockRef:
    return BlockRef(level, number.to_bytes(8, "big"), number.to_bytes(8, "big"), 1, Extent(1))


def flat(bundled: list[BlockRef | Bundle]) -> list[BlockRef]:
    return [each for part in bundled for each in ((part,) if isinstance(part, BlockRef) else part)]


@pytest.mark.parametrize(
    ("levels", "lengths"),
    [
        ([0] * 7, [3, 3, 1]),
        ([0], [1]),
        ([1, 0, 0, 0, 0, 0, 0, 1], [1, 3, 3, 1]),
        ([1, 0, 0, 0, 0, 1], [3, 3]),
        ([1, 0, 1, 0, 1, 0], [3, 3]),
        ([2, 1, 1, 1, 2], [1, 3, 1]),
        ([0, 0, 2, 0, 0], [2, 1, 2]),
    ],
)
def test_runs_of_the_lowest_are_bundled(levels: list[int], lengths: list[int]) -> None:
    """Readers would fetch blocks of refs within blocks of refs, for nothing."""
    refs = [ref(number, level) for number, level in enumerate(levels)]
    bundled = bundle(refs, 3)
    assert [1 if isinstance(part, BlockRef) else len(part) for part in bundled] == lengths
    assert flat(bundled) == refs


@pytest.mark.parametrize("count", range(2, 40))
def test_fewer_come_out(count: int) -> None:
    """Writing a checkpoint would never end."""
    for step in (1, 2, 3, 5):
        refs = [ref(number, number % step) for number in range(count)]
        bundled = bundle(refs, 2)
        assert len(bundled) <= (count + 1) // 2
        assert flat(bundled) == refs


def test_long_keys_count() -> None:
    """A manifest with the refs of a volume of long names would be too long to be read."""
    long = BlockRef(0, bytes(263), bytes(263), 1, Extent(1))
    assert refs_bytes([ref(1), long]) == 96 + 606
