"""A directory that objects make up is renamed with all that it showed, and no more (N2)."""

import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from blobfs.errors import BlobfsError, ReadOnly, Unreachable
from blobfs.formats.rows import Kind, Native
from blobfs.model.changes import HIDDEN_FOLDER, Change, LocalDirent
from blobfs.model.nodes import Node
from blobfs.model.refusal import Refused
from blobfs.model.tree_rules_attributes import Wanted
from blobfs.model.tree_rules_rename import EXCHANGE, NOREPLACE
from blobfs.types import ROOT_INODE, Serial
from blobfs.volume import namespace_moves
from tests.volume.test_namespace_bound import objects, remove, remove_folder
from tests.volume.world import ME_MYSELF, World, opened_world

EVER = pytest.mark.parametrize("committed", [False, True])
KEYS = ("p/1", "p/2", "p/sub/3", "p/sub/deep/4", "top")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened_world(tmp_path, *KEYS) as world:
        yield world


async def rename(world: World, old: bytes, new: bytes, flags: int = 0) -> Node | None:
    """Rename by paths."""
    places = (*await world.at(path(old)), *await world.at(path(new)))
    return await world.namespace.rename(*places, flags)


def path(text: bytes) -> tuple[bytes, ...]:
    return tuple(text.split(b"/"))


async def tree(world: World, *above: bytes) -> dict[str, object]:
    """Return all that a program finds below a directory: directories as dicts, files as bytes."""
    found: dict[str, object] = {}
    for name, node in (await world.nodes_in((await world.find(above)).inode)).items():
        below = (*above, name)
        found[name.decode()] = (
            await tree(world, *below) if node.is_folder else await content(world, node)
        )
    return found


async def content(world: World, node: Node) -> bytes:
    if node.native is not None:
        return bytes((await world.store.get(node.native.content.key)).data)
    return await world.content(node.inode)


async def put(world: World, key: str, data: bytes = b"anew") -> None:
    """Let another tool write an object, and the time to live of all listings pass."""
    await world.store.put(key, data)
    for cut in [at + 1 for at, sign in enumerate(key) if sign == "/"] + [0]:
        world.native.forget(key[:cut], key[cut:].partition("/")[0].encode())


SHOWN = {"1": b"p/1", "2": b"p/2", "sub": {"3": b"p/sub/3", "deep": {"4": b"p/sub/deep/4"}}}


@EVER
async def test_all_that_it_showed_comes_along(world: World, committed: bool) -> None:
    """`mv photos pictures` on a bucket must neither copy it nor lose a file of it."""
    before = [await world.find(path(each)) for each in (b"p", b"p/1", b"p/sub", b"p/sub/deep/4")]
    assert await rename(world, b"p", b"q") is None
    if committed:
        await world.commit()
    assert await tree(world) == {"q": SHOWN, "top": b"top"}
    after = [await world.find(path(each)) for each in (b"q", b"q/1", b"q/sub", b"q/sub/deep/4")]
    assert [node.inode for node in after] == [node.inode for node in before]
    assert await objects(world) == set(KEYS)


async def test_it_is_one_commit_that_says_so(world: World) -> None:
    """Others would see half a rename between two."""
    await rename(world, b"p", b"q")
    await world.commit()
    assert world.tree.state.seq == 1
    folder = await world.find((b"q",))
    row = world.tree.inode(folder.inode)
    assert row is not None
    assert (row.prefix, row.parent) == (None, ROOT_INODE)
    file = world.tree.inode((await world.find(path(b"q/sub/3"))).inode)
    assert file is not None
    assert isinstance(file.content, Native)
    assert file.content.key == b"p/sub/3"


async def test_what_was_adopted_before_leaves_its_prefix(world: World) -> None:
    """Objects that come later would show under a name that nobody gave them."""
    await world.make(path(b"p/sub/mine"))
    await world.commit()
    await rename(world, b"p", b"q")
    await world.commit()
    for each in (b"q", b"q/sub", b"q/sub/deep"):
        row = world.tree.inode((await world.find(path(each))).inode)
        assert row is not None
        assert row.prefix is None
    assert sorted(await world.listed(path(b"q/sub"))) == [b"3", b"deep", b"mine"]


