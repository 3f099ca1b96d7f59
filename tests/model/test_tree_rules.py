"""Each rule of a file system, and the errno of each breach of it."""

import errno
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace

from blobfs.errors import BlobfsError, ReadOnly
from blobfs.formats.rows import Kind
from blobfs.model.changes import Change, LocalDirent, LocalInode
from blobfs.model.listing import Entry
from blobfs.model.nodes import NativeLook, NativeNode, Node
from blobfs.model.tree_rules import (
    MOST_LINKS,
    MOST_TARGET_BYTES,
    Maker,
    Place,
    merged,
    new_row,
    plan_adoption,
    plan_link,
    plan_make,
    plan_rmdir,
    plan_unlink,
)
from blobfs.model.tree_rules_rename import EXCHANGE, NOREPLACE, Lineage, plan_rename
from blobfs.types import ROOT_INODE, InodeNo

NOW_NS = 7
NEW = InodeNo(99)
NO_LINEAGE = Lineage((), ())
LOOK = NativeLook(uid=1000, gid=1000)
USER = Maker(1, 2)


def node(number: int, kind: Kind = Kind.FILE, **fields: object) -> Node:
    row = LocalInode(kind, 0o644, 1000, 1000, 1, 1, 1)
    return Node(InodeNo(number), replace(row, **fields))


def folder(number: int, **fields: object) -> Node:
    return node(number, Kind.FOLDER, **{"parent": ROOT_INODE, **fields})


def native(name: bytes, *, is_folder: bool = False) -> Node:
    prefix = "a/" + name.decode() + "/" if is_folder else "a/"
    known = NativeNode(InodeNo(1 << 62), InodeNo(5), prefix, Entry(name, is_folder, etag="1"))
    return Node(known.number, LOOK.row(known, 1), known)


ROOT = Node(ROOT_INODE, LocalInode(Kind.FOLDER, 0o755, 0, 0, 1, 1, 1, prefix=""))
FOLDER = folder(5)
FILE = node(10)


def free(name: bytes = b"new", parent: Node = FOLDER) -> Place:
    return Place(parent, name)


def taken(by: Node, name: bytes = b"old", parent: Node = FOLDER, **facts: bool) -> Place:
    return Place(parent, name, by, **facts)


@contextmanager
def refusing(number: int) -> Iterator[None]:
    with pytest.raises(BlobfsError) as caught:
        yield
    assert errno.errorcode[caught.value.errno] == errno.errorcode[number]


def make(place: Place, **fields: object) -> Change:
    return plan_make(place, NEW, replace(FILE.row, **fields), NOW_NS)


def times(change: Change, inode: InodeNo) -> tuple[int, int]:
    row = change.inodes[inode]
    assert row is not None
    return row.mtime_ns, row.ctime_ns


# --- every way to give a name ----------------------------------------------------------

NAMING: list[Callable[[Place], Change]] = [
    make,
    lambda place: plan_link(FILE, place, NOW_NS),
    lambda place: plan_rename(taken(FILE), place, 0, NO_LINEAGE, NOW_NS),
]


@pytest.mark.parametrize("plan", NAMING)
@pytest.mark.parametrize(
    ("name", "number"),
    [(b".blobfs", errno.EPERM), (b"x" * 256, errno.ENAMETOOLONG)],
)
def test_some_names_nobody_can_have(
    plan: Callable[[Place], Change], name: bytes, number: int
) -> None:
    """What lies below `.blobfs` is the volume itself (N7)."""
    with refusing(number):
        plan(free(name))


@pytest.mark.parametrize("plan", NAMING)
def test_the_longest_name(plan: Callable[[Place], Change]) -> None:
    """255 bytes, as everywhere."""
    assert plan(free(b"x" * 255)).dirents[FOLDER.inode, b"x" * 255] is not None


@pytest.mark.parametrize("plan", NAMING)
def test_a_directory_that_was_removed_takes_no_names(plan: Callable[[Place], Change]) -> None:
    """They would be out of reach for ever."""
    with refusing(errno.ENOENT):
        plan(free(parent=folder(5, nlink=0)))


