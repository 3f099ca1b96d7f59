"""Decide what a rename does, with the kernel's checks in the kernel's order. Pure."""

import errno
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import msgspec

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


def plan_detaching(folders: Iterable[Node]) -> Change:
    """Let directories show no native objects any more, because one above them moves (N2).

    What they showed has been taken into the volume before. What comes to lie below their prefixes
    from now on belongs to their old names.
    """
    return Change({node.inode: msgspec.structs.replace(node.row, prefix=None) for node in folders})


def plan_rename(old: Place, new: Place, flags: int, lineage: Lineage, now_ns: int) -> Change:
    """Give what `old` leads to the name `new`, in place of what has it.

    A directory that moves shows no native objects any more; for those below it see
    `plan_detaching`. The change is empty where both names lead to one inode, as POSIX wants it.

    Raises:
        Refused: ENOENT, EEXIST (NOREPLACE), EINVAL (a directory into itself, unknown flags),
            ENOTDIR, EISDIR, ENOTEMPTY, EPERM (a name of blobfs' own), ENAMETOOLONG.
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


def _move(draft: Draft, node: Node, place: Place) -> None:
    draft.name(place, node.inode, node.kind)
    if node.kind is Kind.FOLDER:
        draft.alter(node, parent=place.folder.inode, prefix=None)
    else:
        draft.alter(node)
