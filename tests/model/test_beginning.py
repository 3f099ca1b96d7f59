"""The tree begins from a checkpoint when that is better, and not at the cost of what is unsaved."""

from dataclasses import replace

import pytest
from msgspec.structs import replace as row_with

from blobfs.formats.head import Head
from blobfs.formats.rows import DirentRow, InodeRow, Kind
from blobfs.model.beginning import (
    MOST_ENTRIES_BEHIND,
    Beginning,
    Here,
    beginning,
    is_contested,
)
from blobfs.types import InodeNo, Seq

AT = 1000
HEAD = Head(floor=Seq(0), checkpoint=f"{AT:020d}-0123456789abcdef")
TRIMMED = Head(floor=Seq(AT - 10), checkpoint=HEAD.checkpoint)
HERE = Here(Seq(AT - 5), is_doubted=False, has_unsaved=False)

FILE = InodeRow(Kind.FILE, 0o644, 1, 1, 5, 5, 1, seq=Seq(7), content_seq=Seq(7))


@pytest.mark.parametrize(
    ("head", "here", "expected"),
    [
        (Head(), replace(HERE, seq=Seq(0)), Beginning.LEFT),
        (HEAD, HERE, Beginning.LEFT),
        (HEAD, replace(HERE, seq=Seq(0)), Beginning.WORTHWHILE),
        (HEAD, replace(HERE, seq=Seq(AT - MOST_ENTRIES_BEHIND)), Beginning.LEFT),
        (HEAD, replace(HERE, seq=Seq(AT - MOST_ENTRIES_BEHIND - 1)), Beginning.WORTHWHILE),
        (HEAD, replace(HERE, seq=Seq(AT + 7)), Beginning.LEFT),
        (HEAD, replace(HERE, seq=Seq(0), has_unsaved=True), Beginning.LEFT),
        (HEAD, replace(HERE, is_doubted=True), Beginning.ANEW),
        (HEAD, replace(HERE, is_doubted=True, has_unsaved=True), Beginning.LEFT),
        (TRIMMED, HERE, Beginning.LEFT),
        (TRIMMED, replace(HERE, seq=Seq(AT - 11)), Beginning.NEEDED),
        (TRIMMED, replace(HERE, seq=Seq(1), has_unsaved=True), Beginning.NEEDED),
    ],
)
def test_where_the_tree_begins(head: Head, here: Here, expected: Beginning) -> None:
    """A mount would read a million entries, or lose sight of who changed what is unsaved."""
    assert beginning(head, here) is expected


class TestContested:
    def test_what_is_as_it_was_is_not(self) -> None:
        """Every mount behind a checkpoint would stop saving."""
        assert not is_contested(FILE, FILE, Seq(0))
        assert not is_contested(None, None, Seq(0))

    def test_a_new_content_is(self) -> None:
        """It would be overwritten, and nobody hear of it (P4)."""
        assert is_contested(FILE, row_with(FILE, content_seq=Seq(9), seq=Seq(9)), Seq(8))

    def test_what_this_client_committed_itself_is_not(self) -> None:
        """A commit whose answer was lost would count as somebody else's."""
        assert not is_contested(FILE, row_with(FILE, content_seq=Seq(9), seq=Seq(9)), Seq(9))

    def test_other_times_of_a_directory_are_not(self) -> None:
        """Two that make files in one directory would be in each other's way."""
        folder = InodeRow(Kind.FOLDER, 0o755, 1, 1, 5, 5, 1, seq=Seq(7))
        touched = row_with(folder, mtime_ns=9, ctime_ns=9, seq=Seq(9))
        assert not is_contested(folder, touched, Seq(0))
        assert is_contested(folder, row_with(touched, mode=0o700), Seq(0))

    def test_what_is_gone_is(self) -> None:
        """An edit of a file that somebody removed must not vanish with it."""
        assert is_contested(FILE, None, Seq(100))

    def test_what_both_adopted_is_not(self) -> None:
        """Whoever made files before the first commit of a volume would never save them."""
        root = InodeRow(Kind.FOLDER, 0o755, 1, 1, 5, 5, 1, prefix="", seq=Seq(7))
        assert not is_contested(None, root, Seq(0))
        assert is_contested(None, FILE, Seq(0))
        assert is_contested(root, row_with(root, mode=0o700, seq=Seq(9)), Seq(0))

    def test_names(self) -> None:
        """The one who came first would lose the name."""
        name = DirentRow(InodeNo(5), Kind.FILE, Seq(3))
        assert not is_contested(name, DirentRow(InodeNo(5), Kind.FILE, Seq(9)), Seq(0))
        assert is_contested(name, DirentRow(InodeNo(6), Kind.FILE, Seq(9)), Seq(0))
        assert is_contested(None, DirentRow(InodeNo(6), Kind.FILE, Seq(9)), Seq(0))
