"""Both versions of a file can be found, and told apart, by people."""

import pytest

from blobfs.model.changes import LocalDirent
from blobfs.model.conflict import (
    CONFLICT_OF,
    beside_name,
    conflict_name,
    original_name,
    plan_giving_way,
)
from tests.model.places import FILE, FOLDER, NOW_NS, taken, times

WHEN_NS = 1_787_407_503_000_000_000  # 2026-08-22 14:05:03
MIDDLE = b" (conflict shop 2026-08-22 140503 7)"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"report.odt", b"report" + MIDDLE + b".odt"),
        (b"report", b"report" + MIDDLE),
        (b".bashrc", b".bashrc" + MIDDLE),
        (b"a.tar.gz", b"a.tar" + MIDDLE + b".gz"),
        (b"a." + b"x" * 40, b"a." + b"x" * 40 + MIDDLE),
        (b"x" * 255, b"x" * (255 - len(MIDDLE)) + MIDDLE),
        (b"x" * 250 + b".txt", b"x" * (255 - len(MIDDLE) - 4) + MIDDLE + b".txt"),
        (b"\xff\xfe", b"\xff\xfe" + MIDDLE),
    ],
)
def test_a_copy_says_what_it_is(name: bytes, expected: bytes) -> None:
    """A copy that nobody recognises is a copy that nobody merges."""
    assert conflict_name(name, "shop", WHEN_NS, "7") == expected
    assert len(expected) <= 255


@pytest.mark.parametrize("length", range(250, 256))
def test_no_character_is_cut_in_two(length: int) -> None:
    """Tools that expect UTF-8 would refuse the name."""
    name = ("é" * 128).encode()[: length // 2 * 2]
    conflict_name(name, "shöp", WHEN_NS, "7").decode()


def test_a_host_is_a_part_of_a_name() -> None:
    """Whatever a machine is called, the name must be one that a directory can hold."""
    name = conflict_name(b"a", "w/o\0rk" + "é" * 60, WHEN_NS, "7")
    assert len(name) < 100
    assert not {0, ord("/")} & set(name)
    name.decode()


def test_a_file_gives_way_in_its_directory() -> None:
    """It keeps its content, and says what it was called."""
    change = plan_giving_way(taken(FILE, b"f"), b"copy", NOW_NS)
    row = change.inodes[FILE.inode]
    assert row is not None
    assert row.xattrs == ((CONFLICT_OF, b"f"),)
    assert change.dirents == {
        (FOLDER.inode, b"f"): None,
        (FOLDER.inode, b"copy"): LocalDirent(FILE.inode, FILE.kind),
    }
    assert times(change, FOLDER.inode) == (NOW_NS, NOW_NS)


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        (b"a.txt", b"a (conflict bucket 2026-08-22 140503 ba7816).txt"),
        (b"a", b"a (conflict bucket 2026-08-22 140503 ba7816)"),
        (b".a", b".a (conflict bucket 2026-08-22 140503 ba7816)"),
        (b"a\n.b", b"a\n (conflict bucket 2026-08-22 140503 ba7816).b"),
        (b"a." + b"x" * 40, b"a." + b"x" * 40 + b" (conflict bucket 2026-08-22 140503 ba7816)"),
        (b"x" * 250, None),
    ],
)
def test_what_shows_beside_a_file_can_be_asked_for(name: bytes, beside: bytes | None) -> None:
    """A listing would show a name that nobody can open."""
    assert beside_name(name, WHEN_NS, "abc") == beside
    if beside is not None:
        assert original_name(beside) == name


@pytest.mark.parametrize(
    "name", [b"a", b"a (conflict shop 2026-08-22 140503 ba7816)", b" (conflict)"]
)
def test_other_names_are_names(name: bytes) -> None:
    """Files would be looked for that nobody asked for."""
    assert original_name(name) is None
