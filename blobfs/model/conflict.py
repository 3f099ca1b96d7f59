"""Decide how two versions of one file come to stand beside each other. Pure.

Whoever was there first keeps the name; the other becomes a conflict copy: an ordinary file that
says in its name who made it, and in an attribute what it is a copy of (volume format, C1, C6).
"""

from datetime import UTC, datetime

from blobfs.formats.version import NS_PER_S
from blobfs.model.changes import Change
from blobfs.model.listing import MOST_NAME_BYTES
from blobfs.model.tree_rules import Draft, Place, existing

CONFLICT_OF = b"user.blobfs.conflict_of"
"""The name that a conflict copy would have, if it were not one."""

MOST_HOST_BYTES = 40
MOST_SUFFIX_BYTES = 32
"""A longer one is no suffix, but a name with a dot in it."""


def conflict_name(name: bytes, host: str, when_ns: int, mark: str) -> bytes:
    """Return `name (conflict HOST 2026-08-22 141503 MARK).suffix`, of 255 bytes at most.

    `when_ns` is told in UTC; `mark` keeps the names of several conflicts apart.
    """
    when = datetime.fromtimestamp(when_ns // NS_PER_S, UTC).strftime("%Y-%m-%d %H%M%S")
    maker = _cut(host.replace("/", "_").replace("\0", "_").encode(), MOST_HOST_BYTES)
    middle = b" (conflict %b %b %b)" % (maker, when.encode(), mark.encode())
    stem, dot, suffix = name.rpartition(b".")
    if not stem or len(suffix) > MOST_SUFFIX_BYTES:
        stem, dot, suffix = name, b"", b""
    room = MOST_NAME_BYTES - len(middle) - len(dot + suffix)
    return _cut(stem, room) + middle + dot + suffix


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


def _cut(name: bytes, most_bytes: int) -> bytes:
    """Return the start of a name, cut between two characters where it is UTF-8."""
    if len(name) <= most_bytes:
        return name
    while most_bytes and name[most_bytes] & 0xC0 == 0x80:
        most_bytes -= 1
    return name[:most_bytes]
