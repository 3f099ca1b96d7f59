"""Say which inode numbers stand for what. Pure.

Two kinds of numbers never meet. From `FIRST_NATIVE_INODE` on they are hashes of what a native
object or directory is called, so they are the same after a remount. Below it they are handed out,
from ranges that entries of the log grant to one client each (volume format, M1).
"""

from dataclasses import dataclass

import xxhash

from blobfs.types import FIRST_NATIVE_INODE, ROOT_INODE, InodeNo

FIRST_VOLUME_INODE = InodeNo(ROOT_INODE + 1)

RANGE_NUMBERS = 1 << 24
"""Numbers in one range, as far as it matters: 16 million files until the next grant."""


RANGES = 1 << 36
"""Ranges of inode numbers to choose from: nobody meets another client in one by chance."""


def is_native(number: InodeNo) -> bool:
    """Whether the number is a hash: of a native object, or of a directory of such."""
    return number >= FIRST_NATIVE_INODE


def folder_number(prefix: str) -> InodeNo:
    """Return the number of the native directory `prefix`, the same for every client.

    It depends on nothing else, because an adopted directory keeps it in the volume's rows.
    """
    if not prefix:
        return ROOT_INODE
    return _hashed(xxhash.xxh3_64_intdigest(prefix.encode("utf-8", "surrogateescape")))


def file_number(seed: int, prefix: str, name: bytes, etag: str) -> InodeNo:
    """Return the number of one version of a native object (volume format, N6 and S3).

    `seed` stands for the bucket, so that two mounts side by side show different numbers.
    """
    prefix_bytes, version = (part.encode("utf-8", "surrogateescape") for part in (prefix, etag))
    identity = prefix_bytes + name + b"\0" + version
    return _hashed(xxhash.xxh3_64_intdigest(identity, seed=seed))


def bucket_seed(source: str) -> int:
    """Return what `file_number` wants to know of the bucket with this URL."""
    return xxhash.xxh3_64_intdigest(source.encode("utf-8", "surrogateescape"))


def next_native(number: InodeNo) -> InodeNo:
    """Return the number to try when `number` stands for something else already."""
    return _hashed(number + 1)


def _hashed(digest: int) -> InodeNo:
    return InodeNo(FIRST_NATIVE_INODE | digest & (FIRST_NATIVE_INODE - 1))


@dataclass(frozen=True, slots=True, order=True)
class NumberRange:
    """The numbers `first` up to, not including, `stop`."""

    first: int
    stop: int

    def __contains__(self, number: int) -> bool:
        return self.first <= number < self.stop


def range_by_chance(chance: float) -> int:
    """Return the first number of a range, given a `chance` from [0, 1)."""
    return (1 + int(chance * (RANGES - 1))) * RANGE_NUMBERS


def range_of(number: int) -> NumberRange:
    """Return the range that a number below `FIRST_NATIVE_INODE` belongs to.

    All clients cut the numbers alike, so a number alone says which grant it needs.
    """
    start = number // RANGE_NUMBERS * RANGE_NUMBERS
    return NumberRange(max(start, FIRST_VOLUME_INODE), start + RANGE_NUMBERS)
