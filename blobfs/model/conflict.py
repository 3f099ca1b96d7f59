"""Decide how two versions of one file come to stand beside each other. Pure.

1. What could not be saved, since another tool was faster, becomes a conflict copy: an ordinary file
   that says in its name who made it, and in an attribute what it is a copy of (C1, C6).
2. What another tool puts under the key of a file of the volume shows beside it (N4), by a name
   that follows from its own and the version. So it is the same for all, and nothing is noted.
"""

import hashlib
import re
from datetime import UTC, datetime

from blobfs.formats.version import NS_PER_S
from blobfs.model.changes import Change
from blobfs.model.listing import MOST_NAME_BYTES
from blobfs.model.nodes import Node
from blobfs.model.tree_rules import Draft, Place, existing

CONFLICT_OF = b"user.blobfs.conflict_of"
"""The name that a conflict copy would have, if it were not one."""

OTHER_TOOL = b"bucket"
"""Who made a version that lies in the bucket and is not of the volume."""

MOST_HOST_BYTES = 40
MOST_SUFFIX_BYTES = 32
"""A longer one is no suffix, but a name with a dot in it."""


def conflict_name(name: bytes, host: str, when_ns: int, mark: str) -> bytes:
    """Return `name (conflict HOST 2026-08-22 141503 MARK).suffix`, of 255 bytes at most.

    `when_ns` is told in UTC; `mark` keeps the names of several conflicts apart.
    """
    maker = _cut(host.replace("/", "_").replace("\0", "_").encode(), MOST_HOST_BYTES)
    middle = b" (conflict %b %b %b)" % (maker, _told(when_ns), mark.encode())
    stem, suffix = _parts(name)
    return _cut(stem, MOST_NAME_BYTES - len(middle + suffix)) + middle + suffix


def beside_name(name: bytes, mtime_ns: int, version: str) -> bytes | None:
    """Return the name by which another tool's version shows beside `name`; None: too long a one.

    `name (conflict bucket 2026-08-22 141503 3fa2c1).suffix`: no two versions show by one name.
    """
    stem, suffix = _parts(name)
    mark = hashlib.sha256(version.encode("utf-8", "surrogateescape")).hexdigest()[:6].encode()
    beside = b"%b (conflict %b %b %b)%b" % (stem, OTHER_TOOL, _told(mtime_ns), mark, suffix)
    return beside if len(beside) <= MOST_NAME_BYTES else None


def original_name(name: bytes) -> bytes | None:
    """Return what `beside_name` was given, whatever the version; None: this is no such name."""
    found = _BESIDE.fullmatch(name)
    return None if found is None else found[1] + (found[2] or b"")


def plan_giving_way(place: Place, name: bytes, now_ns: int) -> Change:
    """Let a file have the free `name` in its directory, as a conflict copy of what it is now."""
    node = existing(place)
    xattrs = {**dict(node.row.xattrs), CONFLICT_OF: place.name}
    draft = Draft(now_ns)
    draft.alter(node, xattrs=tuple(sorted(xattrs.items())))
    draft.unname(place)
    draft.name(Place(place.folder, name), node.inode, node.kind)
    draft.touch(place.folder)
    return draft.change()


def plan_keeping(place: Place, node: Node, original: bytes, now_ns: int) -> Change:
    """Give a file without a name the free name of `place`; unless that is the `original` one, it is
    a conflict copy of what has that."""
    xattrs = dict(node.row.xattrs)
    if place.name != original:
        xattrs[CONFLICT_OF] = original
    draft = Draft(now_ns)
    draft.alter(node, nlink=1, xattrs=tuple(sorted(xattrs.items())))
    draft.name(place, node.inode, node.kind)
    draft.touch(place.folder)
    return draft.change()


_BESIDE = re.compile(
    rb"(.+) \(conflict %b \d{4}-\d\d-\d\d \d{6} [0-9a-f]{6}\)(\.[^.]*)?" % OTHER_TOOL, re.DOTALL
)


def _told(when_ns: int) -> bytes:
    when = datetime.fromtimestamp(when_ns // NS_PER_S, UTC)
    return when.strftime("%Y-%m-%d %H%M%S").encode()


def _parts(name: bytes) -> tuple[bytes, bytes]:
    """Return a name in two: what comes before its suffix, and that with its dot."""
    stem, dot, suffix = name.rpartition(b".")
    if not stem or len(suffix) > MOST_SUFFIX_BYTES:
        return name, b""
    return stem, dot + suffix


def _cut(name: bytes, most_bytes: int) -> bytes:
    """Return the start of a name, cut between two characters where it is UTF-8."""
    if len(name) <= most_bytes:
        return name
    while most_bytes and name[most_bytes] & 0xC0 == 0x80:
        most_bytes -= 1
    return name[:most_bytes]
