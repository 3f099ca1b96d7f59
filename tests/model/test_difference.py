"""What a commit says of the rows that changed."""

import random

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
from blobfs.formats.rows import EMPTY, DirentRow, Inline, InodeRow, Kind, Native
from blobfs.model.changes import DirentKey, LocalDirent, LocalInode, hiding
from blobfs.model.difference import InodeChange, NameChange, operations_for
from blobfs.types import ROOT_INODE, InodeNo, Seq

A, B = InodeNo(100), InodeNo(101)


def local(kind: Kind = Kind.FILE, **fields: object) -> LocalInode:
    given = {"mode": 0o644, "uid": 1, "gid": 2, "mtime_ns": 3, "ctime_ns": 4, "nlink": 1, **fields}
    return LocalInode(kind=kind, **given)  # type: ignore[arg-type]


def row(kind: Kind = Kind.FILE, **fields: object) -> InodeRow:
    given = {"mode": 0o644, "uid": 1, "gid": 2, "mtime_ns": 3, "ctime_ns": 4, "nlink": 1, **fields}
    return InodeRow(kind=kind, **given)  # type: ignore[arg-type]


def test_nothing_changed_says_nothing() -> None:
    """A file that was written and put back as it was would still make a commit."""
    assert operations_for([InodeChange(A, row(), local())], []) == ()


def test_a_file_that_came_and_went_says_nothing() -> None:
    """Temporary files would fill the log."""
    changes = [NameChange((ROOT_INODE, b"tmp"), None, None)]
    assert operations_for([InodeChange(A, None, None)], changes) == ()


def test_new_content_names_the_content_that_it_was_made_from() -> None:
    """Nobody could tell later whether another client's content was seen (C2)."""
    before = row(content_seq=Seq(7), seq=Seq(9))
    change = InodeChange(A, before, local(size_bytes=3), Inline(b"abc"))

    assert operations_for([change], []) == (SetContent(A, 3, Inline(b"abc"), Seq(7)),)


def test_only_the_attributes_that_changed_are_said() -> None:
    """A chmod would undo another client's chown, committed in between."""
    change = InodeChange(A, row(), local(mode=0o600, ctime_ns=9))

    assert operations_for([change], []) == (SetAttributes(A, mode=0o600, ctime_ns=9),)


def test_attributes_can_become_zero() -> None:
    """chmod 000, chown root and touch -d @0 would be forgotten."""
    change = InodeChange(A, row(), local(mode=0, uid=0, gid=0, mtime_ns=0))

    (said,) = operations_for([change], [])

    assert said == SetAttributes(A, mode=0, uid=0, gid=0, mtime_ns=0)


def test_a_replaced_name_says_whom_it_replaces() -> None:
    """`check` could not tell a replacement from a lost file."""
    names = [NameChange((ROOT_INODE, b"f"), DirentRow(A, Kind.FILE), LocalDirent(B, Kind.FILE))]
    said = operations_for([InodeChange(A, row(), None)], names)

    assert said == (PutDirent(ROOT_INODE, b"f", B, Kind.FILE, A), AddLinks(A, -1))


def test_a_moved_directory_says_where_it_lies() -> None:
    """Two moves of one directory could not be seen to conflict (C5)."""
    change = InodeChange(A, row(Kind.FOLDER, parent=ROOT_INODE), local(Kind.FOLDER, parent=B))

    assert operations_for([change], []) == (MoveFolder(A, B),)


def test_extended_attributes_are_set_and_removed_one_by_one() -> None:
    """Setting one attribute would remove what another client set."""
    before = row(xattrs=((b"user.a", b"1"), (b"user.b", b"2")))
    after = local(xattrs=((b"user.b", b"3"), (b"user.c", b"")))

    assert operations_for([InodeChange(A, before, after)], []) == (
        SetXattr(A, b"user.a", None),
        SetXattr(A, b"user.b", b"3"),
        SetXattr(A, b"user.c", b""),
    )


def test_a_symbolic_link_carries_its_target() -> None:
    """It would lead nowhere on every other client."""
    link = local(Kind.SYMLINK, target=b"there", size_bytes=5)

    said = operations_for([InodeChange(A, None, link)], [])

    assert SetContent(A, 5, Inline(b"there"), Seq(0)) in said


def test_what_is_said_turns_any_before_into_its_after() -> None:
    """Replicas would differ from what the author saw."""
    chance = random.Random(3)
    for _ in range(300):
        inodes, names = _random_changes(chance)
        before_inodes = {each.inode: each.before for each in inodes if each.before}
        before_names = {each.name: each.before.inode for each in names if each.before}

        after_inodes, after_names = _apply(
            operations_for(inodes, names), before_inodes, before_names
        )

        assert after_names == {each.name: each.after.inode for each in names if each.after}
        assert after_inodes == {
            each.inode: _as_row(each) for each in inodes if each.after is not None
        }


