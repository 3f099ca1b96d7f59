"""Know which versions of native objects were given up and are kept in the bucket (N5).

They are the rows of `hidden` that say since when nothing refers to them. An index beside these
finds them without a look at all others. It holds those of the blocks that are loaded, and who gave
each of them up, if this tree has replayed that.

Concurrency: functions of one transaction.
"""

from collections.abc import Iterable, Iterator

import msgspec

from blobfs.database import Reader, Writer
from blobfs.formats.tables import HiddenRow, Kept, Row, kept_of
from blobfs.types import ClientId
from blobfs.volume.tree_rows import decode_hidden, encode

NOBODY = ClientId(b"")
"""In place of the client that gave an object up: a checkpoint does not tell."""


class KeptObject(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A version of an object that was given up."""

    key: bytes
    version: str
    unlinked_ns: int
    client: ClientId
    """Who committed that, or `NOBODY`."""


def note_kept(writer: Writer, place: bytes, row: HiddenRow, client: ClientId) -> None:
    """Follow a row of `hidden`, under the key `place`, that an entry of `client` has changed."""
    if row.unlinked_ns is None:
        writer.delete("kept", place)
    else:
        kept = KeptObject(row.key, row.version, row.unlinked_ns, client)
        writer.put("kept", place, encode(kept))


def note_loaded(writer: Writer, rows: Iterable[Row]) -> None:
    """Follow rows of `hidden` that came from a checkpoint; those that were changed since stay."""
    for place, data in rows:
        if writer.get("hidden", place) == data:
            note_kept(writer, place, decode_hidden(data), NOBODY)


def kept_objects(reader: Reader) -> Iterator[KeptObject]:
    """Yield those that are known here, in the order of their keys."""
    return (_decode(data) for _, data in reader.range("kept"))


def known_kept(reader: Reader) -> Kept:
    """Return what they come to."""
    objects, size_bytes = 0, 0
    for each in kept_objects(reader):
        kept = kept_of(each.version)
        objects, size_bytes = objects + kept.objects, size_bytes + kept.bytes
    return Kept(objects, size_bytes)


_decode = msgspec.msgpack.Decoder(KeptObject).decode
