"""Decide what unsaved rows become when others have committed what they lie over or lead to (C1-C6).

Three sides: the moment that our rows lie over, the later one, and our rows. All is judged by its
result, not by what programs did to get there. What the rows become differs from the later moment
by what an entry can say, so that it replays on top of it; and no content goes whose successor had
not seen it. Rows that nobody contests stay as they are, and are not among the results.

Pure: the same values give the same result, but for the numbers of what is new.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from blobfs.model.changes import GONE, HIDDEN_FOLDER, DirentKey, Gone, LocalDirent, LocalInode
from blobfs.model.rebase import Mine, Moment, Rebased, Setting
from blobfs.model.reconcile_contents import settle_contents
from blobfs.model.reconcile_draft import Draft
from blobfs.model.reconcile_names import settle_names
from blobfs.model.reconcile_rows import settle_row
from blobfs.model.reconcile_survey import survey
from blobfs.types import InodeNo


def reconcile(before: Moment, after: Moment, mine: Mine, setting: Setting) -> Rebased:
    """Return what the unsaved rows `mine` over `before` are over `after`.

    Raises:
        NotLoaded: what has to be known is not here; load it and ask again.
    """
    draft = survey(before, after, mine, setting)
    settle_names(draft)
    settle_contents(draft)
    inodes = dict(_inodes(draft, mine))
    return Rebased(
        numbers=draft.numbers,
        inodes=inodes,
        dirents=dict(_names(draft, mine)),
        conflicts=tuple(draft.conflicts),
        unedited=frozenset(each for each in draft.unedited if inodes.get(each) is not None),
    )


def _inodes(draft: Draft, mine: Mine) -> Iterator[tuple[InodeNo, LocalInode | Gone | None]]:
    """Yield the rows of inodes that are not what they were."""
    came_from = {new: old for old, new in draft.numbers.items()}
    for inode in draft.inodes:
        row = settle_row(draft, inode)
        is_renamed = inode in draft.numbers or inode in came_from
        if is_renamed or row != mine.inodes.get(inode):
            yield inode, row


def _names(draft: Draft, mine: Mine) -> Iterator[tuple[DirentKey, LocalDirent | Gone | None]]:
    """Yield the names that are not what they were, once numbers have changed."""
    came_from = {new: old for old, new in draft.numbers.items()}
    for key in draft.names:
        parent, name = key
        was = mine.dirents.get((came_from.get(parent, parent), name))
        if isinstance(was, LocalDirent):
            was = replace(was, inode=draft.numbers.get(was.inode, was.inode))
        now = _name(draft, key)
        if now != was:
            yield key, now


def _name(draft: Draft, key: DirentKey) -> LocalDirent | Gone | None:
    if key[0] == HIDDEN_FOLDER:
        return None  # others hide it, too
    there = draft.there(key)
    if key in draft.given:
        return None if draft.given[key].inode == there else draft.given[key]
    return GONE if there and draft.taken.get(key) == there else None
