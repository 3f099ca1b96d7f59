"""Put frames of many chunks into one object, and say where each lies in it.

    frames       the first at offset 0, each where the one before ends
    directory    40 bytes a frame, in order: chunk id (32), stored length (4), plain length (4)
    footer       48 bytes: number of frames (4), version (2), flags (2, all zero),
                 SHA-256 of the directory and of the 8 bytes before this field (32), "BLOBPACK"

Numbers are big-endian. A pack is named by the SHA-256 of all of it and a nonce of 8 bytes: it
can be verified from its key alone, and the same bytes sent again never meet an older name that
is about to be removed.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from blobfs.formats.chunk import Buffer
from blobfs.formats.refusal import damaged, newer
from blobfs.formats.rows import MOST_CHUNK_BYTES, MOST_PACK_BYTES
from blobfs.types import ChunkId, PackName

VERSION = 1
MAGIC = b"BLOBPACK"
NONCE_BYTES = 8

_RECORD = struct.Struct(">32sII")
_COUNTS = struct.Struct(">IHH")
_FOOTER = struct.Struct(">8s32s8s")

FOOTER_BYTES = _FOOTER.size


@dataclass(frozen=True, slots=True)
class PackedChunk:
    """Where a chunk lies in its pack: `stored_bytes` at `offset`, `length_bytes` when plain."""

    chunk: ChunkId
    offset: int
    stored_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack that is complete: its name, its bytes, and what lies where."""

    name: PackName
    body: bytes
    directory: tuple[PackedChunk, ...]


class PackBuilder:
    """Gather frames until a pack is full; holds them in memory, `size_bytes` in all."""

    def __init__(self) -> None:
        self._frames: list[Buffer] = []
        self._directory: list[PackedChunk] = []
        self._stop = 0

    def __len__(self) -> int:
        return len(self._directory)

    @property
    def size_bytes(self) -> int:
        """What the body would come to if it were sealed now."""
        return self._stop + len(self._directory) * _RECORD.size + FOOTER_BYTES

    def has_room(self, stored_bytes: int) -> bool:
        """Tell whether a frame of this size fits below the 64 MiB of a pack."""
        return self.size_bytes + _RECORD.size + stored_bytes <= MOST_PACK_BYTES

    def add(self, chunk: ChunkId, frame: Buffer, length_bytes: int) -> int:
        """Append the frame of a chunk; return its offset. The caller leaves `frame` as it is.

        Raises ValueError when it does not fit, or is no frame of that many plain bytes.
        """
        if not 1 <= len(frame) <= length_bytes <= MOST_CHUNK_BYTES:
            raise ValueError(f"not a frame. stored={len(frame)} length={length_bytes}")
        if not self.has_room(len(frame)):
            raise ValueError(f"pack is full. size={self.size_bytes} frame={len(frame)}")
        offset = self._stop
        self._frames.append(frame)
        self._directory.append(PackedChunk(chunk, offset, len(frame), length_bytes))
        self._stop += len(frame)
        return offset

    def seal(self, nonce: bytes) -> Pack:
        """Return the pack; `nonce` is 8 random bytes. Copies and hashes all of it: for a thread."""
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes. nonce={nonce.hex()}")
        body = b"".join([*self._frames, _encode_tail(self._directory)])
        name = PackName(hashlib.sha256(body).digest() + nonce)
        return Pack(name, body, tuple(self._directory))


def verify_name(name: PackName, body: Buffer, *, key: str) -> None:
    """Check that `body` is what `name` stands for. Raises Damaged."""
    if hashlib.sha256(body).digest() != name[:-NONCE_BYTES]:
        raise damaged("pack", "its bytes do not have the SHA-256 that its name says", key)


def tail_bytes(tail: Buffer, *, key: str) -> int:
    """Return how many of a pack's last bytes `decode_directory` needs.

    `tail` is the end of a pack, of `FOOTER_BYTES` at least. Raises Damaged, Unsupported.
    """
    return _read_footer(tail, key).tail_bytes


def decode_directory(tail: Buffer, *, pack_bytes: int, key: str) -> tuple[PackedChunk, ...]:
    """Return what lies where in a pack of `pack_bytes`, given its end (all of it will do).

    Raises Damaged, Unsupported.
    """
    footer = _read_footer(tail, key)
    if not footer.tail_bytes <= len(tail) <= pack_bytes <= MOST_PACK_BYTES:
        why = f"{footer.count} frames are too many for {pack_bytes} bytes, {len(tail)} of them here"
        raise damaged("pack", why, key)
    records = memoryview(tail)[len(tail) - footer.tail_bytes : len(tail) - FOOTER_BYTES]
    if _checksum(records, footer.counts) != footer.checksum:
        raise damaged("pack", "its directory does not have its checksum", key)
    return _laid_out(records, pack_bytes - footer.tail_bytes, key)


@dataclass(frozen=True, slots=True)
class _Footer:
    counts: bytes
    count: int
    checksum: bytes

    @property
    def tail_bytes(self) -> int:
        return self.count * _RECORD.size + FOOTER_BYTES


def _read_footer(tail: Buffer, key: str) -> _Footer:
    if len(tail) < FOOTER_BYTES:
        raise damaged("pack", f"{len(tail)} bytes are less than its footer", key)
    counts, checksum, magic = _FOOTER.unpack_from(tail, len(tail) - FOOTER_BYTES)
    if magic != MAGIC:
        raise damaged("pack", "it does not end like one", key)
    count, version, flags = _COUNTS.unpack(counts)
    if version != VERSION or flags:
        raise newer("pack", f"version {version}, flags {flags:#x}", key)
    footer = _Footer(counts, count, checksum)
    if footer.tail_bytes > MOST_PACK_BYTES:
        raise damaged("pack", f"{count} frames are too many for any", key)
    return footer


def _laid_out(records: memoryview, frames_bytes: int, key: str) -> tuple[PackedChunk, ...]:
    directory = tuple(_place(records))
    stop = sum(packed.stored_bytes for packed in directory)
    if stop != frames_bytes:
        raise damaged("pack", f"{frames_bytes} bytes of frames, its directory says {stop}", key)
    for packed in directory:
        if not 1 <= packed.stored_bytes <= packed.length_bytes <= MOST_CHUNK_BYTES:
            raise damaged("pack", f"absurd lengths of chunk {packed.chunk.hex()}", key)
    return directory


def _place(records: memoryview) -> Iterator[PackedChunk]:
    offset = 0
    for chunk, stored_bytes, length_bytes in _RECORD.iter_unpack(records):
        yield PackedChunk(ChunkId(chunk), offset, stored_bytes, length_bytes)
        offset += stored_bytes


def _encode_tail(directory: list[PackedChunk]) -> bytes:
    records = b"".join(_RECORD.pack(p.chunk, p.stored_bytes, p.length_bytes) for p in directory)
    counts = _COUNTS.pack(len(directory), VERSION, 0)
    return records + _FOOTER.pack(counts, _checksum(records, counts), MAGIC)


def _checksum(records: Buffer, counts: bytes) -> bytes:
    checksum = hashlib.sha256(records)
    checksum.update(counts)
    return checksum.digest()
