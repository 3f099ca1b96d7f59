"""Entries are read whole, in their own slot, and what is newer is told from what is damaged."""

import hashlib
import struct
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from blobfs.errors import Damaged, Unsupported
from blobfs.formats.commit import (
    AddLinks,
    Entry,
    Grant,
    Operation,
    PutDirent,
    SetContent,
    SetXattr,
    UsedPack,
)
from blobfs.formats.entry import (
    MOST_BODY_BYTES,
    MOST_ENTRY_BYTES,
    decode_entry,
    encode_entry,
    entry_hash,
)
from blobfs.formats.envelope import TooLong
from blobfs.formats.keys import log_key
from blobfs.formats.rows import Extent, Extents, Inline, Kind
from blobfs.types import ROOT_INODE, ChunkId, ClientId, InodeNo, PackName, Seq
from tests.formats import independent

KEY = log_key(Seq(7))
PACK = UsedPack(PackName(b"p" * 40), 100)
INODE = InodeNo(5)
CHUNK = Extent(10, ChunkId(b"c" * 32), PACK.name, 0, 10)
ENTRY = Entry(
    seq=Seq(7),
    previous=b"h" * 32,
    client=ClientId(b"c" * 16),
    counter=3,
    time_ns=123,
    operations=(SetContent(INODE, 10, Extents((CHUNK,)), Seq(2)), AddLinks(INODE, 1)),
    packs=(PACK,),
)

NEEDS, SEQ, PACKS, OPERATIONS = 0, 1, 6, 7


def entry_of(*operations: Operation) -> Entry:
    return replace(ENTRY, operations=operations)


def body() -> list[Any]:
    """Return the elements of the entry's plain body."""
    value = independent.unpack(independent.open_entry(encode_entry(ENTRY)))
    assert isinstance(value, list)
    return value


def envelope(plain: bytes, *, version: int = 1, flags: int = 0, length: int | None = None) -> bytes:
    """Return an entry whose checksum fits."""
    length = len(plain) if length is None else length
    content = struct.pack(">8sHHI", b"BLOBLOG\0", version, flags, length) + plain
    return content + hashlib.sha256(content).digest()


def decode_body(elements: list[Any]) -> Entry:
    return decode_entry(envelope(msgspec.msgpack.encode(elements)), key=KEY)


class TestWriting:
    def test_a_long_entry_is_refused(self) -> None:
        """A slot would be filled with what nobody reads."""
        many = entry_of(*(AddLinks(InodeNo(n), 1) for n in range(1, 300_000)))
        with pytest.raises(TooLong):
            encode_entry(many)

    def test_an_entry_that_compresses_badly_is_refused(self) -> None:
        """A slot would be filled with what nobody reads."""
        chunks = tuple(
            Extent(9, ChunkId(hashlib.sha256(b"%d" % n).digest()), PACK.name, 0, 9)
            for n in range(9000)
        )
        with pytest.raises(TooLong):
            encode_entry(entry_of(SetContent(INODE, 9 * 9000, Extents(chunks), Seq(0))))

    @pytest.mark.parametrize(
        "wrong",
        [
            replace(ENTRY, previous=b"short"),
            replace(ENTRY, packs=()),
            replace(ENTRY, packs=(PACK, PACK)),
            replace(ENTRY, operation_parts=(CHUNK,)),
            replace(ENTRY, seq=Seq(0)),
            entry_of(SetContent(INODE, 11, Extents((CHUNK,)), Seq(0))),
            entry_of(SetContent(INODE, 3, Inline(b"four"), Seq(0))),
            entry_of(PutDirent(ROOT_INODE, b"a/b", INODE, Kind.FILE)),
            entry_of(PutDirent(ROOT_INODE, b"..", INODE, Kind.FILE)),
            entry_of(PutDirent(ROOT_INODE, b"n" * 256, INODE, Kind.FILE)),
            entry_of(SetXattr(INODE, b"user.\0", b"")),
            entry_of(Grant(InodeNo(5), InodeNo(5))),
            entry_of(Grant(InodeNo(5), InodeNo(1 << 63))),
        ],
    )
    def test_what_no_reader_takes_is_not_written(self, wrong: Entry) -> None:
        """All clients of a volume would stop at an entry, for good."""
        with pytest.raises(ValueError):  # noqa: PT011 - each for its own reason
            encode_entry(wrong)


