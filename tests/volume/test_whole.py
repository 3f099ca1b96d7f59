"""What lies below a prefix is listed to its end, and each directory is known from then on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blobfs.errors import NotFound, Unreachable
from blobfs.model.refusal import Refused
from tests.volume.world import World, opened_world

KEYS = [f"p/{number % 7}/{number:04}" for number in range(2500)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened_world(tmp_path, *KEYS, "o", "q/1") as world:
        yield world


async def test_every_page_and_directory(world: World) -> None:
    """A rename would leave behind what lies on the next page."""
    async with world.native.listed_whole("p/", 10_000) as whole:
        assert sorted(whole.folders) == ["p/", *(f"p/{number}/" for number in range(7))]
        found = {
            folder.prefix + entry.name.decode()
            for folder in whole.folders.values()
            for page in whole.pages(folder)
            for entry in page
            if not entry.is_folder
        }
    assert found == set(KEYS)


async def test_what_it_found_is_known(world: World) -> None:
    """Whoever looks into the directories next would wait for what was just listed."""
    async with world.native.listed_whole("p/", 10_000):
        pass
    calls = world.store.calls["list"]
    for number in range(7):
        view = await world.native.open_folder(f"p/{number}/")
        assert await view.page(0)
        view.close()
    assert world.store.calls["list"] == calls


async def test_it_asks_anew_however_fresh_a_listing_is(world: World) -> None:
    """What another tool has put there in the last minute would stay behind."""
    for key in ("q/2", "q/3"):
        await world.store.put(key, b"x")
        async with world.native.listed_whole("q/", 10_000) as whole:
            (page,) = whole.pages(whole.folders["q/"])
            assert page[-1].name == key[2:].encode()


@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_page_that_fails(world: World, nth: int) -> None:
    """A short listing must never be taken for the whole (P5, L5)."""
    world.store.fail("list", Unreachable("unplugged"), nth=nth)
    with pytest.raises(Unreachable):
        async with world.native.listed_whole("p/", 10_000):
            raise AssertionError("it is not whole")
    assert [folder for folder in ("p/", "p/6/") if world.native._listings.folder(folder)] == []


async def test_more_than_wanted(world: World) -> None:
    """Nobody would be told, and the rename of a part would look like one of the whole."""
    with pytest.raises(Refused):
        async with world.native.listed_whole("p/", len(KEYS) + 7):
            raise AssertionError("with the directories it is too much")
    async with world.native.listed_whole("p/", len(KEYS) + 8):
        pass


async def test_a_container_that_is_gone_is_no_empty_directory(world: World) -> None:
    """All that was in it would be left behind (P5)."""
    world.store.fail("list", NotFound("no such container"), times=None)
    with pytest.raises(Unreachable):
        async with world.native.listed_whole("p/", 10_000):
            raise AssertionError("there is nothing")
