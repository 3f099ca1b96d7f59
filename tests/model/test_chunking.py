"""What has to be made anew is made anew, and nothing else is."""

import itertools
import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from blobfs.formats.rows import Extent
from blobfs.model.chunking import (
    Placed,
    Plan,
    cells_within,
    chunk_bytes,
    join_holes,
    plan_content,
    subtract,
)
from blobfs.types import GIB, KIB, MIB, ByteRange, ChunkId, PackName

CELL = 256 * KIB


def chunk(length: int, name: int = 1) -> Extent:
    return Extent(length, ChunkId(name.to_bytes(32, "big")), PackName(bytes(40)), 0, length)


def chunks(size: int, cell: int = CELL) -> list[Extent]:
    return [
        chunk(min(cell, size - start), number)
        for number, start in enumerate(range(0, size, cell), start=1)
    ]


def plan(
    size: int, base: list[Extent], *changed: tuple[int, int], limit: int | None = None
) -> Plan:
    held = sum(extent.length_bytes for extent in base)
    spans = [ByteRange(*span) for span in changed]
    bound = held if limit is None else limit
    return plan_content(size_bytes=size, base=base, base_limit_bytes=bound, changed=spans)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 256 * KIB),
        (256 * MIB - 1, 256 * KIB),
        (256 * MIB, MIB),
        (8 * GIB - 1, MIB),
        (8 * GIB, 4 * MIB),
    ],
)
def test_chunks_grow_with_the_file(size: int, expected: int) -> None:
    """Users of large files would drown in extents, or send a gigabyte for a byte."""
    assert chunk_bytes(size) == expected


def test_new_file_is_cut_where_chunks_are_aligned() -> None:
    """Users who change a byte would upload the whole file."""
    made = plan(2 * CELL + 5, [], (0, 2 * CELL + 5))
    assert made.pieces == (
        ByteRange(0, CELL),
        ByteRange(CELL, 2 * CELL),
        ByteRange(2 * CELL, 2 * CELL + 5),
    )


def test_small_change_of_a_large_file_makes_one_chunk() -> None:
    """Users of databases and disk images would upload 200 MiB for a page."""
    base = chunks(200 * MIB)
    made = plan(200 * MIB, base, (100 * MIB, 100 * MIB + 4 * KIB))
    assert made.new_bytes == CELL
    assert sum(isinstance(piece, Extent) for piece in made.pieces) == len(base) - 1


def test_appending_makes_the_last_chunk_anew() -> None:
    """Users of log files would get a chunk of its own for every line."""
    base = chunks(CELL + 10)
    made = plan(CELL + 30, base, (CELL + 10, CELL + 30))
    assert made.pieces == (base[0], ByteRange(CELL, CELL + 30))


def test_truncated_chunk_is_made_anew() -> None:
    """Users would find the old end of a file that they had cut off."""
    base = chunks(3 * CELL)
    made = plan(CELL + 100, base, limit=CELL + 100)
    assert made.pieces == (base[0], ByteRange(CELL, CELL + 100))


def test_growing_costs_nothing() -> None:
    """Users of sparse files would upload zeros."""
    base = chunks(CELL)
    made = plan(GIB, base)
    assert made.pieces == (base[0], Extent(GIB - CELL))


def test_write_into_a_hole_leaves_the_rest_a_hole() -> None:
    """Users of disk images would upload all the room that is free in them."""
    made = plan(100 * MIB, [], (10 * MIB, 10 * MIB + 1))
    assert made.pieces == (
        Extent(10 * MIB),
        ByteRange(10 * MIB, 10 * MIB + CELL),
        Extent(90 * MIB - CELL),
    )


def test_chunks_of_another_cut_go_whole() -> None:
    """Users of files that grew, or that others wrote, would read parts of chunks as chunks."""
    base = [chunk(100), chunk(MIB, 2), chunk(7, 3)]
    made = plan(MIB + 107, base, (CELL + 5, CELL + 6))
    assert made.pieces[0] == base[0]
    assert made.pieces[-1] == base[2]
    assert made.pieces[1] == ByteRange(100, CELL)
    assert made.new_bytes == MIB


def test_staged_chunks_are_used() -> None:
    """Users who write a large file would see it uploaded twice."""
    early = [Placed(0, chunk(CELL, 9)), Placed(2 * CELL, chunk(CELL, 8))]
    made = plan_content(
        size_bytes=3 * CELL,
        base=[],
        base_limit_bytes=0,
        changed=[ByteRange(0, 3 * CELL)],
        staged=early,
    )
    assert made.pieces == (early[0].extent, ByteRange(CELL, 2 * CELL), early[1].extent)


