"""Spell what a client says of itself under `clients/<id>`: who it is and what it still needs.

Only that client writes it, so fields that others do not know are passed over.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from blobfs.formats.json_object import HexId, Marked, decode_json, encode_json
from blobfs.formats.keys import MOST_SEQ, parse_client_key
from blobfs.formats.refusal import damaged
from blobfs.types import ClientId, Seq

VERSION = 1

_WHAT = "client"

Number = Annotated[int, Meta(ge=0, le=MOST_SEQ)]
Text = Annotated[str, Meta(max_length=255)]


class ClientRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A client as it announces itself. Times are ns since the epoch, on the store's clock."""

    id: ClientId
    host: str
    """Name of its machine, for people and for the names of conflict copies."""
    seq: Seq = Seq(0)
    """The commit up to which it has replayed the log."""
    needs_from: Seq = Seq(0)
    """The lowest commit whose entry and packs it may still read."""
    lease_until_ns: int = 0
    """Until then nothing that it needs is removed."""
    waiting_until_ns: int = 0
    """Until then others let it commit first, since it lost several slots in a row (L7)."""
    program: str = ""
    """The version of the program, for people."""


class _Client(Marked, frozen=True, kw_only=True):
    id: HexId
    host: Text
    seq: Number
    needs_from: Number
    lease_until_ns: Number
    waiting_until_ns: Number = 0
    program: Text = ""


def encode_client(record: ClientRecord) -> bytes:
    """Return the bytes of `clients/<id>`. Raises ValueError for what no reader would take."""
    wire = _Client(
        format=f"blobfs {_WHAT}",
        version=VERSION,
        id=record.id.hex(),
        host=record.host,
        seq=record.seq,
        needs_from=record.needs_from,
        lease_until_ns=record.lease_until_ns,
        waiting_until_ns=record.waiting_until_ns,
        program=record.program,
    )
    return encode_json(wire, record, _read_back)


def decode_client(data: bytes, *, key: str) -> ClientRecord:
    """Return what the client whose record lies under `key` says. Raises Damaged, Unsupported."""
    record = _decode(data, key)
    if record.id != parse_client_key(key):
        raise damaged(_WHAT, f"it is of client {record.id.hex()}", key)
    return record


def _read_back(data: bytes) -> ClientRecord:
    return _decode(data, "")


def _decode(data: bytes, key: str) -> ClientRecord:
    wire = decode_json(data, _Client, VERSION, what=_WHAT, key=key)
    return ClientRecord(
        id=ClientId(bytes.fromhex(wire.id)),
        host=wire.host,
        seq=Seq(wire.seq),
        needs_from=Seq(wire.needs_from),
        lease_until_ns=wire.lease_until_ns,
        waiting_until_ns=wire.waiting_until_ns,
        program=wire.program,
    )
