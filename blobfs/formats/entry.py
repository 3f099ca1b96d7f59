"""Spell a commit in bytes: what lies under `log/<seq>`.

It lies in an envelope (`formats.envelope`) with the magic "BLOBLOG" and a zero byte. The plain
body is MessagePack, an array of the fields of `_Body` in their order. Fields that a later version
appends are passed over, and hold nothing that replay depends on: what a reader has to know is a
new operation, or is named in `needs`, and stops readers that do not know it. An entry is 256 KiB
at most; longer lists lie in chunks (L7), which `formats.blocks` spells.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from blobfs.formats.blocks import MOST_BLOCK_BYTES
from blobfs.formats.chunk import Buffer
from blobfs.formats.commit import Counters, Entry, UsedPack
from blobfs.formats.envelope import Envelope
from blobfs.formats.keys import MOST_SEQ, parse_log_key
from blobfs.formats.operations import (
    WireOperation,
    read_operations,
    spell_operations,
    unknown_operation,
)
from blobfs.formats.refusal import damaged, refuse_unknown_needs
from blobfs.formats.rows import Extent, SignedField
from blobfs.formats.wire import (
    Malformed,
    WireChunk,
    number_packs,
    read_chunk,
    spell_chunk,
)
from blobfs.types import KIB, ClientId, PackName, Seq

VERSION = 1
MAGIC = b"BLOBLOG\0"

MOST_ENTRY_BYTES = 256 * KIB
"""Of an entry as it is stored."""

MOST_BODY_BYTES = MOST_BLOCK_BYTES
"""Of its body when decompressed."""

_WHAT = "log entry"
_ENVELOPE = Envelope(_WHAT, MAGIC, VERSION, MOST_ENTRY_BYTES, MOST_BODY_BYTES)

SeqOfEntry = Annotated[Seq, Meta(ge=1, le=MOST_SEQ)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]


class _Body(msgspec.Struct, frozen=True, array_like=True):
    needs: tuple[str, ...]
    seq: SeqOfEntry
    previous: Hash
    client: Annotated[ClientId, Meta(min_length=16, max_length=16)]
    counter: Annotated[int, Meta(ge=1, le=MOST_SEQ)]
    time_ns: SignedField
    packs: tuple[UsedPack, ...]
    operations: tuple[WireOperation, ...]
    counters: Counters | None
    operation_parts: tuple[WireChunk, ...]
    pack_parts: tuple[WireChunk, ...]


_OPERATIONS_AT = 7
_BODY = msgspec.msgpack.Decoder(_Body)


def entry_hash(data: Buffer) -> bytes:
    """Return what the next entry calls `previous`: the SHA-256 of an entry's exact bytes."""
    return hashlib.sha256(data).digest()


def encode_entry(entry: Entry) -> bytes:
    """Return the bytes of a commit. They are read back, since what no reader takes stops all.

    Raises TooLong when its lists have to lie in chunks (L7), ValueError when it cannot be right.
    """
    plain = msgspec.msgpack.encode(_spell(entry))
    data = _ENVELOPE.seal(plain)
    if _read(_BODY.decode(plain)) != entry:
        raise ValueError(f"entry would not be read as it is. seq={entry.seq}")
    return data


def decode_entry(data: Buffer, *, key: str) -> Entry:
    """Return the commit that lies under `key`.

    Raises Damaged, also when it is another slot's, and Unsupported when it is newer.
    """
    plain = _ENVELOPE.open(data, key)
    try:
        body = _BODY.decode(plain)
        refuse_unknown_needs(_WHAT, body.needs, key)
        entry = _read(body)
    except (ValueError, RecursionError) as error:
        raise _ENVELOPE.refusal(
            plain, error, key, at=_OPERATIONS_AT, unknown=unknown_operation
        ) from error
    if entry.seq != parse_log_key(key):
        raise damaged(_WHAT, f"it says that it is number {entry.seq}", key)
    return entry


def _spell(entry: Entry) -> _Body:
    names = [pack.name for pack in entry.packs]
    return _Body(
        needs=(),
        seq=entry.seq,
        previous=entry.previous,
        client=entry.client,
        counter=entry.counter,
        time_ns=entry.time_ns,
        packs=entry.packs,
        operations=tuple(spell_operations(entry.operations, names)),
        counters=entry.counters,
        operation_parts=_spell_parts(entry.operation_parts, names),
        pack_parts=_spell_parts(entry.pack_parts, names),
    )


def _spell_parts(parts: Sequence[Extent], names: Sequence[PackName]) -> tuple[WireChunk, ...]:
    numbers = number_packs(names)
    return tuple(spell_chunk(part, numbers) for part in parts)


def _read(body: _Body) -> Entry:
    names = [pack.name for pack in body.packs]
    if len(set(names)) != len(names):
        raise Malformed("a pack is listed twice")
    if body.operations and (body.operation_parts or body.pack_parts):
        raise Malformed("operations lie both in the entry and elsewhere")
    return Entry(
        seq=body.seq,
        previous=body.previous,
        client=body.client,
        counter=body.counter,
        time_ns=body.time_ns,
        operations=read_operations(body.operations, names),
        packs=body.packs,
        counters=body.counters,
        operation_parts=tuple(read_chunk(part, names) for part in body.operation_parts),
        pack_parts=tuple(read_chunk(part, names) for part in body.pack_parts),
    )
