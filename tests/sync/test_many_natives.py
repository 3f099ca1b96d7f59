"""Two machines change the same object of another tool before either has saved anything of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blobfs.model.tree_rules_attributes import Wanted
from blobfs.stores.memory import MemoryStore
from tests.sync.place import Place, opened_place
from tests.sync.test_many_clients import Two, copies, two_places


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    """Two machines that see two objects beside a volume."""
    store = MemoryStore()
    await store.put("d/f", b"object")
    await store.put("d/g", b"another")
    async with opened_place(store, tmp_path / "first") as first:
        await first.mkdir("volume")
        await first.save()
    async with two_places(store, tmp_path) as two:
        for place in (two.here, two.there):
            assert await place.find("d/f")
        yield two


async def chmod(place: Place, path: str, mode: int) -> None:
    inode = await place.find(path)
    assert inode is not None
    place.namespace.setattr(inode, Wanted(mode=mode))


async def mode(place: Place, path: str) -> int:
    inode = await place.find(path)
    assert inode is not None
    return place.namespace.node(inode).row.mode


async def files(two: Two) -> dict[str, bytes | None]:
    """Return what both show of the volume's own files once they are settled."""
    tree = await two.same()
    return {path: content for path, content in tree.items() if content is not None}


async def test_a_rename_and_a_chmod(two: Two) -> None:
    """What objects look like on the one machine would undo the chmod on the other."""
    await chmod(two.here, "d/f", 0o600)
    await two.there.rename("d/f", "d/renamed")
    await two.settle()
    for place in (two.here, two.there):
        assert await mode(place, "d/renamed") == 0o600
        assert await place.find("d/f") is None


async def test_an_edit_and_a_chmod(two: Two) -> None:
    """A chmod would pass for an edit, and leave a copy of what nobody edited."""
    await two.here.write("d/f", b"edit", 6)
    await chmod(two.there, "d/f", 0o600)
    assert copies(await two.same()) == []
    assert await mode(two.here, "d/f") == 0o600
    assert await files(two) == {"d/f": b"objectedit"}


async def test_two_edits(two: Two) -> None:
    """One of them would be gone (C1)."""
    await two.here.write("d/f", b"here", 6)
    await two.there.write("d/f", b"there", 6)
    tree = await files(two)
    assert tree["d/f"] == b"objecthere"
    assert copies(dict(tree)) == [b"objectthere"]


@pytest.mark.parametrize("is_edit", [True, False])
async def test_a_removal(two: Two, is_edit: bool) -> None:
    """It would come back for a chmod, or take an edit that nobody saw (C4)."""
    if is_edit:
        await two.here.write("d/f", b"edit", 6)
    else:
        await chmod(two.here, "d/f", 0o600)
    await two.there.unlink("d/f")
    await two.settle()
    for place in (two.here, two.there):
        assert (await place.find("d/f") is not None) == is_edit
