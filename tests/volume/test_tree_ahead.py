"""Who walks through a tree finds what comes next here already, and nobody else pays for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from blobfs.formats.commit import Operation
from blobfs.types import ROOT_INODE
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.tree_blocks import NotLoaded
from tests.volume.checkpoints import FEW_ROWS, Chunks, checkpoint_of
from tests.volume.story import GRANTED, ORIGIN, ROOT, Story, new_file

VOLUME = b"v" * 16
FILES = 400
NAMES = [b"f%04d" % number for number in range(FILES)]
SHOWN_TOGETHER = 8


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Tree, Chunks]]:
    """Open a tree of 400 files in one directory, of which nothing is loaded; load ahead."""
    story, chunks = Story(), Chunks()
    made: list[Operation] = []
    for number, name in enumerate(NAMES, 2):
        made += new_file(number, name)
    async with open_tree(folder / "whole", VOLUME, ORIGIN) as whole:
        await whole.replay([story.entry(ROOT, GRANTED, *made)])
        checkpoint = checkpoint_of(whole, chunks)
    async with open_tree(folder / "lazy", VOLUME, ORIGIN, chunks.fetch) as tree:
        await tree.begin(await tree.prepare(*checkpoint))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tree.load_ahead)
            yield tree, chunks
            nursery.cancel_scope.cancel()


async def listed(tree: Tree, stop: int = FILES) -> int:
    """Look at the first files of the directory as a listing does; return how often it waited."""
    waits = 0
    for start in range(0, stop, SHOWN_TOGETHER):
        names = NAMES[start : start + SHOWN_TOGETHER]
        while len(tree.found(ROOT_INODE, names)) < len(names):
            try:
                for name in names:
                    dirent = tree.dirent(ROOT_INODE, name)
                    assert dirent is not None
                    assert tree.inode(dirent.inode) is not None
            except NotLoaded as missing:
                waits += 1
                await tree.load(missing)
        await loaded_ahead(tree)
    return waits


async def loaded_ahead(tree: Tree) -> None:
    """Return when nothing is being loaded."""
    await wait_all_tasks_blocked()
    while tree._loader._under_way:
        await trio.lowlevel.checkpoint()


async def test_a_walk_waits_at_its_begin_alone(tmp_path: Path) -> None:
    """Each window would cost a round trip in which nothing is shown."""
    async with opened(tmp_path) as (tree, chunks):
        assert await listed(tree) <= 6
        assert set(chunks.fetched.values()) == {1}
        assert len(chunks.fetched) > FILES // FEW_ROWS


async def test_no_more_is_loaded_than_the_next_window(tmp_path: Path) -> None:
    """`ls` of a first directory would fetch the whole volume."""
    async with opened(tmp_path) as (_, chunks):
        everything = len(chunks.data)
    async with opened(tmp_path / "again") as (tree, chunks):
        await listed(tree, 5 * SHOWN_TOGETHER)
        assert len(chunks.fetched) < everything // 2


@pytest.mark.parametrize(("part", "harmed"), [("failing", 1), ("chance", None)])
async def test_what_failed_is_tried_again(tmp_path: Path, part: str, harmed: object) -> None:
    """Loading ahead would end with a lost request or a fault of ours, or the mount with it."""
    async with opened(tmp_path) as (tree, chunks):
        await listed(tree, 10 * SHOWN_TOGETHER)
        sound = getattr(chunks, part)
        setattr(chunks, part, harmed)
        before = chunks.requests
        for name in NAMES:
            tree.found(ROOT_INODE, [name])
        await loaded_ahead(tree)
        assert chunks.requests > before
        setattr(chunks, part, sound)
        assert await listed(tree) <= 20
