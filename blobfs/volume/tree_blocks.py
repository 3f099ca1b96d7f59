"""Keep track of which blocks of a checkpoint the local tree has not loaded yet.

A tree that began from a checkpoint holds, in its tables, the rows of the blocks that were loaded,
and what was replayed over them. Two more tables name blocks by their table and first key:

    unloaded    what is known of the checkpoint and not here: also blocks of references
    loaded      blocks whose rows are here, perhaps changed since

Blocks of a table cover spans of keys that do not meet. A key that no block covers is known to be
absent. A key of an unloaded block was never changed by replay, since replay reads what it changes;
only seqs of packs are put blindly, and what was put is newer than the block.

Concurrency: functions of one transaction.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from blobfs.database import Reader, Writer
from blobfs.errors import BlobfsError
from blobfs.formats.checkpoint_blocks import BlockRef
from blobfs.formats.tables import Row, Table

UNLOADED, LOADED = "unloaded", "loaded"

NUMBERS = {table.name.lower(): table for table in Table}
"""The tables that checkpoints hold, by their local names; others are whole at all times."""

NAMES = {table: name for name, table in NUMBERS.items()}


class Block(NamedTuple):
    """A block of a checkpoint, and the table that it belongs to."""

    table: Table
    ref: BlockRef

    @property
    def key(self) -> bytes:
        """What it is kept under in `unloaded` and `loaded`."""
        return block_key(self.table, self.ref.first)

    def holds(self, table: Table, key: bytes) -> bool:
        """Return whether a row of `table` under `key` would lie in it."""
        return self.table is table and self.ref.first <= key <= self.ref.last


class NotLoaded(BlobfsError):
    """What was asked for lies in blocks of a checkpoint that are not here.

    Whoever can wait loads them and asks again. What was planned meanwhile is planned again.
    """

    transient = True

    def __init__(self, blocks: Sequence[Block]) -> None:
        first = blocks[0]
        super().__init__(
            f"a part of the tree is not here yet. table={NAMES[first.table]} "
            f"key={first.ref.first.hex()}"
        )
        self.blocks = tuple(blocks)


class Rows(Protocol):
    """Read access to the rows of a tree at one moment."""

    def get(self, table: str, key: bytes) -> bytes | None: ...

    def range(
        self, table: str, start: bytes = b"", stop: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]: ...

    def keys(self, table: str, start: bytes, stop: bytes) -> Iterator[bytes]: ...


class LazyRows:
    """The rows of a tree of which some blocks are not loaded.

    It answers as the whole tree would, or raises NotLoaded.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return the row under `key`, None where there is none.

        Raises:
            NotLoaded: a block that is not here covers it.
        """
        row = self._reader.get(table, key)
        if row is None and (number := NUMBERS.get(table)) is not None:
            block = covering(self._reader, number, key)
            if block is not None:
                raise NotLoaded((block,))
        return row

    def range(
        self, table: str, start: bytes = b"", stop: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows for `start` <= key < `stop`, in order.

        Raises:
            NotLoaded: the next one may lie in a block that is not here.
        """
        block = self._first_unloaded(table, start, stop)
        if block is None:
            yield from self._reader.range(table, start, stop)
            return
        yield from self._reader.range(table, start, max(start, block.ref.first))
        raise NotLoaded((block,))

    def keys(self, table: str, start: bytes, stop: bytes) -> Iterator[bytes]:
        """Yield the keys of rows as `range` does. Raises: likewise."""
        block = self._first_unloaded(table, start, stop)
        if block is None:
            yield from self._reader.keys(table, start, stop)
            return
        yield from self._reader.keys(table, start, max(start, block.ref.first))
        raise NotLoaded((block,))

    def _first_unloaded(self, table: str, start: bytes, stop: bytes | None) -> Block | None:
        number = NUMBERS.get(table)
        return None if number is None else next(unloaded(self._reader, number, start, stop), None)


def rows_of(reader: Reader) -> Rows:
    """Return the rows as they are to be asked for, the fastest way."""
    return reader if is_whole(reader) else LazyRows(reader)


def is_whole(reader: Reader) -> bool:
    """Return whether all rows are here."""
    return next(reader.range(UNLOADED), None) is None


def block_key(table: Table, key: bytes) -> bytes:
    return bytes((table,)) + key


def covering(reader: Reader, table: Table, key: bytes) -> Block | None:
    """Return the block that is not loaded and that would hold `key`."""
    wanted = block_key(table, key)
    found = reader.at_or_before(UNLOADED, wanted)
    if found is None or found[0][0] != table:
        return None
    ref = _decode_ref(found[1])
    return Block(table, ref) if key <= ref.last else None


def unloaded(
    reader: Reader, table: Table, start: bytes = b"", stop: bytes | None = None
) -> Iterator[Block]:
    """Yield the blocks that are not loaded and that may hold keys from `start` up to `stop`."""
    first = covering(reader, table, start)
    if first is not None and first.ref.first < start:
        yield first
    end = block_key(table, stop) if stop is not None else bytes((table + 1,))
    for _, data in reader.range(UNLOADED, block_key(table, start), end):
        yield Block(table, _decode_ref(data))


def blocks(reader: Reader, kept: str, table: Table) -> Iterator[Block]:
    """Yield the blocks of a table in order of keys; `kept` is `UNLOADED` or `LOADED`."""
    for _, data in reader.range(kept, bytes((table,)), bytes((table + 1,))):
        yield Block(table, _decode_ref(data))


def begin_blocks(writer: Writer, roots: Iterable[Block]) -> None:
    """Let the tree consist of these blocks, none of them loaded: its tables are emptied."""
    for table in (*NAMES.values(), LOADED, UNLOADED):
        writer.clear(table)
    for block in roots:
        writer.put(UNLOADED, block.key, _encode(block.ref))


def take_rows(writer: Writer, block: Block, rows: Sequence[Row]) -> bool:
    """Take in the rows of a block; return False where it is no longer waited for.

    Rows that are here already are newer.
    """
    if not _leave(writer, block):
        return False
    writer.put_absent(NAMES[block.table], rows)
    writer.put(LOADED, block.key, _encode(block.ref))
    return True


def take_refs(writer: Writer, block: Block, refs: Sequence[BlockRef]) -> bool:
    """Let the blocks that a block of references names stand in its place; return as `take_rows`."""
    if not _leave(writer, block):
        return False
    for ref in refs:
        child = Block(block.table, ref)
        writer.put(UNLOADED, child.key, _encode(ref))
    return True


def put_loaded(writer: Writer, block: Block) -> None:
    """Note a block whose rows are here because it was made of them."""
    writer.put(LOADED, block.key, _encode(block.ref))


def _leave(writer: Writer, block: Block) -> bool:
    """Take a block from those that are not loaded, unless another stands there by now."""
    if writer.get(UNLOADED, block.key) != _encode(block.ref):
        return False
    return writer.delete(UNLOADED, block.key)


_encode = msgspec.msgpack.Encoder().encode
_decode_ref = msgspec.msgpack.Decoder(BlockRef).decode
