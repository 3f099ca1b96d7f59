"""What becomes of native objects that two clients took into the volume at once.

Before, no row knows the object; both have made one of it, by the number that it has for everybody.
"""

from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from blobfs.formats.commit import Operation
from blobfs.formats.rows import DirentRow, FileContent, Inline, InodeRow, Kind, Native
from blobfs.model.changes import GONE, DirentKey, Gone, LocalDirent, LocalInode, hiding
from blobfs.model.difference import InodeChange, NameChange, operations_for
from blobfs.model.nodes import NativeLook
from blobfs.model.numbers import folder_number
from blobfs.model.rebase import Mine, Rebased, Setting
from blobfs.model.reconcile import reconcile
from blobfs.types import FIRST_NATIVE_INODE, ROOT_INODE, InodeNo, Seq
from tests.model.committed import Committed

FOLDER = folder_number("d/")
FILE = InodeNo(FIRST_NATIVE_INODE + 5)
OBJECT = Native(b"d/f", 3, "3 7 abc")
NAME: DirentKey = (FOLDER, b"f")
HIDING = hiding(OBJECT.key, OBJECT.version)
FRESH = InodeNo(900)
LOOK = NativeLook(uid=1, gid=1)

FOLDER_ROW = LocalInode(Kind.FOLDER, 0o755, 1, 1, 5, 5, 1, prefix="d/", parent=ROOT_INODE)
FILE_ROW = LocalInode(Kind.FILE, 0o644, 1, 1, 5, 5, 1, 3, 3, bound=OBJECT)
DIRENT = LocalDirent(FILE, Kind.FILE, OBJECT.version)

ADOPTED: dict[DirentKey, LocalDirent | Gone] = {
    (ROOT_INODE, b"d"): LocalDirent(FOLDER, Kind.FOLDER)
}


@dataclass
class Side:
    """The unsaved rows of one client that took `d` and `d/f` into the volume."""

    row: LocalInode | Gone | None = FILE_ROW
    names: dict[DirentKey, LocalDirent | Gone] = field(default_factory=lambda: {NAME: DIRENT})
    content: FileContent | None = OBJECT
    folder: LocalInode = FOLDER_ROW
    adopted: dict[DirentKey, LocalDirent | Gone] = field(default_factory=lambda: dict(ADOPTED))

    @property
    def inodes(self) -> dict[InodeNo, LocalInode | Gone]:
        return {FOLDER: self.folder} | ({} if self.row is None else {FILE: self.row})

    @property
    def dirents(self) -> dict[DirentKey, LocalDirent | Gone]:
        return self.adopted | self.names | {HIDING: DIRENT}


def spelled(
    base: Committed,
    inodes: dict[InodeNo, LocalInode | Gone],
    names: dict[DirentKey, LocalDirent | Gone],
    content: FileContent | None,
    edited: InodeNo = FILE,
) -> tuple[Operation, ...]:
    """Return what a commit of such rows says; `content` is that of the file `edited`."""
    changes = [
        InodeChange(
            inode,
            base.inode(inode),
            row if isinstance(row, LocalInode) else None,
            content if isinstance(row, LocalInode) and inode == edited else None,
        )
        for inode, row in inodes.items()
    ]
    name_changes = [
        NameChange(key, base.dirent(*key), row if isinstance(row, LocalDirent) else None)
        for key, row in names.items()
    ]
    return operations_for(changes, name_changes)


def meet(theirs: Side, ours: Side, *, edited: bool = False) -> tuple[Committed, Rebased]:
    """Return the tree with theirs, and what becomes of ours; both have to be replayable."""
    before = Committed()
    after = before.replayed(spelled(before, theirs.inodes, theirs.dirents, theirs.content))
    mine = Mine(ours.inodes, ours.dirents, {FILE} if edited else set())
    setting = Setting(Seq(1), "here", 0, lambda: FRESH, look=LOOK)
    rebased = reconcile(before, after, mine, setting)
    numbers = rebased.numbers
    inodes = {numbers.get(inode, inode): row for inode, row in ours.inodes.items()}
    names = {key: _moved(row, rebased) for key, row in ours.dirents.items()}
    inodes |= rebased.inodes  # type: ignore[arg-type]
    names |= rebased.dirents  # type: ignore[arg-type]
    left = {inode: row for inode, row in inodes.items() if row is not None}
    left_names = {key: row for key, row in names.items() if row is not None}
    content = ours.content if edited else None
    number = numbers.get(FILE, FILE)
    return after.replayed(spelled(after, left, left_names, content, number)), rebased


