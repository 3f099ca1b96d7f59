"""Two trees at one seq hold the same rows, and a row that differs is found (C6)."""

from pathlib import Path

import pytest

from blobfs.database import Sync, open_database
from blobfs.errors import Damaged, NotFound
from blobfs.volume.tree import open_kept_tree, open_tree
from blobfs.volume.tree_compare import COMPARED
from blobfs.volume.tree_rows import TABLES
from tests.volume.story import GRANTED, ORIGIN, PACK, ROOT, Story, chunked, new_file

VOLUME = b"v" * 16


async def replayed(folder: Path) -> None:
    """Keep a tree of one file in `folder`."""
    story = Story()
    made = story.entry(ROOT, GRANTED, *new_file(2, b"f"))
    filled = story.entry(chunked(2, base=1), packs=(PACK,))
    async with open_tree(folder, VOLUME, ORIGIN) as tree:
        await tree.replay([made, filled])


async def difference(tmp_path: Path) -> str | None:
    async with (
        open_kept_tree(tmp_path / "one", VOLUME) as one,
        open_kept_tree(tmp_path / "other", VOLUME) as other,
    ):
        return one.first_difference(other)


WITH_ROWS = ("inodes", "dirents", "chunks", "packs", "clients", "ranges", "state")
"""The tables of which `replayed` fills some."""


@pytest.mark.parametrize("table", WITH_ROWS)
async def test_a_row_that_is_missing_is_found(tmp_path: Path, table: str) -> None:
    """This machine would show another tree than all others, and nobody know."""
    await replayed(tmp_path / "one")
    await replayed(tmp_path / "other")
    assert await difference(tmp_path) is None
    async with open_database(
        tmp_path / "one", tables=TABLES, map_bytes=2**20, sync=Sync.NONE
    ) as database:
        with database.read() as reader:
            keys = [key for key, _ in reader.range(table) if key not in (b"format", b"volume")]
        await database.write(lambda writer: writer.delete(table, keys[0]))
    found = await difference(tmp_path)
    if table in COMPARED:
        assert found == f"table={table} key={keys[0].hex()}"
    else:
        assert found is None


async def test_a_tree_is_looked_at_only_if_it_is_that_volumes(tmp_path: Path) -> None:
    """Rows of one volume would be measured by the log of another, or be made by looking."""
    with pytest.raises(NotFound):
        async with open_kept_tree(tmp_path / "none", VOLUME):
            pass
    assert not (tmp_path / "none").exists()
    await replayed(tmp_path / "one")
    with pytest.raises(Damaged, match="another one"):
        async with open_kept_tree(tmp_path / "one", b"w" * 16):
            pass
