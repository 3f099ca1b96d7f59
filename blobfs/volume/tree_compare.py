"""Find the first row in which two trees at the same seq differ (C6)."""

from itertools import zip_longest

from blobfs.database import Reader
from blobfs.volume.tree_rows import TABLES

COMPARED = tuple(table for table in TABLES if table != "chunks")
"""A client may know more places of chunks than the log spells out."""


def first_difference(mine: Reader, theirs: Reader) -> str | None:
    """Return table and key of the first row that is not the same in both, None if all are."""
    for table in COMPARED:
        for one, other in zip_longest(mine.range(table), theirs.range(table)):
            if one != other:
                key = min(row[0] for row in (one, other) if row is not None)
                return f"table={table} key={key.hex()}"
    return None
