"""Bring blocks of a checkpoint into the local tree when somebody needs them.

Who walks through a table in the order of its keys gets a window of the blocks behind the one that
is asked for, which doubles as long as it goes on; any other asks for one block alone.

Concurrency: a block is fetched once, however many wait for it. Who waited for another's fetch
looks again: if that failed or was cancelled, it makes its own.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice

import trio

from blobfs.database import Database, Writer
from blobfs.errors import Damaged
from blobfs.formats.checkpoint_blocks import BlockRef, Leaf, decode_refs, decode_rows
from blobfs.formats.chunk import Buffer
from blobfs.formats.rows import Extent, ExtentList, Extents, InodeRow
from blobfs.formats.tables import Row, Table
from blobfs.types import MIB
from blobfs.volume.tree_blocks import (
    NAMES,
    Block,
    NotLoaded,
    take_refs,
    take_rows,
    unloaded,
)
from blobfs.volume.tree_kept import note_loaded
from blobfs.volume.tree_rows import Place, encode

FetchChunks = Callable[[Sequence[Extent]], Awaitable[Sequence[Buffer]]]
"""Returns the plain bytes of chunks, verified; neighbours come by one request."""

MOST_AT_ONCE_BYTES = 4 * MIB
"""Of plain blocks: what is fetched and taken in together, and the widest window. Their rows take
some 20 MiB while they are taken in, and come to half a second of a listing's time."""


class Loader:
    """Loads blocks into the tree in `database`."""

    def __init__(self, database: Database, fetch: FetchChunks | None) -> None:
        self._database = database
        self._fetch = fetch
        self._under_way: dict[bytes, trio.Event] = {}
        self._windows: dict[Table, _Window] = {}

    async def load(self, blocks: Iterable[Block]) -> None:
        """Return when these blocks were loaded, or somebody's attempt to load them ended.

        Raises:
            Damaged: a block is gone, or not what it should be; the message names it.
            Unsupported: a newer version of blobfs wrote it.
            BlobfsError: the store failed us.
        """
        mine: list[Block] = []
        others: list[trio.Event] = []
        for block in blocks:
            if (other := self._under_way.get(block.key)) is not None:
                others.append(other)
            else:
                mine.append(block)
        for part in _parts(self._with_windows(mine)):
            await self._load(part)
        for other in others:
            await other.wait()

    async def fetch(self, blocks: Sequence[Block]) -> "list[Fetched]":
        """Return what blocks hold, verified, and take nothing in. Raises: as `load`."""
        if self._fetch is None:
            raise NotLoaded(blocks)
        try:
            chunks = await self._fetch([block.ref.chunk for block in blocks])
        except Damaged as error:
            raise Damaged(
                f"a part of a checkpoint is gone or damaged: {error} blocks={_words(blocks)}",
                hint="mount the volume again: it is read from an older checkpoint, or its log",
            ) from error
        return await trio.to_thread.run_sync(_decode, blocks, chunks)

    async def fetch_wanted(
        self, roots: Iterable[Block], is_wanted: Callable[[Block], bool]
    ) -> "list[Fetched]":
        """Return the wanted blocks among `roots` and below, those of refs before what they name.

        Nothing is taken in. Raises: as `load`.
        """
        found: list[Fetched] = []
        pending = [block for block in roots if is_wanted(block)]
        while pending:
            fetched = [each for part in _parts(pending) for each in await self.fetch(part)]
            found += fetched
            below = (Block(each.block.table, ref) for each in fetched for ref in each.refs)
            pending = [block for block in below if is_wanted(block)]
        return found

    def _with_windows(self, blocks: Iterable[Block]) -> list[Block]:
        """Return blocks and, where a table is walked through, those that will be needed next."""
        wanted: list[Block] = []
        for table, some in groupby(sorted(blocks, key=_first_key), key=_table):
            asked = list(some)
            window = self._windows.setdefault(table, _Window())
            ahead = list(window.ahead(asked, self._behind(asked[-1])))
            wanted += asked
            wanted += (each for each in ahead if each.key not in self._under_way)
        return wanted

    def _behind(self, block: Block) -> Iterator[Block]:
        with self._database.read() as reader:
            yield from unloaded(reader, block.table, block.ref.last + b"\0")

    async def _load(self, blocks: Sequence[Block]) -> None:
        blocks = [block for block in blocks if block.key not in self._under_way]
        if not blocks:
            return
        ended = trio.Event()
        keys = [block.key for block in blocks]
        self._under_way.update(dict.fromkeys(keys, ended))
        try:
            fetched = await self.fetch(blocks)
            await self._database.write(partial(take_in, fetched=fetched))
        finally:
            for key in keys:
                del self._under_way[key]
            ended.set()