def test_staged_chunk_behind_the_end_is_not_used() -> None:
    """Users who cut a file short would find its old end in the bucket."""
    made = plan_content(
        size_bytes=100,
        base=[],
        base_limit_bytes=0,
        changed=[ByteRange(0, CELL)],
        staged=[Placed(0, chunk(CELL))],
    )
    assert made.pieces == (ByteRange(0, 100),)


def test_only_whole_chunks_are_staged_early() -> None:
    """Users would upload the end of a growing file again and again."""
    written = [ByteRange(10, 3 * CELL - 1), ByteRange(5 * CELL, 6 * CELL)]
    assert cells_within(written, 7 * CELL) == [
        ByteRange(CELL, 2 * CELL),
        ByteRange(5 * CELL, 6 * CELL),
    ]


def test_holes_join() -> None:
    """Users of sparse files would pay for a row a cell."""
    assert join_holes([Extent(1), Extent(2), chunk(3), Extent(4)]) == (
        Extent(3),
        chunk(3),
        Extent(4),
    )


spans = st.lists(
    st.builds(lambda a, n: ByteRange(a, a + n), st.integers(0, 60), st.integers(0, 12)), max_size=12
)


@given(spans, spans)
def test_subtract_is_a_difference_of_sets(some: list[ByteRange], others: list[ByteRange]) -> None:
    """Users would save what did not change, or not save what did."""
    left = subtract(some, others)
    covered = [byte for span in left for byte in range(span.start, span.stop)]
    expected = _bytes(some) - _bytes(others)
    assert covered == sorted(expected)
    assert all(before.stop < after.start for before, after in itertools.pairwise(left))


def _bytes(some: list[ByteRange]) -> set[int]:
    return {byte for span in some for byte in range(span.start, span.stop)}


@given(st.integers(0, 2**32))
def test_plan_describes_the_file(seed: int) -> None:
    """Users would read old bytes, zeros, or bytes of another place after a save (P6)."""
    chance = random.Random(seed)
    unit = 64 * KIB
    base = [
        Extent(length) if chance.random() < 0.3 else chunk(length, number)
        for number in range(1, 8)
        for length in [chance.choice([1, 4, 4, 4, 16, 3]) * unit]
    ]
    held = sum(extent.length_bytes for extent in base)
    size = chance.randrange(2 * held)
    limit = chance.randrange(held + 1)
    changed = [
        ByteRange(start, start + chance.randrange(1, 3 * unit))
        for start in (chance.randrange(2 * held) for _ in range(chance.randrange(4)))
    ]
    staged = [
        Placed(start, chunk(CELL, 100 + start // CELL))
        for start in range(0, 2 * held, CELL)
        if chance.random() < 0.1
    ]
    changed += [ByteRange(each.start, each.stop) for each in staged]
    made = plan_content(
        size_bytes=size, base=base, base_limit_bytes=limit, changed=changed, staged=staged
    )
    check(made, size, base, limit, changed, [each for each in staged if each.stop <= size])


def check(
    made: Plan,
    size: int,
    base: list[Extent],
    limit: int,
    changed: list[ByteRange],
    staged: list[Placed],
) -> None:
    """Each piece that stays says of its bytes what is true of them; the rest is made anew."""
    placed = {(each.start, each.extent) for each in staged}
    committed, start = set(), 0
    for extent in base:
        committed.add((start, extent))
        start += extent.length_bytes
    dirty = subtract(changed, [ByteRange(each.start, each.stop) for each in staged])
    zeros = subtract([ByteRange(0, size)], [*_data(base, limit), *changed])
    position = 0
    for piece in made.pieces:
        length = len(piece) if isinstance(piece, ByteRange) else piece.length_bytes
        span = ByteRange(position, position + length)
        assert length > 0
        if isinstance(piece, ByteRange):
            assert piece == span
            assert length <= CELL
        elif piece.is_hole:
            assert not subtract([span], zeros)
        elif (position, piece) not in placed:
            assert (position, piece) in committed
            assert span.stop <= limit
            assert subtract([span], dirty) == [span]
        position += length
    assert position == size


def _data(base: list[Extent], limit: int) -> list[ByteRange]:
    found, start = [], 0
    for extent in base:
        if not extent.is_hole:
            found.append(ByteRange(start, start + extent.length_bytes).clamp(limit))
        start += extent.length_bytes
    return found
