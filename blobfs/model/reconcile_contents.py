"""Decide what becomes of content that two changed, or that one changed and the other removed.

Content belongs to the number of its file, names stay with theirs: where two contents have to live,
ours gets another number, with its unsaved bytes and whoever has it open.

1. Both changed it: ours becomes a conflict copy beside the file (C1), so too where the name that it
   was changed under belongs to another file by now (C3).
2. They changed it and a program has it open here: that goes on with what it opened (C2).
3. They removed it: it lives on if it was changed, linked or moved here, with what directories it
   needs (C4); else only for as long as a program has it open.
"""

from msgspec.structs import replace

from blobfs.formats.rows import EMPTY, FileContent, InodeRow, Kind
from blobfs.model.changes import DirentKey, LocalInode
from blobfs.model.nodes import as_local
from blobfs.model.numbers import is_native
from blobfs.model.reconcile_draft import Draft
from blobfs.types import ROOT_INODE, InodeNo


def settle_contents(draft: Draft) -> None:
    """Give another number to each content that cannot go on under its own."""
    for inode in sorted(draft.contested):
        base, theirs = draft.base(inode), draft.after.inode(inode)
        if base is None or base.kind is Kind.FOLDER:
            continue
        if theirs is None:
            _settle_removed(draft, inode, base)
        else:
            _settle_changed(draft, inode, base)
    revive_folders(draft)


# -- of files that others removed --------------------------------------------------------


def _settle_removed(draft: Draft, inode: InodeNo, base: InodeRow) -> None:
    mine = draft.rows.get(inode, as_local(base))
    if not isinstance(mine, LocalInode):
        draft.final[inode] = None
    elif mine.nlink and draft.given_to(inode):
        _revive(draft, inode, over(mine, base))
    elif mine.nlink and inode in draft.edited:
        name = _old_name(draft, inode)
        if not _join_same(draft, inode, name):
            _revive(draft, inode, over(mine, base), name)
    elif not mine.nlink:
        draft.final[inode] = over(mine, base)
    elif inode in draft.held:
        _part(draft, inode, replace(over(mine, base), nlink=0))
    else:
        draft.final[inode] = None


def _revive(draft: Draft, inode: InodeNo, row: LocalInode, name: DirentKey | None = None) -> None:
    """Let a file live on by another number, since its own is used up (M1)."""
    number = draft.setting.fresh()
    draft.rename(inode, number)
    draft.rows[number] = row
    if name is not None:
        draft.put(name, number, row.kind)
    draft.note("others removed it while it was changed here", draft.given_to(number)[0])


def _old_name(draft: Draft, inode: InodeNo) -> DirentKey:
    """Return the name that a removed file has here, one in a directory that is left if it can."""
    known = [
        key
        for key in draft.known_names(inode)
        if draft.taken.get(key) != inode and _led_to(draft, key, inode)
    ]
    known.sort(key=lambda key: draft.after.inode(key[0]) is None)
    return known[0] if known else _nameless(inode)


def _led_to(draft: Draft, key: DirentKey, inode: InodeNo) -> bool:
    dirent = draft.before.dirent(*key)
    return dirent is not None and dirent.inode == inode


def _nameless(inode: InodeNo) -> DirentKey:
    return ROOT_INODE, b"inode %d" % inode


# -- of files that others changed --------------------------------------------------------


def _settle_changed(draft: Draft, inode: InodeNo, base: InodeRow) -> None:
    mine = draft.rows.get(inode)
    if draft.is_removed(inode):
        if isinstance(mine, LocalInode) and draft.nlink(inode) > 0:
            _part(draft, inode, replace(over(mine, base), nlink=0))
    elif inode in draft.edited:
        _settle_edited(draft, inode, base)
    elif inode in draft.held and draft.has_new_content(inode):
        row = mine if isinstance(mine, LocalInode) else as_local(base)
        _part(draft, inode, replace(over(row, base), nlink=0))


