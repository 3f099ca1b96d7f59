"""A version is told apart from every other, and what older volumes wrote of one still means it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobfs.formats.version import Version, is_same_version, parse_version, spell_version

ETAGS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=80)


@given(ETAGS, st.integers(0, 1 << 62), st.integers(-(1 << 62), 1 << 62))
def test_a_version_says_what_was_spelled(etag: str, size_bytes: int, mtime_ns: int) -> None:
    """A file that was removed would come back, or another one be hidden in its place."""
    spelled = spell_version(etag, size_bytes, mtime_ns)
    assert parse_version(spelled) == Version(etag, size_bytes, mtime_ns // 1_000_000_000)


@given(ETAGS)
def test_a_bare_etag_is_one(etag: str) -> None:
    """What the first volumes say of the objects behind their names would be lost."""
    assert parse_version(etag) == Version(etag)


@pytest.mark.parametrize("odd", ["a b", "a b c", "1 b c", " ", "1  2", "-1 2 c"])
def test_what_nobody_spelled_is_taken_for_an_etag(odd: str) -> None:
    """A string that a store made up must not end a mount."""
    assert parse_version(odd) == Version(odd)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("5 7 abc", "5 7 abc", True),
        ("5 7 abc", "5 8 abc", False),
        ("5 7 abc", "6 7 abc", False),
        ("5 7 abc", "5 7 abd", False),
        ("abc", "5 7 abc", True),
        ("5 7 abc", "abc", True),
        ("abd", "5 7 abc", False),
        ("abc", "abc", True),
        ("", "5 7 abc", False),
        ("", "5 7 ", False),
        ("", "", True),
    ],
)
def test_versions_are_compared_as_far_as_both_tell(one: str, other: str, same: bool) -> None:
    """What was uploaded again, byte by byte the same, is new; what did not change is not (N1)."""
    assert is_same_version(one, other) is same
