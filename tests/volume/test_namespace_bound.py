"""Native files are files: what programs do to them is done to names, and to no object."""

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blobfs.errors import BlobfsError, Changed, Unreachable
from blobfs.formats.rows import Native
from blobfs.model.tree_rules_attributes import Wanted
from blobfs.model.tree_rules_rename import EXCHANGE
from blobfs.types import ROOT_INODE
from tests.volume.world import World, opened_world

EVER = pytest.mark.parametrize("committed", [False, True])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened_world(tmp_path, "a/1", "a/2", "a/deep/3", "top") as world:
        yield world


async def objects(world: World) -> set[str]:
    page = await world.store.list("")
    return {found.key for found in page.objects}


async def remove(world: World, *path: bytes) -> None:
    gone = await world.namespace.unlink(*await world.at(path))
    world.namespace.drop(gone.inode)


async def remove_folder(world: World, *path: bytes) -> None:
    gone = await world.namespace.rmdir(*await world.at(path))
    world.namespace.drop(gone.inode)


@EVER
async def test_a_renamed_file_is_the_same_file(world: World, committed: bool) -> None:
    """Copying a terabyte to another name is no rename (N2)."""
    before = await world.find((b"a", b"1"))
    await world.namespace.rename(*await world.at((b"a", b"1")), ROOT_INODE, b"moved")
    if committed:
        await world.commit()
    after = await world.find((b"moved",))
    assert (after.inode, after.row.mtime_ns) == (before.inode, before.row.mtime_ns)
    assert await world.content(after.inode) == b"a/1"
    assert sorted(await world.listed((b"a",))) == [b"2", b"deep"]
    assert await objects(world) == {"a/1", "a/2", "a/deep/3", "top"}


@EVER
async def test_a_removed_file_does_not_come_back(world: World, committed: bool) -> None:
    """The object is there for the trash time, and every listing shows it (N1)."""
    await remove(world, b"a", b"1")
    if committed:
        await world.commit()
    assert (await world.namespace.lookup((await world.find((b"a",))).inode, b"1")).node is None
    assert sorted(await world.listed((b"a",))) == [b"2", b"deep"]


@EVER
async def test_a_new_object_under_the_key_of_a_removed_one_shows(
    world: World, committed: bool
) -> None:
    """A pipeline that writes the same names each day would write for nobody (N1)."""
    before = (await world.find((b"a", b"1"))).inode
    await remove(world, b"a", b"1")
    if committed:
        await world.commit()
    await world.store.put("a/1", b"anew")
    world.native.forget("a/", b"1")
    found = await world.find((b"a", b"1"))
    assert (found.row.size_bytes, found.inode == before) == (4, False)
    assert sorted(await world.listed((b"a",))) == [b"1", b"2", b"deep"]


@EVER
async def test_a_new_object_at_the_old_key_of_a_renamed_one_is_another_file(
    world: World, committed: bool
) -> None:
    """One of the two would show the bytes of the other (N2, N6)."""
    moved = await world.find((b"a", b"1"))
    await world.namespace.rename(*await world.at((b"a", b"1")), ROOT_INODE, b"moved")
    if committed:
        await world.commit()
    await world.store.put("a/1", b"anew")
    world.native.forget("a/", b"1")
    assert (await world.find((b"a", b"1"))).row.size_bytes == 4
    assert (await world.find((b"moved",))).inode == moved.inode


@EVER
async def test_attributes_are_set_without_a_copy(world: World, committed: bool) -> None:
    """`chmod -R` on a bucket must not move all of it (N3)."""
    node = await world.find((b"a", b"1"))
    world.namespace.setattr(node.inode, Wanted(mode=0o600, mtime_ns=7))
    world.namespace.setxattr(node.inode, b"user.a", b"x")
    if committed:
        await world.commit()
        row = world.tree.inode(node.inode)
        assert row is not None
        assert isinstance(row.content, Native)
    found = await world.find((b"a", b"1"))
    assert (found.inode, found.row.mode, found.row.mtime_ns) == (node.inode, 0o600, 7)
    assert found.row.xattrs == ((b"user.a", b"x"),)
    assert await world.content(found.inode) == b"a/1"
    assert sorted(await world.listed((b"a",))) == [b"1", b"2", b"deep"]


@EVER
async def test_a_second_name_keeps_the_file(world: World, committed: bool) -> None:
    """Whichever name goes first, the other has the content."""
    node = await world.find((b"top",))
    folder = (await world.find((b"a",))).inode
    await world.namespace.link(node.inode, folder, b"linked")
    if committed:
        await world.commit()
    assert (await world.namespace.unlink(ROOT_INODE, b"top")).row.nlink == 1
    assert await world.listed(()) == [b"a"]
    found = await world.find((b"a", b"linked"))
    assert found.inode == node.inode
    assert await world.content(found.inode) == b"top"


