"""Turn keys into directory entries. Pure: pages in, entries out.

A store lists keys in the order of their UTF-8 bytes; a directory shows names. What a name
is made of is decided here and nowhere else:

1. `a/b` is the file `b` in `a`; `a/b/...` makes `b` a directory, as does a marker `a/b/`.
2. Where `b` is both, the directory has the name and the object appears as
   `b` + `OBJECT_SUFFIX`.
3. A key that cannot be a path (see `name_problem`) becomes an `OddKey`, so that it can be
   counted and named instead of vanishing.
4. `.blobfs` is hidden at any depth: it is where blobfs keeps a volume (volume format, N7).

An object is handed out only when the listing has passed the place where a directory of the
same name would stand, because an entry that a program has seen cannot be taken back.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from blobfs.types import ListPage, ObjectInfo

OBJECT_SUFFIX = ".blobfs-object"
"""Appended to the name of an object that is also a directory."""

RESERVED_NAME = b".blobfs"
MOST_NAME_BYTES = 255


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One name in a directory. `key` is set where it is not simply prefix + name."""

    name: bytes
    is_folder: bool
    size_bytes: int = 0
    etag: str = ""
    mtime_ns: int = 0
    key: str | None = None


class OddKey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key, or all keys below a prefix that ends with `/`, that no path can name."""

    key: str
    reason: str


def to_name(text: str) -> bytes:
    """Return the bytes of a file name for one segment of a key."""
    return text.encode("utf-8", "surrogateescape")


def to_segment(name: bytes) -> str:
    """Return the segment of a key that `to_name` made `name` of."""
    return name.decode("utf-8", "surrogateescape")


def name_problem(name: bytes) -> str | None:
    """Say why `name` cannot be a file name, or None when it can."""
    if not name:
        return "empty name (two slashes in a row)"
    if name in (b".", b".."):
        return "a name that means a directory"
    if b"\0" in name:
        return "a NUL byte in the name"
    if len(name) > MOST_NAME_BYTES:
        return f"a name of over {MOST_NAME_BYTES} bytes"
    return None


def sort_key(text: str) -> bytes:
    """Return what stores order keys by: their bytes."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(slots=True)
class Part:
    """What one page adds to one directory."""

    prefix: str
    entries: list[Entry] = field(default_factory=list)
    odd: list[OddKey] = field(default_factory=list)
    mtime_ns: int | None = None
    """Of the directory itself, where a marker object tells."""
    complete: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it adds nothing, not even an end."""
        return not (self.entries or self.odd or self.complete) and self.mtime_ns is None


class FolderAssembler:
    """Collects one directory from what arrives in key order."""

    __slots__ = ("_pending", "_substitutes", "mtime_ns", "part", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.part = Part(prefix)
        # Objects that may still turn out to be directories too, oldest first. Usually one.
        self._pending: dict[bytes, Entry] = {}
        # Real objects and directories that bear the name of a substitute.
        self._substitutes: set[bytes] = set()

    def add_object(self, info: ObjectInfo) -> None:
        """Take an object that lies directly in this directory, or its own marker."""
        self._release(info.key)
        if info.key == self.prefix:
            self.part.mtime_ns = info.mtime_ns
            if info.size_bytes:
                self.part.odd.append(OddKey(info.key, "a trailing slash with content"))
            return
        name = to_name(info.key[len(self.prefix) :])
        if name == RESERVED_NAME:
            return
        if problem := name_problem(name):
            self.part.odd.append(OddKey(info.key, problem))
            return
        self._pending[name] = Entry(name, False, info.size_bytes, info.etag, info.mtime_ns)
        if name.endswith(OBJECT_SUFFIX.encode()):
            self._substitutes.add(name)

    def add_folder(self, folder: str) -> None:
        """Take the prefix `folder`, which ends with `/`; once each."""
        self._release(folder)
        name = to_name(folder[len(self.prefix) : -1])
        if name == RESERVED_NAME:
            return
        if problem := name_problem(name):
            self.part.odd.append(OddKey(folder, problem))
            return
        if name.endswith(OBJECT_SUFFIX.encode()):
            self._substitutes.add(name)
        if (rival := self._pending.pop(name, None)) is not None:
            self._add_substitute(rival)
        self.part.entries.append(Entry(name, True))

    def take(self, *, complete: bool = False) -> Part:
        """Hand out what is certain by now; with `complete`, all of it."""
        if complete:
            self.part.entries.extend(self._pending.values())
            self._pending.clear()
        part, self.part = self.part, Part(self.prefix)
        part.complete = complete
        return part

    def _release(self, reached: str) -> None:
        """Hand out the objects whose directory, had they one, would stand before `reached`."""
        if not self._pending:
            return
        position = sort_key(reached[len(self.prefix) :])
        for name in [name for name in self._pending if name + b"/" < position]:
            self.part.entries.append(self._pending.pop(name))

    def _add_substitute(self, rival: Entry) -> None:
        key = self.prefix + to_segment(rival.name)
        name = rival.name + OBJECT_SUFFIX.encode()
        if name in self._substitutes or len(name) > MOST_NAME_BYTES:
            reason = "also a directory, and its substitute name cannot be used"
            self.part.odd.append(OddKey(key, reason))
            return
        self.part.entries.append(
            Entry(name, False, rival.size_bytes, rival.etag, rival.mtime_ns, key)
        )


def in_key_order(page: ListPage) -> Iterator[ObjectInfo | str]:
    """Yield the page's objects and prefixes merged, as the store went through them."""
    if not page.prefixes:
        return iter(page.objects)
    merged: list[ObjectInfo | str] = [*page.objects, *page.prefixes]
    merged.sort(key=lambda item: sort_key(item if isinstance(item, str) else item.key))
    return iter(merged)