class Fetched:
    """A block that has arrived: its rows and the places of their chunks, or refs."""

    def __init__(self, block: Block, content: Leaf | tuple[BlockRef, ...]) -> None:
        self.block = block
        self.refs: tuple[BlockRef, ...] = ()
        self.rows: list[Row] = []
        self.places: list[Row] = []
        if isinstance(content, Leaf):
            self.rows = content.rows
            if block.table is Table.INODES:
                self.places = sorted(_places(content.values))
        else:
            self.refs = content


def take_in(writer: Writer, fetched: Iterable[Fetched]) -> None:
    """Take blocks into the tree, those of refs before those below them."""
    for each in fetched:
        if each.refs:
            take_refs(writer, each.block, each.refs)
        elif take_rows(writer, each.block, each.rows):
            writer.put_absent("chunks", each.places)
            if each.block.table is Table.HIDDEN:
                note_loaded(writer, each.rows)


class _Window:
    """How far to look ahead in one table."""

    def __init__(self) -> None:
        self._expected: bytes | None = None
        self._size_bytes = 0

    def ahead(self, asked: Sequence[Block], behind: Iterator[Block]) -> Iterator[Block]:
        """Yield the blocks to fetch together with those `asked`; `behind` are those behind them."""
        is_walk = asked[0].ref.first == self._expected
        length = sum(block.ref.chunk.length_bytes for block in asked)
        size = min(MOST_AT_ONCE_BYTES, 2 * max(length, self._size_bytes)) if is_walk else length
        self._size_bytes, self._expected = size, None
        left = size - length
        for block in behind:
            left -= block.ref.chunk.length_bytes
            if left < 0:
                self._expected = block.ref.first
                return
            yield block


def _parts(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Yield blocks in groups that are fetched together, in the order in which they lie."""
    part: list[Block] = []
    left = MOST_AT_ONCE_BYTES
    for block in sorted(blocks, key=_place):
        length = block.ref.chunk.length_bytes
        if part and length > left:
            yield part
            part, left = [], MOST_AT_ONCE_BYTES
        part.append(block)
        left -= length
    if part:
        yield part


def _first_key(block: Block) -> bytes:
    return block.key


def _table(block: Block) -> Table:
    return block.table


def _place(block: Block) -> tuple[bytes, int]:
    return block.ref.chunk.pack, block.ref.chunk.offset


def _decode(blocks: Sequence[Block], chunks: Sequence[Buffer]) -> list[Fetched]:
    return [_decode_one(block, data) for block, data in zip(blocks, chunks, strict=True)]


def _decode_one(block: Block, data: Buffer) -> Fetched:
    key = _words([block])
    if block.ref.level:
        return Fetched(block, decode_refs(data, ref=block.ref, key=key))
    return Fetched(block, decode_rows(data, table=block.table, ref=block.ref, key=key))


def _places(rows: Iterable[InodeRow]) -> Iterator[Row]:
    """Yield where the chunks lie that rows spell out."""
    for row in rows:
        for extent in _extents(row):
            if not extent.is_hole:
                place = Place(extent.length_bytes, extent.pack, extent.offset, extent.stored_bytes)
                yield extent.chunk, encode(place)


def _extents(row: InodeRow) -> Sequence[Extent]:
    content = row.content
    if isinstance(content, Extents):
        return content.extents
    return [part.chunk for part in content.parts] if isinstance(content, ExtentList) else ()


def _words(blocks: Sequence[Block]) -> str:
    named = [f"{NAMES[block.table]} from {block.ref.first.hex()}" for block in islice(blocks, 3)]
    return ", ".join(named) + (f" and {len(blocks) - 3} more" if len(blocks) > 3 else "")
