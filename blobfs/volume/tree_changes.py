"""Note which rows each entry of the log changed, for whoever writes the next checkpoint.

A checkpoint is the one before with the blocks made anew that hold changed rows. A note is kept per
entry and table, so that what was changed while a checkpoint was being written counts for the one
after it.

Concurrency: functions of one transaction.
"""

from collections.abc import Mapping, Sequence

import msgspec

from blobfs.database import Reader, Writer
from blobfs.formats.tables import Table
from blobfs.types import MIB, Seq
from blobfs.volume.tree_rows import number_key

Keys = Mapping[Table, Sequence[bytes]]

MOST_CHANGED_BYTES = 4 * MIB
"""Of the keys of a table that are gone through one by one; behind that, every row of it that is
here counts as changed, and takes no memory."""

_SEQ_BYTES = 8


def note_changed(writer: Writer, seq: Seq, keys: Keys) -> None:
    """Note the rows that entry `seq` put or removed."""
    for table, changed in keys.items():
        if changed:
            writer.put("changed", number_key(seq) + bytes((table,)), _encode(changed))


def changed_keys(reader: Reader, after: Seq) -> dict[Table, set[bytes] | None]:
    """Return the keys of all rows that entries behind `after` changed, as far as replayed here.

    None: too many in this table. Those of packs are never too many: they may lie in blocks that
    are not here.
    """
    found: dict[Table, set[bytes] | None] = {}
    left = dict.fromkeys(Table, MOST_CHANGED_BYTES)
    for key, data in reader.range("changed", number_key(after + 1)):
        table = Table(key[_SEQ_BYTES])
        left[table] -= len(data)
        known = found.setdefault(table, set())
        if known is None or (left[table] < 0 and table is not Table.PACKS):
            found[table] = None
        else:
            known.update(_decode(data))
    return found


def changed_bytes(reader: Reader, after: Seq, at_most: int) -> int:
    """Return how long the notes of entries behind `after` are, `at_most` if they are longer."""
    total = 0
    for _, data in reader.range("changed", number_key(after + 1)):
        total += len(data)
        if total >= at_most:
            return at_most
    return total


def forget_changed(writer: Writer, upto: Seq) -> None:
    """Forget what entries up to `upto` changed: a checkpoint holds it."""
    writer.delete_range("changed", b"", number_key(upto + 1))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode
