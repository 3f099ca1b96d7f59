"""Frame an object that is read whole: a checksum around all of it, a frame within.

    magic (8) | version (2) | flags (2, zero) | length of the plain body (4)
    the body, as a frame of a chunk
    SHA-256 of all of the above (32)

Numbers are big-endian. Bytes that do not have their checksum are never interpreted, so what a
reader does not understand behind it was written by a newer version.
"""

import hashlib
import struct
from dataclasses import dataclass

from blobfs.formats.chunk import Buffer, encode_frame, expand
from blobfs.formats.refusal import damaged, newer

_HEADER = struct.Struct(">8sHHI")
_CHECKSUM_BYTES = 32
_LEVEL = 3


class TooLong(ValueError):
    """What is to be written exceeds what readers take."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The frame of one kind of object."""

    what: str
    """What messages call it."""
    magic: bytes
    version: int
    most_bytes: int
    """Of the object as it is stored."""
    most_plain_bytes: int

    def seal(self, plain: bytes) -> bytes:
        """Return the object whose body is `plain`. Raises TooLong."""
        if len(plain) > self.most_plain_bytes:
            raise TooLong(f"{self.what} is too long. plain={len(plain)}")
        head = _HEADER.pack(self.magic, self.version, 0, len(plain))
        content = b"".join((head, encode_frame(plain, level=_LEVEL)))
        data = content + hashlib.sha256(content).digest()
        if len(data) > self.most_bytes:
            raise TooLong(f"{self.what} is too long. stored={len(data)}")
        return data

    def open(self, data: Buffer, key: str) -> Buffer:
        """Return the plain body of the object under `key`. Raises Damaged, Unsupported."""
        if not _HEADER.size + _CHECKSUM_BYTES <= len(data) <= self.most_bytes:
            raise damaged(self.what, f"it has {len(data)} bytes", key)
        view = memoryview(data)
        content, checksum = view[:-_CHECKSUM_BYTES], view[-_CHECKSUM_BYTES:]
        magic, version, flags, plain_bytes = _HEADER.unpack_from(content)
        if magic != self.magic:
            raise damaged(self.what, "it does not begin like one", key)
        if hashlib.sha256(content).digest() != checksum:
            raise damaged(self.what, "its bytes do not have its checksum", key)
        if version != self.version or flags:
            raise newer(self.what, f"version {version}, flags {flags:#x}", key)
        if plain_bytes > self.most_plain_bytes:
            raise damaged(self.what, f"a declared length of {plain_bytes} bytes is absurd", key)
        return expand(content[_HEADER.size :], plain_bytes, what=self.what, key=key)
