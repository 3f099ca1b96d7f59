"""What a kernel knows by number is what the number stood for when it was told of it."""

import gc

import pytest

from blobfs.formats.rows import Kind
from blobfs.model.changes import LocalInode
from blobfs.model.listing import Entry
from blobfs.model.numbers import folder_number
from blobfs.types import FIRST_NATIVE_INODE, ROOT_INODE, InodeNo
from blobfs.volume import namespace_natives
from blobfs.volume.namespace_natives import Natives

FILE = Entry(b"f", False, 5, "etag", mtime_ns=1)
FOLDER = Entry(b"d", True)


@pytest.fixture
def rows() -> dict[InodeNo, LocalInode]:
    return {}


@pytest.fixture
def natives(rows: dict[InodeNo, LocalInode]) -> Natives:
    return Natives("memory://", rows.get)


def test_a_number_leads_back_while_somebody_holds_the_node(natives: Natives) -> None:
    """A table that only grows would be as large as the bucket (P10)."""
    node = natives.node(ROOT_INODE, "", FILE)
    number = node.number
    assert natives.get(number) is node
    assert natives.node(ROOT_INODE, "", FILE) is node
    del node
    gc.collect()
    assert natives.get(number) is None
    assert natives.get(ROOT_INODE) is not None


def test_a_newer_time_of_the_same_version_shows(natives: Natives) -> None:
    """Stores tell times more or less exactly; the bytes are the same."""
    node = natives.node(ROOT_INODE, "", FILE)
    newer = Entry(b"f", False, 5, "etag", mtime_ns=2)
    assert natives.node(ROOT_INODE, "", newer) is node
    assert node.entry.mtime_ns == 2


def test_another_version_is_another_inode(natives: Natives) -> None:
    """Programs that have the old one open are not disturbed (S3)."""
    old = natives.node(ROOT_INODE, "", FILE)
    new = natives.node(ROOT_INODE, "", Entry(b"f", False, 5, "other", mtime_ns=1))
    assert old.number != new.number
    assert natives.get(old.number) is old


def test_numbers_that_meet_are_kept_apart(
    natives: Natives, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files under one number: the second would show the bytes of the first."""
    same = InodeNo(FIRST_NATIVE_INODE + 5)
    monkeypatch.setattr(namespace_natives, "file_number", lambda *_: same)
    monkeypatch.setattr(namespace_natives, "folder_number", lambda *_: same)
    nodes = [natives.node(ROOT_INODE, "", entry) for entry in (FILE, FOLDER, Entry(b"g", False))]
    assert [node.number for node in nodes] == [same, same + 1, same + 2]
    assert natives.node(ROOT_INODE, "", FOLDER) is nodes[1]


@pytest.mark.parametrize(("prefix", "nlink"), [("other/", 1), ("d/", 0)])
def test_a_directory_never_gets_the_number_of_another_row(
    natives: Natives, rows: dict[InodeNo, LocalInode], prefix: str, nlink: int
) -> None:
    """Of another adopted directory, or of itself as it was before it was removed."""
    number = folder_number("d/")
    rows[number] = LocalInode(Kind.FOLDER, 0o755, 0, 0, 0, 0, nlink, prefix=prefix)
    assert natives.node(ROOT_INODE, "", FOLDER).number == number + 1
    rows[number] = LocalInode(Kind.FOLDER, 0o755, 0, 0, 0, 0, 1, prefix="d/")
    assert natives.node(ROOT_INODE, "", FOLDER).number == number
