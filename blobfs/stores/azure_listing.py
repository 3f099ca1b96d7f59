"""Turn what Azure answers to List Blobs into pages in the order that stores promise. Pure.

Three things stand between the two:

1. The order. Stores list by UTF-8 bytes. Azure does not say how it compares characters beyond
   the Basic Multilingual Plane with those at its end; its emulator compares UTF-16 units,
   in which U+1F600 comes before U+FB01. So an entry is held back until nothing that
   is still to come can belong before it, whichever of the two orders the server keeps.
2. Folder blobs. Accounts with a hierarchical namespace, and some tools on others, keep an
   empty blob `dir` with the metadata `hdi_isfolder`. It is shown as the marker `dir/`,
   which belongs behind `dir-x`: held back like the others.
3. Where to go on. What is held back travels in the token, beside the server's own marker, so
   that a listing needs no state here and each page is one request.
"""

import email.utils
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote
from xml.etree.ElementTree import Element

import msgspec

from blobfs.errors import Damaged, UsageError
from blobfs.types import ListPage, ObjectInfo

Entry = ObjectInfo | str
"""An object, or a common prefix."""

FOLDER_METADATA = "hdi_isfolder"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a listing stands: the server's `marker` (None: it has no more), and what is held."""

    marker: str | None = ""
    held: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """One answer of the server. `names` are as it compares them, `entries` as we show them."""

    names: Sequence[str]
    entries: Sequence[Entry]
    marker: str | None


NOTHING_LEFT = Listed((), (), None)
"""What a server that has no more would answer."""


def decode_position(token: str | None) -> Position:
    """Return the position that `token` stands for.

    Raises:
        UsageError: it is not a token of ours.
    """
    if token is None:
        return Position()
    try:
        return msgspec.json.decode(token, type=Position)
    except (msgspec.MsgspecError, UnicodeError):
        raise UsageError(f"not a token of a listing. token={token[:100]!r}") from None


def parse_listing(root: object, delimiter: bool) -> Listed | None:
    """Return what an answer says, given the root of its XML; None when it is no whole listing.

    Raises:
        Damaged: an entry lacks what every entry has.
    """
    blobs = root.find("Blobs") if isinstance(root, Element) else None
    marker = root.find("NextMarker") if isinstance(root, Element) else None
    if blobs is None or marker is None:
        return None
    names: list[str] = []
    entries: list[Entry] = []
    for item in blobs:
        name = _name(item)
        names.append(name)
        entries.append(name if item.tag == "BlobPrefix" else _describe(item, name, delimiter))
    return Listed(names, entries, marker.text or None)


def next_page(position: Position, answer: Listed, start_after: str, max_keys: int) -> ListPage:
    """Return the page that follows `position`, given the server's `answer` to it."""
    found = {_key(entry): entry for entry in (*answer.entries, *position.held)}
    ready = sorted((key for key in found if key > start_after), key=str.encode)
    if answer.marker is not None:
        border = max(map(_border, answer.names), default=b"")
        ready = [key for key in ready if key.encode() < border]
    shown = ready[:max_keys]
    left = found.keys() - set(shown)
    held = tuple(found[key] for key in sorted(left, key=str.encode) if key > start_after)
    return ListPage(
        tuple(entry for key in shown if isinstance(entry := found[key], ObjectInfo)),
        tuple(entry for key in shown if isinstance(entry := found[key], str)),
        _encode_position(Position(answer.marker, held)),
    )


def _encode_position(position: Position) -> str | None:
    if position.marker is None and not position.held:
        return None
    return msgspec.json.encode(position).decode()


def _border(name: str) -> bytes:
    """Return a UTF-8 border that no name which the server lists behind `name` lies below.

    Up to the first character beyond the Basic Multilingual Plane both orders agree. From
    there on, a name that follows may have U+E000 or above in that character's place.
    """
    for index, character in enumerate(name):
        if character > "\uffff":
            return (name[:index] + "\ue000").encode()
    return name.encode() + b"\0"


def _key(entry: Entry) -> str:
    return entry if isinstance(entry, str) else entry.key


def _name(item: Element) -> str:
    """Return an item's name; one that XML cannot carry comes percent-encoded."""
    element = item.find("Name")
    if element is None or not element.text:
        raise Damaged("a listing holds an entry without a name.")
    return unquote(element.text) if element.get("Encoded") == "true" else element.text


def _describe(item: Element, name: str, delimiter: bool) -> Entry:
    if is_folder(_metadata(item)):
        name += "/"
        if delimiter:
            return name
    # Three searches in C are faster than one walk over all properties in Python.
    size = item.findtext("Properties/Content-Length")
    etag = item.findtext("Properties/Etag")
    date = item.findtext("Properties/Last-Modified")
    if not (size and etag and date):
        raise Damaged(f"a listing holds an entry without its properties. key={name!r}")
    return ObjectInfo(name, int(size), etag.strip('"'), parse_date_ns(date))


def is_folder(metadata: dict[str, str]) -> bool:
    """Say whether a blob with this metadata stands for a folder. Names come in any case."""
    return any(
        name.lower() == FOLDER_METADATA and value.lower() == "true"
        for name, value in metadata.items()
    )


def _metadata(item: Element) -> dict[str, str]:
    parent = item.find("Metadata")
    return {} if parent is None else {child.tag: child.text or "" for child in parent}


@functools.lru_cache(maxsize=4096)
def parse_date_ns(text: str) -> int:
    """Return an HTTP date in ns since the epoch. Kept, because neighbours often share one."""
    return int(email.utils.parsedate_to_datetime(text).timestamp()) * 10**9
