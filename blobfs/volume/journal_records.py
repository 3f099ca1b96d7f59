"""Spell the journal's records as bytes, and tell bytes that are one from bytes that are not.

    header     44 bytes, little endian: magic, number of the segment, serial, serial known to be
               on disk when it was written, length of the body, length of the payload, checksum
    body       msgpack: what happened
    checksums  8 bytes for each 64 KiB of the payload
    payload    bytes that a program wrote

The header's checksum covers header, body and checksums, and the offset of the record too: neither
an older life of a reused segment file, nor a journal that a user copied into a file, is ever
taken for a record. Payloads have checksums of their own, so that a small read verifies little and a
scan need not read them at all. Serials and segments that bodies name for changed rows are not yet
known when they are written: those of the record count.
"""

import struct
from collections.abc import Iterator

import msgspec
import xxhash

from blobfs.model.changes import (
    Covered,
    DirentKey,
    Intent,
    Outcome,
    Uploaded,
)
from blobfs.types import KIB, InodeNo, PackName, Seq, Serial
from blobfs.volume.unsaved_rows import DirentState, InodeState

MAGIC = b"bJ\xf5\x01"
"""The last byte is the version of this format."""

BLOCK_BYTES = 64 * KIB
"""Of payload to a checksum."""

_FRONT = struct.Struct("<4sQQQII")
_CHECKSUM = struct.Struct("<Q")
HEADER_BYTES = _FRONT.size + _CHECKSUM.size


class Opened(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """First in every segment: the run of the machine that wrote it."""

    boot_id: str


class Changed(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Rows changed; None: the row is dropped, there is nothing unsaved about it any more."""

    inodes: tuple[tuple[InodeNo, InodeState | None], ...]
    dirents: tuple[tuple[DirentKey, DirentState | None], ...]


class Wrote(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The payload was written to a file at `start`, which changed its row to `state`."""

    inode: InodeNo
    start: int
    state: InodeState


class MovedRows(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Rows as they are, moved here from a segment that is to be removed."""

    inodes: tuple[tuple[InodeNo, InodeState], ...]
    dirents: tuple[tuple[DirentKey, DirentState], ...]


class MovedBytes(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The payload was written earlier, as `serial`, and is moved here."""

    inode: InodeNo
    start: int
    serial: Serial


class LostBytes(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """What was written as `serial` can no longer be read."""

    inode: InodeNo
    start: int
    length_bytes: int
    serial: Serial


class PackUploaded(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The store has a pack."""

    pack: Uploaded


class IntentNoted(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """A commit is about to be tried (L2)."""

    intent: Intent


class OutcomeNoted(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """What became of it, and which uploaded packs need no note any more."""

    seq: Seq
    outcome: Outcome
    packs: tuple[PackName, ...]


class Cleaned(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Rows were committed and replayed: what did not change since is saved."""

    time_ns: int
    covered: Covered


class Renumbered(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Inodes that no commit has yet got other numbers, here and in all records before."""

    numbers: tuple[tuple[InodeNo, InodeNo], ...]
    """Each the old one and the new one."""


class RebasedRows(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """What the rows are over what others committed up to `seq`.

    First inodes get other numbers, here and in all records before; then rows change, as `Changed`
    has it, and the unsaved bytes of those that are `unedited` go.
    """

    seq: Seq
    numbers: tuple[tuple[InodeNo, InodeNo], ...]
    inodes: tuple[tuple[InodeNo, InodeState | None], ...]
    dirents: tuple[tuple[DirentKey, DirentState | None], ...]
    unedited: tuple[InodeNo, ...]


Body = (
    Opened
    | Changed
    | Wrote
    | MovedRows
    | MovedBytes
    | LostBytes
    | PackUploaded
    | IntentNoted
    | OutcomeNoted
    | Cleaned
    | Renumbered
    | RebasedRows
)

_encode_body = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder(Body).decode


class Header(msgspec.Struct, frozen=True, gc=False):
    """What a record says of itself."""

    segment: int
    serial: Serial
    synced: Serial
    """Records up to this one were on disk when it was written."""
    body_bytes: int
    payload_bytes: int

    @property
    def checksums_bytes(self) -> int:
        return _CHECKSUM.size * -(-self.payload_bytes // BLOCK_BYTES)

    @property
    def head_bytes(self) -> int:
        """All but the payload."""
        return HEADER_BYTES + self.body_bytes + self.checksums_bytes


def encode_body(body: Body) -> bytes:
    return _encode_body(body)


def encode_head(
    header: tuple[int, Serial, Serial], offset: int, body: bytes, checksums: bytes, payload: int
) -> bytes:
    """Return a record's bytes up to its payload of `payload` bytes.

    `header` is segment, serial and synced serial; `offset` is where the record will lie.
    """
    front = _FRONT.pack(MAGIC, *header, len(body), payload)
    rest = body + checksums
    return front + _CHECKSUM.pack(_checksum(front + rest, offset)) + rest


def payload_checksums(payload: bytes | memoryview) -> bytes:
    """Return the checksums of a payload's blocks, one behind the other."""
    if len(payload) <= BLOCK_BYTES:
        return _CHECKSUM.pack(xxhash.xxh3_64_intdigest(payload)) if payload else b""
    view = memoryview(payload)
    return b"".join(
        _CHECKSUM.pack(xxhash.xxh3_64_intdigest(view[start : start + BLOCK_BYTES]))
        for start in range(0, len(view), BLOCK_BYTES)
    )


def blocks_verify(payload: memoryview, checksums: bytes, first_block: int) -> bool:
    """Return whether `payload`, which begins at block `first_block`, is what was written."""
    at = first_block * _CHECKSUM.size
    return payload_checksums(payload) == checksums[at : at - (-len(payload) // BLOCK_BYTES) * 8]


def decode_header(data: bytes | memoryview) -> Header | None:
    """Return what a header says; None if there is none. Nothing of it is verified yet."""
    if len(data) < HEADER_BYTES:
        return None
    magic, segment, serial, synced, body_bytes, payload_bytes = _FRONT.unpack_from(data)
    if magic != MAGIC:
        return None
    return Header(segment, serial, synced, body_bytes, payload_bytes)


def head_verifies(header: Header, head: bytes | memoryview, offset: int) -> bool:
    """Return whether all of a record but its payload is what was written at `offset`."""
    if len(head) < header.head_bytes:
        return False
    covered = bytes(head[: _FRONT.size]) + bytes(head[HEADER_BYTES : header.head_bytes])
    return head[_FRONT.size : HEADER_BYTES] == _CHECKSUM.pack(_checksum(covered, offset))


def decode_body(header: Header, head: bytes | memoryview) -> tuple[Body, bytes]:
    """Return the body and the payload's checksums of a record that verified."""
    end = HEADER_BYTES + header.body_bytes
    return _decode_body(head[HEADER_BYTES:end]), bytes(head[end : header.head_bytes])


def find_candidates(data: bytes, segment: int) -> Iterator[int]:
    """Yield where in `data` records of a segment may begin."""
    needle = MAGIC + segment.to_bytes(8, "little")
    start = 0
    while (start := data.find(needle, start)) >= 0:
        yield start
        start += 1


def _checksum(data: bytes, offset: int) -> int:
    return xxhash.xxh3_64_intdigest(data, seed=offset)
