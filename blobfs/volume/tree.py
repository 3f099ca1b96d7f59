"""Keep the replayed tree of a volume: what its log says, as rows on the local disk.

It changes by replay alone (L1); what is local and unsaved lies over it, elsewhere. All of it can
be made anew from the bucket, so a damaged one, or one of another volume, is begun again.

It begins empty, or from a checkpoint, whose rows are loaded by blocks when they are needed
(`tree_blocks`): until then whoever asks for one is told so by NotLoaded, loads, and asks again.

Concurrency: methods that are not async may be called at any moment and see one moment; each
takes a few microseconds. An entry appears whole.
"""

import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence, Set
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import trio

from blobfs.database import Database, Reader, Sync, Writer, open_database, open_or_begin_anew
from blobfs.errors import Damaged, NotFound, Unsupported
from blobfs.formats.checkpoint import Checkpoint
from blobfs.formats.commit import Counters, Entry
from blobfs.formats.rows import Extent
from blobfs.formats.tables import (
    Table,
)
from blobfs.model.chain import Landed
from blobfs.model.changes import DirentKey, LocalInode
from blobfs.types import GIB, InodeNo, Seq
from blobfs.volume.tree_base import (
    Key,
    Prepared,
    Wanted,
    begin,
    begin_empty,
    doubt,
    doubted,
    named_keys,
    roots_of,
    tables_wanted,
)
from blobfs.volume.tree_blocks import Block, NotLoaded, rows_of, unloaded
from blobfs.volume.tree_changes import changed_bytes
from blobfs.volume.tree_compare import first_difference
from blobfs.volume.tree_loading import FetchChunks, Loader
from blobfs.volume.tree_moments import DraftMoment, RowsMoment, names_of
from blobfs.volume.tree_places import is_any_unnoted, note_extents, note_some
from blobfs.volume.tree_reading import TreeReading
from blobfs.volume.tree_replay import draft_of, rehearse, replay
from blobfs.volume.tree_rows import (
    FORMAT,
    TABLES,
    LogState,
    dirent_key,
    encode,
    first_state,
    number_key,
)
from blobfs.volume.tree_snapshot import TreeSnapshot, Written, base_of, take_up

T = TypeVar("T")

MAP_BYTES = 256 * GIB

BLOCKS_AT_ONCE = 1000
"""Blocks that are asked for together where all of them are wanted."""


