"""No bytes whatever bring a decoder down: it answers, or refuses in one of two ways.

`make soak` runs these for hours, with chance that no run before had.
"""

import hashlib
import os
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blobfs.errors import Damaged, Unsupported
from blobfs.formats import checkpoint, keys
from blobfs.formats.blocks import (
    decode_operation_block,
    decode_pack_block,
    encode_operation_blocks,
    encode_pack_blocks,
)
from blobfs.formats.checkpoint_blocks import decode_refs, decode_rows
from blobfs.formats.chunk import chunk_id, decode_frame, encode_frame
from blobfs.formats.client import decode_client
from blobfs.formats.commit import Entry, Operation, UsedPack
from blobfs.formats.entry import MAGIC, VERSION, decode_entry, encode_entry
from blobfs.formats.extent_list import decode_extent_list, encode_extent_list
from blobfs.formats.head import Head, VolumeSettings, decode_head, encode_head
from blobfs.formats.pack import decode_directory, tail_bytes
from blobfs.formats.rows import Extent
from blobfs.formats.tables import Table
from blobfs.formats.volume import decode_volume
from blobfs.types import ChunkId, PackName, Seq
from tests.formats import examples, golden, independent
from tests.formats.checkpoint_examples import checkpoint as checkpoint_of
from tests.formats.checkpoint_examples import (
    dirent_rows,
    inode_refs,
    inode_rows,
    leaf_pack,
    ref_of,
    refs_pack,
)
from tests.formats.examples import extents_of
from tests.formats.strategies import (
    Damage,
    damages,
    entries,
    extents_in,
    msgpack_values,
    operation_lists,
    pack_names,
    used_packs,
)

pytestmark = pytest.mark.slow

SOAK = int(os.environ.get("BLOBFS_SOAK_EXAMPLES", "0"))
fuzzed = settings(max_examples=SOAK or 60, deadline=None, derandomize=not SOAK)

OBJECTS = golden.read_golden()
SLOT_KEYS = [keys.log_key(Seq(n)) for n in (1, 2, 3)]
BODIES = [independent.open_entry(OBJECTS[key]) for key in SLOT_KEYS]
GOOD_BODY = independent.unpack(BODIES[1])
CLIENT_KEY = keys.client_key(examples.CLIENT)
PACK = examples.content_pack()
LISTS = examples.list_pack(PACK)
BLOCKS = [plain for _, plain in independent.open_pack(examples.block_pack(PACK, LISTS).body)]
LEAVES = leaf_pack(PACK, LISTS)
INODES = inode_rows(PACK, LISTS)
REFS = refs_pack(PACK, LISTS, LEAVES)
ROW_BLOCKS = [plain for _, plain in independent.open_pack(LEAVES.body)]
REF_BLOCKS = [plain for _, plain in independent.open_pack(REFS.body)]
INDEX = ref_of(extents_of(REFS)[0], INODES, level=1)
CHECKPOINT = checkpoint_of(b"entry", PACK, LISTS, examples.block_pack(PACK, LISTS))
CHECKPOINT_NAME, CHECKPOINT_DATA = checkpoint.encode_checkpoint(CHECKPOINT)
GOOD_MANIFEST = independent.unpack(independent.open_entry(CHECKPOINT_DATA, checkpoint.MAGIC))
PACK_NAMES = [PackName(bytes([n]) * 40) for n in range(3)]
HUGE = 1 << 62
SET_HEAD = encode_head(Head(settings=VolumeSettings(quota_bytes=1 << 40, trash_s=0)))

Decode = Callable[[bytes], Any]


def envelope(body: bytes, plain_bytes: int | None = None) -> bytes:
    """Return an entry whose checksum fits, whatever its body is."""
    plain_bytes = len(body) if plain_bytes is None else plain_bytes
    content = struct.pack(">8sHHI", MAGIC, VERSION, 0, plain_bytes) + body
    return content + hashlib.sha256(content).digest()


def any_manifest(body: bytes) -> Any:
    """Decode a manifest whose checksums fit, whatever its body is."""
    data = checkpoint._ENVELOPE.seal(body)
    name = keys.checkpoint_name(CHECKPOINT.seq, hashlib.sha256(data).digest())
    return checkpoint.decode_checkpoint(data, name=name)


