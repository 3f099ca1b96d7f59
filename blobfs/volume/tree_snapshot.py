"""Show the local tree at one moment to whoever writes a checkpoint of it, and take up the result.

What the tree began from, which blocks of that are here and which rows have changed since, are of
the same moment as the rows. What a checkpoint needs of them is loaded before: a changed row always
lies in a block that is here, or where none was.

Concurrency: a snapshot may be read in any thread, in one at a time. While it is open the database
cannot use the pages again that are freed meanwhile.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blobfs.database import Reader, Writer
from blobfs.formats.keys import parse_checkpoint_name
from blobfs.formats.tables import Row, Table
from blobfs.model.checkpoint_blocks import KnownBlock
from blobfs.types import Seq
from blobfs.volume.tree_blocks import LOADED, NAMES, UNLOADED, Block, blocks, covering, put_loaded
from blobfs.volume.tree_changes import changed_keys, forget_changed
from blobfs.volume.tree_replay import read_state


class TreeSnapshot:
    """The rows of the tree, and what a checkpoint that is based on its base can name again."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.state = read_state(reader)
        self.base = base_of(reader)
        """Name of the checkpoint that the tree began from, or took up; None: of none."""
        made_at = None if self.base is None else parse_checkpoint_name(self.base)
        self._changed = changed_keys(reader, made_at or Seq(0))

    def known(self, table: Table) -> list[KnownBlock]:
        """Return the blocks of the base in order; an index that was opened, by what it named."""
        here = [KnownBlock(block.ref, True) for block in blocks(self._reader, LOADED, table)]
        there = [KnownBlock(block.ref, False) for block in blocks(self._reader, UNLOADED, table)]
        return sorted((*here, *there), key=lambda block: block.ref.first)

    def changed(self, table: Table) -> Sequence[bytes] | None:
        """Return the keys of rows that changed since the base, in order; None: too many."""
        keys = self._changed.get(table, ())
        return None if keys is None else sorted(keys)

    def rows(self, table: Table, start: bytes, stop: bytes | None) -> Iterator[Row]:
        """Yield what is here of the rows with start <= key < stop; stop None: to the end."""
        return self._reader.range(NAMES[table], start, stop)

    def missing(self) -> list[tuple[Table, bytes]]:
        """Return keys of changed rows whose blocks are not here: the seqs of packs, put blindly."""
        return [
            (table, key)
            for table, keys in self._changed.items()
            for key in keys or ()
            if covering(self._reader, table, key) is not None
        ]


def base_of(reader: Reader) -> str | None:
    """Return the name of the checkpoint that a tree began from, None if it was the log alone."""
    name = reader.get("state", b"base")
    return None if name is None else name.decode()


@dataclass(frozen=True, slots=True)
class Written:
    """A checkpoint that was made of a snapshot, and how it differs from its base."""

    name: str
    seq: Seq
    gone: tuple[Block, ...]
    """Blocks of rows of the base that it names no more."""
    made: tuple[Block, ...]
    """Its blocks of rows that the base had not."""


def take_up(writer: Writer, written: Written) -> None:
    """Let a checkpoint be what the tree began from: the next one will be based on it.

    Rows of the blocks that went and came are all here.
    """
    for block in written.gone:
        writer.delete(LOADED, block.key)
    for block in written.made:
        put_loaded(writer, block)
    writer.put("state", b"base", written.name.encode())
    forget_changed(writer, written.seq)