@pytest.mark.parametrize("plan", NAMING)
def test_a_directory_whose_names_change_has_a_new_time(plan: Callable[[Place], Change]) -> None:
    """Backup programs go by it."""
    assert times(plan(free()), FOLDER.inode) == (NOW_NS, NOW_NS)


# --- make --------------------------------------------------------------------------------


def test_a_new_entry_is_a_row_and_a_name() -> None:
    """Both or neither, so they are one change."""
    change = make(free())
    assert change.inodes[NEW] == FILE.row
    assert change.dirents == {(FOLDER.inode, b"new"): LocalDirent(NEW, Kind.FILE)}


@pytest.mark.parametrize("found", [FILE, FOLDER, native(b"old"), native(b"old", is_folder=True)])
def test_a_name_is_given_once(found: Node) -> None:
    """Not even native objects are covered."""
    with refusing(errno.EEXIST):
        make(taken(found))
    with refusing(errno.EEXIST):
        plan_link(FILE, taken(found), NOW_NS)


def test_the_target_of_a_link_is_a_path() -> None:
    """4,095 bytes, and no more than rides in a commit."""
    make(free(), kind=Kind.SYMLINK, target=b"t" * MOST_TARGET_BYTES)
    with refusing(errno.ENAMETOOLONG):
        make(free(), kind=Kind.SYMLINK, target=b"t" * (MOST_TARGET_BYTES + 1))


def test_who_makes_something_owns_it() -> None:
    """Or could not use it."""
    row = new_row(FOLDER, Kind.FILE, 0o640, USER, NOW_NS)
    assert (row.mode, row.uid, row.gid) == (0o640, 1, 2)
    assert (row.mtime_ns, row.ctime_ns, row.nlink, row.parent) == (NOW_NS, NOW_NS, 1, 0)
    assert new_row(FOLDER, Kind.FOLDER, 0o755, USER, NOW_NS).parent == FOLDER.inode


def test_a_setgid_directory_shares_its_group() -> None:
    """A team's directory stays readable to the team, all the way down."""
    shared = folder(5, mode=0o2775, gid=50)
    assert new_row(shared, Kind.FILE, 0o664, USER, NOW_NS).gid == 50
    assert new_row(shared, Kind.FILE, 0o664, USER, NOW_NS).mode == 0o664
    below = new_row(shared, Kind.FOLDER, 0o775, USER, NOW_NS)
    assert (below.gid, below.mode) == (50, 0o2775)


# --- link --------------------------------------------------------------------------------


def test_one_more_name_is_counted() -> None:
    """Else the first unlink would take the file from both."""
    change = plan_link(FILE, free(), NOW_NS)
    row = change.inodes[FILE.inode]
    assert row is not None
    assert (row.nlink, row.ctime_ns, row.mtime_ns) == (2, NOW_NS, FILE.row.mtime_ns)
    assert change.dirents == {(FOLDER.inode, b"new"): LocalDirent(FILE.inode, Kind.FILE)}


@pytest.mark.parametrize(
    ("linked", "number"),
    [
        (folder(6), errno.EPERM),
        (node(10, nlink=0), errno.ENOENT),
        (node(10, nlink=MOST_LINKS), errno.EMLINK),
        (native(b"old"), errno.EROFS),
    ],
)
def test_what_cannot_be_linked(linked: Node, number: int) -> None:
    """As link(2) has it."""
    with refusing(number):
        plan_link(linked, free(), NOW_NS)


# --- unlink and rmdir ----------------------------------------------------------------------


@pytest.mark.parametrize("names", [1, 2])
def test_a_name_is_taken_away(names: int) -> None:
    """The file stays for its other names, and for who has it open."""
    change = plan_unlink(taken(node(10, nlink=names)), NOW_NS)
    row = change.inodes[InodeNo(10)]
    assert row is not None
    assert (row.nlink, row.ctime_ns) == (names - 1, NOW_NS)
    assert change.dirents == {(FOLDER.inode, b"old"): None}
    assert times(change, FOLDER.inode) == (NOW_NS, NOW_NS)


@pytest.mark.parametrize(
    ("place", "number"),
    [
        (free(), errno.ENOENT),
        (taken(folder(6)), errno.EISDIR),
        (taken(native(b"old")), errno.EROFS),
        (taken(FILE, b".blobfs"), errno.EPERM),
    ],
)
def test_what_cannot_be_unlinked(place: Place, number: int) -> None:
    """As unlink(2) has it."""
    with refusing(number):
        plan_unlink(place, NOW_NS)


