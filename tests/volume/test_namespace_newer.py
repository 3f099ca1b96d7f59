"""Another tool was there too: its version is seen, and nobody's edit disappears (N4)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blobfs.errors import Unreachable
from blobfs.formats.version import spell_version
from blobfs.model.conflict import beside_name
from blobfs.model.nodes import Node
from blobfs.model.tree_rules_attributes import Wanted, row_after_write
from blobfs.types import ROOT_INODE
from tests.volume.world import World, opened_world

EVER = pytest.mark.parametrize("committed", [False, True])
ONE = (b"a", b"1")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened_world(tmp_path, "a/1", "top") as world:
        yield world


async def put(world: World, key: str, data: bytes) -> bytes:
    """Let another tool write; return the name by which it shows beside a file of the volume."""
    await world.store.put(key, data)
    prefix, slash, name = key.rpartition("/")
    world.native.forget(prefix + slash, name.encode())
    info = await world.store.head(key)
    version = spell_version(info.etag, info.size_bytes, info.mtime_ns)
    beside = beside_name(name.encode(), info.mtime_ns, version)
    assert beside is not None
    return beside


async def content(world: World, node: Node) -> bytes:
    if node.native is None:
        return await world.content(node.inode)
    return bytes((await world.store.get(node.native.content.key)).data)


async def chmodded(world: World, *, committed: bool) -> Node:
    """Return `a/1` with other attributes."""
    node = await world.find(ONE)
    world.namespace.setattr(node.inode, Wanted(mode=0o600))
    world.namespace.setxattr(node.inode, b"user.a", b"x")
    if committed:
        await world.commit()
    return await world.find(ONE)


async def written(world: World, *path: bytes, data: bytes = b"mine") -> None:
    node = world.namespace.adopt((await world.find(path)).inode)
    row = row_after_write(node.row, len(data), world.now_ns)
    world.unsaved.write(node.inode, row, 0, data)


@EVER
async def test_a_new_version_shows_with_the_attributes_that_were_set(
    world: World, committed: bool
) -> None:
    """After one `chmod -R`, no update of a pipeline would be seen any more."""
    before = await chmodded(world, committed=committed)
    await put(world, "a/1", b"newer")
    found = await world.find(ONE)
    assert (found.row.mode, found.row.xattrs) == (0o600, ((b"user.a", b"x"),))
    assert await content(world, found) == b"newer"
    assert found.inode != before.inode, "what a kernel keeps of the old version is not of the new"
    assert await world.listed((b"a",)) == [b"1"]


@EVER
async def test_what_is_done_to_a_new_version_is_done_to_it(world: World, committed: bool) -> None:
    """A second `chmod` would bring the old version back, whose bytes are gone."""
    before = await chmodded(world, committed=committed)
    await put(world, "a/1", b"newer")
    world.namespace.setattr((await world.find(ONE)).inode, Wanted(mode=0o640))
    if committed:
        await world.commit()
        assert world.tree.inode(before.inode) is None
    found = await world.find(ONE)
    assert (found.row.mode, found.row.xattrs) == (0o640, ((b"user.a", b"x"),))
    assert await content(world, found) == b"newer"
    await world.commit()
    assert await content(world, await world.find(ONE)) == b"newer"


@EVER
async def test_a_new_version_can_be_written_to(world: World, committed: bool) -> None:
    """The change must lie over what the program has read."""
    await chmodded(world, committed=committed)
    await put(world, "a/1", b"newer than that")
    await written(world, *ONE)
    if committed:
        await world.commit()
    found = await world.find(ONE)
    assert (await content(world, found), found.row.mode) == (b"miner than that", 0o600)


@EVER
async def test_a_new_version_can_be_removed_and_renamed(world: World, committed: bool) -> None:
    """`rm` would only bring to light what another tool has written."""
    await chmodded(world, committed=committed)
    await put(world, "a/1", b"newer")
    folder = (await world.find((b"a",))).inode
    await world.namespace.rename(folder, b"1", ROOT_INODE, b"moved")
    assert await world.listed((b"a",)) == []
    assert await content(world, await world.find((b"moved",))) == b"newer"
    world.namespace.drop((await world.namespace.unlink(ROOT_INODE, b"moved")).inode)
    if committed:
        await world.commit()
    assert sorted(await world.listed(())) == [b"a", b"top"]
    assert await world.listed((b"a",)) == []


async def test_another_name_keeps_the_old_version(world: World) -> None:
    """A link is to a file, and not to a key."""
    node = await chmodded(world, committed=True)
    await world.namespace.link(node.inode, ROOT_INODE, b"linked")
    await put(world, "a/1", b"newer")
    world.namespace.setattr((await world.find(ONE)).inode, Wanted(mode=0o640))
    await world.commit()
    linked = await world.find((b"linked",))
    assert (linked.inode, linked.row.nlink, linked.row.size_bytes) == (node.inode, 1, 3)


@EVER
@pytest.mark.parametrize("made", [False, True])
async def test_both_versions_show_where_both_wrote(
    world: World, committed: bool, made: bool
) -> None:
    """One of two edits would disappear without a word (P4)."""
    name = b"new" if made else b"1"
    if made:
        await world.make((b"a", name))
    await written(world, b"a", name)
    if committed:
        await world.commit()
    beside = await put(world, f"a/{name.decode()}", b"theirs")
    assert beside in await world.listed((b"a",))
    assert (await content(world, await world.find((b"a", name))))[:4] == b"mine"
    found = await world.find((b"a", beside))
    assert await content(world, found) == b"theirs"
    assert sorted((await world.nodes_in((await world.find((b"a",))).inode)).keys()) == sorted(
        {b"1", name, beside}
    )


@EVER
async def test_what_shows_beside_is_a_file_like_any_other(world: World, committed: bool) -> None:
    """Who has looked at both removes one, or gives it the name."""
    await written(world, *ONE)
    if committed:
        await world.commit()
    folder = (await world.find((b"a",))).inode
    beside = await put(world, "a/1", b"theirs")
    world.namespace.setattr((await world.find((b"a", beside))).inode, Wanted(mode=0o600))
    replaced = await world.namespace.rename(folder, beside, folder, b"1")
    assert replaced is not None
    world.namespace.drop(replaced.inode)
    if committed:
        await world.commit()
    assert await world.listed((b"a",)) == [b"1"]
    found = await world.find(ONE)
    assert (await content(world, found), found.row.mode) == (b"theirs", 0o600)
    again = await put(world, "a/1", b"once more")
    assert again not in await world.listed((b"a",)), "it was never changed here: the name follows"
    assert await content(world, await world.find(ONE)) == b"once more"


async def test_a_version_that_is_looked_at_is_noted_nowhere(world: World) -> None:
    """All machines that look would commit something, and get into each other's way."""
    await chmodded(world, committed=True)
    await put(world, "a/1", b"newer")
    await world.find(ONE)
    await world.listed((b"a",))
    assert not world.unsaved.inode_states
    assert not world.unsaved.dirent_states


