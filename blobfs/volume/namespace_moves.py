"""Take into the volume what native objects make up below a prefix, so that it can be renamed (N2).

Everything below is listed first, completely. Then each object that shows is bound where it lies,
in the version that the listing tells (`Names.taking`), some hundreds at a time: that is what any
change of an attribute does, so nobody sees a difference, and whoever is killed or fails in between
leaves a tree that is as right as before. What is left for the rename itself are the rows of
directories, which change in one step however many objects there are.

Concurrency: programs go on meanwhile. What they change is found changed, since each part is planned
and applied without an await in between; what is bound stays hidden under its key (N1), so the order
in which parts are done makes no difference.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import trio

from blobfs.formats.rows import Native
from blobfs.formats.version import spell_version
from blobfs.model.changes import Change
from blobfs.model.listing import Entry, to_name
from blobfs.model.nodes import Node
from blobfs.model.tree_rules import merged, plan_adoption, plan_hiding_marker
from blobfs.volume.listings import Folder
from blobfs.volume.namespace_layers import Layers, ReplayedRows, UnsavedRows
from blobfs.volume.namespace_names import Names
from blobfs.volume.native import NativeTree
from blobfs.volume.tree_blocks import NotLoaded

MOST_TAKEN = 100_000
"""Objects and directories that are renamed at once: some 2 KiB of memory each until it is saved."""

TAKEN_TOGETHER = 250
"""Objects taken between two looks at what else there is to do: some milliseconds."""

log = logging.getLogger("blobfs.namespace")


class Moves:
    """Prepares renames of directories that show native objects."""

    def __init__(
        self,
        names: Names,
        layers: Layers,
        native: NativeTree,
        unsaved: UnsavedRows,
        tree: ReplayedRows,
    ) -> None:
        self._names = names
        self._layers = layers
        self._native = native
        self._unsaved = unsaved
        self._tree = tree

    async def take(self, prefix: str) -> None:
        """Bind all native objects that show below `prefix`, as of now.

        Raises:
            Refused: EFBIG (more than `MOST_TAKEN`).
            NoRoom, LocalFault: they cannot be written down.
            BlobfsError: the store did not answer; nothing has changed.
        """
        async with self._native.listed_whole(prefix, MOST_TAKEN) as whole:
            for folder in whole.folders.values():
                await self._step(partial(self._take_marker, folder))
                for page in whole.pages(folder):
                    for part in _parts(page):
                        await self._step(partial(self._take, folder.prefix, part))
        log.info("took over a directory of native objects. prefix=%r", prefix)

    def native_below(self, folder: Node) -> list[Node]:
        """Return the directories below one that rows know and that show native objects."""
        found, waiting = [], [folder]
        while waiting:
            inodes = self._layers.folders_in(waiting.pop().inode)
            nodes = map(self._names.node, inodes)
            below = [node for node in nodes if node.row.prefix is not None]
            found += below
            waiting += below
        return found

    async def _step(self, step: Callable[[], None]) -> None:
        """Do a step, once all rows are here that it asks for."""
        while True:
            try:
                step()
                break
            except NotLoaded as missing:
                await self._tree.load(missing)
        await trio.lowlevel.checkpoint()

    def _take(self, prefix: str, entries: Sequence[Entry]) -> None:
        way = self._names.way_to(prefix)
        if way[-1].row.prefix != prefix:
            return  # something of the volume has a name on the way: none of it shows
        # Two questions to the tree for all of them, instead of two for each.
        committed = self._layers.is_committed(way[-1].inode, to_name(prefix))
        files = (entry for entry in entries if not entry.is_folder)
        taken = (self._names.taking(way[-1], entry, committed=committed) for entry in files)
        self._apply(way, [change for change in taken if change is not None])

    def _take_marker(self, folder: Folder) -> None:
        """Hide the object that would keep a directory in being under its old name, too."""
        if folder.mtime_ns is None:
            return
        key, version = to_name(folder.prefix), spell_version("", 0, folder.mtime_ns)
        way = self._names.way_to(folder.prefix)
        if way[-1].row.prefix != folder.prefix or self._layers.hides(Native(key, 0, version)):
            return
        self._apply(way, [plan_hiding_marker(way[-1], version)])

    def _apply(self, way: Iterable[Node], changes: Sequence[Change]) -> None:
        if changes:
            above = plan_adoption(node for node in way if node.native is not None)
            self._unsaved.apply(merged(above, *changes))


def _parts(page: Iterable[Entry]) -> Iterator[Sequence[Entry]]:
    entries = iter(page)
    while part := tuple(islice(entries, TAKEN_TOGETHER)):
        yield part