def _moved(row: LocalDirent | Gone, rebased: Rebased) -> LocalDirent | Gone:
    if isinstance(row, Gone):
        return row
    return replace(row, inode=rebased.numbers.get(row.inode, row.inode))


def file_row(tree: Committed) -> InodeRow:
    row = tree.inode(FILE)
    assert row is not None
    return row


def moved(name: bytes) -> Side:
    """Return a client that renamed the file: its old name was in no commit."""
    return Side(names={(FOLDER, name): DIRENT})


def chmodded(mode: int) -> Side:
    return Side(row=replace(FILE_ROW, mode=mode, ctime_ns=9))


REMOVED = Side(row=None, names={}, content=None)


def test_both_took_the_same_over() -> None:
    """Two who only opened a directory for writing would make each other commit for ever."""
    _, rebased = meet(Side(), Side())
    assert set(rebased.inodes.values()) == {None}
    assert set(rebased.dirents.values()) == {None}
    assert not rebased.numbers


def test_a_directory_keeps_what_was_set_here() -> None:
    """A chmod of a directory would be lost because another one adopted it."""
    tree, _ = meet(Side(), Side(folder=replace(FOLDER_ROW, mode=0o700)))
    row = tree.inode(FOLDER)
    assert row is not None
    assert row.mode == 0o700


def renamed_folder(name: bytes) -> Side:
    """Return a client that renamed the directory, with all that it showed."""
    side = Side(folder=replace(FOLDER_ROW, prefix=None))
    side.names[ROOT_INODE, name] = LocalDirent(FOLDER, Kind.FOLDER)
    side.adopted = {}
    return side


def places(tree: Committed) -> list[bytes]:
    """Return the names in the root."""
    return [name for name, _ in tree.dirents(ROOT_INODE)]


def test_a_renamed_directory_meets_one_that_was_adopted() -> None:
    """It would lie in two places, and show objects in one that belong to the other."""
    for theirs, ours in ((Side(), renamed_folder(b"e")), (renamed_folder(b"e"), Side())):
        tree, _ = meet(theirs, ours)
        assert places(tree) == [b"e"]
        row = tree.inode(FOLDER)
        assert row is not None
        assert row.prefix is None
        assert [name for name, _ in tree.dirents(FOLDER)] == [b"f"]


def test_of_two_renames_of_a_directory_the_later_is_dropped() -> None:
    """C5 for what no commit knew before."""
    tree, rebased = meet(renamed_folder(b"e"), renamed_folder(b"g"))
    assert places(tree) == [b"e"]
    assert len(rebased.conflicts) == 1


def test_a_chmod_elsewhere_is_not_undone() -> None:
    """What a mount makes files look like would count as a change of it."""
    tree, _ = meet(chmodded(0o600), moved(b"g"))
    assert file_row(tree).mode == 0o600


def test_a_rename_meets_a_chmod() -> None:
    """The file would show under both names."""
    tree, _ = meet(chmodded(0o600), moved(b"g"))
    assert dict(tree.dirents(FOLDER)) == {b"g": DirentRow(FILE, Kind.FILE, Seq(2), OBJECT.version)}
    assert file_row(tree).mode == 0o600


def test_a_chmod_meets_a_rename() -> None:
    """The same the other way round."""
    tree, _ = meet(moved(b"g"), chmodded(0o600))
    assert [name for name, _ in tree.dirents(FOLDER)] == [b"g"]
    assert file_row(tree).mode == 0o600


def test_of_two_renames_the_later_is_dropped() -> None:
    """C5: the file would have two names."""
    tree, rebased = meet(moved(b"g"), moved(b"h"))
    assert [name for name, _ in tree.dirents(FOLDER)] == [b"g"]
    assert [each.what for each in rebased.conflicts]


