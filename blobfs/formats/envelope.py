"""Frame an object that is read whole: a checksum around all of it, a frame within.

    magic (8) | version (2) | flags (2, zero) | length of the plain body (4)
    the body, as a frame of a chunk
    SHA-256 of all of the above (32)

Numbers are big-endian. Bytes that do not have their checksum are never interpreted, so what a
reader does not understand behind it was written by a newer version.
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blobfs.errors import BlobfsError
from blobfs.formats.chunk import Buffer, encode_frame, expand
from blobfs.formats.refusal import damaged, newer
from blobfs.formats.wire import decode_anything

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

    def refusal(
        self,
        plain: Buffer,
        error: Exception,
        key: str,
        *,
        at: int,
        unknown: Callable[[Any], str | None],
    ) -> BlobfsError:
        """Tell why the body `plain` was not read: a newer version wrote it, or it is damaged.

        The checksum fits, so what is unknown is newer. A body is an array that begins with its
        needs; `unknown` names what it does not know of the element `at`.
        """
        body = decode_anything(plain, self.most_plain_bytes)
        if not isinstance(body, list) or len(body) <= at:
            return damaged(self.what, str(error), key)
        if isinstance(body[0], list) and body[0]:
            return newer(self.what, f"it needs {body[0][:8]}", key)
        found = unknown(body[at])
        return newer(self.what, found, key) if found else damaged(self.what, str(error), key)
