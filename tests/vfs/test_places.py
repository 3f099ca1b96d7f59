"""The latest names of files are known, and no more of them than were agreed on."""

from blobfs.types import InodeNo
from blobfs.vfs import places
from blobfs.vfs.places import Places

FOLDER, FILE = InodeNo(1), InodeNo(7)


def test_the_latest_name_is_remembered() -> None:
    """A conflict copy would lie beside a name that the file had long ago."""
    known = Places()
    known.note(FILE, (FOLDER, b"old"))
    known.note(FILE, (FOLDER, b"new"))
    assert known.get(FILE) == (FOLDER, b"new")
    known.forget(FILE)
    assert known.get(FILE) is None


def test_memory_is_bounded() -> None:
    """A `find` over millions of files would take hundreds of megabytes."""
    known = Places()
    found = 3 * places.LEAST_REMEMBERED
    for number in range(found):
        known.note(InodeNo(number), (FOLDER, b"%d" % number))
    left = [number for number in range(found) if known.get(InodeNo(number)) is not None]
    assert places.LEAST_REMEMBERED <= len(left) <= 2 * places.LEAST_REMEMBERED
    assert left == list(range(left[0], found))


def test_a_name_of_long_ago_gives_way_to_a_newer_one() -> None:
    """The kernel would be told of a name that it does not know, and go on with the other."""
    known = Places()
    known.note(FILE, (FOLDER, b"old"))
    for number in range(places.LEAST_REMEMBERED):
        known.note(InodeNo(100 + number), (FOLDER, b"%d" % number))
    assert known.get(FILE) == (FOLDER, b"old")
    known.note(FILE, (FOLDER, b"new"))
    assert known.get(FILE) == (FOLDER, b"new")
    known.forget(FILE)
    assert known.get(FILE) is None
