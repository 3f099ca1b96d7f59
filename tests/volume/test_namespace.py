"""Three layers look like one tree, and what programs do to it stays what they did."""

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blobfs.errors import BlobfsError, ReadOnly, Unreachable
from blobfs.formats.rows import Kind
from blobfs.model.numbers import folder_number, is_native
from blobfs.model.tree_rules_attributes import Wanted
from blobfs.types import ROOT_INODE
from blobfs.volume.native import Found
from tests.volume.world import ME_MYSELF, World, opened_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened_world(tmp_path, "a/1", "a/deep/2", "top") as world:
        yield world


async def test_new_entries_stand_beside_native_ones(world: World) -> None:
    """A bucket that others fill goes on to show all of it when something is made in it."""
    await world.make((b"a", b"new"))
    await world.make((b"z",), Kind.FOLDER)
    assert sorted(await world.listed((b"a",))) == [b"1", b"deep", b"new"]
    assert sorted(await world.listed(())) == [b"a", b"top", b"z"]
    assert (await world.find((b"a", b"1"))).native is not None


async def test_an_adopted_directory_keeps_its_number(world: World) -> None:
    """A kernel that holds it would otherwise find it gone, with all that is open below it."""
    before = await world.find((b"a", b"deep"))
    await world.make((b"a", b"deep", b"new"))
    after = await world.find((b"a", b"deep"))
    assert before.native is not None
    assert after.native is None
    assert before.inode == after.inode == folder_number("a/deep/")
    await world.commit()
    assert (await world.find((b"a", b"deep"))).inode == before.inode


async def test_numbers_of_files_are_never_those_of_native_ones(world: World) -> None:
    """Two files under one number are one file to a kernel: wrong bytes."""
    made = await world.make((b"a", b"new"))
    assert not is_native(made.inode)
    assert is_native((await world.find((b"a", b"1"))).inode)
    assert is_native((await world.find((b"a",))).inode)


async def test_numbers_go_on_where_an_earlier_mount_stopped(world: World) -> None:
    """A number that is given twice makes one file of two."""
    first = await world.make((b"first",))
    world.namespace = world.mounted()
    second = await world.make((b"second",))
    await world.commit()
    world.namespace = world.mounted()
    third = await world.make((b"third",))
    assert len({first.inode, second.inode, third.inode}) == 3


@pytest.mark.parametrize("adopt", [False, True])
async def test_native_directories_are_not_empty(world: World, adopt: bool) -> None:
    """Whoever removes a directory must have seen that nothing is in it."""
    if adopt:
        await world.make((b"a", b"new"))
    with pytest.raises(BlobfsError) as caught:
        await world.namespace.rmdir(ROOT_INODE, b"a")
    assert caught.value.errno == errno.ENOTEMPTY


async def test_an_adopted_directory_whose_objects_went_can_be_removed(tmp_path: Path) -> None:
    """Nothing native is left, so nothing stands in the way."""
    async with opened_world(tmp_path, "a/1") as world:
        await world.make((b"a", b"new"))
        parent, name = await world.at((b"a", b"new"))
        gone = await world.namespace.unlink(parent, name)
        world.namespace.drop(gone.inode)
        await world.store.delete_many(["a/1"])
        world.native.forget("", b"a")
        world.native.forget("a/", b"1")
        assert (await world.namespace.rmdir(ROOT_INODE, b"a")).is_gone
        assert await world.listed(()) == []


async def test_a_directory_that_comes_back_is_another_one(tmp_path: Path) -> None:
    """Who is still in the removed one must not find itself in the new one."""
    async with opened_world(tmp_path, "a/1") as world:
        world.namespace.setattr((await world.find((b"a",))).inode, Wanted(mode=0o700))
        await world.store.delete_many(["a/1"])
        world.native.forget("", b"a")
        removed = await world.namespace.rmdir(ROOT_INODE, b"a")
        await world.store.put("a/2", b"")
        world.native.forget("", b"a")
        assert (await world.find((b"a",))).inode != removed.inode
        assert await world.listed((b"a",)) == [b"2"]
        assert await world.nodes_in(removed.inode) == {}


async def test_attributes_of_a_native_directory_can_be_set(world: World) -> None:
    """`chmod g+w` on the mounted directory is the first thing that some people do."""
    for path in ((), (b"a", b"deep")):
        node = await world.find(path)
        assert world.namespace.setattr(node.inode, Wanted(mode=0o2775)).row.mode == 0o2775
        assert (await world.find(path)).row.mode == 0o2775
    assert sorted(await world.listed((b"a",))) == [b"1", b"deep"]


async def test_a_read_only_mount_takes_no_change(tmp_path: Path) -> None:
    """It may be mounted so because the bucket is somebody else's."""
    async with opened_world(tmp_path, "a/1", read_only=True) as world:
        namespace = world.namespace
        with pytest.raises(ReadOnly):
            await world.make((b"new",))
        with pytest.raises(ReadOnly):
            await namespace.rename(ROOT_INODE, b"a", ROOT_INODE, b"b")
        with pytest.raises(ReadOnly):
            namespace.setattr(ROOT_INODE, Wanted(mode=0o700))
        assert await world.listed((b"a",)) == [b"1"]


