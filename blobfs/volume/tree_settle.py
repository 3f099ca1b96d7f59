"""Make sure, at the end of an entry, that the rows it changed hold together.

Nothing is decided here: what cannot be is refused. By these checks, entry by entry, every dirent
leads to an inode, every file counts its names, and every directory lies below the root.
"""

from collections import Counter

from blobfs.formats.commit import Counters
from blobfs.formats.rows import InodeRow, Kind
from blobfs.types import ROOT_INODE, InodeNo
from blobfs.volume.tree_draft import Draft
from blobfs.volume.tree_rows import LogState, digest_bytes, digest_of


def settle(draft: Draft) -> LogState:
    """Drop the files that no name leads to, check all rows, return the state with this entry.

    Its `chain` is still the hash of the entry before.

    Raises:
        Damaged: the rows do not hold together, or are not what the author's were (L9).
    """
    _drop_unlinked(draft)
    _check_dirents(draft)
    _check_names(draft)
    _check_folders(draft)
    state = _next_state(draft)
    expected = draft.entry.counters
    if expected is not None and expected != state.counters:
        draft.refuse(
            f"the tree is not the one that the author had. "
            f"expected={_words(expected)} found={_words(state.counters)}"
        )
    return state


def _drop_unlinked(draft: Draft) -> None:
    for number, _, row in draft.inodes():
        if row is None or row.nlink > 0:
            continue
        if row.nlink < 0:
            draft.refuse(f"more names are gone than led to the inode. inode={number}")
        draft.put_inode(number, None)


def _check_dirents(draft: Draft) -> None:
    """New names lie in directories, and lead to what they say."""
    for key, _, dirent in draft.dirents():
        if dirent is None:
            continue
        parent_no = InodeNo(int.from_bytes(key[:8], "big"))
        parent, row = draft.inode(parent_no), draft.inode(dirent.inode)
        if parent is None or parent.kind is not Kind.FOLDER:
            draft.refuse(f"a name was put into what is no directory. inode={parent_no}")
        if row is None or row.kind is not dirent.kind:
            draft.refuse(f"a name leads to no such inode. inode={dirent.inode}")
        if row.kind is Kind.FOLDER and row.parent != parent_no:
            draft.refuse(f"a directory has a name where it does not lie. inode={dirent.inode}")


def _check_names(draft: Draft) -> None:
    """As many names came or went as the inodes say."""
    gained: Counter[InodeNo] = Counter()
    for _, old, new in draft.dirents():
        if old is not None:
            gained[old.inode] -= 1
        if new is not None:
            gained[new.inode] += 1
    for number, before, now in draft.inodes():
        if number != ROOT_INODE:
            gained[number] -= _names(now) - _names(before)
    for number, difference in gained.items():
        if difference:
            draft.refuse(f"names and link counts do not agree. inode={number} {difference=}")


def _check_folders(draft: Draft) -> None:
    """Directories that are gone were empty, and those that came or moved lie below the root."""
    for number, before, now in draft.inodes():
        if now is None and before is not None and before.kind is Kind.FOLDER:
            if draft.first_dirent(number) is not None:
                draft.refuse(f"a directory that is gone has entries. inode={number}")
        elif now is not None and now.kind is Kind.FOLDER and _has_moved(before, now):
            _check_rooted(draft, number, now)


def _has_moved(before: InodeRow | None, now: InodeRow) -> bool:
    return before is None or before.parent != now.parent


def _check_rooted(draft: Draft, number: InodeNo, row: InodeRow) -> None:
    """Follow the directory upwards: it has to end at the root, not at itself (C5)."""
    seen = {number}
    while number != ROOT_INODE:
        number = row.parent
        above = draft.inode(number)
        if above is None or above.kind is not Kind.FOLDER or number in seen:
            draft.refuse(f"a directory does not lie below the root. inode={number}")
        seen.add(number)
        row = above


def _next_state(draft: Draft) -> LogState:
    before, entry = draft.before, draft.entry
    counters = _add_up(draft, before.counters)
    return LogState(
        seq=entry.seq,
        chain=before.chain,
        time_ns=entry.time_ns,
        inodes=counters.inodes,
        content_bytes=counters.content_bytes,
        dirents_digest=counters.dirents_digest,
        granted_to=draft.granted_to,
        kept=draft.kept(),
    )


def _add_up(draft: Draft, counters: Counters) -> Counters:
    inodes, content_bytes = counters.inodes, counters.content_bytes
    for _, before, now in draft.inodes():
        inodes += (now is not None) - (before is not None)
        content_bytes += _size_bytes(now) - _size_bytes(before)
    digest = int.from_bytes(counters.dirents_digest, "big")
    for key, old, new in draft.dirents():
        if old is not None:
            digest ^= digest_of(key, old.inode)
        if new is not None:
            digest ^= digest_of(key, new.inode)
    return Counters(inodes, content_bytes, digest_bytes(digest))


def _names(row: InodeRow | None) -> int:
    return 0 if row is None else row.nlink


def _size_bytes(row: InodeRow | None) -> int:
    return 0 if row is None else row.size_bytes


def _words(counters: Counters) -> str:
    digest = counters.dirents_digest.hex()
    return f"{counters.inodes} inodes, {counters.content_bytes} bytes, digest {digest}"
