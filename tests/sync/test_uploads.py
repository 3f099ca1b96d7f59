"""What the volume has is known, wherever its place is written down."""

import random
from pathlib import Path

import pytest

from blobfs.formats.rows import ExtentList
from blobfs.model import extent_parts
from blobfs.stores.memory import MemoryStore
from tests.sync.place import opened_place

KIB = 1024


async def test_chunks_of_a_long_list_are_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of a very large file would cost its upload once more."""
    monkeypatch.setattr(extent_parts, "LONGEST_INLINE", 2)
    body = random.Random(0).randbytes(1024 * KIB)
    store = MemoryStore()
    async with opened_place(store, tmp_path) as place:
        inode = await place.write("a", body)
        await place.save()
        row = place.engine.tree.inode(inode)
        assert row is not None
        assert isinstance(row.content, ExtentList)
        sent = place.engine.uploads.sent_bytes
        await place.write("b", body)
        await place.save()
        assert place.engine.uploads.sent_bytes - sent < 4 * KIB
        assert await place.tree() == {"a": body, "b": body}
