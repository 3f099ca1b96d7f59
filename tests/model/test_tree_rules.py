"""Each rule of a file system, and the errno of each breach of it."""

import errno
import stat
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from blobfs.formats.rows import Kind, Native
from blobfs.model.changes import Change, DirentKey, LocalDirent, hidden_by, hiding
from blobfs.model.listing import Entry
from blobfs.model.nodes import NativeLook, NativeNode, Node
from blobfs.model.tree_rules import (
    MOST_LINKS,
    MOST_TARGET_BYTES,
    Place,
    merged,
    new_row,
    plan_adoption,
    plan_binding,
    plan_link,
    plan_make,
    plan_rmdir,
    plan_unlink,
    plan_unmarking,
)
from blobfs.model.tree_rules_rename import plan_rename
from blobfs.types import ROOT_INODE, InodeNo
from tests.model.places import (
    FILE,
    FOLDER,
    LOOK,
    NEW,
    NO_LINEAGE,
    NOW_NS,
    ROOT,
    USER,
    folder,
    free,
    native,
    node,
    refusing,
    taken,
    times,
)


def make(place: Place, **fields: object) -> Change:
    return plan_make(place, NEW, replace(FILE.row, **fields), NOW_NS)


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
        (taken(folder(6), b".blobfs"), errno.EPERM),
    ],
)
def test_what_cannot_be_removed(place: Place, number: int) -> None:
    """As rmdir(2) has it."""
    with refusing(number):
        plan_rmdir(place, NOW_NS)


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


# --- other tools' files --------------------------------------------------------------------


def test_a_native_file_is_bound_where_it_lies() -> None:
    """Its bytes would have to be copied to give it another mode (N3)."""
    node = native(b"old")
    assert node.native is not None
    change = plan_binding(FOLDER, node.native, node.row)
    bound = Native(b"a/old", 0, "0 0 1")
    dirent = LocalDirent(node.inode, Kind.FILE, bound.version)
    assert change.inodes == {node.inode: replace(node.row, bound=bound)}
    assert change.dirents == {
        (FOLDER.inode, b"old"): dirent,
        hiding(bound.key, bound.version): dirent,
    }


def test_what_is_hidden_can_be_told_from_its_dirent() -> None:
    """The wrong object would be hidden in everybody's directory (N1)."""
    for key, version in ((b"a/b", "5 7 abc"), (b"with\0nul", "5 7 abc"), (b"d/", "0 7 ")):
        assert hidden_by(hiding(key, version)) == (key, version)


@pytest.mark.parametrize(
    ("place", "hidden"),
    [
        (taken(folder(6, prefix="a/"), marker="0 7 "), {hiding(b"a/", "0 7 ")}),
        (taken(folder(6, prefix="a/")), set()),
        (taken(folder(6), marker="0 7 "), set()),
        (free(), set()),
    ],
)
def test_a_directory_that_goes_takes_its_marker_along(place: Place, hidden: set[DirentKey]) -> None:
    """It would be back at once."""
    assert plan_unmarking(place).dirents.keys() == hidden
