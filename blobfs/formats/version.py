"""Name one version of an object that another tool wrote (volume format, N1).

    SIZE SECONDS ETAG        size in bytes, Last-Modified in seconds since the epoch, both decimal

An ETag holds no space (RFC 9110), so a string without one is an ETag alone: what the first volumes
wrote, and still means any object with this ETag. Times are there because some stores give equal
bytes equal ETags: what was uploaded again is another version. They are whole seconds, since a HEAD
tells no more. A marker object, which stands for a directory, has no ETag in its version.
"""

from dataclasses import dataclass

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Version:
    """What a version string says; None: nothing."""

    etag: str
    size_bytes: int | None = None
    mtime_s: int | None = None


def spell_version(etag: str, size_bytes: int, mtime_ns: int) -> str:
    """Return the version string of an object as a store describes it."""
    return f"{size_bytes} {mtime_ns // NS_PER_S} {etag}"


def parse_version(text: str) -> Version:
    """Return what a version string says. A string that nobody spelled is taken for an ETag."""
    size, _, rest = text.partition(" ")
    seconds, _, etag = rest.partition(" ")
    if not (size.isdecimal() and seconds.removeprefix("-").isdecimal()):
        return Version(text)
    return Version(etag, int(size), int(seconds))


def is_same_version(one: str, other: str) -> bool:
    """Whether two version strings mean one version, as far as both tell."""
    if one == other:
        return True
    if " " in one and " " in other:
        return False
    return bool(one and other) and parse_version(one).etag == parse_version(other).etag
