"""Listings on disk: what a reader has found stays until it lets go."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from blobfs.database import Database, Sync, Writer, open_database
from blobfs.errors import Damaged
from blobfs.model.listing import Entry, Part
from blobfs.volume.listings import TABLES, Addition, Folder, Listings

T = TypeVar("T")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    path = tmp_path / "native.lmdb"
    async with open_database(path, tables=TABLES, map_bytes=1 << 30, sync=Sync.NONE) as database:
        yield database


async def add(listings: Listings, name: bytes) -> int:
    """Write a whole listing of the root that holds `name` alone; return its id."""
    listing = listings.begin()
    part = Part("", [Entry(name, False)], complete=True)
    await listings.add([Addition(listing, 0, part, 0, Folder("", listing, 0, 1, 1, 0, 0, None))])
    listings.release(listing)
    return listing


async def test_what_is_found_while_garbage_is_removed_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that came in between would see an empty directory, and a mirror delete its copy."""
    listings = Listings(database)
    await add(listings, b"oldest")
    await add(listings, b"old")
    write = database.write
    found = listings.folder("")
    assert found is not None

    async def overtaken(change: Callable[[Writer], T]) -> T:
        """Before the removal has its turn, a reader comes and the listing is replaced."""
        monkeypatch.setattr(database, "write", write)
        listings.hold(found.listing)
        await add(listings, b"new")
        return await write(change)

    monkeypatch.setattr(database, "write", overtaken)
    while await listings.remove_garbage():
        pass
    assert [entry.name for entry in listings.page(found.listing, 0)] == [b"old"]
    listings.release(found.listing)
    while await listings.remove_garbage():
        pass
    with pytest.raises(Damaged):
        listings.page(found.listing, 0)


async def test_a_page_that_is_missing_is_an_error(database: Database) -> None:
    """Never a short directory."""
    with pytest.raises(Damaged, match="missing"):
        Listings(database).page(7, 0)
