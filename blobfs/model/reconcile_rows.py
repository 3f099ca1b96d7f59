"""Bring one inode's rows together: attributes field by field, extended attributes one by one.

What we changed since the base is ours, all else is theirs: of two changes the later commit's
stands, and that is ours. Of times, a file's follow its content, a directory's are the later ones.
"""

from msgspec.structs import replace

from blobfs.formats.rows import InodeRow, Kind
from blobfs.model.changes import GONE, Gone, LocalInode
from blobfs.model.conflict import CONFLICT_OF
from blobfs.model.nodes import as_local
from blobfs.model.reconcile_draft import Draft
from blobfs.types import InodeNo

Xattrs = tuple[tuple[bytes, bytes], ...]


def settle_row(draft: Draft, inode: InodeNo) -> LocalInode | Gone | None:
    """Return what is unsaved of an inode in the later moment; None: nothing."""
    if inode in draft.final:
        return _marked(draft, inode, draft.final[inode])
    theirs, mine = draft.after.inode(inode), draft.rows.get(inode)
    if theirs is None:
        return _marked(draft, inode, _alone(draft, inode, mine))
    row = _merged(draft, inode, mine, theirs)
    if isinstance(row, LocalInode) and row.kind is not Kind.FOLDER:
        row = replace(row, nlink=draft.nlink(inode))
        if not row.nlink and not _is_removed(mine or GONE):
            return row if inode in draft.held else GONE
    return _if_different(draft, inode, _marked(draft, inode, row), theirs)


def _alone(
    draft: Draft, inode: InodeNo, mine: LocalInode | Gone | None
) -> LocalInode | Gone | None:
    """Return the row of an inode that no commit has: a new one, or one that comes back."""
    names = draft.given_to(inode)
    if not isinstance(mine, LocalInode) or not names:
        is_new = draft.base(inode) is None
        return mine if is_new and isinstance(mine, LocalInode) and not mine.nlink else None
    if mine.kind is Kind.FOLDER:
        return replace(mine, parent=names[0][0])
    return replace(mine, nlink=len(names))


def _merged(
    draft: Draft, inode: InodeNo, mine: LocalInode | Gone | None, theirs: InodeRow
) -> LocalInode | Gone | None:
    base = draft.base(inode)
    if inode in draft.over:
        row = as_local(theirs)
        for each in draft.over[inode]:
            row = merge_attributes(None, row, each)
        return row
    if mine is None:
        return None
    if _is_removed(mine):
        return as_local(theirs) if _lives(draft, inode, theirs) else mine
    assert isinstance(mine, LocalInode)
    if theirs.kind is Kind.FOLDER:
        return _merged_folder(draft, inode, base, as_local(theirs), mine)
    row = merge_attributes(base, as_local(theirs), mine)
    if draft.has_new_content(inode) or inode in draft.unedited:
        return replace(row, mtime_ns=theirs.mtime_ns)
    if inode not in draft.edited:
        return row
    sizes = {"size_bytes": mine.size_bytes, "base_limit_bytes": mine.base_limit_bytes}
    return replace(row, mtime_ns=mine.mtime_ns, ctime_ns=mine.ctime_ns, **sizes)


def _is_removed(mine: LocalInode | Gone) -> bool:
    return isinstance(mine, Gone) or not mine.nlink


def _lives(draft: Draft, inode: InodeNo, theirs: InodeRow) -> bool:
    """Return whether what was removed here has a name nonetheless."""
    if theirs.kind is not Kind.FOLDER:
        return draft.nlink(inode) > 0
    taken = draft.taken_from(inode)
    return not any(draft.there(key) == inode for key in taken)


def _merged_folder(
    draft: Draft, inode: InodeNo, base: InodeRow | None, theirs: LocalInode, mine: LocalInode
) -> LocalInode:
    row = merge_attributes(base, theirs, mine)
    row = replace(row, parent=draft.parent_of(inode))
    if draft.before.inode(inode) is None and _timeless(row) == _timeless(theirs):
        return theirs  # both took the same directory into the volume
    return replace(
        row,
        mtime_ns=max(theirs.mtime_ns, mine.mtime_ns),
        ctime_ns=max(theirs.ctime_ns, mine.ctime_ns),
    )


def _timeless(row: LocalInode) -> LocalInode:
    return replace(row, mtime_ns=0, ctime_ns=0)


def merge_attributes(base: InodeRow | None, theirs: LocalInode, mine: LocalInode) -> LocalInode:
    """Return their row with what ours changed; what `base` is None of, we changed all of."""
    was = None if base is None else as_local(base)
    changed = {
        field: getattr(mine, field)
        for field in ("mode", "uid", "gid")
        if was is None or getattr(mine, field) != getattr(was, field)
    }
    if was is not None and mine.mtime_ns != was.mtime_ns:
        changed["mtime_ns"] = mine.mtime_ns
    if was is not None and mine.prefix != was.prefix:
        changed["prefix"] = mine.prefix
    xattrs = _merged_xattrs(() if was is None else was.xattrs, theirs.xattrs, mine.xattrs)
    return replace(theirs, xattrs=xattrs, **changed)


def _merged_xattrs(base: Xattrs, theirs: Xattrs, mine: Xattrs) -> Xattrs:
    was, now, merged = dict(base), dict(mine), dict(theirs)
    for name in was.keys() | now.keys():
        if was.get(name) == now.get(name):
            continue
        if name in now:
            merged[name] = now[name]
        else:
            merged.pop(name, None)
    return tuple(sorted(merged.items()))


def _marked(
    draft: Draft, inode: InodeNo, row: LocalInode | Gone | None
) -> LocalInode | Gone | None:
    """Return the row of a conflict copy with what says so (C6)."""
    name = draft.marks.get(inode)
    if name is None or not isinstance(row, LocalInode):
        return row
    if row.kind is not Kind.FILE or row.nlink != 1:
        return row
    return replace(row, xattrs=tuple(sorted({**dict(row.xattrs), CONFLICT_OF: name}.items())))


def _if_different(
    draft: Draft, inode: InodeNo, row: LocalInode | Gone | None, theirs: InodeRow
) -> LocalInode | Gone | None:
    """Return a row only if it says something new; then its ctime is the later one.

    One that a name was given to or taken from stays: where others remove it later, the name counts.
    """
    if not isinstance(row, LocalInode):
        return row
    was, mine = as_local(theirs), draft.rows.get(inode)
    is_same = replace(row, ctime_ns=was.ctime_ns) == was
    is_edited = inode in draft.edited and inode not in draft.unedited
    if is_same and not is_edited and not draft.is_named_here(inode):
        return None
    ctime_ns = mine.ctime_ns if isinstance(mine, LocalInode) else row.ctime_ns
    return replace(row, ctime_ns=max(ctime_ns, was.ctime_ns))