def test_an_edit_meets_a_chmod() -> None:
    """They commute: no copy, and no version that is given up twice."""
    ours = Side(row=replace(FILE_ROW, size_bytes=5, mtime_ns=9), content=Inline(b"edits"))
    tree, rebased = meet(chmodded(0o600), ours, edited=True)
    assert (file_row(tree).mode, file_row(tree).content) == (0o600, Inline(b"edits"))
    assert not rebased.conflicts


def test_two_edits() -> None:
    """C1: the copy lies over the object that it was made of, which is not given up by it."""
    theirs = Side(row=replace(FILE_ROW, size_bytes=6), content=Inline(b"theirs"))
    ours = Side(row=replace(FILE_ROW, size_bytes=4), content=Inline(b"ours"))
    tree, rebased = meet(theirs, ours, edited=True)
    assert file_row(tree).content == Inline(b"theirs")
    copy = tree.inode(FRESH)
    assert copy is not None
    assert copy.content == Inline(b"ours")
    row = rebased.inodes[FRESH]
    assert isinstance(row, LocalInode)
    assert row.bound == OBJECT


def test_a_removal_meets_a_chmod() -> None:
    """Attributes never revive: what was removed would come back."""
    tree, _ = meet(chmodded(0o600), REMOVED)
    assert tree.inode(FILE) is None
    assert not dict(tree.dirents(FOLDER))


def test_a_removal_meets_an_edit() -> None:
    """C4: the edit would be gone."""
    theirs = Side(row=replace(FILE_ROW, size_bytes=6), content=Inline(b"theirs"))
    tree, _ = meet(theirs, REMOVED)
    assert file_row(tree).content == Inline(b"theirs")


def test_a_removal_meets_a_rename() -> None:
    """What was moved to safety would be gone, or its object be given up below it."""
    tree, rebased = meet(moved(b"g"), REMOVED)
    assert [name for name, _ in tree.dirents(FOLDER)] == [b"g"]
    assert rebased.dirents[HIDING] is None


def test_what_hides_a_removed_object_stays_where_nobody_contests_it() -> None:
    """The object would show again."""
    before = Committed()
    after = before.replayed(spelled(before, {FOLDER: FOLDER_ROW}, dict(ADOPTED), None))
    mine = Mine(REMOVED.inodes, REMOVED.dirents, set())
    rebased = reconcile(before, after, mine, Setting(Seq(1), "here", 0, lambda: FRESH, look=LOOK))
    assert HIDING not in rebased.dirents
    assert GONE not in rebased.inodes.values()


EDITED = Side(row=replace(FILE_ROW, size_bytes=6, mtime_ns=9), content=Inline(b"theirs"))
EDITED_HERE = Side(row=replace(FILE_ROW, size_bytes=4, mtime_ns=9), content=Inline(b"ours"))
LINKED = Side(row=replace(FILE_ROW, nlink=2), names={NAME: DIRENT, (ROOT_INODE, b"linked"): DIRENT})
MOVED_AND_EDITED = Side(
    row=replace(FILE_ROW, size_bytes=5, mtime_ns=9),
    names={(ROOT_INODE, b"moved"): DIRENT},
    content=Inline(b"moved"),
)
SIDES = {
    "adopted": Side(),
    "chmodded": chmodded(0o600),
    "renamed": moved(b"g"),
    "removed": REMOVED,
    "linked": LINKED,
    "edited": EDITED,
    "edited here": EDITED_HERE,
    "moved and edited": MOVED_AND_EDITED,
    "folder renamed": renamed_folder(b"e"),
}


@pytest.mark.parametrize("theirs", SIDES)
@pytest.mark.parametrize("ours", SIDES)
def test_whatever_two_do_to_one_object(ours: str, theirs: str) -> None:
    """One of the two could not be saved, or what it wrote would be gone."""
    is_edited = isinstance(SIDES[ours].content, Inline)
    tree, _ = meet(SIDES[theirs], SIDES[ours], edited=is_edited)
    there = {row.content for row in tree.inodes.values() if row.kind is Kind.FILE}
    written = {SIDES[side].content for side in (ours, theirs)}
    assert {each for each in written if isinstance(each, Inline)} <= there