async def test_an_unreachable_store_is_no_free_name(world: World) -> None:
    """Promise P5: what nobody can say is absent must not be covered by a new file."""
    await world.make((b"mine",), Kind.FOLDER)
    world.store.fail("any", Unreachable("gone"), times=None)
    with pytest.raises(Unreachable):
        await world.make((b"top",))
    assert (await world.make((b"mine", b"offline"))).kind is Kind.FILE


async def test_directories_of_the_volume_make_no_requests(world: World) -> None:
    """A build in a mounted directory looks for names that are not there all day long."""
    await world.make((b"mine",), Kind.FOLDER)
    before = world.store.calls.total()
    for number in range(20):
        await world.make((b"mine", b"%d" % number))
    folder = (await world.find((b"mine",))).inode
    assert (await world.namespace.lookup(folder, b"absent")).node is None
    assert len(await world.listed((b"mine",))) == 20
    assert world.store.calls.total() == before


async def test_a_removed_file_lives_until_it_is_dropped(world: World) -> None:
    """Programs unlink what they have open, and go on with it."""
    made = await world.make((b"f",))
    assert (await world.namespace.unlink(ROOT_INODE, b"f")).is_gone
    assert world.namespace.node(made.inode).row.nlink == 0
    world.namespace.drop(made.inode)
    with pytest.raises(BlobfsError):
        world.namespace.node(made.inode)


async def test_nothing_is_made_in_a_directory_that_was_removed(world: World) -> None:
    """It would be a file that no path leads to."""
    folder = await world.make((b"d",), Kind.FOLDER)
    await world.namespace.rmdir(ROOT_INODE, b"d")
    with pytest.raises(BlobfsError) as caught:
        await world.namespace.make(folder.inode, b"f", Kind.FILE, 0o644, ME_MYSELF)
    assert caught.value.errno == errno.ENOENT
    reader = await world.namespace.open_folder(folder.inode)
    assert await reader.read(0) is None
    reader.close()


async def test_a_directory_cannot_be_moved_into_itself(world: World) -> None:
    """It and all below it would be out of reach for ever."""
    for path in ((b"x",), (b"x", b"y"), (b"x", b"y", b"z")):
        await world.make(path, Kind.FOLDER)
    await world.commit()
    for top, path in ((b"x", (b"x", b"y", b"z")), (b"a", (b"a", b"deep"))):
        bottom = await world.find(path)
        with pytest.raises(BlobfsError) as caught:
            await world.namespace.rename(ROOT_INODE, top, bottom.inode, b"new")
        assert caught.value.errno == errno.EINVAL


async def test_a_rename_to_another_name_of_the_same_file_changes_nothing(world: World) -> None:
    """POSIX wants it so, and nothing has to be saved for it."""
    made = await world.make((b"one",))
    await world.namespace.link(made.inode, ROOT_INODE, b"other")
    serial = world.unsaved.serial
    assert await world.namespace.rename(ROOT_INODE, b"one", ROOT_INODE, b"other") is None
    assert world.unsaved.serial == serial


async def test_a_rename_moves_whole_directories_at_once(world: World) -> None:
    """Whatever lies in it, it is a matter of two names."""
    await world.make((b"x",), Kind.FOLDER)
    for number in range(50):
        await world.make((b"x", b"%d" % number))
    await world.commit()
    rows = len(world.unsaved.inode_states)
    await world.namespace.rename(ROOT_INODE, b"x", ROOT_INODE, b"y")
    assert len(world.unsaved.inode_states) <= rows + 2
    assert len(await world.listed((b"y",))) == 50


async def test_a_directory_emptied_since_the_last_commit_is_empty(world: World) -> None:
    """`rm -r` of what was saved long ago: names are removed one by one, then the directory."""
    await world.make((b"d",), Kind.FOLDER)
    for name in (b"1", b"2"):
        await world.make((b"d", name))
    await world.commit()
    folder = (await world.find((b"d",))).inode
    for name in (b"1", b"2"):
        with pytest.raises(BlobfsError) as caught:
            await world.namespace.rmdir(ROOT_INODE, b"d")
        assert caught.value.errno == errno.ENOTEMPTY
        world.namespace.drop((await world.namespace.unlink(folder, name)).inode)
    assert (await world.namespace.rmdir(ROOT_INODE, b"d")).is_gone


async def test_a_committed_file_that_was_dropped_is_gone(world: World) -> None:
    """Before the log knows of it, too."""
    made = await world.make((b"f",))
    await world.commit()
    world.namespace.drop((await world.namespace.unlink(ROOT_INODE, b"f")).inode)
    with pytest.raises(BlobfsError) as caught:
        world.namespace.node(made.inode)
    assert caught.value.errno == errno.ESTALE


async def test_what_was_made_while_the_store_was_asked_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a program would be told that its own new file is not there."""
    ask = world.native.lookup

    async def lookup(prefix: str, name: bytes) -> Found:
        found = await ask(prefix, name)
        monkeypatch.setattr(world.native, "lookup", ask)
        await world.make((b"new",))
        return found

    monkeypatch.setattr(world.native, "lookup", lookup)
    assert (await world.namespace.lookup(ROOT_INODE, b"new")).node is not None