def test_an_empty_directory_is_removed() -> None:
    """And lives on, without a name, for who has it open."""
    change = plan_rmdir(taken(folder(6)), NOW_NS)
    row = change.inodes[InodeNo(6)]
    assert row is not None
    assert row.nlink == 0
    assert change.dirents == {(FOLDER.inode, b"old"): None}


@pytest.mark.parametrize(
    ("place", "number"),
    [
        (free(), errno.ENOENT),
        (taken(FILE), errno.ENOTDIR),
        (taken(folder(6), has_entries=True), errno.ENOTEMPTY),
        (taken(folder(6, prefix="a/"), is_native_too=True), errno.EROFS),
        (taken(native(b"old", is_folder=True)), errno.EROFS),
        (taken(folder(6), b".blobfs"), errno.EPERM),
    ],
)
def test_what_cannot_be_removed(place: Place, number: int) -> None:
    """As rmdir(2) has it; and what objects keep in being would only come back."""
    with refusing(number):
        plan_rmdir(place, NOW_NS)


# --- rename ------------------------------------------------------------------------------


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
        (taken(native(b"old")), free(), 0, errno.EROFS),
        (taken(native(b"old", is_folder=True)), free(), 0, errno.EROFS),
        (taken(FILE), taken(native(b"new"), b"new"), 0, errno.EROFS),
        (taken(FILE), taken(native(b"new"), b"new"), EXCHANGE, errno.EROFS),
        (taken(ADOPTED), free(), 0, errno.EROFS),
        (taken(FILE), taken(ADOPTED, b"new"), EXCHANGE, errno.EROFS),
        (taken(folder(6)), taken(ADOPTED, b"new", is_native_too=True), 0, errno.EROFS),
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


# --- adoption ----------------------------------------------------------------------------


def test_adopted_directories_get_rows_and_names() -> None:
    """A file below them would otherwise be out of reach for every other client."""
    chain = []
    parent, prefix = ROOT_INODE, ""
    for number, name in ((1, b""), (1 << 62, b"a"), ((1 << 62) + 1, b"b")):
        prefix += name.decode() + "/" if name else ""
        known = NativeNode(InodeNo(number), parent, prefix, Entry(name, True))
        chain.append(Node(known.number, LOOK.row(known, 1), known))
        parent = known.number
    change = plan_adoption(chain)
    assert [row and row.prefix for row in change.inodes.values()] == ["", "a/", "a/b/"]
    assert [row and row.parent for row in change.inodes.values()] == [0, 1, 1 << 62]
    assert change.dirents == {
        (1, b"a"): LocalDirent(InodeNo(1 << 62), Kind.FOLDER),
        (1 << 62, b"b"): LocalDirent(InodeNo((1 << 62) + 1), Kind.FOLDER),
    }


def test_what_is_done_to_an_adopted_directory_holds() -> None:
    """Adoption comes first, whatever made it necessary after it."""
    adopted = Change({ROOT_INODE: ROOT.row}, {(ROOT_INODE, b"a"): LocalDirent(NEW, Kind.FOLDER)})
    change = merged(adopted, make(free(parent=ROOT)))
    assert times(change, ROOT_INODE) == (NOW_NS, NOW_NS)
    assert len(change.dirents) == 2


def test_native_objects_look_like_the_mounting_users() -> None:
    """Whose else?"""
    row = NativeLook(uid=7, gid=8, umask=0o027).row(native(b"x").native, 5)  # type: ignore[arg-type]
    assert (row.mode, row.uid, row.gid, row.mtime_ns, row.ctime_ns) == (0o640, 7, 8, 5, 5)
    inside = native(b"x", is_folder=True)
    assert stat.S_ISDIR(inside.mode)
    assert (inside.row.mode, inside.row.prefix, inside.parent) == (0o755, "a/x/", 5)


def test_errors_name_what_they_are_about() -> None:
    """`EROFS` alone leaves people guessing which of thousands of files it was."""
    with pytest.raises(ReadOnly, match="prefix='a/' name=b'old'"):
        plan_unlink(taken(native(b"old")), NOW_NS)
