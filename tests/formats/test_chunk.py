"""Chunks come back as they were, or not at all."""

import random
import struct
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard

from blobfs.errors import Damaged
from blobfs.formats.chunk import chunk_id, decode_frame, encode_frame
from blobfs.formats.rows import MOST_CHUNK_BYTES
from blobfs.types import KIB, MIB

TEXT = b"the same words again and again, " * 4096
NOISE = random.Random(1).randbytes(256 * KIB)


def decode(frame: bytes, plain: bytes) -> bytes:
    return bytes(decode_frame(frame, chunk=chunk_id(plain), length_bytes=len(plain)))


class TestEncoding:
    def test_text_is_compressed(self) -> None:
        """Users would pay for bytes that say nothing."""
        assert len(encode_frame(TEXT)) < len(TEXT) / 10

    def test_noise_is_stored_as_it_is_without_a_copy(self) -> None:
        """Users would wait for films to be compressed in vain."""
        assert encode_frame(NOISE) is NOISE

    def test_a_little_gain_is_no_gain(self) -> None:
        """Readers would decompress what saves them nothing."""
        mostly_noise = NOISE[: 50 * KIB] + bytes(1 * KIB)
        assert encode_frame(mostly_noise) is mostly_noise

    def test_a_file_that_is_noise_only_in_places_is_compressed(self) -> None:
        """Users would pay in full for an archive with one film in it."""
        half = NOISE[: 128 * KIB] + bytes(128 * KIB)
        assert len(encode_frame(half)) < 0.6 * len(half)

    def test_noise_wherever_one_looks_is_not_tried(self) -> None:
        """Users would wait for films to be compressed in vain: a few pieces tell."""
        pieces = (NOISE[at : at + 4 * KIB] + bytes(60 * KIB) for at in range(0, 16 * KIB, 4 * KIB))
        data = b"".join(pieces)
        assert encode_frame(data) is data

    def test_threads_do_not_disturb_each_other(self) -> None:
        """Users would store garbage under a right name, and notice when they read it."""
        plains = [TEXT[n:] for n in range(40)]
        with ThreadPoolExecutor(4) as pool:
            frames = list(pool.map(encode_frame, plains))
            assert list(pool.map(decode, frames, plains)) == plains


class TestDecoding:
    def test_a_raw_frame_is_returned_itself(self) -> None:
        """Readers would wait for a copy of all they read."""
        frame = memoryview(NOISE)
        assert decode_frame(frame, chunk=chunk_id(NOISE), length_bytes=len(NOISE)) is frame

    def test_views_are_taken(self) -> None:
        """Readers would wait for a copy of all they read."""
        frame = memoryview(b"__" + encode_frame(TEXT))[2:]
        assert decode_frame(frame, chunk=chunk_id(TEXT), length_bytes=len(TEXT)) == TEXT

    def test_other_bytes_are_refused(self) -> None:
        """Users would read wrong bytes (P6)."""
        with pytest.raises(Damaged, match="SHA-256"):
            decode_frame(NOISE, chunk=chunk_id(TEXT), length_bytes=len(NOISE))

    def test_the_refusal_names_the_chunk(self) -> None:
        """Users could not tell which file is affected."""
        with pytest.raises(Damaged, match=chunk_id(TEXT).hex()):
            decode(b"too short", TEXT)

    def test_bytes_behind_a_frame_are_refused(self) -> None:
        """Users would keep objects that say more than is verified."""
        with pytest.raises(Damaged):
            decode(bytes(encode_frame(TEXT)) + b"x", TEXT)

    def test_a_frame_without_its_length_is_refused(self) -> None:
        """A reader could not know how much memory it takes."""
        frame = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
        with pytest.raises(Damaged):
            decode(frame, TEXT)


class TestBombs:
    """Users would lose the mount, and unsaved work, to one object that swells in memory."""

    @pytest.fixture(autouse=True)
    def _bounded(self) -> Iterator[None]:
        tracemalloc.start()
        yield
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2 * MIB

    def test_a_frame_that_declares_more(self) -> None:
        """It says so itself: it is not even begun."""
        bomb = self.compress_zeros(64 * MIB)
        with pytest.raises(Damaged, match="declares 67108864 bytes"):
            decode(bomb, TEXT)

    def test_a_frame_that_lies(self) -> None:
        """It declares what is wanted, and holds more."""
        bomb = bytearray(self.compress_zeros(64 * MIB))
        bomb[6:10] = struct.pack("<I", len(TEXT))
        with pytest.raises(Damaged, match="cannot be decompressed"):
            decode(bytes(bomb), TEXT)

    def test_a_row_that_declares_more_than_any_chunk_has(self) -> None:
        """The row itself is absurd."""
        length = MOST_CHUNK_BYTES + 1
        with pytest.raises(Damaged, match="absurd"):
            decode_frame(b"x", chunk=chunk_id(b""), length_bytes=length)

    @staticmethod
    def compress_zeros(size_bytes: int) -> bytes:
        """Return a frame of many zeros. Its content size is the four bytes at offset 6."""
        compressor = zstandard.ZstdCompressor(level=1).compressobj(size=size_bytes)
        block = bytes(64 * KIB)
        made = b"".join(compressor.compress(block) for _ in range(size_bytes // len(block)))
        return made + compressor.flush()