async def test_files_are_renamed_over_each_other(world: World) -> None:
    """Editors and build tools do nothing else."""
    folder = (await world.find((b"a",))).inode
    first, second = await world.find((b"a", b"1")), await world.find((b"a", b"2"))
    top = await world.find((b"top",))
    replaced = await world.namespace.rename(folder, b"1", folder, b"2")
    assert replaced is not None
    assert (replaced.inode, replaced.is_gone) == (second.inode, True)
    world.namespace.drop(second.inode)
    await world.namespace.rename(folder, b"2", ROOT_INODE, b"top", EXCHANGE)
    await world.commit()
    assert await world.listed((b"a",)) == [b"2", b"deep"]
    assert (await world.find((b"a", b"2"))).inode == top.inode
    assert (await world.find((b"top",))).inode == first.inode


@EVER
async def test_an_emptied_directory_is_removed(world: World, committed: bool) -> None:
    """`rm -rf` of what another tool wrote."""
    for path in ((b"a", b"deep"), (b"a",)):
        with pytest.raises(BlobfsError) as caught:
            await world.namespace.rmdir(*await world.at(path))
        assert caught.value.errno == errno.ENOTEMPTY
    await remove(world, b"a", b"deep", b"3")
    await remove_folder(world, b"a", b"deep")
    assert sorted(await world.listed((b"a",))) == [b"1", b"2"]
    await remove(world, b"a", b"1")
    await remove(world, b"a", b"2")
    if committed:
        await world.commit()
    assert await world.listed((b"a",)) == []
    await remove_folder(world, b"a")
    if committed:
        await world.commit()
    assert await world.listed(()) == [b"top"]
    assert (await world.namespace.lookup(ROOT_INODE, b"a")).node is None


async def test_a_removed_directory_is_back_with_a_new_object(world: World) -> None:
    """No whiteout hides more than one version (N1)."""
    await remove(world, b"a", b"deep", b"3")
    await remove_folder(world, b"a", b"deep")
    await world.commit()
    await world.store.put("a/deep/4", b"x")
    world.native.forget("a/", b"deep")
    world.native.forget("a/deep/", b"4")
    assert sorted(await world.listed((b"a",))) == [b"1", b"2", b"deep"]
    assert await world.listed((b"a", b"deep")) == [b"4"]


@pytest.mark.parametrize("adopted", [False, True])
async def test_a_directory_that_a_marker_makes_is_removed(tmp_path: Path, adopted: bool) -> None:
    """Some tools write an object for each folder; it would be back at once."""
    async with opened_world(tmp_path, "m/") as world:
        if adopted:
            world.namespace.setattr((await world.find((b"m",))).inode, Wanted(mode=0o700))
        await remove_folder(world, b"m")
        assert await world.listed(()) == []
        await world.commit()
        assert await world.listed(()) == []
        assert (await world.namespace.lookup(ROOT_INODE, b"m")).node is None


async def test_a_directory_of_what_no_path_names_is_not_empty(tmp_path: Path) -> None:
    """Objects that nobody sees would be gone with it, or it be back at once."""
    async with opened_world(tmp_path, "m//x") as world:
        with pytest.raises(BlobfsError) as caught:
            await world.namespace.rmdir(ROOT_INODE, b"m")
        assert caught.value.errno == errno.ENOTEMPTY


async def test_the_object_behind_a_directory_can_be_removed(tmp_path: Path) -> None:
    """It is a file like others, under the name that it shows by."""
    async with opened_world(tmp_path, "both", "both/x") as world:
        await remove(world, b"both.blobfs-object")
        await world.commit()
        assert await world.listed(()) == [b"both"]


async def test_a_file_whose_name_was_taken_is_not_bound_to_it(world: World) -> None:
    """A kernel may ask by number for what has been replaced: two files would be under one name."""
    old = await world.find((b"a", b"1"))
    await world.store.put("a/1", b"another")
    world.native.forget("a/", b"1")
    new = await world.find((b"a", b"1"))
    world.namespace.setattr(new.inode, Wanted(mode=0o600))
    with pytest.raises(Changed):
        world.namespace.setattr(old.inode, Wanted(mode=0o640))
    assert (await world.find((b"a", b"1"))).row.mode == 0o600


async def test_an_unreachable_store_removes_no_directory(world: World) -> None:
    """Promise P5: what cannot be listed may hold anything."""
    await remove(world, b"a", b"deep", b"3")
    world.native.forget("a/", b"deep")
    world.native.forget("a/deep/", b"3")
    world.store.fail("any", Unreachable("gone"), times=None)
    parent = (await world.find((b"a",))).inode
    with pytest.raises(Unreachable):
        await world.namespace.rmdir(parent, b"deep")


@EVER
async def test_a_killed_daemon_forgets_no_binding(tmp_path: Path, committed: bool) -> None:
    """Promise P1, for files that lie in the bucket already."""
    async with opened_world(tmp_path, "a/1", "a/2", "top") as world:
        await world.namespace.rename(*await world.at((b"a", b"1")), ROOT_INODE, b"moved")
        await remove(world, b"top")
        if committed:
            await world.commit()
        await world.kill()
        assert sorted(await world.listed(())) == [b"a", b"moved"]
        assert await world.listed((b"a",)) == [b"2"]
        assert await world.content((await world.find((b"moved",))).inode) == b"a/1"