class Tree(TreeReading):
    """The tables of `tree_rows`. Made by `open_tree`."""

    def __init__(self, database: Database, fetch: FetchChunks | None, base: str | None) -> None:
        super().__init__(database)
        self._loader = Loader(database, fetch)
        self.base = base
        """Name of the checkpoint that it began from, None for the begin of the log."""
        self.beginnings = 0
        """How often it began anew: what was seen of it before does not concern it any more."""

    # -- beginning from a checkpoint -------------------------------------------------

    async def prepare(
        self, name: str, checkpoint: Checkpoint, wanted: Iterable[Key] = ()
    ) -> Prepared:
        """Return the checkpoint `name` with what has to be here when the tree begins from it.

        That are the rows under the keys `wanted`, and all of clients and of the ranges that they
        were granted. The tree is as it was.

        Raises: as `load`.
        """
        try:
            is_wanted = Wanted(wanted, tables_wanted(checkpoint))
            fetched = await self._loader.fetch_wanted(roots_of(checkpoint), is_wanted)
        except (Damaged, Unsupported):
            await self._database.write(partial(doubt, name=name))
            raise
        return Prepared(name, checkpoint, fetched)

    async def begin(self, prepared: Prepared) -> None:
        """Let the tree be what a checkpoint says; forget what it was."""
        self._is_whole = False  # before readers could take for absent what is not loaded
        self.beginnings += 1
        await self._database.write(partial(begin, prepared=prepared))
        self.base = prepared.name

    async def begin_empty(self, origin: bytes) -> None:
        """Begin anew, before the first entry of the log; `origin` is as for `open_tree`."""
        self.beginnings += 1
        await self._database.write(partial(begin_empty, state=first_state(origin)))
        self.base = None

    def doubted(self) -> frozenset[str]:
        """Return the checkpoints of which parts are gone: not to be begun from again."""
        with self._database.read() as reader:
            return doubted(reader)

    @property
    def problem(self) -> str | None:
        """Why parts of it cannot be loaded; None: none was asked for in vain."""
        if self.base is None or self.base not in self.doubted():
            return None
        return (
            f"a part of the checkpoint {self.base} is gone or damaged; save everything, and mount "
            "again: the tree is read from elsewhere then"
        )

    async def load(self, missing: NotLoaded) -> None:
        """Return when what was missing was loaded, or somebody's attempt to do so ended.

        Raises:
            Damaged: it is gone, or not what it should be; the message names it. The checkpoint
                is doubted from now on.
            Unsupported: a newer version of blobfs wrote it; likewise.
            BlobfsError: the store failed us.
        """
        await self._load(missing.blocks)

    def found(
        self, parent: InodeNo, names: Iterable[bytes]
    ) -> list[tuple[bytes, InodeNo, LocalInode]]:
        """Return what names lead to, as far as that is here; `load_ahead` goes by it."""
        found = super().found(parent, names)
        if found:
            name, inode, _ = found[-1]
            self._loader.note_reached(Table.DIRENTS, dirent_key(parent, name))
            self._loader.note_reached(Table.INODES, number_key(inode))
        return found

    async def load_ahead(self) -> None:
        """Load for ever what those who walk through the tree will come to next."""
        await self._loader.load_ahead()

    async def load_keys(self, keys: Iterable[Key]) -> None:
        """Load what holds these keys, side by side. Raises: as `load`."""
        if self._is_whole:
            return
        keys = tuple(keys)
        while missing := self.missing(keys):
            await self._load(missing)

    async def load_all(self) -> None:
        """Load all that the tree holds. Raises: as `load`."""
        while missing := self._unloaded(Table):
            await self._load(missing)

    async def load_kept(self) -> None:
        """Load what it takes to know all objects that were given up and are kept (N5).

        Raises: as `load`.
        """
        while not self.knows_all_kept() and (missing := self._unloaded([Table.HIDDEN])):
            await self._load(missing)

    def _unloaded(self, tables: Iterable[Table]) -> list[Block]:
        with self._database.read() as reader:
            found = (block for table in tables for block in unloaded(reader, table))
            return list(islice(found, BLOCKS_AT_ONCE))

    async def _load(self, blocks: Iterable[Block]) -> None:
        base = self.base
        try:
            await self._loader.load(blocks)
        except (Damaged, Unsupported):
            if base is not None and base not in self.doubted():
                await self._database.write(partial(doubt, name=base))
            raise

    async def _when_loaded(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except NotLoaded as missing:
                await self._load(missing.blocks)

    # -- the next checkpoint ---------------------------------------------------------

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[TreeSnapshot]:
        """Show the tree as it is now, for as long as the writing of a checkpoint takes."""
        with self._database.read() as reader:
            yield await trio.to_thread.run_sync(TreeSnapshot, reader)

    def changed_bytes(self, after: Seq, at_most: int) -> int:
        """Return how long the keys of all are that entries behind `after` changed, or `at_most`."""
        with self._database.read() as reader:
            return changed_bytes(reader, after, at_most)

    async def take_up(self, written: Written, beginnings: int) -> None:
        """Let a checkpoint of this tree be what it began from.

        Nothing happens if it began anew since it had begun so often.
        """
        if self.beginnings != beginnings:
            return
        await self._database.write(partial(take_up, written=written))
        if self.beginnings == beginnings:
            self.base = written.name

    # -- looking after it ------------------------------------------------------------

    def first_difference(self, other: "Tree") -> str | None:
        """Return where its rows are not those of `other`, a tree at the same seq; None: nowhere.

        Chunks aside, trees at one seq hold the same rows, to the byte (C6).
        """
        with self._database.read() as mine, other._database.read() as theirs:
            return first_difference(mine, theirs)

    # -- replay ----------------------------------------------------------------------

    async def rehearse(self, entry: Entry) -> Counters:
        """Return what `counters` will be with `entry` on top of this tree; change nothing.

        What cannot be applied must never be put into the log, because no client could skip it.

        Raises:
            Damaged: it cannot be applied.
        """
        await self.load_keys(named_keys([entry]))
        return await self._when_loaded(partial(trio.to_thread.run_sync, self._rehearse, entry))

    def _rehearse(self, entry: Entry) -> Counters:
        with self._database.read() as reader:
            return rehearse(reader, entry)

    async def replay(
        self,
        landed: Sequence[Landed],
        rebased: bytes | None = None,
        *,
        is_foreign: bool = False,
    ) -> LogState:
        """Apply entries, the next first, in one durable transaction: all of them, or none.

        A power cut may take back the last transaction, but none with entries that are foreign:
        what is changed here after them must not be taken for older than they are. `rebased` says
        what the unsaved rows become over them, for whoever is killed before that is in the
        journal; it is kept until `forget_rebased`.

        Raises:
            Damaged: one does not follow the one before (L4) or cannot be applied (L1, L9).
        """
        await self.load_keys(named_keys(each.entry for each in landed))
        change = partial(replay, landed=tuple(landed), rebased=rebased)
        state = await self._when_loaded(partial(self._database.write, change))
        if is_foreign:
            await self._database.flush()
        return state

    @property
    def rebased(self) -> bytes | None:
        """What `replay` was told last of the unsaved rows, and has to be carried out yet."""
        return self._database.get("state", b"rebased")

    async def forget_rebased(self) -> None:
        """Note that it was carried out."""
        await self._database.write(lambda writer: writer.delete("state", b"rebased"))

    @contextlib.contextmanager
    def moments(self, landed: Landed) -> Iterator[tuple[RowsMoment, DraftMoment]]:
        """Show the tree as it is, and as it will be with the next entry on top.

        Raises:
            Damaged: the entry cannot be applied.
            NotLoaded: load it first; also where the moments are asked.
        """
        with self._database.read() as reader:
            draft = draft_of(reader, landed.entry)
            yield RowsMoment(rows_of(reader)), DraftMoment(draft)

    async def names_of(self, inodes: Set[InodeNo]) -> dict[InodeNo, list[DirentKey]]:
        """Return the names that lead to inodes, as far as they are here.

        It looks through all names, a microsecond or two for each: nothing leads from an inode to
        its names.
        """
        with self._database.read() as reader:
            return await trio.to_thread.run_sync(names_of, reader, inodes)

    # -- chunks ----------------------------------------------------------------------

    async def note_chunks(self, extents: Iterable[Extent]) -> None:
        """Remember where chunks lie that no entry spells out: those of long extent lists."""
        await self._database.write(partial(note_extents, extents=tuple(extents)))

    async def note_loaded_chunks(self) -> None:
        """Let `chunk` know all files that are loaded, also from a checkpoint."""
        with self._database.read() as reader:
            is_wanted = is_any_unnoted(reader)
        while is_wanted:
            is_wanted = await self._database.write(note_some)


def open_tree(
    folder: Path, volume_id: bytes, origin: bytes, fetch: FetchChunks | None = None
) -> contextlib.AbstractAsyncContextManager[Tree]:
    """Open the tree kept in `folder`; `origin` is the SHA-256 of the object `volume`.

    `fetch` brings the chunks that a checkpoint consists of; without it what is not loaded stays so.

    One that is damaged, of another format or of another volume is begun anew: the bucket has
    all of it. The caller holds a lock that keeps other processes away.

    Raises:
        LocalFault: the folder cannot be used.
    """
    return open_or_begin_anew(
        partial(_open_stamped, folder, volume_id, origin, fetch),
        partial(shutil.rmtree, folder),
        f"the tree in {str(folder)!r}",
    )


@contextlib.asynccontextmanager
async def _open_stamped(
    folder: Path, volume_id: bytes, origin: bytes, fetch: FetchChunks | None
) -> AsyncIterator[Tree]:
    async with open_database(
        folder, tables=TABLES, map_bytes=MAP_BYTES, sync=Sync.FULL
    ) as database:
        await database.write(partial(_stamp, volume_id=volume_id, origin=origin))
        yield Tree(database, fetch, _base(database))


@contextlib.asynccontextmanager
async def open_kept_tree(folder: Path, volume_id: bytes) -> AsyncIterator[Tree]:
    """Open the tree that is kept in `folder` as it is, to look at it.

    Raises:
        NotFound: none is kept there.
        Damaged: it is of no use, or of another volume.
        LocalFault: the folder cannot be used.
    """
    if not await trio.to_thread.run_sync(folder.exists):
        raise NotFound(f"no tree is kept there. path={str(folder)!r}")
    async with open_database(
        folder, tables=TABLES, map_bytes=MAP_BYTES, sync=Sync.FULL
    ) as database:
        with database.read() as reader:
            _require_stamp(reader, volume_id)
        yield Tree(database, None, _base(database))


def _stamp(writer: Writer, volume_id: bytes, origin: bytes) -> None:
    """Begin new tables; make sure of old ones.

    Raises:
        Damaged: they are of another format, or of another volume.
    """
    if (writer.get("state", b"format"), writer.get("state", b"volume")) == (None, None):
        writer.put("state", b"format", FORMAT)
        writer.put("state", b"volume", volume_id)
        writer.put("state", b"log", encode(first_state(origin)))
    _require_stamp(writer, volume_id)


def _base(database: Database) -> str | None:
    with database.read() as reader:
        return base_of(reader)


def _require_stamp(reader: Reader, volume_id: bytes) -> None:
    found = reader.get("state", b"format"), reader.get("state", b"volume")
    expected = FORMAT, volume_id
    if found != expected:
        raise Damaged(f"the tree is another one. {expected=} {found=}")
