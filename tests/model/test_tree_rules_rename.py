"""A rename moves one entry, loses none, and is refused where rename(2) refuses."""

import errno

import pytest
from msgspec.structs import replace

from blobfs.formats.rows import Kind
from blobfs.model.changes import Change, LocalDirent
from blobfs.model.nodes import Node
from blobfs.model.tree_rules import Place
from blobfs.model.tree_rules_rename import (
    EXCHANGE,
    NOREPLACE,
    Lineage,
    plan_detaching,
    plan_rename,
)
from blobfs.types import ROOT_INODE, InodeNo
from tests.model.places import (
    FILE,
    FOLDER,
    NO_LINEAGE,
    NOW_NS,
    ROOT,
    folder,
    free,
    node,
    refusing,
    taken,
    times,
)


def rename(old: Place, new: Place, flags: int = 0, lineage: Lineage = NO_LINEAGE) -> Change:
    return plan_rename(old, new, flags, lineage, NOW_NS)


def test_a_file_gets_another_name() -> None:
    """In one change, so that a kill in between can show neither none nor two."""
    change = rename(taken(FILE, b"old"), free(b"new", ROOT))
    assert change.dirents == {
        (FOLDER.inode, b"old"): None,
        (ROOT_INODE, b"new"): LocalDirent(FILE.inode, Kind.FILE),
    }
    assert times(change, FILE.inode) == (FILE.row.mtime_ns, NOW_NS)
    assert times(change, FOLDER.inode) == times(change, ROOT_INODE) == (NOW_NS, NOW_NS)


def test_what_had_the_name_loses_it() -> None:
    """Saving by rename replaces the file and nothing else."""
    change = rename(taken(FILE), taken(node(11, nlink=2), b"new"))
    row = change.inodes[InodeNo(11)]
    assert row is not None
    assert row.nlink == 1
    assert change.dirents[FOLDER.inode, b"new"] == LocalDirent(FILE.inode, Kind.FILE)


def test_a_name_keeps_what_it_shadows() -> None:
    """The native object behind the name is there whoever has the name (N4)."""
    old = Place(FOLDER, b"old", FILE, shadows="of the old name")
    new = Place(FOLDER, b"new", node(11), shadows="of the new name")
    dirent = rename(old, new).dirents[new.key]
    assert dirent is not None
    assert dirent.shadows == "of the new name"


def test_a_moved_directory_knows_where_it_lies() -> None:
    """`..` and the check against loops go by it."""
    change = rename(taken(folder(6), parent=FOLDER), free(b"new", ROOT))
    row = change.inodes[InodeNo(6)]
    assert row is not None
    assert row.parent == ROOT_INODE


def test_two_entries_change_places() -> None:
    """Neither is ever without a name."""
    one, other = folder(6, parent=FOLDER.inode), node(11)
    change = rename(taken(one, b"one"), taken(other, b"other", ROOT), EXCHANGE)
    assert change.dirents == {
        (FOLDER.inode, b"one"): LocalDirent(other.inode, Kind.FILE),
        (ROOT_INODE, b"other"): LocalDirent(one.inode, Kind.FOLDER),
    }
    moved = change.inodes[one.inode]
    assert moved is not None
    assert moved.parent == ROOT_INODE
    assert times(change, other.inode)[1] == NOW_NS


@pytest.mark.parametrize("flags", [0, EXCHANGE])
def test_two_names_of_one_file_stay_as_they_are(flags: int) -> None:
    """POSIX wants it so: nothing happens."""
    assert rename(taken(FILE, b"one"), taken(FILE, b"other"), flags) == Change()


ADOPTED = folder(8, prefix="a/x/")


@pytest.mark.parametrize(
    ("old", "new", "flags"),
    [
        (ADOPTED, None, 0),
        (ADOPTED, FILE, EXCHANGE),
        (FILE, ADOPTED, EXCHANGE),
    ],
)
def test_a_directory_that_moves_shows_no_objects_any_more(
    old: Node, new: Node | None, flags: int
) -> None:
    """What a pipeline writes under the old name would show under the new one (N2)."""
    change = rename(taken(old, b"old"), Place(ROOT, b"new", new), flags)
    row = change.inodes[ADOPTED.inode]
    assert row is not None
    assert row.prefix is None


def test_directories_below_one_that_moves_stay_as_they_are() -> None:
    """But for the objects, which stay below their old prefix: nobody has touched them."""
    below = folder(9, prefix="a/x/y/", parent=ADOPTED.inode)
    change = plan_detaching([below])
    assert change == Change({below.inode: replace(below.row, prefix=None)})


@pytest.mark.parametrize(
    ("old", "new", "flags", "number"),
    [
        (free(b"old"), free(), 0, errno.ENOENT),
        (taken(FILE), taken(node(11), b"new"), NOREPLACE, errno.EEXIST),
        (taken(FILE), free(), EXCHANGE, errno.ENOENT),
        (taken(FILE), free(), EXCHANGE | NOREPLACE, errno.EINVAL),
        (taken(FILE), free(), 4, errno.EINVAL),
        (taken(FILE), taken(folder(6), b"new"), 0, errno.EISDIR),
        (taken(folder(6)), taken(FILE, b"new"), 0, errno.ENOTDIR),
        (taken(folder(6)), taken(folder(7), b"new", has_entries=True), 0, errno.ENOTEMPTY),
        (taken(FILE, b".blobfs"), free(), 0, errno.EPERM),
    ],
)
def test_what_cannot_be_renamed(old: Place, new: Place, flags: int, number: int) -> None:
    """As rename(2) and renameat2(2) have it."""
    with refusing(number):
        rename(old, new, flags)


@pytest.mark.parametrize(
    ("old", "new", "flags", "number"),
    [
        (folder(6), None, 0, errno.EINVAL),
        (folder(6), FILE, 0, errno.EINVAL),
        (folder(6), FILE, EXCHANGE, errno.EINVAL),
        (FILE, folder(4), 0, errno.ENOTEMPTY),
        (FILE, folder(4), EXCHANGE, errno.EINVAL),
    ],
)
def test_no_directory_comes_to_lie_in_itself(
    old: Node, new: Node | None, flags: int, number: int
) -> None:
    """It would be cut off from the root with all that it holds."""
    lineage = Lineage(old=(FOLDER.inode, InodeNo(4)), new=(InodeNo(7), InodeNo(6)))
    with refusing(number):
        rename(taken(old), Place(folder(7), b"new", new), flags, lineage)
