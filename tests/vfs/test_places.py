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
    for number in range(places.MOST_REMEMBERED + 10):
        known.note(InodeNo(number), (FOLDER, b"%d" % number))
    assert known.get(InodeNo(9)) is None
    assert known.get(InodeNo(10)) == (FOLDER, b"10")
