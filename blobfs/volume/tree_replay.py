"""Apply the entries of the log to the rows of the tree (L1).

Replay decides nothing. What an entry says is done as it is said, or, when the rows are not those
that its author had, the entry is refused whole: an alarm, never a skip.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from blobfs.database import Reader, Writer
from blobfs.formats.commit import (
    AddLinks,
    Counters,
    Detach,
    DropDirent,
    DropFolder,
    DropNative,
    Entry,
    Grant,
    Hide,
    MoveFolder,
    NewInode,
    PutDirent,
    SetAttributes,
    SetContent,
    SetXattr,
    UnlinkNative,
)
from blobfs.formats.rows import EMPTY, DirentRow, ExtentList, Extents, InodeRow, Kind, Native
from blobfs.formats.tables import HiddenRow
from blobfs.model.chain import Landed, follow
from blobfs.types import ROOT_INODE
from blobfs.volume.tree_blocks import Rows, rows_of
from blobfs.volume.tree_draft import Draft
from blobfs.volume.tree_rows import LogState, decode_state, dirent_key
from blobfs.volume.tree_settle import settle


def replay(writer: Writer, landed: tuple[Landed, ...], rebased: bytes | None = None) -> LogState:
    """Apply entries that follow each other; return the state behind the last.

    `rebased` is kept with it: what the unsaved rows become over that state (`Tree.rebased`).

    Raises:
        Damaged: one of them does not follow the one before, or cannot be applied.
        NotLoaded: one of them needs rows that are not here.
    """
    state, rows = read_state(writer), rows_of(writer)
    for each in landed:
        position = follow(state.position, each)
        draft, state = _apply(rows, state, each.entry)
        state = replace(state, chain=position.chain)
        draft.write(writer, state, each.hash)
    if rebased is not None:
        writer.put("state", b"rebased", rebased)
    return state


def rehearse(reader: Reader, entry: Entry) -> Counters:
    """Return what the tree's counters will be with `entry` on top, which is not applied.

    Raises:
        Damaged: it cannot be applied.
        NotLoaded: it needs rows that are not here.
    """
    return _apply(rows_of(reader), read_state(reader), entry)[1].counters


def draft_of(reader: Reader, entry: Entry) -> Draft:
    """Return the rows that `entry` changes, as it would on top of the tree.

    Raises: as `rehearse`.
    """
    return _apply(rows_of(reader), read_state(reader), entry)[0]


def read_state(reader: Reader) -> LogState:
    """Return how far the tree is, of tables that have a state."""
    row = reader.get("state", b"log")
    assert row is not None, "open_tree has put it"
    return decode_state(row)


def _apply(rows: Rows, state: LogState, entry: Entry) -> tuple[Draft, LogState]:
    draft = Draft(rows, state, entry)
    draft.check_author()
    for operation in entry.operations:
        _OPERATIONS[type(operation)](draft, operation)
    return draft, settle(draft)


def _grant(draft: Draft, op: Grant) -> None:
    draft.grant(op.first, op.stop)


def _new_inode(draft: Draft, op: NewInode) -> None:
    if draft.was_there(op.inode):
        draft.refuse(f"the number of a new inode is taken. inode={op.inode}")
    draft.use_number(op.inode)
    row = InodeRow(
        op.kind,
        op.mode,
        op.uid,
        op.gid,
        op.mtime_ns,
        op.ctime_ns,
        1 if op.kind is Kind.FOLDER else 0,
        0,
        EMPTY,
        (),
        op.rdev,
        op.prefix,
        op.parent,
        draft.seq,
    )
    draft.put_inode(op.inode, row)


def _set_content(draft: Draft, op: SetContent) -> None:
    row = draft.known_inode(op.inode)
    if row.content_seq != op.base:
        draft.refuse(
            f"content was made from another version. inode={op.inode} "
            f"expected={op.base} found={row.content_seq}"
        )
    content = op.content
    if isinstance(content, Extents):
        draft.add_places(content.extents)
    elif isinstance(content, ExtentList):
        draft.add_places(part.chunk for part in content.parts)
    elif isinstance(content, Native):
        _let_go(draft, content.key, content.version)  # nobody may remove what is referred to again
    seq = draft.seq
    row = replace(row, size_bytes=op.size_bytes, content=content, seq=seq, content_seq=seq)
    draft.put_inode(op.inode, row)


def _set_attributes(draft: Draft, op: SetAttributes) -> None:
    row = draft.known_inode(op.inode)
    row = replace(
        row,
        mode=row.mode if op.mode is None else op.mode,
        uid=row.uid if op.uid is None else op.uid,
        gid=row.gid if op.gid is None else op.gid,
        mtime_ns=row.mtime_ns if op.mtime_ns is None else op.mtime_ns,
        ctime_ns=row.ctime_ns if op.ctime_ns is None else op.ctime_ns,
        seq=draft.seq,
    )
    draft.put_inode(op.inode, row)


def _set_xattr(draft: Draft, op: SetXattr) -> None:
    row = draft.known_inode(op.inode)
    xattrs = dict(row.xattrs)
    xattrs.pop(op.name, None)
    if op.value is not None:
        xattrs[op.name] = op.value
    draft.put_inode(op.inode, replace(row, xattrs=tuple(sorted(xattrs.items())), seq=draft.seq))


def _add_links(draft: Draft, op: AddLinks) -> None:
    row = draft.known_inode(op.inode)
    if row.kind is Kind.FOLDER:
        draft.refuse(f"a directory has one name. inode={op.inode}")
    draft.put_inode(op.inode, replace(row, nlink=row.nlink + op.delta, seq=draft.seq))


def _put_dirent(draft: Draft, op: PutDirent) -> None:
    key = dirent_key(op.parent, op.name)
    _expect_dirent(draft, key, op.replaces)
    draft.put_dirent(key, DirentRow(op.inode, op.kind, draft.seq, op.shadows))


def _drop_dirent(draft: Draft, op: DropDirent) -> None:
    key = dirent_key(op.parent, op.name)
    _expect_dirent(draft, key, op.inode)
    draft.put_dirent(key, None)


def _expect_dirent(draft: Draft, key: bytes, inode: int) -> None:
    before = draft.dirent(key)
    found = 0 if before is None else before.inode
    if found != inode:
        draft.refuse(f"a name led to another inode. name={key[8:]!r} expected={inode} {found=}")


def _drop_folder(draft: Draft, op: DropFolder) -> None:
    row = draft.known_inode(op.inode)
    if row.kind is not Kind.FOLDER or op.inode == ROOT_INODE:
        draft.refuse(f"this is no directory that can go. inode={op.inode}")
    draft.put_inode(op.inode, None)


def _move_folder(draft: Draft, op: MoveFolder) -> None:
    row = draft.known_inode(op.inode)
    if row.kind is not Kind.FOLDER or op.inode == ROOT_INODE:
        draft.refuse(f"this is no directory that can move. inode={op.inode}")
    draft.put_inode(op.inode, replace(row, parent=op.parent, seq=draft.seq))


def _detach(draft: Draft, op: Detach) -> None:
    row = draft.known_inode(op.inode)
    if row.prefix != op.prefix or op.inode == ROOT_INODE:
        draft.refuse(
            f"a directory shows other objects than its author knew. inode={op.inode} "
            f"expected={op.prefix!r} found={row.prefix!r}"
        )
    draft.put_inode(op.inode, replace(row, prefix=None, seq=draft.seq))


def _hide(draft: Draft, op: Hide) -> None:
    """Two clients may hide one version; who did so first does not matter."""
    if draft.hidden(op.key, op.version) is None:
        draft.put_hidden(HiddenRow(op.key, op.version, draft.seq))


def _unlink_native(draft: Draft, op: UnlinkNative) -> None:
    row = draft.hidden(op.key, op.version)
    if row is None:
        draft.refuse(f"an object is given up that still shows. key={op.key!r}")
    if row.unlinked_ns is None:
        draft.put_hidden(replace(row, unlinked_ns=draft.entry.time_ns))


def _drop_native(draft: Draft, op: DropNative) -> None:
    if draft.hidden(op.key, op.version) is None:
        draft.refuse(f"the bytes of an object are gone that still shows. key={op.key!r}")
    _let_go(draft, op.key, op.version)


def _let_go(draft: Draft, key: bytes, version: str) -> None:
    """Let a version be none that was given up and is kept; two clients may do so."""
    row = draft.hidden(key, version)
    if row is not None and row.unlinked_ns is not None:
        draft.put_hidden(replace(row, unlinked_ns=None))


_OPERATIONS: dict[type, Callable[[Draft, Any], None]] = {
    Grant: _grant,
    NewInode: _new_inode,
    SetContent: _set_content,
    SetAttributes: _set_attributes,
    SetXattr: _set_xattr,
    AddLinks: _add_links,
    PutDirent: _put_dirent,
    DropDirent: _drop_dirent,
    DropFolder: _drop_folder,
    MoveFolder: _move_folder,
    Hide: _hide,
    UnlinkNative: _unlink_native,
    Detach: _detach,
    DropNative: _drop_native,
}
