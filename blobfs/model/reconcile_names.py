"""Decide which of our names stand beside what others did to theirs.

1. The same directory made twice is one.
2. Two moves of one inode conflict, and ours, the later, is dropped (C5).
3. What others changed the content of is neither removed nor replaced (C3, C4); a directory that
   they put something into is not removed; a move that would close a cycle is dropped (C5).
   Each of these may bring back what another one looks at, so they go on until nothing changes.
4. What still wants a name that is taken gets a conflict name beside it (C1).
"""

from blobfs.formats.rows import Inline, InodeRow, Kind
from blobfs.model.changes import DirentKey, LocalInode
from blobfs.model.reconcile_draft import NO_INODE, Draft
from blobfs.types import ROOT_INODE, InodeNo


def settle_names(draft: Draft) -> None:
    """Drop what cannot stand, and find other names for what is left."""
    merge_folders(draft)
    drop_double_moves(draft)
    keep_grown_folders(draft)
    keep_changed_files(draft)
    break_cycles(draft)
    settle_collisions(draft)


def merge_folders(draft: Draft) -> None:
    """Let a new directory be the one that others made under its name, and so on below."""
    ahead = sorted(key for key in draft.names if key in draft.given)
    while ahead:
        key = ahead.pop()
        dirent = draft.given.get(key)
        if dirent is None or dirent.kind is not Kind.FOLDER:
            continue
        ours, theirs = dirent.inode, draft.there(key)
        if ours != theirs and draft.is_new(ours) and _is_new_folder(draft, theirs):
            draft.drop(key)
            draft.absorb(ours, theirs)
            ahead += draft.given_in(theirs)


def _is_new_folder(draft: Draft, theirs: InodeNo) -> bool:
    row = draft.after.inode(theirs) if theirs else None
    return row is not None and row.kind is Kind.FOLDER and draft.before.inode(theirs) is None


def drop_double_moves(draft: Draft) -> None:
    """Drop our move of what others moved elsewhere (C5)."""
    moved = {draft.taken[key] for key in draft.names if key in draft.taken}
    for inode in sorted(moved | draft.contested):
        for key in _double_moves(draft, inode):
            draft.undo(key)
            draft.note("others moved it here before, so it was not moved", draft.now_at(inode, key))


def _double_moves(draft: Draft, inode: InodeNo) -> list[DirentKey]:
    """Return the names that an inode was given in place of ones that others took from it, too,
    and gave it others for."""
    before, after = draft.base(inode), draft.after.inode(inode)
    if before is None or after is None:
        return []
    taken = draft.taken_from(inode)
    both = sum(draft.there(key) != inode for key in taken)
    ours = [key for key in draft.given_to(inode) if draft.there(key) != inode]
    if after.kind is Kind.FOLDER:
        return ours if both == len(taken) else []
    theirs = after.nlink - before.nlink + both
    return ours[: max(0, min(both, theirs))]


def keep_grown_folders(draft: Draft) -> None:
    """Keep the directories that others put something into which we did not see (C5)."""
    for inode in draft.rows:
        there = draft.after.inode(inode) if draft.is_removed(inode) else None
        if there is None or there.kind is not Kind.FOLDER:
            continue
        if any(draft.leads_to((inode, name)) for name, _ in draft.after.dirents(inode)):
            for key in draft.keep_folder(inode):
                draft.keep(key)


def keep_changed_files(draft: Draft) -> None:
    """Keep the names of files that others changed, or that would lose their last name though
    neither side removed it."""
    for inode in sorted(draft.contested):
        row = draft.after.inode(inode)
        if row is None or row.kind is Kind.FOLDER:
            continue
        is_changed = draft.has_new_content(inode)
        if is_changed:
            _keep_replaced(draft, inode)
        if (is_changed or not draft.is_removed(inode)) and draft.nlink(inode) <= 0:
            for key in draft.taken_from(inode):
                draft.keep(key)


def _keep_replaced(draft: Draft, inode: InodeNo) -> None:
    """Undo that a file gave its name to another one: a save by rename or by backup (C3)."""
    taken = [key for key in draft.taken_from(inode) if draft.there(key) == inode]
    replaced = [key for key in taken if key in draft.given]
    if replaced:
        for key in draft.given_to(inode):
            draft.undo(key)
        for key in replaced:
            draft.keep(key)


def break_cycles(draft: Draft) -> None:
    """Drop our moves of directories that would lie in themselves (C5)."""
    moved = sorted(inode for inode in draft.rows if _is_moved_folder(draft, inode))
    while closing := [
        inode for inode in moved if draft.given_to(inode) and _is_cyclic(draft, inode)
    ]:
        folder = closing[0]
        key = draft.given_to(folder)[0]
        draft.stay(folder)
        what = "others moved what this directory was moved into, so it was not moved"
        draft.note(what, draft.now_at(folder, key))


def _is_moved_folder(draft: Draft, inode: InodeNo) -> bool:
    if not draft.given_to(inode):
        return False
    row = draft.after.inode(inode)
    return row is not None and row.kind is Kind.FOLDER and inode != ROOT_INODE


def _is_cyclic(draft: Draft, folder: InodeNo) -> bool:
    seen: set[InodeNo] = set()
    at = draft.parent_of(folder)
    while at not in (NO_INODE, ROOT_INODE, folder) and at not in seen:
        seen.add(at)
        at = draft.parent_of(at)
    return at == folder


def settle_collisions(draft: Draft) -> None:
    """Give a conflict name to what was given a name that something else keeps (C1)."""
    for key in sorted(key for key in draft.names if key in draft.given):
        if _collides(draft, key):
            _settle_collision(draft, key)


def _collides(draft: Draft, key: DirentKey) -> bool:
    if key not in draft.given:
        return False
    ours, theirs = draft.given[key].inode, draft.there(key)
    return theirs not in (NO_INODE, ours) and draft.taken.get(key) != theirs


def _settle_collision(draft: Draft, key: DirentKey) -> None:
    ours, theirs = draft.given[key].inode, draft.there(key)
    if _is_same(draft, ours, theirs):
        draft.drop(key)
        if draft.is_new(ours):
            draft.absorb(ours, theirs)
    elif not draft.is_new(ours) and draft.nlink(ours) > 1:
        draft.drop(key)
        draft.note("others gave this name to something else before", key)
    else:
        _give_way(draft, key)


def _give_way(draft: Draft, key: DirentKey) -> None:
    dirent = draft.drop(key)
    placed = draft.put(key, dirent.inode, dirent.kind)
    draft.note("others gave its name to something else before", placed)


def _is_same(draft: Draft, ours: InodeNo, theirs: InodeNo) -> bool:
    """Return whether it makes no difference which of two inodes has a name."""
    mine, row = draft.rows.get(ours), draft.after.inode(theirs)
    if row is None or not isinstance(mine, LocalInode) or mine.kind is not row.kind:
        return False
    if mine.kind is Kind.FILE:
        is_empty = not mine.size_bytes and not row.size_bytes
        return is_empty or (ours, theirs) in draft.setting.equal
    return mine.kind is not Kind.FOLDER and _is_same_special(mine, row)


def _is_same_special(mine: LocalInode, row: InodeRow) -> bool:
    target = row.content.data if isinstance(row.content, Inline) else b""
    return mine.rdev == row.rdev and mine.target == target
