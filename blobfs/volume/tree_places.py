"""Find out where the chunks lie of files that were loaded, once somebody wants to save.

Content that is stored already is found by the table `chunks`, whose keys are as good as random. To
keep it up to date with each block of inodes that is loaded would cost more than loading does, and
who only reads never asks. So such blocks are noted under `unnoted`, and gone through before chunks
are looked up: many together, since neighbours in `chunks` share its pages.

Concurrency: functions of one transaction.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from blobfs.database import Reader, Writer
from blobfs.formats.rows import Extent, ExtentList, Extents, InodeRow
from blobfs.formats.tables import Row, Table
from blobfs.volume.tree_blocks import NAMES, Block, blocks
from blobfs.volume.tree_rows import Place, decode_inode, encode

UNNOTED = "unnoted"

BLOCKS_AT_ONCE = 64
"""Some 30,000 files, noted in a quarter of a second. More would be cheaper by the file, and let
LMDB hold more of the table in memory until the transaction ends."""


def note_later(writer: Writer, block: Block) -> None:
    """Remember that a block was loaded, if its rows have chunks."""
    if block.table is Table.INODES:
        writer.put(UNNOTED, block.key, encode(block.ref))


def is_any_unnoted(reader: Reader) -> bool:
    return next(reader.range(UNNOTED), None) is not None


def note_some(writer: Writer) -> bool:
    """Note where the chunks of some loaded files lie; return whether there are more such files."""
    some = list(islice(blocks(writer, UNNOTED, Table.INODES), BLOCKS_AT_ONCE))
    note_rows(writer, (row for block in some for row in _rows(writer, block)))
    for block in some:
        writer.delete(UNNOTED, block.key)
    return len(some) == BLOCKS_AT_ONCE


def note_rows(writer: Writer, rows: Iterable[Row]) -> None:
    """Note where the chunks lie that these rows of inodes spell out."""
    places = {
        chunk: place for _, row in rows for chunk, place in _places(_extents(decode_inode(row)))
    }
    writer.put_absent("chunks", sorted(places.items()))


def note_extents(writer: Writer, extents: Iterable[Extent]) -> None:
    """Note where these chunks lie."""
    for chunk, place in _places(extents):
        writer.put("chunks", chunk, place)


def _rows(reader: Reader, block: Block) -> Iterator[Row]:
    """Yield the rows that lie in the span of a block now."""
    return reader.range(NAMES[block.table], block.ref.first, block.ref.last + b"\0")


def _places(extents: Iterable[Extent]) -> Iterator[Row]:
    for extent in extents:
        if not extent.is_hole:
            place = Place(extent.length_bytes, extent.pack, extent.offset, extent.stored_bytes)
            yield extent.chunk, encode(place)


def _extents(row: InodeRow) -> Sequence[Extent]:
    content = row.content
    if isinstance(content, Extents):
        return content.extents
    return [part.chunk for part in content.parts] if isinstance(content, ExtentList) else ()