def _random_changes(chance: random.Random) -> tuple[list[InodeChange], list[NameChange]]:
    def fields() -> dict[str, object]:
        return {
            "mode": chance.randrange(2),
            "uid": chance.randrange(2),
            "mtime_ns": chance.randrange(2),
            "xattrs": tuple((b"user.%d" % n, b"") for n in range(3) if chance.random() < 0.5),
        }

    inodes = []
    for n in range(100, 108):
        kind = chance.choice([Kind.FILE, Kind.FOLDER])
        special: dict[str, object] = {"nlink": chance.randint(1, 3)}
        if kind == Kind.FOLDER:
            special = {"parent": InodeNo(chance.randint(1, 3))}
        before = row(kind, **fields(), **special) if chance.random() < 0.6 else None
        after = local(kind, **fields(), **special) if chance.random() < 0.6 else None
        inodes.append(InodeChange(InodeNo(n), before, after))
    names = []
    for n in range(8):
        before_name = DirentRow(InodeNo(chance.randint(100, 103)), Kind.FILE)
        after_name = LocalDirent(InodeNo(chance.randint(100, 103)), Kind.FILE)
        names.append(
            NameChange(
                (ROOT_INODE, b"%d" % n),
                chance.choice([None, before_name]),
                chance.choice([None, after_name]),
            )
        )
    return inodes, names


def _as_row(change: InodeChange) -> InodeRow:
    assert change.after is not None
    after = change.after
    return row(
        after.kind,
        mode=after.mode,
        uid=after.uid,
        mtime_ns=after.mtime_ns,
        xattrs=after.xattrs,
        nlink=after.nlink,
        parent=after.parent,
    )


def _apply(
    operations: tuple[Operation, ...],
    inodes: dict[InodeNo, InodeRow],
    names: dict[DirentKey, InodeNo],
) -> tuple[dict[InodeNo, InodeRow], dict[DirentKey, InodeNo]]:
    """Replay, in the plainest way."""
    state: dict[InodeNo, dict[str, object]] = {
        inode: {field: getattr(each, field) for field in each.__struct_fields__}
        for inode, each in inodes.items()
    }
    names = dict(names)
    for said in operations:
        match said:
            case NewInode():
                assert said.inode not in state
                state[said.inode] = {
                    "kind": said.kind,
                    "mode": said.mode,
                    "uid": said.uid,
                    "gid": said.gid,
                    "mtime_ns": said.mtime_ns,
                    "ctime_ns": said.ctime_ns,
                    "nlink": 1 if said.kind == Kind.FOLDER else 0,
                    "content": EMPTY,
                    "parent": said.parent,
                }
            case SetAttributes():
                for field in ("mode", "uid", "gid", "mtime_ns", "ctime_ns"):
                    if (value := getattr(said, field)) is not None:
                        state[said.inode][field] = value
            case SetXattr():
                now = dict(state[said.inode].get("xattrs", ()))  # type: ignore[call-overload]
                now.pop(said.name, None)
                if said.value is not None:
                    now[said.name] = said.value
                state[said.inode]["xattrs"] = tuple(sorted(now.items()))
            case AddLinks():
                state[said.inode]["nlink"] += said.delta  # type: ignore[operator]
                if state[said.inode]["nlink"] == 0:
                    del state[said.inode]
            case MoveFolder():
                state[said.inode]["parent"] = said.parent
            case DropFolder():
                del state[said.inode]
            case PutDirent():
                assert names.get((said.parent, said.name), 0) == said.replaces
                names[said.parent, said.name] = said.inode
            case DropDirent():
                assert names.pop((said.parent, said.name)) == said.inode
            case _:
                raise AssertionError(said)
    rows = {inode: InodeRow(**fields) for inode, fields in state.items()}  # type: ignore[arg-type]
    return rows, names


BOUND = Native(b"d/old", 5, "5 7 abc")
HIDING = hiding(BOUND.key, BOUND.version)
HIDDEN = LocalDirent(A, Kind.FILE, BOUND.version)


def test_a_file_that_is_bound_refers_to_its_object() -> None:
    """It would be copied, or be empty."""
    after = local(size_bytes=5, base_limit_bytes=5, bound=BOUND)
    inode, name = InodeChange(A, None, after, BOUND), NameChange(HIDING, None, HIDDEN)
    operations = operations_for([inode], [name])
    assert SetContent(A, 5, BOUND, Seq(0)) in operations
    assert operations[-1] == Hide(BOUND.key, BOUND.version)


def test_an_object_is_given_up_with_the_last_that_refers_to_it() -> None:
    """Its bytes would be kept for ever, or be deleted under a file (N5)."""
    given_up = UnlinkNative(BOUND.key, BOUND.version)
    bound = row(size_bytes=5, content=BOUND)
    data = Inline(b"ab")

    def last(*inodes: InodeChange, hidden: bool = False) -> Operation:
        names = [NameChange(HIDING, None, HIDDEN)] if hidden else []
        return operations_for(inodes, names)[-1]

    assert last(InodeChange(A, bound, None)) == given_up
    assert last(InodeChange(A, bound, local(size_bytes=2), data)) == given_up
    assert (
        last(InodeChange(A, None, local(size_bytes=2, bound=BOUND), data), hidden=True) == given_up
    )
    assert last(hidden=True) == given_up
    assert last(InodeChange(A, bound, local(size_bytes=5, mode=0o600))) != given_up


def test_a_renamed_directory_of_objects_leaves_its_prefix() -> None:
    """What comes below the old name would show under the new one, for everybody else (N2)."""
    before = row(kind=Kind.FOLDER, prefix="d/", parent=ROOT_INODE, nlink=1)
    after = local(kind=Kind.FOLDER, parent=B, nlink=1)
    assert operations_for([InodeChange(A, before, after)], []) == (
        MoveFolder(A, B),
        Detach(A, "d/"),
    )


def test_a_marker_is_hidden_and_kept() -> None:
    """It has no version by which it could be deleted safely."""
    name = NameChange(hiding(b"d/", "0 7 "), None, LocalDirent(A, Kind.FOLDER, "0 7 "))
    assert operations_for([], [name]) == (Hide(b"d/", "0 7 "),)