@EVER
async def test_a_prefix_renamed_while_a_pipeline_keeps_writing_below_it(
    world: World, committed: bool
) -> None:
    """What it writes from then on lies where it wrote it, and nothing of that is in the new one."""
    await rename(world, b"p", b"q")
    if committed:
        await world.commit()
    await put(world, "p/5")
    await put(world, "p/sub/deep/6")
    assert await tree(world) == {
        "p": {"5": b"anew", "sub": {"deep": {"6": b"anew"}}},
        "q": SHOWN,
        "top": b"top",
    }
    numbers = [(await world.find(path(each))).inode for each in (b"p", b"q", b"p/sub", b"q/sub")]
    assert len(set(numbers)) == 4


@EVER
async def test_what_comes_between_the_listing_and_the_rename_stays(
    world: World, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there when the directory was listed: it belongs to the old name."""
    monkeypatch.setattr(namespace_moves, "TAKEN_TOGETHER", 1)

    async def put_when_begun() -> None:
        while not world.unsaved.inode_states:
            await trio.lowlevel.checkpoint()
        await world.store.put("p/late", b"late")
        assert (await world.namespace.lookup(ROOT_INODE, b"q")).node is None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put_when_begun)
        await rename(world, b"p", b"q")
    if committed:
        await world.commit()
    await put(world, "p/late", b"late")
    assert await tree(world) == {"p": {"late": b"late"}, "q": SHOWN, "top": b"top"}


@EVER
async def test_rename_away_then_a_new_object_at_the_old_key(world: World, committed: bool) -> None:
    """Two files, each with its own bytes; the renamed one is an error rather than the new one."""
    await rename(world, b"p", b"q")
    if committed:
        await world.commit()
    await put(world, "p/1", b"other bytes")
    assert await tree(world, b"p") == {"1": b"other bytes"}
    moved = await world.find(path(b"q/1"))
    bound = world.namespace.bound(moved.inode)
    assert bound is not None
    assert (bound.key, bound.size_bytes) == (b"p/1", 3)


async def test_the_old_name_is_free(world: World) -> None:
    """`mv photos old; mkdir photos`."""
    await rename(world, b"p", b"q")
    assert (await world.namespace.lookup(ROOT_INODE, b"p")).node is None
    made = await world.make((b"p",), Kind.FOLDER, 0o755)
    await put(world, "p/5")
    assert await tree(world, b"p") == {}
    assert made.inode != (await world.find((b"q",))).inode


@EVER
async def test_a_marker_object_does_not_keep_the_old_name(tmp_path: Path, committed: bool) -> None:
    """Consoles make one for each folder: `photos/` would stay, empty."""
    async with opened_world(tmp_path, "p/1") as world:
        for key in ("p/", "p/empty/"):
            await world.store.put(key, b"")
        assert await world.listed(path(b"p/empty")) == []
        before = await world.find(path(b"p/empty"))
        await rename(world, b"p", b"q")
        if committed:
            await world.commit()
        assert await tree(world) == {"q": {"1": b"p/1", "empty": {}}}
        assert (await world.find(path(b"q/empty"))).row.mtime_ns == before.row.mtime_ns


async def test_renaming_it_again_costs_no_request(world: World) -> None:
    """It is a directory of the volume by then."""
    await rename(world, b"p", b"q")
    calls = world.store.calls["list"]
    await rename(world, b"q/sub", b"q/other")
    assert world.store.calls["list"] == calls
    assert await tree(world, b"q", b"other") == SHOWN["sub"]


@EVER
async def test_it_can_be_removed_with_all_in_it(world: World, committed: bool) -> None:
    """`rm -r`; and nothing comes back under either name."""
    await rename(world, b"p", b"q")
    if committed:
        await world.commit()
    for each in (b"q/1", b"q/2", b"q/sub/3", b"q/sub/deep/4"):
        await remove(world, *path(each))
    for each in (b"q/sub/deep", b"q/sub", b"q"):
        await remove_folder(world, *path(each))
    await world.commit()
    assert await tree(world) == {"top": b"top"}
    await put(world, "p/5")
    assert await tree(world) == {"p": {"5": b"anew"}, "top": b"top"}


@EVER
async def test_files_that_were_changed_before_come_along(world: World, committed: bool) -> None:
    """They are rows already, and so are directories that were made there."""
    await remove(world, b"p", b"2")
    world.namespace.setattr((await world.find(path(b"p/1"))).inode, Wanted(mode=0o600))
    await world.namespace.link((await world.find((b"top",))).inode, *await world.at(path(b"p/top")))
    await world.make(path(b"p/made"), Kind.FOLDER, 0o755)
    await world.make(path(b"p/made/file"))
    if committed:
        await world.commit()
    await rename(world, b"p/sub", b"p/made/sub")
    await rename(world, b"p", b"q")
    await world.commit()
    made = {"file": b"", "sub": SHOWN["sub"]}
    assert await tree(world) == {
        "q": {"1": b"p/1", "made": made, "top": b"top"},
        "top": b"top",
    }
    assert (await world.find(path(b"q/1"))).row.mode == 0o600


@EVER
async def test_other_tools_newer_versions_come_along(world: World, committed: bool) -> None:
    """What shows in it at that moment, under the name by which it shows."""
    world.namespace.setattr((await world.find(path(b"p/1"))).inode, Wanted(mode=0o600))
    inode = world.namespace.adopt((await world.find(path(b"p/2"))).inode).inode
    row = world.namespace.setattr(inode, Wanted(size_bytes=0)).row
    assert row.size_bytes == 0
    if committed:
        await world.commit()
    await put(world, "p/1", b"newer")
    await put(world, "p/2", b"beside")
    await rename(world, b"p", b"q")
    await world.commit()
    found = await tree(world, b"q")
    (beside,) = [name for name in found if "conflict bucket" in name]
    assert (found["1"], found["2"], found[beside]) == (b"newer", b"", b"beside")
    assert (await world.find(path(b"q/1"))).row.mode == 0o600
    assert await tree(world) == {"q": found, "top": b"top"}


async def test_it_replaces_an_empty_directory(world: World) -> None:
    """As rename(2) has it; one with something in it is no such."""
    await world.make((b"empty",), Kind.FOLDER, 0o755)
    replaced = await rename(world, b"p", b"empty")
    assert replaced is not None
    assert replaced.is_gone
    world.namespace.drop(replaced.inode)
    await world.commit()
    assert await tree(world) == {"empty": SHOWN, "top": b"top"}


@pytest.mark.parametrize(
    ("old", "new", "flags", "number"),
    [
        (b"p", b"p/sub/q", 0, errno.EINVAL),
        (b"p", b"top", 0, errno.ENOTDIR),
        (b"top", b"p", 0, errno.EISDIR),
        (b"p", b"other", 0, errno.ENOTEMPTY),
        (b"p", b"other", NOREPLACE, errno.EEXIST),
        (b"p", b"none", EXCHANGE, errno.ENOENT),
        (b"p", b"p/1", EXCHANGE, errno.EINVAL),
        (b"p", b".blobfs", 0, errno.EPERM),
    ],
)
async def test_what_is_refused_lists_nothing_and_changes_nothing(
    tmp_path: Path, old: bytes, new: bytes, flags: int, number: int
) -> None:
    """A refusal would take the time of a listing, and leave rows of all that is there."""
    async with opened_world(tmp_path, *KEYS, "other/x") as world:
        with pytest.raises(BlobfsError) as caught:
            await rename(world, old, new, flags)
        assert caught.value.errno == number
        assert not world.unsaved.inode_states


async def test_a_name_onto_itself_is_nothing(world: World) -> None:
    """POSIX has it so."""
    await rename(world, b"p", b"p")
    assert not world.unsaved.inode_states


async def test_two_of_them_change_places(tmp_path: Path) -> None:
    """Each shows what the other did, and what comes later goes where its key says."""
    async with opened_world(tmp_path, "a/x/1", "b/2") as world:
        await rename(world, b"a/x", b"b", EXCHANGE)
        await world.commit()
        assert await tree(world) == {"a": {"x": {"2": b"b/2"}}, "b": {"1": b"a/x/1"}}
        await put(world, "b/3")
        await put(world, "a/x/4")
        # Both names are those of directories of the volume: what they hide is as it is.
        assert await tree(world) == {"a": {"x": {"2": b"b/2"}}, "b": {"1": b"a/x/1"}}


async def test_a_page_that_fails_is_an_error_and_nothing_happened(world: World) -> None:
    """A short listing would leave half of the files behind (P5)."""
    await world.find((b"p",))
    world.store.fail("list", Unreachable("unplugged"), times=None)
    with pytest.raises(Unreachable) as caught:
        await rename(world, b"p", b"q")
    assert caught.value.errno == errno.EIO
    world.store.heal()
    assert not world.unsaved.inode_states
    assert await tree(world) == {"p": SHOWN, "top": b"top"}


async def test_too_many_objects_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes memory until it is saved; a program must not take all that there is (P10)."""
    monkeypatch.setattr(namespace_moves, "MOST_TAKEN", 6)
    with pytest.raises(Refused) as caught:
        await rename(world, b"p", b"q")
    assert caught.value.errno == errno.EFBIG
    assert not world.unsaved.inode_states
    monkeypatch.setattr(namespace_moves, "MOST_TAKEN", 7)
    await rename(world, b"p", b"q")
    assert await tree(world, b"q") == SHOWN


async def test_a_kill_in_the_middle_leaves_the_old_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a program would find half of its files under each name (P1)."""
    monkeypatch.setattr(namespace_moves, "TAKEN_TOGETHER", 1)
    async with opened_world(tmp_path, *KEYS) as world:
        monkeypatch.setattr(world.unsaved, "apply", dying_after(2, world.unsaved.apply))
        with pytest.raises(Killed):
            await rename(world, b"p", b"q")
        await world.kill()
        for _ in range(2):
            assert await tree(world) == {"p": SHOWN, "top": b"top"}
            await world.commit()
        await rename(world, b"p", b"q")
        await world.kill()
        assert await tree(world) == {"q": SHOWN, "top": b"top"}


class Killed(Exception):
    """What a daemon that is killed does next."""


def dying_after(count: int, apply: Callable[[Change], Serial]) -> Callable[[Change], Serial]:
    calls = iter(range(count))

    def dying(change: Change) -> Serial:
        if next(calls, None) is None:
            raise Killed
        return apply(change)

    return dying


async def test_names_that_no_path_can_have_stay(tmp_path: Path) -> None:
    """They cannot be renamed, and must not vanish either: they are counted where they are."""
    async with opened_world(tmp_path, "p/1", "p//odd", "p/x/..") as world:
        await rename(world, b"p", b"q")
        await world.commit()
        assert await tree(world, b"q") == {"1": b"p/1"}
        assert {odd.key for odd in world.native.odd_keys(9)} == {"p//", "p/x/.."}


async def test_a_volume_below_stays_where_it_is(tmp_path: Path) -> None:
    """`.blobfs` is no directory that could come along (N7)."""
    async with opened_world(tmp_path, "p/1", "p/.blobfs/volume") as world:
        await rename(world, b"p", b"q")
        assert await tree(world) == {"q": {"1": b"p/1"}}


async def test_who_stands_in_it_goes_on(world: World) -> None:
    """Programs hold directories and files by their numbers, wherever these are moved."""
    folder, file = await world.find(path(b"p/sub")), await world.find(path(b"p/sub/3"))
    await rename(world, b"p", b"q")
    made = await world.namespace.make(folder.inode, b"made", Kind.FILE, 0o644, ME_MYSELF)
    world.namespace.setattr(file.inode, Wanted(mode=0o600))
    assert await tree(world, b"q", b"sub") == {**SHOWN["sub"], "made": b""}  # type: ignore[dict-item]
    assert (await world.find(path(b"q/sub/3"))).row.mode == 0o600
    assert world.namespace.node(made.inode).row.nlink == 1


async def test_a_directory_that_was_held_is_adopted_below_the_old_name(world: World) -> None:
    """One that shows only what came later must not come to lie in the renamed one."""
    await put(world, "p/later/5")
    held = await world.find(path(b"p/later"))
    await world.store.delete_many(["p/later/5"])
    await rename(world, b"p", b"q")
    await put(world, "p/later/5")
    await world.namespace.make(held.inode, b"made", Kind.FILE, 0o644, ME_MYSELF)
    await world.commit()
    assert await tree(world) == {
        "p": {"later": {"5": b"anew", "made": b""}},
        "q": SHOWN,
        "top": b"top",
    }


async def test_a_read_only_mount_renames_nothing(tmp_path: Path) -> None:
    """Nor does it list what it will not rename."""
    async with opened_world(tmp_path, *KEYS, read_only=True) as world:
        with pytest.raises(ReadOnly):
            await rename(world, b"p", b"q")


async def test_each_version_is_hidden_by_itself(world: World) -> None:
    """A blanket over the prefix would hide what comes later, for ever (N1)."""
    await rename(world, b"p", b"q")
    hidden = world.unsaved.dirents(HIDDEN_FOLDER)
    assert sorted(name.split(b"\0")[0] for name in hidden) == [
        key.encode() for key in KEYS if key.startswith("p/")
    ]
    assert all(isinstance(row, LocalDirent) for row in hidden.values())
