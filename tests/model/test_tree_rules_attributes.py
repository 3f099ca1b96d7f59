"""Attributes change as programs say, and as the manual says where they do not."""

import errno

import pytest
from msgspec.structs import replace

from blobfs.errors import BlobfsError
from blobfs.formats.rows import Extents, Inline, InodeRow, Kind
from blobfs.model.changes import Change, LocalInode
from blobfs.model.listing import Entry
from blobfs.model.nodes import NativeLook, NativeNode, Node, as_local
from blobfs.model.tree_rules_attributes import (
    FIRST_TIME_NS,
    LAST_TIME_NS,
    MOST_FILE_BYTES,
    MOST_XATTR_BYTES,
    Wanted,
    XattrMode,
    plan_removexattr,
    plan_setattr,
    plan_setxattr,
    row_after_write,
)
from blobfs.types import InodeNo

NOW_NS = 7
ROW = LocalInode(Kind.FILE, 0o644, 1, 2, 3, 4, 1, size_bytes=100, base_limit_bytes=80)
FILE = Node(InodeNo(10), ROW)
FOLDER = Node(InodeNo(11), LocalInode(Kind.FOLDER, 0o755, 1, 2, 3, 4, 1))
LINK = Node(InodeNo(12), LocalInode(Kind.SYMLINK, 0o777, 1, 2, 3, 4, 1, target=b"t"))
_OBJECT = NativeNode(InodeNo(1 << 62), InodeNo(1), "", Entry(b"x", False, 5, "1", 6))
NATIVE = Node(_OBJECT.number, NativeLook(1, 2).row(_OBJECT, 6), _OBJECT)


def changed(change: Change) -> LocalInode:
    (row,) = change.inodes.values()
    assert row is not None
    return row


def setattr_(node: Node, **wanted: int) -> LocalInode:
    return changed(plan_setattr(node, Wanted(**wanted), NOW_NS))


def with_mode(mode: int) -> Node:
    return Node(FILE.inode, replace(ROW, mode=mode))


def test_only_what_is_wanted_changes() -> None:
    """And the ctime, which says that something did."""
    assert setattr_(FILE, mode=0o100600) == replace(ROW, mode=0o600, ctime_ns=NOW_NS)
    assert setattr_(FILE, mtime_ns=-5) == replace(ROW, mtime_ns=-5, ctime_ns=NOW_NS)
    assert setattr_(FILE, uid=9) == replace(ROW, uid=9, ctime_ns=NOW_NS)
    assert setattr_(FILE, gid=9) == replace(ROW, gid=9, ctime_ns=NOW_NS)


def test_what_is_cut_off_never_comes_back() -> None:
    """Truncating and growing again shows zeros, not the old bytes."""
    shorter = Node(FILE.inode, setattr_(FILE, size_bytes=50))
    assert (shorter.row.size_bytes, shorter.row.base_limit_bytes) == (50, 50)
    longer = setattr_(shorter, size_bytes=1000)
    assert (longer.size_bytes, longer.base_limit_bytes) == (1000, 50)
    assert longer.mtime_ns == NOW_NS


def test_a_time_given_with_a_size_is_the_time() -> None:
    """Some programs set both at once."""
    row = setattr_(FILE, size_bytes=0, mtime_ns=5)
    assert (row.size_bytes, row.mtime_ns) == (0, 5)


@pytest.mark.parametrize(
    ("wanted_ns", "mtime_ns"),
    [
        (10**19, LAST_TIME_NS),
        (-(10**19), FIRST_TIME_NS),
        (LAST_TIME_NS, LAST_TIME_NS),
        (FIRST_TIME_NS, FIRST_TIME_NS),
    ],
)
def test_years_that_cannot_be_spelled_are_the_nearest(wanted_ns: int, mtime_ns: int) -> None:
    """One file with a date of 2500 would keep everything from being saved."""
    assert setattr_(FILE, mtime_ns=wanted_ns).mtime_ns == mtime_ns


@pytest.mark.parametrize(
    ("node", "wanted", "number"),
    [
        (FOLDER, Wanted(size_bytes=0), errno.EISDIR),
        (LINK, Wanted(size_bytes=0), errno.EINVAL),
        (FILE, Wanted(size_bytes=MOST_FILE_BYTES + 1), errno.EFBIG),
    ],
)
def test_what_cannot_be_set(node: Node, wanted: Wanted, number: int) -> None:
    """As truncate(2) has it."""
    with pytest.raises(BlobfsError) as caught:
        plan_setattr(node, wanted, NOW_NS)
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("before", "after"), [(0o6755, 0o755), (0o4644, 0o644), (0o2745, 0o2745), (0o2755, 0o755)]
)
def test_privileges_do_not_outlive_content_or_owner(before: int, after: int) -> None:
    """Who may write a setuid program could otherwise become its owner (chown(2), write(2))."""
    node = with_mode(before)
    assert setattr_(node, uid=9).mode == after
    assert setattr_(node, size_bytes=1).mode == after
    assert row_after_write(node.row, 1, NOW_NS).mode == after
    assert setattr_(node, uid=9, mode=0o4755).mode == 0o4755


def test_directories_keep_their_marks_when_they_are_given_away() -> None:
    """A team's directory stays a team's directory."""
    shared = Node(FOLDER.inode, replace(FOLDER.row, mode=0o2775))
    assert setattr_(shared, uid=9).mode == 0o2775


def test_a_write_moves_the_end_and_the_times() -> None:
    """But never the end backwards."""
    row = row_after_write(ROW, 150, NOW_NS)
    assert row == replace(ROW, size_bytes=150, mtime_ns=NOW_NS, ctime_ns=NOW_NS)
    assert row_after_write(ROW, 20, NOW_NS).size_bytes == 100
    with pytest.raises(BlobfsError) as caught:
        row_after_write(ROW, MOST_FILE_BYTES + 1, NOW_NS)
    assert caught.value.errno == errno.EFBIG


def test_extended_attributes_are_sorted_and_replaced() -> None:
    """Every client has the same row for them."""
    row = ROW
    for name, value in ((b"user.b", b"1"), (b"user.a", b"2"), (b"user.b", b"3")):
        row = changed(plan_setxattr(Node(FILE.inode, row), name, value, NOW_NS))
    assert row.xattrs == ((b"user.a", b"2"), (b"user.b", b"3"))
    assert row.ctime_ns == NOW_NS
    row = changed(plan_removexattr(Node(FILE.inode, row), b"user.a", NOW_NS))
    assert row.xattrs == ((b"user.b", b"3"),)


@pytest.mark.parametrize(
    ("name", "mode", "number"),
    [(b"user.a", "create", errno.EEXIST), (b"user.b", "replace", errno.ENODATA)],
)
def test_who_wants_an_attribute_new_or_there(name: bytes, mode: XattrMode, number: int) -> None:
    """As setxattr(2) has it."""
    node = Node(FILE.inode, replace(ROW, xattrs=((b"user.a", b""),)))
    with pytest.raises(BlobfsError) as caught:
        plan_setxattr(node, name, b"", NOW_NS, mode)
    assert caught.value.errno == number


def test_an_empty_attribute_is_one() -> None:
    """Some are marks, without a value."""
    node = Node(FILE.inode, replace(ROW, xattrs=((b"user.a", b""),)))
    assert changed(plan_removexattr(node, b"user.a", NOW_NS)).xattrs == ()
    with pytest.raises(BlobfsError) as caught:
        plan_removexattr(node, b"user.b", NOW_NS)
    assert caught.value.errno == errno.ENODATA


def test_attributes_have_a_limit() -> None:
    """They ride in a row of a commit, which has one, too (L7)."""
    value = bytes(MOST_XATTR_BYTES - len(b"user.a"))
    assert changed(plan_setxattr(FILE, b"user.a", value, NOW_NS)).xattrs
    with pytest.raises(BlobfsError) as caught:
        plan_setxattr(FILE, b"user.a", value + b"1", NOW_NS)
    assert caught.value.errno == errno.ENOSPC


def test_a_committed_row_is_where_unsaved_changes_begin() -> None:
    """All of its content shows until something is cut off."""
    row = InodeRow(Kind.FILE, 0o644, 1, 2, 3, 4, 1, 100, Extents(()), ((b"user.a", b"1"),), 6, None)
    local = as_local(row)
    assert (local.size_bytes, local.base_limit_bytes, local.target) == (100, 100, b"")
    for field in ("kind", "mode", "uid", "gid", "mtime_ns", "ctime_ns", "nlink", "xattrs", "rdev"):
        assert getattr(local, field) == getattr(row, field)
    folder = InodeRow(Kind.FOLDER, 0o755, 1, 2, 3, 4, 1, prefix="a/", parent=InodeNo(9))
    assert (as_local(folder).prefix, as_local(folder).parent) == ("a/", 9)
    link = InodeRow(Kind.SYMLINK, 0o777, 1, 2, 3, 4, 1, 1, Inline(b"t"))
    assert as_local(link).target == b"t"
