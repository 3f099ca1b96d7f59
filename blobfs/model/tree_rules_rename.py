"""Decide what a rename does, with the kernel's checks in the kernel's order. Pure."""

import errno
from collections.abc import Collection
from dataclasses import dataclass

from blobfs.errors import ReadOnly
from blobfs.formats.rows import Kind
from blobfs.model.changes import Change
from blobfs.model.nodes import Node
from blobfs.model.refusal import Refused
from blobfs.model.tree_rules import (
    Draft,
    Place,
    check_name,
    check_removable,
    existing,
)
from blobfs.types import InodeNo

NOREPLACE = 1
EXCHANGE = 2
"""Flags, as renameat2(2) numbers them."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The directories above the two names, each up to the root and with itself."""

    old: Collection[InodeNo]
    new: Collection[InodeNo]


def plan_rename(old: Place, new: Place, flags: int, lineage: Lineage, now_ns: int) -> Change:
    """Give what `old` leads to the name `new`, in place of what has it.

    The change is empty where both names lead to one inode, as POSIX wants it.

    Raises:
        Refused: ENOENT, EEXIST (NOREPLACE), EINVAL (a directory into itself, unknown flags),
            ENOTDIR, EISDIR, ENOTEMPTY, EPERM (a name of blobfs' own), ENAMETOOLONG.
        ReadOnly: a directory of native objects would have to move.
    """
    _check_flags(flags)
    check_name(old.name)
    check_name(new.name)
    moved, replaced = existing(old), new.found
    if new.folder.is_gone:
        raise Refused(errno.ENOENT, f"the directory was removed. inode={new.folder.inode}")
    if flags & NOREPLACE and replaced is not None:
        raise Refused(errno.EEXIST, f"the name is taken. name={new.name!r}")
    if flags & EXCHANGE:
        return _plan_exchange(old, new, lineage, now_ns)
    _check_loop(moved, replaced, lineage)
    if replaced is not None:
        if replaced.inode == moved.inode:
            return Change()
        _check_kinds(moved, replaced, new)
        if replaced.is_folder:
            check_removable(new)
    _check_movable(moved)
    draft = Draft(now_ns)
    if replaced is not None:
        draft.unlink(replaced)
    draft.unname(old)
    _move(draft, moved, new)
    draft.touch(old.folder)
    draft.touch(new.folder)
    return draft.change()


def _plan_exchange(old: Place, new: Place, lineage: Lineage, now_ns: int) -> Change:
    one, other = existing(old), existing(new)
    if one.inode in lineage.new or other.inode in lineage.old:
        raise Refused(errno.EINVAL, f"a directory would lie in itself. name={old.name!r}")
    if one.inode == other.inode:
        return Change()
    _check_movable(one)
    _check_movable(other)
    draft = Draft(now_ns)
    _move(draft, one, new)
    _move(draft, other, old)
    draft.touch(old.folder)
    draft.touch(new.folder)
    return draft.change()


def _check_flags(flags: int) -> None:
    if flags not in (0, NOREPLACE, EXCHANGE):
        raise Refused(errno.EINVAL, f"flags of rename that nobody knows. flags={flags:#x}")


def _check_loop(moved: Node, replaced: Node | None, lineage: Lineage) -> None:
    if moved.inode in lineage.new:
        raise Refused(errno.EINVAL, f"a directory would lie in itself. inode={moved.inode}")
    if replaced is not None and replaced.inode in lineage.old:
        raise Refused(errno.ENOTEMPTY, f"the directory is not empty. inode={replaced.inode}")


def _check_kinds(moved: Node, replaced: Node, new: Place) -> None:
    if moved.is_folder and not replaced.is_folder:
        raise Refused(errno.ENOTDIR, f"not a directory. name={new.name!r}")
    if replaced.is_folder and not moved.is_folder:
        raise Refused(errno.EISDIR, f"a directory. name={new.name!r}")


def _check_movable(node: Node) -> None:
    """Refuse to move what native objects are bound to by their place (volume format, N2)."""
    if node.row.prefix is not None:
        raise ReadOnly(
            f"objects in the bucket make up this directory, which cannot be moved yet. "
            f"prefix={node.row.prefix!r}"
        )


def _move(draft: Draft, node: Node, place: Place) -> None:
    draft.name(place, node.inode, node.kind)
    if node.kind is Kind.FOLDER:
        draft.alter(node, parent=place.folder.inode)
    else:
        draft.alter(node)
