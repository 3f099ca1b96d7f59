"""Decide what becomes of attributes: chmod, chown, truncate, utimens, xattrs, writes. Pure."""

import errno
import stat
from typing import Any, Literal

import msgspec

from blobfs.formats.rows import Kind
from blobfs.model.changes import Change, LocalInode
from blobfs.model.nodes import Node
from blobfs.model.refusal import Refused
from blobfs.model.tree_rules import Draft

MOST_FILE_BYTES = (1 << 63) - 1
"""The largest offset that a program can name."""

FIRST_TIME_NS, LAST_TIME_NS = -(1 << 63), (1 << 63) - 1
"""The years 1677 to 2262: what the format holds."""

MOST_XATTR_BYTES = 64 * 1024
"""Names and values of all extended attributes of one inode: they ride in its row."""

XattrMode = Literal["either", "create", "replace"]


class Wanted(msgspec.Struct, frozen=True):
    """Attributes that a program wants to set; None leaves one as it is. Times in ns."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size_bytes: int | None = None
    mtime_ns: int | None = None


def plan_setattr(node: Node, wanted: Wanted, now_ns: int) -> Change:
    """Set attributes of an inode.

    A shorter file loses its bytes behind the end for good; a longer one reads zeros there.

    Raises:
        Refused: EISDIR or EINVAL (a size for what is no file), EFBIG.
    """
    fields: dict[str, Any] = {}
    if wanted.size_bytes is not None:
        fields |= _resized(node, wanted.size_bytes, now_ns)
    if wanted.uid is not None or wanted.gid is not None:
        fields |= _given_away(node.row, wanted)
    if wanted.mode is not None:
        fields["mode"] = stat.S_IMODE(wanted.mode)
    if wanted.mtime_ns is not None:
        # As kernels do for a file system that knows fewer years than they.
        fields["mtime_ns"] = min(max(wanted.mtime_ns, FIRST_TIME_NS), LAST_TIME_NS)
    draft = Draft(now_ns)
    draft.alter(node, **fields)
    return draft.change()


def row_after_write(row: LocalInode, stop: int, now_ns: int) -> LocalInode:
    """Return the row of a file after bytes up to `stop` were written.

    Raises:
        Refused: EFBIG.
    """
    _check_size(stop)
    return msgspec.structs.replace(
        row,
        size_bytes=max(row.size_bytes, stop),
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        mode=_unprivileged(row.mode),
    )


def plan_setxattr(
    node: Node, name: bytes, value: bytes, now_ns: int, mode: XattrMode = "either"
) -> Change:
    """Set an extended attribute.

    Raises:
        Refused: EEXIST or ENODATA (`mode` wants it absent, or there), ENOSPC (too many bytes).
    """
    xattrs = dict(node.row.xattrs)
    if mode == "create" and name in xattrs:
        raise Refused(errno.EEXIST, f"the extended attribute is there. name={name!r}")
    if mode == "replace" and name not in xattrs:
        raise Refused(errno.ENODATA, f"no such extended attribute. name={name!r}")
    xattrs[name] = value
    size_bytes = sum(len(key) + len(each) for key, each in xattrs.items())
    if size_bytes > MOST_XATTR_BYTES:
        raise Refused(errno.ENOSPC, f"too much in extended attributes. bytes={size_bytes}")
    return _with_xattrs(node, xattrs, now_ns)


def plan_removexattr(node: Node, name: bytes, now_ns: int) -> Change:
    """Remove an extended attribute.

    Raises:
        Refused: ENODATA.
    """
    xattrs = dict(node.row.xattrs)
    if xattrs.pop(name, None) is None:
        raise Refused(errno.ENODATA, f"no such extended attribute. name={name!r}")
    return _with_xattrs(node, xattrs, now_ns)


def _with_xattrs(node: Node, xattrs: dict[bytes, bytes], now_ns: int) -> Change:
    draft = Draft(now_ns)
    draft.alter(node, xattrs=tuple(sorted(xattrs.items())))
    return draft.change()


def _resized(node: Node, size_bytes: int, now_ns: int) -> dict[str, Any]:
    if node.kind is not Kind.FILE:
        number = errno.EISDIR if node.is_folder else errno.EINVAL
        raise Refused(number, f"only a file has a size to set. inode={node.inode}")
    _check_size(size_bytes)
    row = node.row
    return {
        "size_bytes": size_bytes,
        "base_limit_bytes": min(row.base_limit_bytes, size_bytes),
        "mtime_ns": now_ns,
        "mode": _unprivileged(row.mode),
    }


def _given_away(row: LocalInode, wanted: Wanted) -> dict[str, Any]:
    """Return the new owner. A program of one user must not become one of another's (chown(2))."""
    uid = row.uid if wanted.uid is None else wanted.uid
    gid = row.gid if wanted.gid is None else wanted.gid
    mode = row.mode if row.kind is Kind.FOLDER else _unprivileged(row.mode)
    return {"uid": uid, "gid": gid, "mode": mode}


def _unprivileged(mode: int) -> int:
    """Return the mode less setuid, and less setgid where that is no mark for locking."""
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode


def _check_size(size_bytes: int) -> None:
    if size_bytes > MOST_FILE_BYTES:
        raise Refused(errno.EFBIG, f"a file too large. bytes={size_bytes}")
