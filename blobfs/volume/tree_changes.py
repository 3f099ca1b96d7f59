"""Note which rows each entry of the log changed, for whoever writes the next checkpoint.

A checkpoint is the one before with the blocks made anew that hold changed rows. A note is kept per
entry, so that what was changed while a checkpoint was being written counts for the one after it.

Concurrency: functions of one transaction.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from blobfs.database import Reader, Writer
from blobfs.formats.tables import Table
from blobfs.types import Seq
from blobfs.volume.tree_rows import number_key

Keys = Mapping[Table, Sequence[bytes]]


def note_changed(writer: Writer, seq: Seq, keys: Keys) -> None:
    """Note the rows that entry `seq` put or removed."""
    writer.put("changed", number_key(seq), _encode(keys))


def changed_keys(reader: Reader, after: Seq) -> dict[Table, set[bytes]]:
    """Return the keys of all rows that entries behind `after` changed, as far as replayed here."""
    found: dict[Table, set[bytes]] = defaultdict(set)
    for _, data in reader.range("changed", number_key(after + 1)):
        for table, keys in _decode(data).items():
            found[table].update(keys)
    return dict(found)


def forget_changed(writer: Writer, upto: Seq) -> None:
    """Forget what entries up to `upto` changed: a checkpoint holds it."""
    writer.delete_range("changed", b"", number_key(upto + 1))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[Table, list[bytes]]).decode
