"""Spell the object that makes a container a volume: one JSON object that people can read.

It is written once and never changes. Fields that are not known are passed over; what a reader
has to know is a new `version`, a new value of a known field, or a name in `needs`.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from blobfs.formats.json_object import HexId, Marked, decode_json, encode_json
from blobfs.formats.refusal import newer

VERSION = 1

_WHAT = "volume"
_KNOWN = {
    "layout": ("packs",),
    "chunking": ("fixed",),
    "chunk_id": ("sha256",),
    "compression": ("zstd", "none"),
    "cipher": ("none",),
}


class VolumeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a volume is, from its creation on."""

    id: bytes
    """16 random bytes."""
    created_ns: int
    """Since the epoch."""
    layout: str = "packs"
    """How content lies in the container: as chunks in packs."""
    chunking: str = "fixed"
    """How writers cut files; readers do not depend on it."""
    chunk_id: str = "sha256"
    """How a chunk's plain bytes name it."""
    compression: str = "zstd"
    """What frames may be compressed with; "none" asks writers to store all of them raw."""
    cipher: str = "none"


class _Volume(Marked, frozen=True, kw_only=True):
    id: HexId
    created_ns: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    layout: str
    chunking: str
    chunk_id: str
    compression: str
    cipher: str


def encode_volume(info: VolumeInfo) -> bytes:
    """Return the bytes of `volume`. Raises ValueError for what no reader would take."""
    wire = _Volume(
        format=f"blobfs {_WHAT}",
        version=VERSION,
        id=info.id.hex(),
        created_ns=info.created_ns,
        layout=info.layout,
        chunking=info.chunking,
        chunk_id=info.chunk_id,
        compression=info.compression,
        cipher=info.cipher,
    )
    return encode_json(wire, info, lambda data: decode_volume(data, key=""))


def decode_volume(data: bytes, *, key: str) -> VolumeInfo:
    """Return what `volume` says. Raises Damaged, Unsupported."""
    wire = decode_json(data, _Volume, VERSION, what=_WHAT, key=key)
    for field, known in _KNOWN.items():
        if (value := getattr(wire, field)) not in known:
            raise newer(_WHAT, f"its {field} is {value[:64]!r}", key)
    return VolumeInfo(
        id=bytes.fromhex(wire.id),
        created_ns=wire.created_ns,
        layout=wire.layout,
        chunking=wire.chunking,
        chunk_id=wire.chunk_id,
        compression=wire.compression,
        cipher=wire.cipher,
    )
