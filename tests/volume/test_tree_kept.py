"""What is kept of removed objects is counted by replay, the same on every client (N5)."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from blobfs.errors import Damaged
from blobfs.formats.commit import DropNative, Hide, Operation, SetContent, UnlinkNative
from blobfs.formats.rows import Native
from blobfs.formats.tables import Kept
from blobfs.types import InodeNo, Seq
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.tree_kept import NOBODY
from tests.volume.checkpoints import Chunks, checkpoint_of
from tests.volume.story import GRANTED, ME, ORIGIN, ROOT, SOMEBODY, Story, new_file

VOLUME = b"v" * 16
KEY, VERSION = b"photos/cat.jpg", "5 7 abc"
OTHER, ITS_VERSION = b"photos/dog.jpg", "1000 7 def"


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with open_tree(tmp_path / "tree.lmdb", VOLUME, ORIGIN) as tree:
        yield tree


def removed(*versions: tuple[bytes, str]) -> list[Operation]:
    """Return what an entry says that removes objects of another tool."""
    return [op(key, version) for key, version in versions for op in (Hide, UnlinkNative)]


async def test_objects_and_bytes_are_counted_until_they_are_gone(tree: Tree) -> None:
    """`blobfs status` would not tell what is paid for, or tell it for ever."""
    story = Story()
    both = removed((KEY, VERSION), (OTHER, ITS_VERSION))
    await tree.replay([first := story.entry(ROOT, *both)])
    assert tree.kept() == Kept(2, 1005)
    await tree.replay([story.entry(UnlinkNative(KEY, VERSION), client=SOMEBODY)])
    assert tree.kept() == Kept(2, 1005), "once is once"
    await tree.replay([story.entry(DropNative(OTHER, ITS_VERSION))])
    assert tree.kept() == Kept(1, 5)
    (left,) = tree.kept_objects()
    assert (left.key, left.version, left.client) == (KEY, VERSION, ME)
    assert left.unlinked_ns == first.entry.time_ns
    await tree.replay([story.entry(DropNative(OTHER, ITS_VERSION), DropNative(KEY, VERSION))])
    assert tree.kept() == Kept()
    assert tree.kept_objects() == []
    assert tree.hides(KEY, VERSION), "a listing that is older than the removal would show it"


async def test_what_is_referred_to_again_is_not_given_up(tree: Tree) -> None:
    """The bytes of a file that has come back would be deleted."""
    story = Story()
    await tree.replay([story.entry(ROOT, GRANTED, *removed((KEY, VERSION)))])
    made = new_file(InodeNo(2), b"back", b"12345")
    content = SetContent(InodeNo(2), 5, Native(KEY, 5, VERSION), Seq(0))
    await tree.replay([story.entry(made[0], content, *made[2:])])
    assert tree.kept() == Kept()
    assert tree.kept_objects() == []
    await tree.replay([story.entry(UnlinkNative(KEY, VERSION))])
    assert tree.kept() == Kept(1, 5)


async def test_what_shows_cannot_be_gone(tree: Tree) -> None:
    """A log that nobody would write has to be noticed."""
    story = Story()
    await tree.replay([story.entry(ROOT)])
    with pytest.raises(Damaged, match="still shows"):
        await tree.replay([story.entry(DropNative(KEY, VERSION))])


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("levels", [0, 2])
async def test_a_checkpoint_tells_what_is_kept(tmp_path: Path, says: bool, levels: int) -> None:
    """A new machine would say that nothing is, and never remove it."""
    story, chunks = Story(), Chunks(random.Random(1))
    versions = [(b"d/%03d" % number, f"{number} 7 e") for number in range(60)]
    async with (
        open_tree(tmp_path / "whole", VOLUME, ORIGIN) as whole,
        open_tree(tmp_path / "lazy", VOLUME, ORIGIN, chunks.fetch) as lazy,
    ):
        gone = [DropNative(*versions[number]) for number in range(0, 60, 3)]
        await whole.replay([story.entry(ROOT, *removed(*versions)), story.entry(*gone)])
        name, checkpoint = checkpoint_of(whole, chunks, levels=levels)
        if not says:
            checkpoint = replace(checkpoint, kept=None)
        await lazy.begin(await lazy.prepare(name, checkpoint))
        assert lazy.kept() == whole.kept() == Kept(40, sum(n for n in range(60) if n % 3))
        assert lazy.knows_all_kept() == (not says or not levels)
        await lazy.replay([last := story.entry(DropNative(*versions[1]))])
        await whole.replay([last])
        await lazy.load_kept()
        assert lazy.kept() == whole.kept()
        known = [(each.key, each.version) for each in whole.kept_objects()]
        assert [(each.key, each.version) for each in lazy.kept_objects()] == known
        assert {each.client for each in lazy.kept_objects()} == {NOBODY}
        assert lazy.first_difference(whole) is None
