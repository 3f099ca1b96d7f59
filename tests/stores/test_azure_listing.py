"""Show that listings of Azure come in the order that stores promise, whichever is its own."""

import random
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from blobfs.errors import Damaged, UsageError
from blobfs.stores.azure_listing import (
    NOTHING_LEFT,
    Listed,
    decode_position,
    next_page,
    parse_listing,
)
from blobfs.types import ObjectInfo
from tests.stores.azure_fakes import blob, listing

FOLDER = "<hdi_isfolder>true</hdi_isfolder>"


def utf8(name: str) -> bytes:
    return name.encode()


def utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def parsed(*entries: str, delimiter: bool = False) -> Listed:
    found = parse_listing(ElementTree.fromstring(listing(*entries).body), delimiter)
    assert found is not None
    return found


def walk(pages: list[Listed], start_after: str = "", max_keys: int = 1000) -> list[str]:
    """Return what a caller sees who follows the tokens, `pages` being the server's answers."""
    seen: list[str] = []
    token: str | None = None
    answers = iter(pages)
    while True:
        position = decode_position(token)
        answer = NOTHING_LEFT if position.marker is None else next(answers)
        page = next_page(position, answer, start_after, max_keys)
        assert len(page.objects) + len(page.prefixes) <= max_keys
        seen += sorted([*(found.key for found in page.objects), *page.prefixes], key=utf8)
        token = page.next_token
        if token is None:
            return seen


def as_pages(names: list[str], page_keys: int) -> list[Listed]:
    """Return the answers of a server that has `names`, in this order."""
    parts = [names[start : start + page_keys] for start in range(0, len(names), page_keys)] or [[]]
    return [
        Listed(part, [ObjectInfo(name, 1, "etag", 0) for name in part], marker)
        for part, marker in zip(parts, [*map(str, range(len(parts) - 1)), None], strict=True)
    ]


@pytest.mark.parametrize("order", [utf8, utf16], ids=["utf8", "utf16"])
@pytest.mark.parametrize("seed", range(20))
def test_any_names_come_in_order_and_once(order: Callable[[str], bytes], seed: int) -> None:
    """Or names with emoji would be listed in the wrong place, and a walk would lose some."""
    chance = random.Random(seed)
    alphabet = "ab/-~\ud7ff\ue000\ufb01\uffff\U00010000\U0001f600"
    names = {"".join(chance.choices(alphabet, k=chance.randint(1, 5))) for _ in range(60)}
    pages = as_pages(sorted(names, key=order), page_keys=chance.randint(1, 9))
    after = chance.choice([*names, "", "b"])
    wanted = sorted((name for name in names if name > after), key=utf8)
    assert walk(pages, after, max_keys=9) == wanted


def test_ordinary_names_are_never_held_back() -> None:
    """Or every token of every listing would carry a page of names along."""
    page = next_page(decode_position(None), as_pages(["a", "b", "ü"], 2)[0], "", 2)
    assert [found.key for found in page.objects] == ["a", "b"]
    assert decode_position(page.next_token).held == ()


def test_a_folder_blob_is_a_marker_in_its_place() -> None:
    """Or an empty folder of a hierarchical account would be shown as an empty file."""
    answer = parsed(blob("dir", size_bytes=0, metadata=FOLDER), blob("dir-x"), blob("file"))
    assert walk([answer]) == ["dir-x", "dir/", "file"]


def test_a_folder_blob_waits_for_the_names_before_its_marker() -> None:
    """Or at the seam of two pages `dir/` would come before `dir-x`."""
    first = parsed(blob("dir", size_bytes=0, metadata=FOLDER))
    first = Listed(first.names, first.entries, "next")
    assert walk([first, parsed(blob("dir-x"), blob("dir/file"))]) == ["dir-x", "dir/", "dir/file"]


def test_a_folder_blob_and_its_prefix_are_one() -> None:
    """Or a folder would be listed twice."""
    prefix = "<BlobPrefix><Name>dir/</Name></BlobPrefix>"
    answer = parsed(prefix, blob("dir", size_bytes=0, metadata=FOLDER), delimiter=True)
    page = next_page(decode_position(None), answer, "", 1000)
    assert (page.objects, page.prefixes) == ((), ("dir/",))


def test_names_that_xml_cannot_carry_are_decoded() -> None:
    """Or such a file would have another name, under which it cannot be opened."""
    assert parsed(blob("a%EF%BF%BE%25b", encoded=True), blob("c%25d")).names == [
        "a\ufffe%b",
        "c%25d",
    ]


@pytest.mark.parametrize(
    "text",
    ["<html><body>log in</body></html>", "<EnumerationResults><Blobs/></EnumerationResults>"],
)
def test_what_is_no_whole_listing_is_none(text: str) -> None:
    """Or a login page would empty a folder."""
    assert parse_listing(ElementTree.fromstring(text), delimiter=False) is None
    assert parse_listing("text", delimiter=False) is None


def test_an_entry_without_its_properties_is_damage() -> None:
    """Or a file would appear with a size or a version that nobody stated."""
    with pytest.raises(Damaged, match="key='x'"):
        parsed("<Blob><Name>x</Name><Properties/></Blob>")
    with pytest.raises(Damaged):
        parsed("<Blob><Properties/></Blob>")


def test_a_foreign_token_is_refused() -> None:
    """Or a listing would silently begin again in the middle."""
    with pytest.raises(UsageError, match="token"):
        decode_position("not a token")
