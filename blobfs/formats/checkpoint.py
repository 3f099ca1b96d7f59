"""Spell the manifest of a checkpoint: what lies under `checkpoints/<seq>-<sha16>`.

A checkpoint is the whole tree after one entry of the log, so that reading may begin there. Its
manifest says which entry that was, what the tree adds up to, and for each table which blocks hold
its rows (`formats.checkpoint_blocks`); a table of a few rows lies in the manifest itself.

It lies in an envelope (`formats.envelope`) with the magic "BLOBCKPT". The plain body is
MessagePack, an array of the fields of `_Body` in their order; further elements are passed over.
The 16 hex digits of its name are the first of the SHA-256 of all its bytes, so that `head`
vouches for them.
"""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from blobfs.formats.checkpoint_blocks import (
    BlockRef,
    WireRef,
    check_order,
    check_rows,
    read_refs,
    spell_refs,
)
from blobfs.formats.chunk import Buffer
from blobfs.formats.commit import Counters
from blobfs.formats.envelope import Envelope
from blobfs.formats.keys import MOST_SEQ, checkpoint_key, checkpoint_name, parse_checkpoint_name
from blobfs.formats.refusal import damaged, refuse_unknown_needs
from blobfs.formats.rows import PackNameField, SignedField
from blobfs.formats.tables import HashField, Kept, Row, Table
from blobfs.formats.wire import Malformed
from blobfs.types import FIRST_NATIVE_INODE, MIB, PackName, Seq

VERSION = 1
MAGIC = b"BLOBCKPT"

MOST_MANIFEST_BYTES = 1 * MIB
"""Of a manifest, as it is stored, and of its body when decompressed."""

_WHAT = "checkpoint"
_ENVELOPE = Envelope(_WHAT, MAGIC, VERSION, MOST_MANIFEST_BYTES, MOST_MANIFEST_BYTES)


class TableRoot(msgspec.Struct, frozen=True):
    """Where the rows of a table are: in blocks, or here. A table without rows has no root."""

    table: Table
    refs: tuple[BlockRef, ...] = ()
    """In the order of their keys; of any levels."""
    rows: tuple[Row, ...] = ()
    """All of them, in the order of their keys, where there are no `refs`."""


class Checkpoint(msgspec.Struct, frozen=True):
    """The tree after entry `seq` of the log."""

    seq: Seq
    chain: bytes
    """SHA-256 of that entry."""
    time_ns: int
    """When that entry was made, by its author's clock."""
    counters: Counters
    granted_to: int
    """Inode numbers from here on, below those of native objects, were granted to nobody (M1)."""
    previous: str | None
    """Name of the checkpoint before, None for the first."""
    tables: tuple[TableRoot, ...]
    """In the order of their numbers."""
    kept: Kept | None = None
    """What native objects that were given up come to; None: its author did not say."""

    def root(self, table: Table) -> TableRoot:
        """Return where the rows of a table are."""
        return next((each for each in self.tables if each.table is table), TableRoot(table))

    def packs(self) -> frozenset[PackName]:
        """Return the packs that the manifest names, in which its blocks lie."""
        return frozenset(ref.chunk.pack for root in self.tables for ref in root.refs)