async def test_a_store_that_is_away_hides_no_file(world: World) -> None:
    """What the volume knows of it is shown, as everywhere (P5)."""
    before = await chmodded(world, committed=True)
    await put(world, "a/1", b"newer")
    world.store.fail("any", Unreachable("gone"), times=None)
    parent = (await world.namespace.lookup(ROOT_INODE, b"a")).node
    assert parent is not None
    found = (await world.namespace.lookup(parent.inode, b"1")).node
    assert found is not None
    assert found.inode == before.inode


async def test_nothing_is_taken_for_a_version_that_was_removed_here(world: World) -> None:
    """A whiteout must not turn into a conflict with oneself."""
    gone = await world.namespace.unlink(*await world.at(ONE))
    world.namespace.drop(gone.inode)
    await world.make(ONE)
    await world.commit()
    assert await world.listed((b"a",)) == [b"1"]


async def test_what_stood_behind_a_removed_file_has_the_name_at_once(world: World) -> None:
    """Until the removal is saved, neither would show in a listing."""
    await written(world, *ONE)
    await world.commit()
    await put(world, "a/1", b"theirs")
    gone = await world.namespace.unlink(*await world.at(ONE))
    world.namespace.drop(gone.inode)
    assert await world.listed((b"a",)) == [b"1"]
    assert await content(world, await world.find(ONE)) == b"theirs"
