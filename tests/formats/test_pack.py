"""A pack holds what was put into it, and its end alone says where."""

import hashlib
import struct

import pytest

from blobfs.errors import Damaged, Unsupported
from blobfs.formats.chunk import chunk_id
from blobfs.formats.pack import (
    FOOTER_BYTES,
    Pack,
    PackBuilder,
    decode_directory,
    tail_bytes,
    verify_name,
)
from blobfs.formats.rows import MOST_PACK_BYTES
from blobfs.types import MIB, ChunkId

NONCE = b"nonce678"
CHUNKS = [b"first", b"second chunk", b"third" * 100]


def pack_of(chunks: list[bytes], nonce: bytes = NONCE) -> Pack:
    builder = PackBuilder()
    for plain in chunks:
        builder.add(chunk_id(plain), plain, len(plain))
    return builder.seal(nonce)


def forged(records: list[tuple[bytes, int, int]], frames: bytes, count: int | None = None) -> bytes:
    """Return a pack whose checksum fits, whatever its directory says."""
    directory = b"".join(struct.pack(">32sII", *record) for record in records)
    counts = struct.pack(">IHH", len(records) if count is None else count, 1, 0)
    checksum = hashlib.sha256(directory + counts).digest()
    return frames + directory + counts + checksum + b"BLOBPACK"


def decode(body: bytes) -> object:
    return decode_directory(body, pack_bytes=len(body), key="packs/00/0011")


class TestBuilding:
    def test_frames_lie_where_it_says(self) -> None:
        """Users would read other files' bytes."""
        pack = pack_of(CHUNKS)
        stored = [pack.body[p.offset : p.offset + p.stored_bytes] for p in pack.directory]
        assert stored == CHUNKS

    def test_the_size_is_known_before(self) -> None:
        """Users would see a PUT refused for its size."""
        builder = PackBuilder()
        for plain in CHUNKS:
            builder.add(chunk_id(plain), plain, len(plain))
        assert builder.size_bytes == len(builder.seal(NONCE).body)

    def test_a_full_pack_takes_no_more(self) -> None:
        """Users would see a PUT refused for its size."""
        builder = PackBuilder()
        frame = bytes(15 * MIB)
        while builder.has_room(len(frame)):
            builder.add(ChunkId(bytes(32)), frame, len(frame))
        assert MOST_PACK_BYTES - 16 * MIB < builder.size_bytes <= MOST_PACK_BYTES
        with pytest.raises(ValueError, match="full"):
            builder.add(ChunkId(bytes(32)), frame, len(frame))

    def test_what_is_no_frame_is_not_taken(self) -> None:
        """Users would have a pack that no reader takes."""
        with pytest.raises(ValueError, match="not a frame"):
            PackBuilder().add(ChunkId(bytes(32)), b"longer than plain", 3)

    def test_the_same_bytes_get_another_name(self) -> None:
        """A pack that is being removed would take one with it that was just sent."""
        assert pack_of(CHUNKS).name != pack_of(CHUNKS, b"another!").name
        assert pack_of(CHUNKS).body == pack_of(CHUNKS, b"another!").body


class TestReading:
    def test_the_end_is_enough(self) -> None:
        """A search for chunks would have to fetch all that was ever saved."""
        pack = pack_of(CHUNKS)
        needed = tail_bytes(pack.body[-FOOTER_BYTES:], key="k")
        tail = pack.body[-needed:]
        size = len(pack.body)
        assert decode_directory(tail, pack_bytes=size, key="k") == pack.directory
        with pytest.raises(Damaged):
            decode_directory(tail[1:], pack_bytes=size, key="k")

    def test_an_empty_pack_is_one(self) -> None:
        """A corner that would otherwise be found by somebody else."""
        assert decode(pack_of([]).body) == ()

    @pytest.mark.parametrize("place", range(-48 - 120, 0, 3))
    def test_a_changed_end_is_refused(self, place: int) -> None:
        """A search for chunks would find wrong ones."""
        body = bytearray(pack_of(CHUNKS).body)
        body[place] ^= 4
        with pytest.raises((Damaged, Unsupported)):
            decode(bytes(body))

    @pytest.mark.parametrize("kept", [0, 1, FOOTER_BYTES - 1, FOOTER_BYTES])
    def test_a_cut_pack_is_refused(self, kept: int) -> None:
        """A search for chunks would go on without some."""
        with pytest.raises(Damaged):
            decode(pack_of(CHUNKS).body[len(pack_of(CHUNKS).body) - kept :])

    def test_an_absurd_count_is_refused(self) -> None:
        """A damaged footer would have us fetch 160 GB."""
        with pytest.raises(Damaged, match="too many for any"):
            tail_bytes(forged([], b"", count=0xFFFFFFFF), key="k")
        with pytest.raises(Damaged, match="too many for 48 bytes"):
            decode(forged([], b"", count=1))

    @pytest.mark.parametrize(("stored", "plain"), [(0, 5), (6, 5), (5, 1 << 31)])
    def test_absurd_lengths_are_refused(self, stored: int, plain: int) -> None:
        """Whoever trusts the directory would take any amount of memory."""
        with pytest.raises(Damaged, match="absurd"):
            decode(forged([(bytes(32), stored, plain)], bytes(stored)))

    def test_a_gap_is_refused(self) -> None:
        """Places would be off for all chunks behind it."""
        with pytest.raises(Damaged, match="6 bytes of frames"):
            decode(forged([(bytes(32), 5, 5)], bytes(6)))

    @pytest.mark.parametrize("place", [-44, -41])
    def test_a_newer_pack_is_called_newer(self, place: int) -> None:
        """Users would be sent to repair what only wants an upgrade."""
        body = bytearray(pack_of(CHUNKS).body)
        body[place] = 2
        with pytest.raises(Unsupported, match="newer"):
            decode(bytes(body))

    def test_the_refusal_names_the_pack(self) -> None:
        """Users could not tell what is damaged."""
        with pytest.raises(Damaged, match="packs/00/0011"):
            decode(b"")


def test_a_name_stands_for_its_bytes() -> None:
    """Users would be told by `check` that all is well when it is not."""
    pack = pack_of(CHUNKS)
    verify_name(pack.name, pack.body, key="k")
    with pytest.raises(Damaged):
        verify_name(pack.name, pack.body[:-1], key="k")
