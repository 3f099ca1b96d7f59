"""Reading a directory shows each entry that stays exactly once, whatever happens meanwhile."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blobfs.errors import Unreachable
from blobfs.formats.rows import Kind
from blobfs.model.tree_rules_attributes import Wanted
from blobfs.types import ROOT_INODE
from blobfs.volume import namespace_folder, namespace_layers
from blobfs.volume.namespace_folder import FolderReader
from blobfs.volume.unsaved import Moving
from tests.volume.world import ME_MYSELF, World, opened_world

OBJECTS = [f"n{number:02}" for number in range(12)] + ["sub1/x", "sub2/x", "sub3/x"]
NATIVE = {b"n%02d" % number for number in range(12)} | {b"sub1", b"sub2", b"sub3"}


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few names are many, so that a test meets every border."""
    monkeypatch.setattr(namespace_layers, "NAMES_AT_ONCE", 4)
    monkeypatch.setattr(namespace_folder, "LISTED_TOGETHER", 3)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened_world(tmp_path, *OBJECTS) as world:
        yield world


async def some(reader: FolderReader, cookie: int, count: int) -> list[tuple[bytes, int]]:
    """Take up to `count` entries behind `cookie`, as a kernel with a small buffer does."""
    taken = []
    while len(taken) < count and (entries := await reader.read(cookie)) is not None:
        for listed in entries:
            cookie = listed.next_cookie
            taken.append((listed.name, cookie))
            if len(taken) == count:
                break
    return taken


async def test_names_of_all_layers_are_shown_once(world: World) -> None:
    """Committed, unsaved and native ones look the same to `ls`."""
    for number in range(10):
        await world.make((b"c%d" % number,))
    await world.commit()
    for number in range(5):
        await world.namespace.unlink(ROOT_INODE, b"c%d" % number)
        await world.make((b"u%d" % number,))
    names = await world.listed(())
    expected = NATIVE | {b"c%d" % each for each in range(5, 10)} | {b"u%d" % n for n in range(5)}
    assert sorted(names) == sorted(expected)


async def test_every_cookie_leads_back_to_its_place(world: World) -> None:
    """telldir and seekdir; and a kernel goes back when its buffer was too small."""
    for number in range(10):
        await world.make((b"c%d" % number,))
    reader = await world.namespace.open_folder(ROOT_INODE)
    first = await some(reader, 0, 1000)
    for position in (3, 9, 10, 11, 17, 24, 0, 12):
        cookie = first[position][1]
        assert await some(reader, cookie, 1000) == first[position + 1 :]
    reader.close()


async def test_beginning_again_shows_what_is_new(world: World) -> None:
    """rewinddir(3) shows the directory as it is by then."""
    reader = await world.namespace.open_folder(ROOT_INODE)
    await some(reader, 0, 1000)
    await world.make((b"new",))
    assert b"new" in [name for name, _ in await some(reader, 0, 1000)]
    reader.close()


async def test_a_directory_adopted_while_it_is_listed_is_not_lost(world: World) -> None:
    """`cp -r` into a mounted bucket makes entries while something else lists it."""
    for path in (b"a", b"z"):
        await world.make((path,))
    reader = await world.namespace.open_folder(ROOT_INODE)
    names = await some(reader, 0, 5)
    await world.make((b"sub2", b"new"))
    await world.commit()
    names += await some(reader, names[-1][1], 1000)
    assert sorted(name for name, _ in names) == sorted(NATIVE | {b"a", b"z"})
    reader.close()


async def test_what_is_shown_is_what_is_there_by_then(world: World) -> None:
    """Attributes as they were when the directory was opened would stay in the kernel."""
    reader = await world.namespace.open_folder(ROOT_INODE)
    cookie = (await some(reader, 0, 1))[0][1]
    node = await world.find((b"sub2",))
    world.namespace.setattr(node.inode, Wanted(mode=0o700))
    entries = await reader.read(cookie)
    assert entries is not None
    modes = {listed.name: listed.node.row.mode for listed in entries}
    assert modes[b"sub2"] == 0o700
    reader.close()


async def test_a_file_on_the_move_ends_a_page_and_no_more(world: World) -> None:
    """A listing that began anew there would show the names before it twice."""
    for number in range(6):
        await world.make((b"c%d" % number,))
    await world.commit()
    node = await world.find((b"c2",))
    reader = await world.namespace.open_folder(ROOT_INODE)
    async with world.unsaved.held([node.inode]):
        entries = await reader.read(0)
        assert entries is not None
        shown = [(listed.name, listed.next_cookie) for listed in entries]
        assert [name for name, _ in shown] == [b"c0", b"c1"]
        with pytest.raises(Moving):
            await reader.read(shown[-1][1])
    shown += await some(reader, shown[-1][1], 1000)
    assert sorted(name for name, _ in shown) == sorted(NATIVE | {b"c%d" % n for n in range(6)})
    reader.close()


async def test_a_failed_listing_is_no_short_directory(world: World) -> None:
    """Promise P5: who sees half of the names deletes the other half."""
    await world.make((b"sub1", b"mine"))
    world.store.fail("list", Unreachable("gone"), times=None)
    with pytest.raises(Unreachable):
        await world.listed((b"sub1",))


@pytest.mark.parametrize("seed", range(25))
async def test_entries_that_stay_are_shown_once(world: World, seed: int) -> None:
    """`rm -r` lists and removes at the same time; a name that it misses stays for ever."""
    chance = random.Random(seed)
    for number in range(chance.randrange(25)):
        await world.make((b"%c%d" % (97 + number, number),))
    if chance.random() < 0.5:
        await world.commit()
    stayed = set(await world.listed(()))
    ever = set(stayed)
    reader = await world.namespace.open_folder(ROOT_INODE)
    shown: list[bytes] = []
    cookie = 0
    while taken := await some(reader, cookie, chance.randint(1, 6)):
        shown += [name for name, _ in taken]
        cookie = taken[-1][1]
        for _ in range(chance.randrange(4)):
            gone, came = await _change_something(world, chance, sorted(stayed - NATIVE))
            stayed -= gone
            ever |= came
    reader.close()
    assert len(shown) == len(set(shown))
    assert stayed <= set(shown) <= ever


async def _change_something(
    world: World, chance: random.Random, removable: list[bytes]
) -> tuple[set[bytes], set[bytes]]:
    """Return the names that went and those that came."""
    fresh = b"%c-%d" % (chance.randrange(97, 123), chance.randrange(10**9))
    match chance.choice(["make", "remove", "rename", "adopt", "commit"]):
        case "make":
            await world.namespace.make(ROOT_INODE, fresh, Kind.FILE, 0o644, ME_MYSELF)
            return set(), {fresh}
        case "remove" if removable:
            name = chance.choice(removable)
            await world.namespace.unlink(ROOT_INODE, name)
            return {name}, set()
        case "rename" if removable:
            name = chance.choice(removable)
            await world.namespace.rename(ROOT_INODE, name, ROOT_INODE, fresh)
            return {name}, {fresh}
        case "adopt":
            await world.make((chance.choice([b"sub1", b"sub2", b"sub3"]), fresh))
        case "commit":
            await world.commit()
    return set(), set()
