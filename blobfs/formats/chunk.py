"""Turn a chunk's plain bytes into the frame that a pack stores, and back.

A chunk's id is the SHA-256 of its plain bytes. A frame as long as the chunk is the plain bytes
themselves; a shorter one is a single zstd frame that declares the chunk's length. Nothing else
is needed to tell them apart, raw chunks lie in packs as they lie in files, and no copy of one is
made on the way.

Concurrency: everything here may run in threads, and leaves the interpreter to others while it
hashes and compresses.
"""

import hashlib
import threading

import zstandard

from blobfs.formats.refusal import damaged
from blobfs.formats.rows import MOST_CHUNK_BYTES
from blobfs.types import KIB, ChunkId

Buffer = bytes | bytearray | memoryview

DEFAULT_LEVEL = 1

LEAST_SAVED = 0.05
"""A frame that saves less is not worth the time that every reader would spend on it."""

_SAMPLED_FROM_BYTES = 64 * KIB
_SAMPLES = 4
_SAMPLE_BYTES = 4 * KIB
_LEAST_SAVED_IN_SAMPLE = 0.02
MOST_WINDOW_BYTES = MOST_CHUNK_BYTES


class _Contexts(threading.local):
    """zstd's working memory, one set a thread: a context may not be shared while it works."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW_BYTES)

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        if level not in self.compressors:
            self.compressors[level] = zstandard.ZstdCompressor(level=level)
        return self.compressors[level]


_contexts = _Contexts()


def chunk_id(data: Buffer) -> ChunkId:
    """Return the id of the chunk with these plain bytes."""
    return ChunkId(hashlib.sha256(data).digest())


def encode_frame(data: Buffer, *, level: int = DEFAULT_LEVEL) -> Buffer:
    """Return what a pack stores of a chunk: `data` itself, or a shorter frame of it.

    `level` is zstd's. It is raw when the result is as long as `data`.
    """
    if len(data) >= _SAMPLED_FROM_BYTES and not _worth_it(data):
        return data
    return _compress(data, level, LEAST_SAVED)


def decode_frame(frame: Buffer, *, chunk: ChunkId, length_bytes: int) -> Buffer:
    """Return the plain bytes of a chunk, verified (P6); a raw frame is returned itself.

    Takes no more than `length_bytes` of memory, whatever the frame says. Raises Damaged.
    """
    name = f"chunk {chunk.hex()}"
    data = expand(frame, length_bytes, what="chunk", key=name)
    if hashlib.sha256(data).digest() != chunk:
        raise damaged("chunk", "its bytes do not have its SHA-256", name)
    return data


def expand(frame: Buffer, length_bytes: int, *, what: str, key: str) -> Buffer:
    """Return the `length_bytes` plain bytes of a frame, unverified.

    Raises Damaged, calling it `what` under `key`.
    """
    if not 0 <= length_bytes <= MOST_CHUNK_BYTES:
        raise damaged(what, f"a declared length of {length_bytes} bytes is absurd", key)
    if len(frame) == length_bytes:
        return frame
    if len(frame) > length_bytes:
        raise damaged(what, f"{len(frame)} stored bytes for {length_bytes} plain ones", key)
    try:
        return _decompress(frame, length_bytes)
    except zstandard.ZstdError as error:
        raise damaged(what, f"it cannot be decompressed: {error}", key) from error
    except _WrongLength as error:
        raise damaged(what, str(error), key) from error


class _WrongLength(Exception):
    """A frame declares another length than whoever refers to it."""


def _decompress(frame: Buffer, length_bytes: int) -> bytes:
    declared = zstandard.get_frame_parameters(frame).content_size
    if declared != length_bytes:
        raise _WrongLength(f"its frame declares {declared} bytes, wanted {length_bytes}")
    return _contexts.decompressor.decompress(frame, allow_extra_data=False)


def _worth_it(data: Buffer) -> bool:
    """Try a few pieces from all over `data`, because films and archives gain nothing."""
    view = memoryview(data)
    step = len(view) // _SAMPLES
    sample = b"".join(view[at : at + _SAMPLE_BYTES] for at in range(0, step * _SAMPLES, step))
    return len(_compress(sample, DEFAULT_LEVEL, _LEAST_SAVED_IN_SAMPLE)) < len(sample)


def _compress(data: Buffer, level: int, least_saved: float) -> Buffer:
    frame = _contexts.compressor(level).compress(data)
    return frame if len(frame) <= len(data) * (1 - least_saved) else data
