"""Find the first row in which two trees at the same seq differ (C6)."""

from collections.abc import Iterator

from blobfs.database import Reader
from blobfs.volume.tree_blocks import NAMES, NUMBERS, covering

COMPARED = (*NAMES.values(), "state")
"""Chunks aside, of which a client may know more places than the log spells out, and aside from
what is noted of checkpoints."""

_OWN_STATE = (b"base", b"doubted")
"""Where a tree began is not what it says."""


def first_difference(mine: Reader, theirs: Reader) -> str | None:
    """Return table and key of the first row that is not the same in both, None if all are.

    Rows of blocks that one of them has not loaded are not compared.
    """
    for table in COMPARED:
        for key in _different(table, mine, theirs):
            if not _is_excused(table, key, mine) and not _is_excused(table, key, theirs):
                return f"table={table} key={key.hex()}"
    return None


def _different(table: str, mine: Reader, theirs: Reader) -> Iterator[bytes]:
    """Yield the keys under which not both have the same row."""
    ours, others = mine.range(table), theirs.range(table)
    one, other = next(ours, None), next(others, None)
    while one is not None or other is not None:
        if one != other:
            yield min(row[0] for row in (one, other) if row is not None)
        behind_ours = other is None or (one is not None and one[0] <= other[0])
        behind_others = one is None or (other is not None and other[0] <= one[0])
        if behind_ours:
            one = next(ours, None)
        if behind_others:
            other = next(others, None)


def _is_excused(table: str, key: bytes, reader: Reader) -> bool:
    """Whether the tree need not have this row: it is not loaded, or its own alone."""
    if (number := NUMBERS.get(table)) is None:
        return key in _OWN_STATE
    return reader.get(table, key) is None and covering(reader, number, key) is not None
