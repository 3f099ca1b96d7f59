"""Bring blocks of a checkpoint into the local tree when somebody needs them.

Who walks through a table in the order of its keys gets a window of the blocks behind the one that
is asked for, which doubles as long as it goes on; any other asks for one block alone. Once a walk
has come to its last window, the next one is loaded beside it.

Concurrency: a block is fetched once, however many wait for it. Who waited for another's fetch
looks again: if that failed or was cancelled, it makes its own. One task loads ahead.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice

import trio

from blobfs.database import Database, Writer
from blobfs.errors import BlobfsError, Damaged
from blobfs.formats.checkpoint_blocks import BlockRef, Leaf, decode_refs, decode_rows
from blobfs.formats.chunk import Buffer
from blobfs.formats.rows import Extent
from blobfs.formats.tables import Row, Table
from blobfs.types import KIB, MIB
from blobfs.volume.tree_blocks import (
    NAMES,
    Block,
    NotLoaded,
    take_refs,
    take_rows,
    unloaded,
)
from blobfs.volume.tree_kept import note_loaded
from blobfs.volume.tree_places import note_later

FetchChunks = Callable[[Sequence[Extent]], Awaitable[Sequence[Buffer]]]
"""Returns the plain bytes of chunks, verified; neighbours come by one request."""

LONG_BLOCK_BYTES = 256 * KIB
"""What takes a few milliseconds to decode; writers make blocks of a quarter of that."""

log = logging.getLogger("blobfs.tree")

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
        self._reached: set[Table] = set()
        """Tables of which a walk has come to the last window."""
        self._news = trio.Event()

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

    def note_reached(self, table: Table, key: bytes) -> None:
        """Note that somebody who walks through a table has come to `key`."""
        window = self._windows.get(table)
        if window is not None and window.is_last_at(key):
            self._reached.add(table)
            self._news.set()

    async def load_ahead(self) -> None:
        """Load for ever what walks will come to next. What fails is left to who asks for it."""
        while True:
            await self._news.wait()
            self._news, reached, self._reached = trio.Event(), self._reached, set()
            for table in sorted(reached):
                try:
                    await self._load_next(table)
                except BlobfsError as error:
                    log.debug("loading ahead failed. table=%s (%s)", NAMES[table], error)
                except Exception:
                    # Whoever needs it loads it; a mount that ended here would be worse.
                    log.exception("loading ahead failed for a reason of our own")

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
        return [await _decoded(block, data) for block, data in zip(blocks, chunks, strict=True)]

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
        return self._unloaded(block.table, block.ref.last + b"\0")

    def _unloaded(self, table: Table, start: bytes) -> Iterator[Block]:
        with self._database.read() as reader:
            yield from unloaded(reader, table, start)

    async def _load_next(self, table: Table) -> None:
        """Load the window behind the last one of a table, unless nobody walks there any more."""
        window = self._windows[table]
        if (start := window.stop) is not None:
            for part in _parts(list(window.next(self._unloaded(table, start)))):
                await self._load(part)

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
    """A block that has arrived: its rows, or refs."""

    def __init__(self, block: Block, content: Leaf | tuple[BlockRef, ...]) -> None:
        self.block = block
        self.refs: tuple[BlockRef, ...] = ()
        self.rows: list[Row] = []
        if isinstance(content, Leaf):
            self.rows = content.rows
        else:
            self.refs = content


def take_in(writer: Writer, fetched: Iterable[Fetched]) -> None:
    """Take blocks into the tree, those of refs before those below them."""
    for each in fetched:
        if each.refs:
            take_refs(writer, each.block, each.refs)
        elif take_rows(writer, each.block, each.rows):
            note_later(writer, each.block)
            if each.block.table is Table.HIDDEN:
                note_loaded(writer, each.rows)


class _Window:
    """How far to look ahead in one table."""

    def __init__(self) -> None:
        self.stop: bytes | None = None
        """Where a walk is expected to go on; None: nowhere."""
        self._last: bytes | None = None
        """Where the last window of a walk begins, None when none does."""
        self._size_bytes = 0

    def is_last_at(self, key: bytes) -> bool:
        """Whether a walk that has come to `key` goes on at `stop` next."""
        return self._last is not None and self.stop is not None and self._last <= key < self.stop

    def ahead(self, asked: Sequence[Block], behind: Iterator[Block]) -> Iterator[Block]:
        """Yield the blocks to fetch together with those `asked`; `behind` are those behind them."""
        first = asked[0].ref.first
        is_walk = first == self.stop
        length = sum(block.ref.chunk.length_bytes for block in asked)
        size = min(MOST_AT_ONCE_BYTES, 2 * max(length, self._size_bytes)) if is_walk else length
        self._size_bytes, self._last = size, first if is_walk else None
        return self._take(size - length, behind)

    def next(self, behind: Iterator[Block]) -> Iterator[Block]:
        """Yield the blocks of the window that follows; `behind` are those from `stop` on."""
        self._last = self.stop
        self._size_bytes = min(MOST_AT_ONCE_BYTES, 2 * self._size_bytes)
        return self._take(self._size_bytes, behind)

    def _take(self, left: int, behind: Iterator[Block]) -> Iterator[Block]:
        self.stop = None
        for block in behind:
            left -= block.ref.chunk.length_bytes
            if left < 0:
                self.stop = block.ref.first
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


async def _decoded(block: Block, data: Buffer) -> Fetched:
    """Decode a block between requests: a thread that decodes takes the interpreter from them, for
    a millisecond with each row that they read."""
    if len(data) > LONG_BLOCK_BYTES:
        return await trio.to_thread.run_sync(_decode, block, data)
    await trio.lowlevel.checkpoint()
    return _decode(block, data)


def _decode(block: Block, data: Buffer) -> Fetched:
    key = _words([block])
    if block.ref.level:
        return Fetched(block, decode_refs(data, ref=block.ref, key=key))
    return Fetched(block, decode_rows(data, table=block.table, ref=block.ref, key=key))


def _words(blocks: Sequence[Block]) -> str:
    named = [f"{NAMES[block.table]} from {block.ref.first.hex()}" for block in islice(blocks, 3)]
    return ", ".join(named) + (f" and {len(blocks) - 3} more" if len(blocks) > 3 else "")
