"""Buffers are used again, and never while somebody looks at them."""

import pytest

from blobfs.cache.buffers import SMALLEST_BYTES, BufferPool, buffer_bytes, held_bytes
from blobfs.types import MIB

SIZE = 2 * MIB


def test_a_buffer_that_nobody_looks_at_is_used_again() -> None:
    """Without it every read from disk pays for fresh pages."""
    pool = BufferPool(2 * SIZE)
    first = pool.borrow(SIZE)
    first[:5] = b"first"
    del first
    assert bytes(pool.borrow(SIZE)[:5]) == b"first"


def test_a_buffer_is_not_lent_twice() -> None:
    """A reader would find another file's bytes in its answer."""
    pool = BufferPool(2 * SIZE)
    views = [pool.borrow(SIZE) for _ in range(4)]
    for number, view in enumerate(views):
        view[:1] = bytes([number])
    assert [view[0] for view in views] == [0, 1, 2, 3]


def test_a_slice_of_a_slice_keeps_its_buffer() -> None:
    """What the front-end answers with is a small part of what was read."""
    pool = BufferPool(SIZE)
    part = pool.borrow(SIZE)[100:200][10:20]
    part[:] = b"0123456789"
    other = pool.borrow(SIZE)
    other[:] = bytes(SIZE)
    assert bytes(part) == b"0123456789"


def test_no_more_rests_than_was_allowed() -> None:
    """Users would see memory beyond `--memory` that nobody uses (P10)."""
    pool = BufferPool(2 * SIZE)
    views = [pool.borrow(SIZE) for _ in range(4)]
    assert pool.resting_bytes == 0
    views.clear()
    assert pool.resting_bytes == 2 * SIZE


def test_resting_buffers_are_released_and_lent_ones_are_not() -> None:
    """Users would not get memory back, or read what somebody else writes."""
    pool = BufferPool(3 * SIZE)
    kept, *others = (pool.borrow(SIZE) for _ in range(3))
    kept[:4] = b"kept"
    others.clear()
    pool.release(1)
    assert pool.resting_bytes == SIZE
    pool.release(100 * SIZE)
    assert pool.resting_bytes == 0
    assert bytes(kept[:4]) == b"kept"


def test_buffers_of_another_size_make_room() -> None:
    """A pool full of what nobody wants any more would be of no use to the next stream."""
    pool = BufferPool(2 * SIZE)
    small = [pool.borrow(SIZE) for _ in range(2)]
    small.clear()
    large = pool.borrow(2 * SIZE)
    large[:5] = b"large"
    del large
    assert bytes(pool.borrow(2 * SIZE)[:5]) == b"large"


def test_ordinary_pages_are_not_lent_where_huge_ones_are_wanted() -> None:
    """A disk would be read at half the speed after a stream from the network."""
    pool = BufferPool(2 * SIZE)
    pool.borrow(SIZE)[:4] = b"used"
    assert bytes(pool.borrow(SIZE, huge=True)[:4]) == bytes(4)


@pytest.mark.parametrize(
    ("wanted", "given"),
    [(1, SMALLEST_BYTES), (MIB, MIB), (MIB + 1, 2 * MIB), (5 * MIB, 8 * MIB), (16 * MIB, 16 * MIB)],
)
def test_what_a_view_holds_is_all_of_its_buffer(wanted: int, given: int) -> None:
    """Users would see less memory in use than there is (P10)."""
    view = BufferPool(0).borrow(wanted)
    assert len(view) == wanted
    assert held_bytes(view[:1]) == buffer_bytes(wanted) == given