def any_rows(data: bytes) -> Any:
    """Decode a block of rows of each table, as what it says that it covers."""
    low = [(Table.INODES, ref) for ref in inode_refs(LEAVES, INODES)]
    for table, ref in (*low, (Table.DIRENTS, ref_of(extents_of(LEAVES)[2], dirent_rows()))):
        try:
            return decode_rows(data, table=table, ref=ref, key="r")
        except Damaged:
            continue
    raise Damaged("a block of none of them")


DECODERS: dict[str, tuple[Decode, list[bytes]]] = {
    "volume": (lambda data: decode_volume(data, key="v"), [OBJECTS[keys.volume_key()]]),
    "head": (lambda data: decode_head(data, key="h"), [OBJECTS[keys.head_key()], SET_HEAD]),
    "client": (lambda data: decode_client(data, key=CLIENT_KEY), [OBJECTS[CLIENT_KEY]]),
    "entry": (
        lambda data: decode_entry(data, key=SLOT_KEYS[1]),
        [OBJECTS[key] for key in SLOT_KEYS],
    ),
    "entry body": (lambda data: decode_entry(envelope(data), key=SLOT_KEYS[1]), BODIES),
    "operations": (
        lambda data: decode_operation_block(data, packs=PACK_NAMES, key="o"),
        BLOCKS[:1],
    ),
    "packs": (lambda data: decode_pack_block(data, key="p"), BLOCKS[1:]),
    "extent list": (
        lambda data: decode_extent_list(data, covered_bytes=16, key="x"),
        examples.list_parts(PACK),
    ),
    "manifest": (
        lambda data: checkpoint.decode_checkpoint(data, name=CHECKPOINT_NAME),
        [CHECKPOINT_DATA],
    ),
    "manifest body": (any_manifest, [independent.open_entry(CHECKPOINT_DATA, checkpoint.MAGIC)]),
    "rows": (any_rows, ROW_BLOCKS),
    "refs": (lambda data: decode_refs(data, ref=INDEX, key="r"), REF_BLOCKS),
    "directory": (
        lambda data: decode_directory(data, pack_bytes=len(data), key="d"),
        [PACK.body, LISTS.body],
    ),
    "footer": (lambda data: tail_bytes(data, key="d"), [PACK.body]),
    "frame": (
        lambda data: decode_frame(data, chunk=chunk_id(examples.LONG_CHUNK), length_bytes=4096),
        [examples.LONG_FRAME],
    ),
}

every_decoder = pytest.mark.parametrize("name", DECODERS)


def attempt(name: str, data: bytes) -> Any:
    """Decode; None when it was refused. Whatever else is raised fails the test."""
    try:
        return DECODERS[name][0](data)
    except (Damaged, Unsupported):
        return None


@every_decoder
def test_good_bytes_are_taken(name: str) -> None:
    """The tests below would prove nothing with bytes that are refused anyhow."""
    assert any(attempt(name, good) is not None for good in DECODERS[name][1])


@every_decoder
@fuzzed
@given(data=st.binary(max_size=300))
def test_any_bytes(name: str, data: bytes) -> None:
    """Users would lose a mount to one object that is not ours."""
    attempt(name, data)


@every_decoder
@fuzzed
@given(data=st.data(), damage=damages())
def test_damaged_bytes(name: str, data: st.DataObject, damage: Damage) -> None:
    """Users would lose a mount to one object that was damaged."""
    attempt(name, damage(data.draw(st.sampled_from(DECODERS[name][1]))))


@pytest.mark.parametrize(
    "name", ["entry body", "operations", "packs", "extent list", "manifest body", "rows", "refs"]
)
@fuzzed
@given(value=msgpack_values, items=st.lists(msgpack_values, max_size=11))
def test_any_values(name: str, value: Any, items: list[Any]) -> None:
    """Users would lose a mount to an entry of a version that we do not know yet."""
    bodies = [*GOOD_BODY[:7], items, None], [*GOOD_MANIFEST[:8], items]
    for each in (value, items, [1, items], [1, [], items], [[], 2, *items], *bodies):
        attempt(name, msgspec.msgpack.encode(each))


