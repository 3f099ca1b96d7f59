"""Content that lies in the bucket is found again, whatever part of the tree is here."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from blobfs.formats.commit import Operation, SetContent
from blobfs.formats.rows import Extent, ExtentList, Extents, ListPart
from blobfs.types import ChunkId, InodeNo, Seq
from blobfs.volume import tree_places
from blobfs.volume.tree import Tree, open_tree
from tests.volume.checkpoints import Chunks, checkpoint_of
from tests.volume.story import GRANTED, ORIGIN, PACK, ROOT, Story, chunked, new_file

VOLUME = b"v" * 16
FILES = 40
LISTED = Extent(9, ChunkId(b"l" * 32), PACK, 0, 9)


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_places, "BLOCKS_AT_ONCE", 3)


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[Tree]:
    """A tree of files with a chunk each, of one with a long list of extents, and empty ones."""
    story = Story()
    async with open_tree(tmp_path / "whole", VOLUME, ORIGIN) as tree:
        made: list[Operation] = []
        for number in range(2, 2 + FILES):
            made += new_file(number, b"f%d" % number)[:1]
            made += new_file(number, b"f%d" % number)[2:]
        contents = [chunked(number, hole=number % 2) for number in range(2, FILES)]
        long_list = SetContent(InodeNo(FILES), 9, ExtentList((ListPart(9, LISTED),)), Seq(0))
        await tree.replay([story.entry(ROOT, GRANTED, *made, *contents, long_list, packs=(PACK,))])
        yield tree


def extents(tree: Tree) -> Sequence[Extent]:
    """Return all chunks that the rows of a tree name."""
    rows = [tree.inode(InodeNo(number)) for number in range(2, FILES)]
    contents = [row.content for row in rows if row is not None]
    return [each.extents[0] for each in contents if isinstance(each, Extents)] + [LISTED]


@pytest.mark.parametrize("levels", [0, 1, 2])
async def test_files_that_were_loaded_are_found_again(
    tmp_path: Path, whole: Tree, levels: int
) -> None:
    """A file that is copied on another machine would be uploaded a second time."""
    chunks = Chunks()
    name, checkpoint = checkpoint_of(whole, chunks, levels=levels)
    async with open_tree(tmp_path / "new", VOLUME, ORIGIN, chunks.fetch) as tree:
        await tree.begin(await tree.prepare(name, checkpoint))
        await tree.load_all()
        await tree.note_loaded_chunks()
        wanted = extents(whole)
        assert len(wanted) == FILES - 1
        assert [tree.chunk(extent.chunk) for extent in wanted] == list(wanted)


async def test_what_was_loaded_before_a_remount_is_found_after_it(
    tmp_path: Path, whole: Tree
) -> None:
    """It would never be asked for again, because blocks are loaded once."""
    chunks = Chunks()
    name, checkpoint = checkpoint_of(whole, chunks)
    async with open_tree(tmp_path / "new", VOLUME, ORIGIN, chunks.fetch) as tree:
        await tree.begin(await tree.prepare(name, checkpoint))
        await tree.load_all()
    async with open_tree(tmp_path / "new", VOLUME, ORIGIN) as tree:
        assert all(tree.chunk(extent.chunk) is None for extent in extents(whole))
        await tree.note_loaded_chunks()
        assert all(tree.chunk(extent.chunk) == extent for extent in extents(whole))


async def test_nothing_is_found_of_a_tree_that_is_no_more(tmp_path: Path, whole: Tree) -> None:
    """A commit would name chunks of packs that nobody has any more (P3)."""
    chunks = Chunks()
    name, checkpoint = checkpoint_of(whole, chunks)
    async with open_tree(tmp_path / "new", VOLUME, ORIGIN, chunks.fetch) as tree:
        await tree.begin(await tree.prepare(name, checkpoint))
        await tree.load_all()
        await tree.begin_empty(ORIGIN)
        await tree.note_loaded_chunks()
        assert all(tree.chunk(extent.chunk) is None for extent in extents(whole))