class TestReading:
    def test_an_entry_of_another_slot_is_refused(self) -> None:
        """Users would see a commit twice."""
        with pytest.raises(Damaged, match="number 7"):
            decode_entry(encode_entry(ENTRY), key=log_key(Seq(8)))

    def test_every_bit_counts(self) -> None:
        """Users would see a tree that nobody saved."""
        good = encode_entry(ENTRY)
        for place in range(len(good)):
            bad = bytearray(good)
            bad[place] ^= 1
            with pytest.raises(Damaged):
                decode_entry(bytes(bad), key=KEY)

    def test_every_byte_counts(self) -> None:
        """Users would see half a commit."""
        good = encode_entry(ENTRY)
        for kept in range(len(good)):
            with pytest.raises(Damaged):
                decode_entry(good[:kept], key=KEY)

    def test_an_absurd_length_is_refused(self) -> None:
        """Users would lose the mount to one object that swells in memory."""
        with pytest.raises(Damaged, match="absurd"):
            decode_entry(envelope(b"x", length=MOST_BODY_BYTES + 1), key=KEY)
        with pytest.raises(Damaged, match="bytes"):
            decode_entry(bytes(MOST_ENTRY_BYTES + 1), key=KEY)

    def test_values_within_values_are_bounded(self) -> None:
        """Users would lose the mount to one object that exhausts the stack."""
        plain = bytearray(msgspec.msgpack.encode([*body(), None]))
        plain[-1:] = b"\x91" * 100_000 + b"\xc0"
        with pytest.raises(Damaged):
            decode_entry(envelope(bytes(plain)), key=KEY)

    def test_the_refusal_names_the_slot(self) -> None:
        """Users could not tell what is damaged."""
        with pytest.raises(Damaged, match=KEY):
            decode_entry(b"", key=KEY)

    @pytest.mark.parametrize(
        "operation",
        [
            [6, "five", 1],
            [6, 5],
            [6, 0, 1],
            [6, 1 << 63, 1],
            [3, 5, 10, [2, [[10, b"c" * 32, 1, 0, 10]]], 0],
            [3, 5, 10, [2, [[10, b"c" * 31, 0, 0, 10]]], 0],
            [3, 5, 10, [2, [[10, b"c" * 32, 0, 0, 11]]], 0],
            [3, 5, 10, [2, [[10, b"c" * 32, 0, 64 << 20, 10]]], 0],
            [3, 5, 17 << 20, [2, [[17 << 20, b"c" * 32, 0, 0, 10]]], 0],
            [3, 5, 0, [2, [0]], 0],
            [3, 5, 0, [1, bytes(5000)], 0],
            [2, 5, 1, 0o10000, 0, 0, 0, 0, 0, None, 0],
            ["6", 5, 1],
            [],
            5,
        ],
    )
    def test_an_operation_that_cannot_be_is_damage(self, operation: object) -> None:
        """Users would see rows that nothing can be done with."""
        elements = body()
        elements[OPERATIONS] = [operation]
        with pytest.raises(Damaged):
            decode_body(elements)


class TestNewer:
    """Users of an old version would skip what a new one says, and hold another tree."""

    @pytest.mark.parametrize(
        ("operation", "named"),
        [
            ([63, 5], "operation 63"),
            ([48], "operation 48"),
            ([6, 5, 1, "more"], "operation 6 of 4"),
            ([3, 5, 10, [5, "key", "etag"], 0], "content of kind 5"),
            ([3, 5, 10, [1, b"x" * 10, 1], 0], "content of kind 1"),
            ([2, 5, 8, 0, 0, 0, 0, 0, 0, None, 0], "an inode of kind 8"),
            ([7, 1, b"name", 5, 9, 0, ""], "an inode of kind 9"),
        ],
    )
    def test_an_unknown_operation_stops_the_reader(self, operation: object, named: str) -> None:
        elements = body()
        elements[OPERATIONS].append(operation)
        with pytest.raises(Unsupported, match=named) as caught:
            decode_body(elements)
        assert "upgrade" in caught.value.hint

    def test_an_unknown_need_stops_the_reader(self) -> None:
        elements = body()
        elements[NEEDS] = ["telepathy"]
        with pytest.raises(Unsupported, match="telepathy"):
            decode_body(elements)
        elements[SEQ] = "spelled otherwise, too"
        with pytest.raises(Unsupported, match="telepathy"):
            decode_body(elements)

    @pytest.mark.parametrize("more", [{"version": 2}, {"flags": 1}])
    def test_an_unknown_envelope_stops_the_reader(self, more: dict[str, int]) -> None:
        plain = msgspec.msgpack.encode(body())
        with pytest.raises(Unsupported):
            decode_entry(envelope(plain, **more), key=KEY)

    def test_what_is_for_people_is_passed_over(self) -> None:
        elements = [*body(), "said by a later version", {"and": "more"}]
        elements[PACKS] = [[*pack, "later"] for pack in elements[PACKS]]
        assert decode_body(elements) == ENTRY


def test_the_hash_is_that_of_the_exact_bytes() -> None:
    """Users would see a lost reply of their own as somebody else's commit (L2)."""
    data = encode_entry(ENTRY)
    assert entry_hash(data) == hashlib.sha256(data).digest()