@pytest.mark.parametrize("name", ["volume", "head", "client"])
@fuzzed
@given(value=msgpack_values, field=st.data())
def test_any_json(name: str, value: Any, field: st.DataObject) -> None:
    """Users would lose a mount to a volume of a version that we do not know yet."""
    attempt(name, msgspec.json.encode(value))
    good = msgspec.json.decode(DECODERS[name][1][0])
    good[field.draw(st.sampled_from([*good, "more"]))] = value
    attempt(name, msgspec.json.encode(good))


class TestRoundTrip:
    """What is written is what is read."""

    @fuzzed
    @given(entry=entries())
    def test_entries(self, entry: Entry) -> None:
        """Users would find another tree than the one they saved."""
        assert decode_entry(encode_entry(entry), key=keys.log_key(entry.seq)) == entry

    @fuzzed
    @given(drawn=operation_lists())
    def test_operation_blocks(self, drawn: tuple[tuple[Operation, ...], list[PackName]]) -> None:
        """Users would find another tree after a large commit."""
        operations, packs = drawn
        (block,) = encode_operation_blocks(operations, packs)
        assert decode_operation_block(block, packs=packs, key="k") == operations

    @fuzzed
    @given(packs=st.lists(used_packs, max_size=5))
    def test_pack_blocks(self, packs: list[UsedPack]) -> None:
        """Users would lose the packs of a large commit to garbage collection."""
        (block,) = encode_pack_blocks(packs)
        assert decode_pack_block(block, key="k") == tuple(packs)

    @fuzzed
    @given(data=st.data(), packs=st.lists(pack_names, max_size=3, unique=True))
    def test_extent_lists(self, data: st.DataObject, packs: list[PackName]) -> None:
        """Users would read other bytes in large files."""
        extents: tuple[Extent, ...] = data.draw(extents_in(packs))
        covered = sum(extent.length_bytes for extent in extents)
        part = encode_extent_list(extents)
        assert decode_extent_list(part, covered_bytes=covered, key="k") == extents

    @fuzzed
    @given(
        data=st.binary(min_size=1, max_size=2000),
        repeat=st.integers(1, 200),
        level=st.integers(1, 4),
    )
    def test_frames(self, data: bytes, repeat: int, level: int) -> None:
        """Users would read other bytes than they wrote."""
        plain = data * repeat
        frame = encode_frame(plain, level=level)
        assert decode_frame(frame, chunk=chunk_id(plain), length_bytes=len(plain)) == plain


@fuzzed
@given(damage=damages())
def test_a_damaged_chunk_is_never_returned(damage: Damage) -> None:
    """Users would read wrong bytes (P6)."""
    plain = attempt("frame", damage(examples.LONG_FRAME))
    assert plain in (None, examples.LONG_CHUNK)


@fuzzed
@given(damage=damages(), slot=st.sampled_from([1, 2, 3]))
def test_a_damaged_entry_is_never_applied(damage: Damage, slot: int) -> None:
    """Users would see a tree that nobody saved."""
    key = keys.log_key(Seq(slot))
    good = OBJECTS[key]
    bad = damage(good)
    if bad != good:
        with pytest.raises((Damaged, Unsupported)):
            decode_entry(bad, key=key)


@fuzzed
@given(damage=damages())
def test_a_damaged_checkpoint_is_never_read(damage: Damage) -> None:
    """Users would see a tree that nobody saved."""
    bad = damage(CHECKPOINT_DATA)
    if bad != CHECKPOINT_DATA:
        with pytest.raises((Damaged, Unsupported)):
            checkpoint.decode_checkpoint(bad, name=CHECKPOINT_NAME)


@fuzzed
@given(frame=st.binary(max_size=64), length=st.integers(-HUGE, HUGE))
def test_any_declared_length_of_a_chunk(frame: bytes, length: int) -> None:
    """Users would lose a mount to a row that was damaged before it was written."""
    with pytest.raises(Damaged):
        decode_frame(frame, chunk=ChunkId(bytes(32)), length_bytes=length)
