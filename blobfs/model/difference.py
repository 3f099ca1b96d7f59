"""Say in operations what changed between the replayed tree and the unsaved rows. Pure.

What happened in between does not matter: a file that was written, renamed and written again is
one new content under one new name. The order is the one in which replay can apply them: an inode
exists before a name leads to it, and is without names before it goes.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from blobfs.formats.commit import (
    AddLinks,
    Detach,
    DropDirent,
    DropFolder,
    Hide,
    MoveFolder,
    NewInode,
    Operation,
    PutDirent,
    SetAttributes,
    SetContent,
    SetXattr,
    UnlinkNative,
)
from blobfs.formats.rows import EMPTY, DirentRow, FileContent, Inline, InodeRow, Kind, Native
from blobfs.model.changes import HIDDEN_FOLDER, DirentKey, LocalDirent, LocalInode, hidden_by
from blobfs.types import InodeNo, Seq

NO_INODE = InodeNo(0)

Xattrs = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class InodeChange:
    """One inode, before and after. `after` None: gone, or about to go with its last handle.

    `content` is what was staged of a file whose bytes changed, or the object that a file is
    bound to which the tree does not know; None where the content did not change.
    """

    inode: InodeNo
    before: InodeRow | None
    after: LocalInode | None
    content: FileContent | None = None


@dataclass(frozen=True, slots=True)
class NameChange:
    """One dirent, before and after; None where there is none."""

    name: DirentKey
    before: DirentRow | None
    after: LocalDirent | None


def operations_for(
    inodes: Iterable[InodeChange], names: Iterable[NameChange]
) -> tuple[Operation, ...]:
    """Return the operations that turn every `before` into its `after`, in order of replay.

    An object of another tool that nothing refers to any more is given up in the same entry (N5).
    """
    inodes, names = list(inodes), list(names)
    made: list[Operation] = []
    set_later: list[Operation] = []
    gone: list[Operation] = []
    for change in inodes:
        if change.after is None:
            gone.extend(_going(change))
        elif change.before is None:
            made.extend(_making(change.inode, change.after, change.content))
        else:
            set_later.extend(_changing(change.inode, change.before, change.after, change.content))
    named = [change for change in names if change.name[0] != HIDDEN_FOLDER]
    dropped = (drop for change in named for drop in _dropping(change))
    put = (name for change in named for name in _putting(change))
    hidden = [change for change in names if change.name[0] == HIDDEN_FOLDER]
    hides = (Hide(*hidden_by(change.name)) for change in hidden)
    return (*made, *dropped, *put, *set_later, *gone, *hides, *_given_up(inodes, hidden))


def _given_up(
    inodes: Iterable[InodeChange], hidden: Iterable[NameChange]
) -> Iterator[UnlinkNative]:
    """Yield the objects that a row referred to, or was made of, and none does any more."""
    alive = {change.inode for change in inodes if change.after is not None}
    hidden = list(hidden)
    hidden_here = {hidden_by(name.name) for name in hidden}
    for name in hidden:
        dirent = name.after
        if dirent is not None and dirent.kind == Kind.FILE and dirent.inode not in alive:
            yield UnlinkNative(*hidden_by(name.name))
    for change in inodes:
        bound = _bound_before(change, hidden_here)
        if bound is not None and (change.after is None or change.content not in (None, bound)):
            yield UnlinkNative(bound.key, bound.version)


def _bound_before(change: InodeChange, hidden: Collection[tuple[bytes, str]]) -> Native | None:
    """Return the object that a file was bound to when it was committed last, or taken over.

    Who takes an object over hides it in the same entry. A conflict copy may be made of an object,
    too, and gives up nothing: another file holds it, or held it.
    """
    if change.before is not None:
        content = change.before.content
        return content if isinstance(content, Native) else None
    bound = None if change.after is None else change.after.bound
    if isinstance(bound, Native) and (bound.key, bound.version) in hidden:
        return bound
    return None


def _making(inode: InodeNo, after: LocalInode, content: FileContent | None) -> Iterator[Operation]:
    yield NewInode(
        inode=inode,
        kind=after.kind,
        mode=after.mode,
        uid=after.uid,
        gid=after.gid,
        mtime_ns=after.mtime_ns,
        ctime_ns=after.ctime_ns,
        rdev=after.rdev,
        prefix=after.prefix,
        parent=after.parent if after.kind == Kind.FOLDER else NO_INODE,
    )
    if after.kind == Kind.SYMLINK:
        content = Inline(after.target)
    if content is not None and content != EMPTY:
        yield SetContent(inode, after.size_bytes, content, Seq(0))
    yield from _xattrs(inode, (), after.xattrs)
    if after.kind != Kind.FOLDER:
        yield AddLinks(inode, after.nlink)


def _changing(
    inode: InodeNo, before: InodeRow, after: LocalInode, content: FileContent | None
) -> Iterator[Operation]:
    if content is not None:
        yield SetContent(inode, after.size_bytes, content, before.content_seq)
    changed = {
        field: getattr(after, field)
        for field in ("mode", "uid", "gid", "mtime_ns", "ctime_ns")
        if getattr(after, field) != getattr(before, field)
    }
    if changed:
        yield SetAttributes(inode, **changed)
    yield from _xattrs(inode, before.xattrs, after.xattrs)
    if after.kind == Kind.FOLDER:
        if after.parent != before.parent:
            yield MoveFolder(inode, after.parent)
        if before.prefix is not None and after.prefix is None:
            yield Detach(inode, before.prefix)
    elif after.nlink != before.nlink:
        yield AddLinks(inode, after.nlink - before.nlink)


def _going(change: InodeChange) -> Iterator[Operation]:
    if change.before is None:
        return  # nobody but us has ever heard of it
    if change.before.kind == Kind.FOLDER:
        yield DropFolder(change.inode)
    else:
        yield AddLinks(change.inode, -change.before.nlink)


def _xattrs(inode: InodeNo, before: Xattrs, after: Xattrs) -> Iterator[Operation]:
    was: Mapping[bytes, bytes] = dict(before)
    now: Mapping[bytes, bytes] = dict(after)
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            yield SetXattr(inode, name, now.get(name))


def _dropping(change: NameChange) -> Iterator[Operation]:
    if change.after is None and change.before is not None:
        parent, name = change.name
        yield DropDirent(parent, name, change.before.inode)


def _putting(change: NameChange) -> Iterator[Operation]:
    before, after = change.before, change.after
    if after is None or (before is not None and before.inode == after.inode):
        return
    parent, name = change.name
    replaces = NO_INODE if before is None else before.inode
    yield PutDirent(parent, name, after.inode, after.kind, replaces, after.shadows)
