"""Long lists are cut so that a change costs few parts."""

import hypothesis.strategies as st
from hypothesis import given

from blobfs.formats.rows import Extent
from blobfs.model.extent_parts import (
    LONGEST_INLINE,
    MOST_IN_PART,
    PART_CHUNKS,
    is_long,
    parts_of,
)
from blobfs.types import KIB, ChunkId

CELL = 256 * KIB


def chunk(length: int, name: int) -> Extent:
    return Extent(length, ChunkId(name.to_bytes(32, "big")))


def test_short_lists_stay_in_the_row() -> None:
    """Users of files of some megabytes would pay one more round trip to open each."""
    extents = [chunk(CELL, n) for n in range(LONGEST_INLINE)]
    assert not is_long(extents)
    assert is_long([*extents, chunk(1, 0)])


def test_growing_file_keeps_its_first_parts() -> None:
    """Users who append to a large file would upload its whole list each time."""
    extents = [chunk(CELL, n) for n in range(3 * PART_CHUNKS + 5)]
    before = list(parts_of(extents, len(extents) * CELL))
    extents += [chunk(CELL, n) for n in range(1000, 1200)]
    after = list(parts_of(extents, len(extents) * CELL))
    assert after[:3] == before[:3]
    assert [len(part) for part in before] == [PART_CHUNKS] * 3 + [5]


@given(
    st.lists(st.sampled_from([1, 7 * KIB, CELL, 3 * CELL, 200 * CELL]), max_size=400),
    st.integers(0, 399),
    st.integers(1, 3),
)
def test_cutting_one_extent_in_pieces_changes_its_own_part(
    lengths: list[int], where: int, pieces: int
) -> None:
    """Users of databases would upload more of the list than of the data."""
    extents = [chunk(length, n) for n, length in enumerate(lengths)]
    size = sum(lengths)
    before = list(parts_of(extents, size))
    assert [each for part in before for each in part] == extents
    assert all(part for part in before)
    if where >= len(extents) or extents[where].length_bytes < 3:
        return
    old = extents[where]
    short = [chunk(1, 500 + n) for n in range(pieces - 1)]
    extents[where : where + 1] = [*short, chunk(old.length_bytes - len(short), 600)]
    after = list(parts_of(extents, size))
    assert len(set(before) - set(after)) <= 1


def test_tiny_extents_do_not_make_a_huge_part() -> None:
    """Users could not open a file that was written byte by byte elsewhere."""
    extents = [chunk(1, n) for n in range(3 * MOST_IN_PART)]
    assert {len(part) for part in parts_of(extents, len(extents))} == {MOST_IN_PART}
