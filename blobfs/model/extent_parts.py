"""Decide how a long list of extents is cut into parts. Pure: values in, values out.

A part covers an aligned window of the file, so that a change costs the parts whose windows it
touches, and leaves the bytes of all others as they were, hence their chunks.
"""

from collections.abc import Iterator, Sequence

from blobfs.formats.rows import Extent
from blobfs.model.chunking import chunk_bytes

LONGEST_INLINE = 256
"""A file of more extents than this keeps them outside of its row: about 13 KB of them."""

PART_CHUNKS = 128
"""Chunks that a part's window has room for; its list is about 6 KB then."""

MOST_IN_PART = 4096
"""Extents of a part, where they are far smaller than the file's size makes them now."""


def is_long(extents: Sequence[Extent]) -> bool:
    """Say whether these extents go into parts rather than into the row."""
    return len(extents) > LONGEST_INLINE


def parts_of(extents: Sequence[Extent], size_bytes: int) -> Iterator[tuple[Extent, ...]]:
    """Yield the extents of a file of `size_bytes`, in order, part by part."""
    window = PART_CHUNKS * chunk_bytes(size_bytes)
    part: list[Extent] = []
    start, window_stop = 0, window
    for extent in extents:
        if part and (start >= window_stop or len(part) == MOST_IN_PART):
            yield tuple(part)
            part = []
        if start >= window_stop:
            window_stop = start - start % window + window
        part.append(extent)
        start += extent.length_bytes
    if part:
        yield tuple(part)
