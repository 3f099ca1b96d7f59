"""Buffers are used again, and never while somebody looks at them."""

from blobfs.cache.buffers import BufferPool

SIZE = 8192


def test_a_buffer_that_nobody_looks_at_is_used_again() -> None:
    """Without it every read from disk pays for fresh pages."""
    pool = BufferPool(SIZE, most=2)
    first = pool.borrow()
    first[:5] = b"first"
    del first
    assert bytes(pool.borrow()[:5]) == b"first"


def test_a_buffer_is_not_lent_twice() -> None:
    """A reader would find another file's bytes in its answer."""
    pool = BufferPool(SIZE, most=2)
    views = [pool.borrow() for _ in range(4)]
    for number, view in enumerate(views):
        view[:1] = bytes([number])
    assert [view[0] for view in views] == [0, 1, 2, 3]


def test_a_slice_of_a_slice_keeps_its_buffer() -> None:
    """What the front-end answers with is a small part of what was read."""
    pool = BufferPool(SIZE, most=1)
    part = pool.borrow()[100:200][10:20]
    part[:] = b"0123456789"
    other = pool.borrow()
    other[:] = bytes(SIZE)
    assert bytes(part) == b"0123456789"
