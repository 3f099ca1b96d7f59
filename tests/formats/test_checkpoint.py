"""Checkpoints are taken when they are right, and refused in one of two ways when they are not."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from blobfs.errors import Damaged, Unsupported
from blobfs.formats import checkpoint as manifest
from blobfs.formats.checkpoint import (
    MAGIC,
    TableRoot,
    decode_checkpoint,
    encode_checkpoint,
)
from blobfs.formats.checkpoint_blocks import (
    MOST_REFS,
    BlockRef,
    decode_refs,
    decode_rows,
    encode_refs,
    encode_rows,
)
from blobfs.formats.envelope import TooLong
from blobfs.formats.keys import checkpoint_name
from blobfs.formats.rows import DirentRow, Kind
from blobfs.formats.tables import Row, Table
from blobfs.types import InodeNo, Seq
from tests.formats import examples, golden, independent
from tests.formats.checkpoint_examples import (
    checkpoint,
    dirent_rows,
    inode_refs,
    inode_rows,
    leaf_pack,
    number,
    ref_of,
    refs_pack,
)

OBJECTS = golden.read_golden()
CONTENT = examples.content_pack()
LISTS = examples.list_pack(CONTENT)
LEAVES = leaf_pack(CONTENT, LISTS)
INODES, DIRENTS = inode_rows(CONTENT, LISTS), dirent_rows()
LOW = inode_refs(LEAVES, INODES)
(INDEX_PLACE,) = examples.extents_of(refs_pack(CONTENT, LISTS, LEAVES))
INDEX = ref_of(INDEX_PLACE, INODES, level=1)
GOOD = checkpoint(b"entry", CONTENT, LISTS, examples.block_pack(CONTENT, LISTS))
NAME, DATA = encode_checkpoint(GOOD)

BODY = independent.unpack(independent.open_entry(DATA, MAGIC))


def sealed(body: Any) -> tuple[str, bytes]:
    """Return name and bytes of a manifest whose checksums fit, whatever its body says."""
    data = manifest._ENVELOPE.seal(msgspec.msgpack.encode(body))
    return checkpoint_name(GOOD.seq, hashlib.sha256(data).digest()), data


def with_field(at: int, value: Any) -> list[Any]:
    """Return the body of a good manifest but for one field."""
    return [*BODY[:at], value, *BODY[at + 1 :]]


class TestManifest:
    """What `head` names is the tree that its author had, or is refused."""

    def test_it_is_read_as_it_was_written(self) -> None:
        """Users would see another tree than the one that was saved."""
        assert decode_checkpoint(DATA, name=NAME) == GOOD
        assert GOOD.root(Table.INODES).refs == (INDEX,)
        assert GOOD.packs() == {LEAVES.name, INDEX.chunk.pack}

    def test_a_table_without_rows_has_no_root(self) -> None:
        """A volume without names, say, would not be readable."""
        empty = replace(GOOD, tables=())
        name, data = encode_checkpoint(empty)
        assert decode_checkpoint(data, name=name).root(Table.PACKS) == TableRoot(Table.PACKS)

    def test_the_name_vouches_for_all_bytes(self) -> None:
        """Users would see the tree of whatever lies under the key."""
        other, _ = encode_checkpoint(replace(GOOD, time_ns=1))
        with pytest.raises(Damaged, match="name says"):
            decode_checkpoint(DATA, name=other)
        with pytest.raises(Damaged, match="name says"):
            decode_checkpoint(DATA, name="no name")

    def test_it_was_made_where_its_name_says(self) -> None:
        """The log would be replayed from the wrong entry on."""
        _, data = sealed(with_field(1, 4))
        name = checkpoint_name(GOOD.seq, hashlib.sha256(data).digest())
        with pytest.raises(Damaged, match="made at 4"):
            decode_checkpoint(data, name=name)

    @pytest.mark.parametrize(
        ("at", "value", "why"),
        [
            (0, ["wings"], "wings"),
            (8, [[9, [], [[b"k", b"v"]]]], "table 9"),
        ],
    )
    def test_what_is_unknown_is_newer(self, at: int, value: Any, why: str) -> None:
        """Users would be told that their volume is damaged, when only their program is old."""
        name, data = sealed(with_field(at, value))
        with pytest.raises(Unsupported, match=why):
            decode_checkpoint(data, name=name)

    @pytest.mark.parametrize(
        ("at", "value"),
        [
            (2, b"short"),
            (6, NAME),
            (6, "yesterday"),
            (7, [BODY[7][0]] * 2),
            (7, []),
            (8, [[1, [], []]]),
            (8, [[*BODY[8][0][:2], BODY[8][2][2]]]),
            (8, BODY[8][::-1]),
            (8, [[2, [], [[number(1) + b"a/b", DIRENTS[0][1]]]]]),
        ],
    )
    def test_what_no_writer_writes_is_damaged(self, at: int, value: Any) -> None:
        """Users would see a tree that nobody saved."""
        name, data = sealed(with_field(at, value))
        with pytest.raises(Damaged):
            decode_checkpoint(data, name=name)

    def test_what_no_reader_takes_is_never_written(self) -> None:
        """Everybody would have to fall back to an older checkpoint, over and over."""
        backwards = replace(GOOD, tables=GOOD.tables[::-1])
        with pytest.raises((ValueError, Damaged)):
            encode_checkpoint(backwards)
        rows = tuple((number(n), bytes(range(256)) * 8) for n in range(1, 600))
        with pytest.raises(TooLong):
            encode_checkpoint(replace(GOOD, tables=(TableRoot(Table.PACKS, rows=rows),)))


def rows_ref(rows: tuple[Row, ...]) -> BlockRef:
    """Return a ref to a block of these rows."""
    return ref_of(LOW[0].chunk, rows)


class TestBlocks:
    """What a block holds is what whoever names it says."""

    def test_rows_are_read_as_they_were_written(self) -> None:
        """Users would see other files."""
        data = encode_rows(DIRENTS)
        leaf = decode_rows(data, table=Table.DIRENTS, ref=rows_ref(DIRENTS), key="k")
        assert tuple(leaf.rows) == DIRENTS
        assert leaf.values[0] == DirentRow(InodeNo(3), Kind.FILE, Seq(2), "0x8DC0FFEE")

    def test_refs_are_read_as_they_were_written(self) -> None:
        """Users would miss files."""
        assert decode_refs(encode_refs(LOW), ref=INDEX, key="k") == LOW

    @pytest.mark.parametrize(
        "changes", [{"first": number(1)}, {"last": number(9) + b"z"}, {"rows": 6}]
    )
    def test_rows_are_those_that_the_ref_says(self, changes: dict[str, Any]) -> None:
        """Users would be told that a file does not exist, though it does."""
        ref = replace(rows_ref(DIRENTS), **changes)
        with pytest.raises(Damaged, match="it covers"):
            decode_rows(encode_rows(DIRENTS), table=Table.DIRENTS, ref=ref, key="k")

    @pytest.mark.parametrize(
        "changes", [{"first": number(2)}, {"last": number(9)}, {"rows": 6}, {"level": 0}]
    )
    def test_refs_are_those_that_the_ref_says(self, changes: dict[str, Any]) -> None:
        """Users would be told that files do not exist, though they do."""
        with pytest.raises(Damaged):
            decode_refs(encode_refs(LOW), ref=replace(INDEX, **changes), key="k")

    @pytest.mark.parametrize(
        ("decode", "ref"),
        [
            (lambda data, ref: decode_rows(data, table=Table.INODES, ref=ref, key="k"), LOW[0]),
            (lambda data, ref: decode_refs(data, ref=ref, key="k"), INDEX),
        ],
    )
    def test_a_newer_block_is_told_from_a_damaged_one(
        self, decode: Callable[[bytes, BlockRef], Any], ref: BlockRef
    ) -> None:
        """Users would be told that their volume is damaged, when only their program is old."""
        with pytest.raises(Unsupported):
            decode(msgspec.msgpack.encode([2, "anything"]), ref)
        for data in (b"", b"\xc1", msgspec.msgpack.encode([1, []]), msgspec.msgpack.encode(1)):
            with pytest.raises(Damaged):
                decode(data, ref)

    @pytest.mark.parametrize(
        ("table", "key", "row"),
        [
            (Table.INODES, number(0), INODES[0][1]),
            (Table.INODES, b"short", INODES[0][1]),
            (Table.INODES, number(1), DIRENTS[0][1]),
            (Table.INODES, number(1), INODES[1][1].replace(b"\x06\x92\x01", b"\x05\x92\x01")),
            (Table.DIRENTS, number(1) + b"..", DIRENTS[0][1]),
            (Table.DIRENTS, number(1), DIRENTS[0][1]),
            (Table.DIRENTS, number(1) + b"a", b""),
            (Table.PACKS, bytes(39), number(1)),
            (Table.PACKS, bytes(40), b"\xff" * 8),
            (Table.CLIENTS, bytes(15), GOOD.root(Table.CLIENTS).rows[0][1]),
            (Table.RANGES, number(7), GOOD.root(Table.RANGES).rows[0][1]),
        ],
    )
    def test_malformed_rows_are_damaged(self, table: Table, key: bytes, row: bytes) -> None:
        """A mount would fail in the midst of an answer, over and over."""
        rows = ((key, row),)
        with pytest.raises(Damaged):
            decode_rows(msgspec.msgpack.encode([1, rows]), table=table, ref=rows_ref(rows), key="k")

    @pytest.mark.parametrize("rows", [(), DIRENTS[::-1], DIRENTS[:1] * 2])
    def test_rows_that_are_not_in_order_are_never_written(self, rows: tuple[Row, ...]) -> None:
        """Nobody could read the checkpoint."""
        with pytest.raises(ValueError, match=r"rows|order"):
            encode_rows(rows)

    @pytest.mark.parametrize(
        "refs", [(), LOW[::-1], LOW[:1] * 2, tuple(rows_ref(DIRENTS) for _ in range(MOST_REFS + 1))]
    )
    def test_refs_that_are_not_in_order_are_never_written(self, refs: tuple[BlockRef, ...]) -> None:
        """Nobody could read the checkpoint."""
        with pytest.raises(ValueError, match=r"refs|order"):
            encode_refs(refs)
