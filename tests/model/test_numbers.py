"""Two things never share a number, and a thing keeps its own."""

from hypothesis import given
from hypothesis import strategies as st

from blobfs.model.numbers import (
    FIRST_VOLUME_INODE,
    RANGE_NUMBERS,
    bucket_seed,
    file_number,
    folder_number,
    is_native,
    next_native,
    range_of,
)
from blobfs.types import FIRST_NATIVE_INODE, ROOT_INODE, InodeNo

SEED = bucket_seed("s3://bucket")


def test_numbers_of_folders_are_part_of_the_format() -> None:
    """Rows of adopted directories carry them: another version must come to the same ones."""
    assert folder_number("") == ROOT_INODE
    assert folder_number("a/") == 6797217238650764543
    assert folder_number("a/b/") == 9014369079155651451


@given(st.text(), st.binary(), st.text())
def test_native_numbers_stay_in_their_half(prefix: str, name: bytes, etag: str) -> None:
    """A native file under a number of the volume's would be read as another file."""
    for number in (folder_number(prefix + "/"), file_number(SEED, prefix, name, etag)):
        assert is_native(number)
        assert number < 1 << 63  # signed in more than one language
    assert not is_native(ROOT_INODE)


def test_every_version_of_an_object_has_a_number_of_its_own() -> None:
    """Pages that a kernel keeps of one must never be shown as the other's (S3)."""
    numbers = {
        file_number(seed, prefix, name, etag)
        for seed in (SEED, bucket_seed("s3://other"))
        for prefix in ("a/", "b/")
        for name in (b"x", b"y")
        for etag in ("1", "2")
    }
    assert len(numbers) == 16


def test_the_next_number_stays_native() -> None:
    """Also behind the last one."""
    assert next_native(folder_number("a/")) == folder_number("a/") + 1
    assert next_native(InodeNo(2 * FIRST_NATIVE_INODE - 1)) == FIRST_NATIVE_INODE


def test_ranges_follow_each_other_without_a_gap() -> None:
    """A number says by itself which grant it needs; it must be one that can be granted."""
    first = range_of(FIRST_VOLUME_INODE)
    assert (first.first, first.stop) == (FIRST_VOLUME_INODE, RANGE_NUMBERS)
    assert ROOT_INODE not in first
    second = range_of(first.stop)
    assert (second.first, second.stop) == (RANGE_NUMBERS, 2 * RANGE_NUMBERS)
    assert range_of(second.stop - 1) == second
    assert range_of(FIRST_NATIVE_INODE - 1).stop == FIRST_NATIVE_INODE
