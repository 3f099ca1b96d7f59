"""What is removed of other tools' objects stays removed, version by version, on every client."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from blobfs.errors import Damaged
from blobfs.formats.commit import Detach, Hide, NewInode, PutDirent, SetContent, UnlinkNative
from blobfs.formats.rows import Kind, Native
from blobfs.formats.tables import HIDDEN_STEM_BYTES, HiddenRow, Table, hidden_key, row_check
from blobfs.types import FIRST_NATIVE_INODE, ROOT_INODE, InodeNo, Seq
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.tree_rows import decode_hidden, encode
from tests.volume.story import GRANTED, ORIGIN, ROOT, Story, new_file

KEY, VERSION = b"photos/cat.jpg", "5 7 abc"
FILE = InodeNo(2)


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with open_tree(tmp_path / "tree.lmdb", b"v" * 16, ORIGIN) as tree:
        yield tree


def hidden_rows(tree: Tree) -> list[HiddenRow]:
    with tree._database.read() as reader:
        return [decode_hidden(row) for _, row in reader.range("hidden")]


async def test_a_version_is_hidden_once(tree: Tree) -> None:
    """Two clients may remove one object at a time; that must not break the log for both."""
    story = Story()
    await tree.replay([story.entry(ROOT, Hide(KEY, VERSION)), story.entry(Hide(KEY, VERSION))])
    assert hidden_rows(tree) == [HiddenRow(KEY, VERSION, Seq(1))]


async def test_what_may_go_is_noted_with_its_time(tree: Tree) -> None:
    """Else bytes would be deleted before the trash time is over, or never."""
    story = Story()
    first = story.entry(ROOT, Hide(KEY, VERSION), UnlinkNative(KEY, VERSION))
    await tree.replay([first, story.entry(UnlinkNative(KEY, VERSION))])
    assert hidden_rows(tree) == [HiddenRow(KEY, VERSION, Seq(1), first.entry.time_ns)]


async def test_what_still_shows_is_not_given_up(tree: Tree) -> None:
    """The bytes of a file that everybody sees would be deleted."""
    story = Story()
    await tree.replay([story.entry(ROOT, Hide(KEY, VERSION))])
    with pytest.raises(Damaged, match="still shows"):
        await tree.replay([story.entry(UnlinkNative(KEY, "5 8 abc"))])


async def test_a_directory_leaves_the_prefix_that_it_has(tree: Tree) -> None:
    """Objects would show in two directories, or in none (N2)."""
    story = Story()
    number = InodeNo(FIRST_NATIVE_INODE + 1)
    made = NewInode(number, Kind.FOLDER, 0o755, 0, 0, 1, 1, prefix="photos/", parent=ROOT_INODE)
    named = PutDirent(ROOT_INODE, b"photos", number, Kind.FOLDER)
    await tree.replay([story.entry(ROOT, made, named)])
    for prefix in ("other/", ""):
        with pytest.raises(Damaged, match="shows other objects"):
            await tree.replay([beside(story).entry(Detach(number, prefix))])
    with pytest.raises(Damaged, match="shows other objects"):
        await tree.replay([beside(story).entry(Detach(ROOT_INODE, ""))])
    await tree.replay([story.entry(Detach(number, "photos/"))])
    row = tree.inode(number)
    assert row is not None
    assert (row.prefix, row.seq) == (None, 2)


def beside(story: Story) -> Story:
    """Return a log that goes on as another one does, which it leaves as it is."""
    return Story(story.previous, story.seq, dict(story.counters))


async def test_content_may_lie_where_another_tool_put_it(tree: Tree) -> None:
    """A renamed object would have to be copied."""
    story = Story()
    bound = Native(KEY, 5, VERSION)
    made = new_file(FILE, b"a", b"12345")
    operations = (made[0], SetContent(FILE, 5, bound, Seq(0)), *made[2:])
    await tree.replay([story.entry(ROOT, GRANTED, *operations)])
    row = tree.inode(FILE)
    assert row is not None
    assert (row.content, row.size_bytes) == (bound, 5)


def test_rows_of_one_folder_lie_together() -> None:
    """Whether anything is hidden below a folder would have to be searched for everywhere."""
    long = b"d/" + b"x" * 500
    assert hidden_key(long, VERSION).startswith(b"d/")
    assert hidden_key(long, VERSION)[:HIDDEN_STEM_BYTES] == hidden_key(long + b"y", "")[:300]
    assert hidden_key(long, VERSION) != hidden_key(long + b"y", VERSION)
    assert len(hidden_key(long, VERSION)) <= 511, "the longest key of the local database"


def test_a_row_under_another_key_is_damaged() -> None:
    """A checkpoint could hide what nobody removed."""
    row = HiddenRow(KEY, VERSION, Seq(3))
    assert row_check(Table.HIDDEN)(hidden_key(KEY, VERSION), encode(row)) == row
    with pytest.raises(ValueError, match="another key"):
        row_check(Table.HIDDEN)(hidden_key(KEY, VERSION), encode(replace(row, version="x")))
