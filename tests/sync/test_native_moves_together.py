"""A directory of objects is renamed on one machine while another one works in it (N2)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blobfs.model.tree_rules_attributes import Wanted
from blobfs.stores.memory import MemoryStore
from tests.sync.place import opened_place
from tests.sync.test_many_clients import Two, two_places

OBJECTS = {"p/1": b"one", "p/sub/2": b"two"}


@pytest.fixture(params=["unknown", "adopted"])
async def two(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Two]:
    """Two machines with a bucket of objects, whose directory the log may know already."""
    store = MemoryStore()
    for key, data in OBJECTS.items():
        await store.put(key, data)
    async with opened_place(store, tmp_path / "first") as first:
        await first.write("p/made" if request.param == "adopted" else "made", b"made")
        await first.save()
    async with two_places(store, tmp_path) as two:
        yield two


def files(tree: dict[str, bytes | None]) -> list[bytes]:
    return sorted(content for content in tree.values() if content is not None)


async def test_a_file_made_in_it(two: Two) -> None:
    """It would be lost with the directory that is not there any more (P4)."""
    await two.same()
    await two.here.rename("p", "q")
    await two.there.write("p/new", b"new")
    tree = await two.same()
    assert files(tree) == [b"made", b"new", b"one", b"two"]
    assert tree["q/1"] == b"one"


async def test_a_mode_set_in_it(two: Two) -> None:
    """Both bind the same object: it is one file."""
    await two.same()
    await two.here.rename("p", "q")
    inode = await two.there.find("p/1")
    assert inode is not None
    two.there.namespace.setattr(inode, Wanted(mode=0o600))
    tree = await two.same()
    assert files(tree) == [b"made", b"one", b"two"]
    assert tree["q/1"] == b"one"


async def test_a_file_changed_in_it(two: Two) -> None:
    """The change belongs to the file, wherever it lies."""
    await two.same()
    await two.here.rename("p", "q")
    await two.there.write("p/1", b"ONE")
    tree = await two.same()
    assert b"ONE" in files(tree)
    assert b"two" in files(tree)


async def test_renamed_on_both(two: Two) -> None:
    """It has one place; nothing in it is in none."""
    await two.same()
    await two.here.rename("p", "q")
    await two.there.rename("p", "r")
    assert files(await two.same()) == [b"made", b"one", b"two"]