class _Table(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    table: Annotated[int, Meta(ge=1, le=255)]
    refs: tuple[WireRef, ...]
    rows: tuple[tuple[bytes, bytes], ...]


class _Body(msgspec.Struct, frozen=True, array_like=True):
    needs: tuple[str, ...]
    seq: Annotated[Seq, Meta(ge=1, le=MOST_SEQ)]
    chain: HashField
    time_ns: SignedField
    counters: Counters
    granted_to: Annotated[int, Meta(ge=1, le=FIRST_NATIVE_INODE)]
    previous: str | None
    packs: tuple[PackNameField, ...]
    tables: tuple[_Table, ...]
    kept: Kept | None = None


_TABLES_AT = 8
_BODY = msgspec.msgpack.Decoder(_Body)


def encode_checkpoint(checkpoint: Checkpoint) -> tuple[str, bytes]:
    """Return the name of a checkpoint, and the bytes of its manifest, which were read back.

    Raises TooLong when too much of it lies in the manifest itself, ValueError when it cannot be
    right.
    """
    data = _ENVELOPE.seal(msgspec.msgpack.encode(_elements(_spell(checkpoint))))
    name = checkpoint_name(checkpoint.seq, hashlib.sha256(data).digest())
    if decode_checkpoint(data, name=name) != checkpoint:
        raise ValueError(f"checkpoint would not be read as it is. seq={checkpoint.seq}")
    return name, data


def decode_checkpoint(data: Buffer, *, name: str) -> Checkpoint:
    """Return the checkpoint that `head` calls `name`.

    Raises Damaged, also when it is another one, and Unsupported when it is newer.
    """
    key = checkpoint_key(name)
    seq = parse_checkpoint_name(name)
    if seq is None or checkpoint_name(seq, hashlib.sha256(data).digest()) != name:
        raise damaged(_WHAT, "its bytes do not have the SHA-256 that its name says", key)
    plain = _ENVELOPE.open(data, key)
    try:
        body = _BODY.decode(plain)
        refuse_unknown_needs(_WHAT, body.needs, key)
        checkpoint = _read(body)
    except (ValueError, RecursionError) as error:
        raise _ENVELOPE.refusal(plain, error, key, at=_TABLES_AT, unknown=_unknown_table) from error
    if checkpoint.seq != seq:
        raise damaged(_WHAT, f"it says that it was made at {checkpoint.seq}", key)
    return checkpoint


def _spell(checkpoint: Checkpoint) -> _Body:
    packs = tuple(dict.fromkeys(ref.chunk.pack for ref in _refs(checkpoint)))
    return _Body(
        needs=(),
        seq=checkpoint.seq,
        chain=checkpoint.chain,
        time_ns=checkpoint.time_ns,
        counters=checkpoint.counters,
        granted_to=checkpoint.granted_to,
        previous=checkpoint.previous,
        packs=packs,
        tables=tuple(
            _Table(root.table, spell_refs(root.refs, packs), root.rows)
            for root in checkpoint.tables
        ),
        kept=checkpoint.kept,
    )


def _elements(body: _Body) -> tuple[Any, ...]:
    """Return what stands in the array: what its author did not know to say is left out."""
    elements = msgspec.structs.astuple(body)
    return elements if body.kept is not None else elements[:-1]


def _refs(checkpoint: Checkpoint) -> Iterator[BlockRef]:
    return (ref for root in checkpoint.tables for ref in root.refs)


def _read(body: _Body) -> Checkpoint:
    if body.previous is not None and (parse_checkpoint_name(body.previous) or body.seq) >= body.seq:
        raise Malformed(f"no checkpoint before this one is called {body.previous!r}")
    if len(set(body.packs)) != len(body.packs):
        raise Malformed("a pack is listed twice")
    check_order([bytes([each.table]) for each in body.tables])
    return Checkpoint(
        seq=body.seq,
        chain=body.chain,
        time_ns=body.time_ns,
        counters=body.counters,
        granted_to=body.granted_to,
        previous=body.previous,
        tables=tuple(_read_table(each, body.packs) for each in body.tables),
        kept=body.kept,
    )


def _read_table(wire: _Table, packs: tuple[PackName, ...]) -> TableRoot:
    if bool(wire.refs) == bool(wire.rows):
        raise Malformed("the rows of a table lie either in blocks or in the manifest")
    table = Table(wire.table)
    check_rows(table, list(wire.rows))
    return TableRoot(table, read_refs(wire.refs, packs), wire.rows)


def _unknown_table(tables: Any) -> str | None:
    for each in tables if isinstance(tables, list) else ():
        number = each[0] if isinstance(each, list) and each else None
        if isinstance(number, int) and number not in set(Table):
            return f"table {number}"
    return None