def _settle_edited(draft: Draft, inode: InodeNo, base: InodeRow) -> None:
    mine = draft.rows[inode]
    assert isinstance(mine, LocalInode), "what is removed is nothing that is edited"
    if (inode, inode) in draft.setting.equal:
        draft.unedited.add(inode)
        return
    place = _name_of(draft, inode) if draft.has_new_content(inode) else _lost_name(draft, inode)
    if place is not None and not _join_same(draft, inode, place):
        number = _part(draft, inode, replace(over(mine, base), nlink=1))
        placed = draft.put_beside(place, number, mine.kind)
        draft.note("others changed it, too", placed)


def _part(draft: Draft, inode: InodeNo, row: LocalInode) -> InodeNo:
    """Let our content be another file, new and without a name yet."""
    number = draft.setting.fresh()
    draft.final[number] = row
    _call(draft, inode, number)
    return number


def _join_same(draft: Draft, inode: InodeNo, key: DirentKey) -> bool:
    """Let our content be that of the file which has its name now, if they are equal."""
    theirs = draft.leads_to(key)
    is_same = theirs != inode and (inode, theirs) in draft.setting.equal
    if is_same:
        _call(draft, inode, theirs)
    return is_same


def _call(draft: Draft, inode: InodeNo, number: InodeNo) -> None:
    """Give our content, with who has it open, another number; names stay with the file."""
    draft.numbers[inode] = number
    draft.edited.discard(inode)
    draft.touch(number)
    draft.touch(inode)
    draft.names.update(dict.fromkeys(draft.given_to(inode)))


def _name_of(draft: Draft, inode: InodeNo) -> DirentKey:
    return draft.now_at(inode, _nameless(inode))


def _lost_name(draft: Draft, inode: InodeNo) -> DirentKey | None:
    """Return a name under which a file was changed here, and that others gave to another (C3)."""
    for key in draft.known_names(inode):
        is_lost = _led_to(draft, key, inode) and draft.there(key) not in (0, inode)
        if is_lost and key not in draft.taken:
            return key
    return None


def over(row: LocalInode, base: InodeRow) -> LocalInode:
    """Return a row that no commit has, over the content that it lies over now."""
    bound: FileContent | None = row.bound
    if row.kind is Kind.FILE and row.base_limit_bytes and base.content != EMPTY:
        bound = base.content
    return replace(row, bound=bound)


# -- of directories ----------------------------------------------------------------------


def revive_folders(draft: Draft) -> None:
    """Bring back the directories in which something of ours lies, up to one that is left (C4)."""
    moved = {each.inode for each in draft.given.values() if each.kind is Kind.FOLDER}
    ahead = sorted(moved.union(key[0] for key in draft.given))
    while ahead:
        folder = ahead.pop()
        base = draft.base(folder)
        is_gone = draft.after.inode(folder) is None and folder not in draft.revived
        if base is not None and is_gone:
            ahead.append(_revive_folder(draft, folder, base))


def _revive_folder(draft: Draft, folder: InodeNo, base: InodeRow) -> InodeNo:
    """Bring back one directory; return the one that it lies in."""
    mine = draft.rows.get(folder)
    row = mine if isinstance(mine, LocalInode) and mine.nlink else as_local(base)
    number = folder
    if not is_native(folder):
        # A native directory keeps the number that its prefix gives it.
        number = draft.setting.fresh()
        draft.rename(folder, number)
    draft.revived.update({folder, number})
    draft.rows[number] = row
    draft.touch(number)
    if not draft.given_to(number):
        draft.put(_old_folder_name(draft, folder, base), number, Kind.FOLDER)
    return draft.given_to(number)[0][0]


def _old_folder_name(draft: Draft, folder: InodeNo, base: InodeRow) -> DirentKey:
    names = draft.before.dirents(base.parent)
    found = (name for name, dirent in names if dirent.inode == folder)
    parent = draft.numbers.get(base.parent, base.parent)
    return parent, next(found, b"inode %d" % folder)
