"""Find out what was done here, and which of it others contest.

Rows say what names and inodes are, not what was done to them; what was done is the difference to
the moment that they lie over. A native object that both took into the volume lies over no
committed row; what both did to it is the difference to the object (N3).
"""

from msgspec.structs import replace

from blobfs.formats.rows import InodeRow, Kind, Native
from blobfs.model.changes import (
    GONE,
    HIDDEN_FOLDER,
    DirentKey,
    Gone,
    LocalDirent,
    LocalInode,
    hidden_by,
)
from blobfs.model.listing import OBJECT_SUFFIX, to_name
from blobfs.model.nodes import NativeLook
from blobfs.model.numbers import folder_number, is_native
from blobfs.model.rebase import Mine, Moment, Setting
from blobfs.model.reconcile_draft import NO_INODE, Draft
from blobfs.types import InodeNo, Seq


def survey(before: Moment, after: Moment, mine: Mine, setting: Setting) -> Draft:
    """Return what was done here to names and inodes, with what is contested marked."""
    draft = Draft(before, after, setting)
    draft.rows.update(mine.inodes)
    draft.edited.update(mine.edited)
    draft.held.update(mine.held)
    natives = _Natives(draft, mine)
    for key, row in mine.dirents.items():
        if key[0] == HIDDEN_FOLDER:
            natives.note_hidden(key, row)
    for inode in mine.inodes:
        natives.note_bound(inode)
    for key, row in mine.dirents.items():
        if key[0] != HIDDEN_FOLDER:
            _note_name(draft, key, row, natives.names.pop(key, NO_INODE))
    for key, inode in natives.names.items():
        draft.take(key, inode)  # it was moved or removed before any commit knew its name
        draft.names[key] = None
    for inode in (*draft.rows, *sorted(draft.held - draft.rows.keys())):
        _note_inode(draft, inode)
    return draft


def _note_name(draft: Draft, key: DirentKey, row: LocalDirent | Gone, native: InodeNo) -> None:
    """Note what a name was given and what was taken from it; `native` had it before any commit."""
    dirent = draft.before.dirent(*key)
    before = native if dirent is None else dirent.inode
    mine = row.inode if isinstance(row, LocalDirent) else NO_INODE
    if isinstance(row, LocalDirent) and mine != before:
        draft.give(key, row)
    if before and mine != before:
        draft.take(key, before)
    there = draft.there(key)
    if there != before or (there and dirent is None):
        draft.names[key] = None
        draft.touch(mine)
        draft.touch(before)


def _note_inode(draft: Draft, inode: InodeNo) -> None:
    if draft.before.inode(inode) != draft.after.inode(inode):
        draft.contested.add(inode)
        draft.touch(inode)


class _Natives:
    """What both sides took into the volume, and is native to neither any more."""

    def __init__(self, draft: Draft, mine: Mine) -> None:
        self._draft = draft
        self._mine = mine
        self.names: dict[DirentKey, InodeNo] = {}
        """The names that the objects had in the bucket."""

    def note_bound(self, inode: InodeNo) -> None:
        """Note what was made of an object or a prefix here, if others did so, too."""
        row = self._mine.inodes[inode]
        if not isinstance(row, LocalInode) or not self._is_theirs_too(inode):
            return
        if isinstance(row.bound, Native):
            self._note_both(inode, row.bound)
        elif row.kind is Kind.FOLDER:
            self._note_folder(inode, row)

    def note_hidden(self, key: DirentKey, row: LocalDirent | Gone) -> None:
        """Note a hidden object: of a file that lives on, or one that was removed here."""
        if not isinstance(row, LocalDirent) or row.kind is not Kind.FILE:
            return
        if not self._is_theirs_too(row.inode):
            return
        self._draft.names[key] = None
        if row.inode not in self._mine.inodes:
            self._draft.rows[row.inode] = GONE
            self._note_both(row.inode, Native(hidden_by(key)[0], 0, hidden_by(key)[1]))

    def _note_both(self, inode: InodeNo, native: Native) -> None:
        theirs = self._draft.after.inode(inode)
        assert theirs is not None, "it is theirs, too"
        base = _as_committed(theirs, native)
        self._draft.bases[inode] = _untouched(base, self._draft.setting.look)
        self.names[self._name_of(inode, native)] = inode

    def _note_folder(self, inode: InodeNo, row: LocalInode) -> None:
        theirs = self._draft.after.inode(inode)
        assert theirs is not None, "it is theirs, too"
        prefix = theirs.prefix if row.prefix is None else row.prefix
        base = theirs
        if prefix is not None:
            above, _, segment = to_name(prefix).removesuffix(b"/").rpartition(b"/")
            parent = _folder(above + b"/" if above else b"")
            base = replace(theirs, prefix=prefix, parent=parent)
            self.names[parent, segment] = inode
        self._draft.bases[inode] = _untouched(base, self._draft.setting.look)

    def _is_theirs_too(self, inode: InodeNo) -> bool:
        draft = self._draft
        is_theirs = is_native(inode) and draft.after.inode(inode) is not None
        return is_theirs and draft.before.inode(inode) is None

    def _name_of(self, inode: InodeNo, native: Native) -> DirentKey:
        """Return the name that an object has by its key: of two, that which either side has."""
        above, slash, segment = native.key.rpartition(b"/")
        folder = _folder(above + slash)
        for name in (segment, segment + to_name(OBJECT_SUFFIX)):
            row = self._mine.dirents.get((folder, name))
            is_mine = isinstance(row, LocalDirent) and row.inode == inode
            if is_mine or self._draft.there((folder, name)) == inode:
                return folder, name
        return folder, segment


def _folder(prefix: bytes) -> InodeNo:
    """Return the directory that shows the objects below `prefix`."""
    return folder_number(prefix.decode("utf-8", "surrogateescape"))


def _as_committed(theirs: InodeRow, native: Native) -> InodeRow:
    """Return the row of an object as if it had been committed: as theirs but for the content."""
    held = theirs.content
    is_same = isinstance(held, Native) and (held.key, held.version) == (native.key, native.version)
    content_seq = theirs.content_seq if is_same else Seq(-1)
    return replace(
        theirs, nlink=1, size_bytes=native.size_bytes, content=native, content_seq=content_seq
    )


def _untouched(row: InodeRow, look: NativeLook | None) -> InodeRow:
    """Return a row with the attributes that an object has here; those of `row` if unknown."""
    if look is None:
        return replace(row, xattrs=())
    return replace(row, mode=look.mode(row.kind), uid=look.uid, gid=look.gid, xattrs=())
