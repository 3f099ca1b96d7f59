"""Decide whether the local tree begins anew from head's checkpoint. Pure.

the log was cut above what was replayed         there is no other way (L4)
something is unsaved                            go on, for entries tell what was contested
a part of the checkpoint below is gone          begin from another one, or from the log
far behind                                      a checkpoint costs less than the entries
"""

import enum
from dataclasses import dataclass

from blobfs.formats.head import Head
from blobfs.formats.keys import parse_checkpoint_name
from blobfs.formats.rows import DirentRow, InodeRow
from blobfs.types import Seq

MOST_ENTRIES_BEHIND = 128
"""Entries that are replayed rather than forgetting what was loaded of an older checkpoint."""


class Beginning(enum.Enum):
    """What to do with a checkpoint."""

    LEFT = enum.auto()
    """The tree goes on from where it is."""
    WORTHWHILE = enum.auto()
    """Begin from it; where it cannot be read, go on."""
    ANEW = enum.auto()
    """Begin from it, from an older one, or from the begin of the log: what is here has holes."""
    NEEDED = enum.auto()
    """Begin from it: the tree cannot go on from where it is."""


@dataclass(frozen=True, slots=True)
class Here:
    """What a client has of a volume."""

    seq: Seq
    """How far its tree is."""
    is_doubted: bool
    """Parts of the checkpoint that it began from are gone."""
    has_unsaved: bool


def beginning(head: Head, here: Here) -> Beginning:
    """Return what to do with the checkpoint that `head` names, or with those before it."""
    if head.floor > here.seq:
        return Beginning.NEEDED
    if here.has_unsaved:
        return Beginning.LEFT
    if here.is_doubted:
        return Beginning.ANEW
    made_at = None if head.checkpoint is None else parse_checkpoint_name(head.checkpoint)
    behind = 0 if made_at is None else made_at - here.seq
    is_far = behind > MOST_ENTRIES_BEHIND or (here.seq == 0 and behind > 0)
    return Beginning.WORTHWHILE if is_far else Beginning.LEFT


def is_contested(before: object, now: InodeRow | DirentRow | None, own_seq: Seq) -> bool:
    """Return whether somebody else changed a row that is unsaved here.

    `before` is the row that the unsaved one was made from, `now` what the checkpoint says;
    `own_seq` is this client's last commit in it, up to which all was taken into account.
    """
    if now is None:
        return before is not None
    if before is None and isinstance(now, InodeRow) and now.prefix is not None:
        return False  # both adopted the root, or a directory of native objects: it is the same
    return now.seq > own_seq and _essence(now) != _essence(before)


def _essence(row: object) -> object:
    """Return what of a row is not only when it changed: times of directories follow everybody."""
    if isinstance(row, InodeRow):
        fields = (row.kind, row.mode, row.uid, row.gid, row.nlink, row.content_seq)
        return (*fields, row.xattrs, row.prefix, row.parent)
    if isinstance(row, DirentRow):
        return (row.inode, row.kind)
    return None
