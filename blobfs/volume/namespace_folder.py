"""List one directory for one reader: the volume's names first, then the native ones.

A cookie says where to go on, and stays right whatever is made or removed meanwhile: the names
shown so far are kept, and each is looked up anew when it is shown. So an entry that stays is
shown once, one that goes is left out, and one that comes may be shown or not, as POSIX has it.

1. Names of the volume, sorted; a cookie is how many came before.
2. Native entries in the order of their listing, less those whose name was shown;
   a cookie is `FIRST_NATIVE_COOKIE` and how many stand before in the listing.

Concurrency: one reader at a time; others may change the directory between its calls.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Protocol

import msgspec

from blobfs.model.listing import Entry
from blobfs.model.nodes import Node
from blobfs.types import InodeNo
from blobfs.volume.namespace_layers import Layers
from blobfs.volume.runs import FolderView
from blobfs.volume.tree_blocks import NotLoaded
from blobfs.volume.unsaved import Moving

FIRST_NATIVE_COOKIE = 1 << 40

FOR_EVER_S = float("inf")
NEVER_S = float("-inf")

LISTED_TOGETHER = 200
"""Names that are looked up at once: as many as fill an answer to a kernel, if they are short."""

LOADED_TOGETHER = 256
"""Names whose inodes are loaded at once, where any of them is missing."""


class Listed(msgspec.Struct, frozen=True, gc=False):
    """One entry on its way to a reader of a directory."""

    name: bytes
    node: Node
    next_cookie: int
    """Where to go on behind this entry."""
    valid_until_s: float
    """Until when, on the monotonic clock, the name may be believed to lead to this inode."""


class Finder(Protocol):
    """What a reader asks of `volume.namespace_names`."""

    def node_of_name(self, parent: InodeNo, name: bytes) -> Node | None: ...

    def nodes_of_names(
        self, parent: InodeNo, names: Sequence[bytes]
    ) -> Iterator[tuple[bytes, Node | None]]: ...

    def node_of_entry(self, parent: InodeNo, prefix: str, entry: Entry) -> Node: ...

    def beside(self, parent: InodeNo, prefix: str, entry: Entry) -> Entry | None: ...

    async def hidden_in(
        self, parent: InodeNo, prefix: str, entries: Iterable[Entry]
    ) -> frozenset[bytes]: ...


class FolderReader:
    """One open directory. Made by `Namespace.open_folder`; close it."""

    def __init__(
        self,
        folder: Node,
        layers: Layers,
        view: FolderView | None,
        finder: Finder,
    ) -> None:
        self.inode = folder.inode
        self._prefix = folder.row.prefix or ""
        self._prefix_shows = view is not None
        self._layers = layers
        self._view = view
        self._finder = finder
        self._rewind()

    async def read(self, cookie: int) -> Iterator[Listed] | None:
        """Return at least one entry behind `cookie` (0: from the start, as things are now).

        None at the end. The entries are looked up one by one as they are taken, so take
        them before anything else happens.

        Raises:
            NotLoaded: load it and ask again, as for what `Namespace` returns.
            Moving: wait until it is over, and ask again.
            BlobfsError: the native listing could not be completed. Never a short directory.
        """
        if not cookie:
            self._rewind()
        while (part := await self._part(cookie)) is not None:
            entries = part[0]
            try:
                first = next(entries, None)
            except NotLoaded as missing:
                raise self._missing_behind(cookie, missing) from None
            if first is not None:
                return chain((first,), _as_far_as_known(entries))
            cookie = part[1]
        return None

    def close(self) -> None:
        """Let go of the native listing."""
        if self._view is not None:
            self._view.close()

    def _rewind(self) -> None:
        self._unsaved = self._layers.unsaved_names(self.inode)
        self._shown: list[bytes] = []
        # Names of the volume that were gone when their turn came: an object may show instead.
        self._gone: set[bytes] = set()
        self._has_more = True
        # Where each page begins, as the number of entries before it.
        self._starts = [0]

    async def _part(self, cookie: int) -> tuple[Iterator[Listed], int] | None:
        """Return entries behind `cookie`, perhaps none, and the cookie behind them."""
        while cookie >= len(self._shown) and self._has_more:
            self._show_more()
        if cookie < len(self._shown):
            stop = len(self._shown)
            return self._volume_entries(cookie, stop), stop
        return await self._native_part(max(0, cookie - FIRST_NATIVE_COOKIE))

    def _missing_behind(self, cookie: int, missing: NotLoaded) -> NotLoaded:
        """Return all that the next entries need: they may lie far apart, and come side by side."""
        names = self._shown[cookie : cookie + LOADED_TOGETHER]
        blocks = dict.fromkeys([*missing.blocks, *self._layers.missing(self.inode, names)])
        return NotLoaded(tuple(blocks))

    def _show_more(self) -> None:
        """Take more names of the volume."""
        after = self._shown[-1] if self._shown else b""
        more = self._layers.names_behind(self.inode, after, self._unsaved)
        self._shown += more
        self._has_more = bool(more)

    def _volume_entries(self, start: int, stop: int) -> Iterator[Listed]:
        for first in range(start, stop, LISTED_TOGETHER):
            names = self._shown[first : min(stop, first + LISTED_TOGETHER)]
            found = self._finder.nodes_of_names(self.inode, names)
            for cookie, (name, node) in enumerate(found, first + 1):
                if node is None:
                    self._gone.add(name)
                    continue
                until_s = self._believed_until_s(name) if self._prefix_shows else FOR_EVER_S
                yield Listed(name, node, cookie, until_s)

    async def _native_part(self, position: int) -> tuple[Iterator[Listed], int] | None:
        view = self._view
        if view is None:
            return None
        number = _page_of(self._starts, position)
        while (page := await view.page(number)) is not None:
            start = self._starts[number]
            stop = start + len(page)
            if number + 1 == len(self._starts):
                self._starts.append(stop)
            if position < stop:
                behind = page[position - start :]
                hidden = await self._finder.hidden_in(self.inode, self._prefix, behind)
                entries = self._native_entries(behind, position, view, hidden)
                return entries, FIRST_NATIVE_COOKIE + stop
            number += 1
        return None

    def _native_entries(
        self, page: list[Entry], position: int, view: FolderView, hidden: frozenset[bytes]
    ) -> Iterator[Listed]:
        has_rows = bool(self._shown) or self._layers.has_rows(self.inode)
        for cookie, entry in enumerate(page, FIRST_NATIVE_COOKIE + position + 1):
            if entry.name in hidden:
                continue
            node = None
            if has_rows:
                if self._was_shown(entry.name):
                    beside = self._finder.beside(self.inode, self._prefix, entry)
                    if beside is None or self._was_shown(beside.name):
                        continue
                    entry = beside
                # It may have come to the volume since: a directory that was adopted, say.
                node = self._finder.node_of_name(self.inode, entry.name)
            if node is None:
                node = self._finder.node_of_entry(self.inode, self._prefix, entry)
            yield Listed(entry.name, node, cookie, view.valid_until_s)

    def _believed_until_s(self, name: bytes) -> float:
        """Return until when a name of the volume may be believed: not where objects tell, too."""
        dirent = self._layers.dirent(self.inode, name)
        return NEVER_S if dirent is not None and dirent.shadows else FOR_EVER_S

    def _was_shown(self, name: bytes) -> bool:
        place = bisect_left(self._shown, name)
        is_known = place < len(self._shown) and self._shown[place] == name
        return is_known and name not in self._gone


def _as_far_as_known(entries: Iterator[Listed]) -> Iterator[Listed]:
    """Yield entries up to the first that has to be waited for: whoever reads on is told of it."""
    with suppress(NotLoaded, Moving):
        yield from entries


def _page_of(starts: list[int], position: int) -> int:
    """Return the last page known to begin at or before `position`."""
    for number in range(len(starts) - 1, -1, -1):
        if starts[number] <= position:
            return number
    return 0
