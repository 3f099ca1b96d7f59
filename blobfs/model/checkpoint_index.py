"""Decide which refs to the blocks of a checkpoint lie in blocks of their own. Pure.

A manifest is fetched whole by everybody, so it holds a bounded number of refs; those that are too
many are bundled into blocks of refs, from below, and the manifest names these.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from blobfs.formats.checkpoint_blocks import BlockRef
from blobfs.types import KIB

MOST_REFS_BYTES = 512 * KIB
"""Of all refs in a manifest, when spelled: about 5,000, enough for a million files."""

REFS_IN_A_BLOCK = 512

_REF_BYTES = 80
"""Of a ref when spelled, without its keys."""

Bundle = tuple[BlockRef, ...]
"""Refs that are to lie in a block of their own."""


def refs_bytes(refs: Sequence[BlockRef]) -> int:
    """Return about how long these refs are when spelled."""
    return sum(len(ref.first) + len(ref.last) + _REF_BYTES for ref in refs)


def bundle(refs: Sequence[BlockRef], at_most: int) -> list[BlockRef | Bundle]:
    """Return refs in their order, with runs of those of the lowest levels bundled.

    A bundle holds `at_most` refs, 2 at least. Fewer come out than went in, if there were two.
    """
    levels = sorted({ref.level for ref in refs})
    for level in levels:
        bundled = [part for run in _runs(refs, level) for part in _parts(run, level, at_most)]
        if len(bundled) <= (len(refs) + 1) // 2:
            return bundled
    return bundled


def _runs(refs: Sequence[BlockRef], level: int) -> Iterator[list[BlockRef]]:
    """Yield neighbours that are all of that level at most, or none of which is."""
    for _, run in groupby(refs, key=lambda ref: ref.level <= level):
        yield list(run)


def _parts(run: list[BlockRef], level: int, at_most: int) -> Iterator[BlockRef | Bundle]:
    if run[0].level > level:
        yield from run
        return
    for start in range(0, len(run), at_most):
        part = run[start : start + at_most]
        yield part[0] if len(part) == 1 else tuple(part)