def assemble_folder(assembler: FolderAssembler, page: ListPage, *, last: bool) -> Part:
    """Feed one page of a delimited listing; return what it made certain."""
    for item in in_key_order(page):
        if isinstance(item, str):
            assembler.add_folder(item)
        else:
            assembler.add_object(item)
    return assembler.take(complete=last)


class TreeAssembler:
    """Collects all directories below a prefix from a listing without delimiter.

    Keys arrive in order, so the directories that are open at any moment are the ancestors
    of the last key. Those that were open before the listing began (`start_after`) would be
    incomplete, and are left out.
    """

    def __init__(self, root: str, start_after: str) -> None:
        self._root = root
        self._open: list[FolderAssembler] = [FolderAssembler(root)]
        self._incomplete = {root} if start_after else set()
        # The last prefix that is no directory (odd or hidden): what lies below is skipped.
        self._closed = ""
        for cut in _folder_ends(start_after, len(root)):
            self._incomplete.add(start_after[:cut])
            self._open.append(FolderAssembler(start_after[:cut]))

    def feed(self, objects: Iterable[ObjectInfo], *, last: bool) -> list[Part]:
        """Take one page; return, per directory, what it made certain, in key order."""
        parts: list[Part] = []
        for info in objects:
            self._leave_for(info.key, parts)
            self._enter_for(info)
        if last:
            while self._open:
                parts.append(self._open.pop().take(complete=True))
        parts.extend(folder.take() for folder in self._open)
        return [part for part in parts if part.prefix not in self._incomplete]

    def _leave_for(self, key: str, parts: list[Part]) -> None:
        while not key.startswith(self._open[-1].prefix):
            parts.append(self._open.pop().take(complete=True))

    def _enter_for(self, info: ObjectInfo) -> None:
        """Open the directories on the way to the object and put it into the innermost."""
        folder = self._open[-1]
        for cut in _folder_ends(info.key, len(folder.prefix)):
            below = info.key[:cut]
            name = to_name(below[len(folder.prefix) : -1])
            if below == self._closed:
                return
            folder.add_folder(below)
            if name == RESERVED_NAME or name_problem(name) is not None:
                self._closed = below
                return
            folder = FolderAssembler(below)
            self._open.append(folder)
        folder.add_object(info)


def _folder_ends(key: str, start: int) -> Iterator[int]:
    """Yield the positions behind each `/` of `key` from `start` on."""
    cut = key.find("/", start)
    while cut >= 0:
        yield cut + 1
        cut = key.find("/", cut + 1)
