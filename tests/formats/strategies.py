"""Draw what a volume may say, and bytes that are nearly what one says."""

from collections.abc import Callable

from hypothesis import strategies as st

from blobfs.formats.commit import (
    AddLinks,
    Counters,
    Detach,
    DropDirent,
    DropFolder,
    DropNative,
    Entry,
    Grant,
    Hide,
    MoveFolder,
    NewInode,
    Operation,
    PutDirent,
    SetAttributes,
    SetContent,
    SetXattr,
    UnlinkNative,
    UsedPack,
)
from blobfs.formats.rows import (
    MOST_CHUNK_BYTES,
    MOST_PACK_BYTES,
    Extent,
    ExtentList,
    Extents,
    FileContent,
    Inline,
    Kind,
    ListPart,
    Native,
)
from blobfs.formats.wire import covered_bytes
from blobfs.types import FIRST_NATIVE_INODE, ChunkId, ClientId, InodeNo, PackName, Seq

inodes = st.integers(1, (1 << 63) - 1).map(InodeNo)
parents = st.integers(0, (1 << 63) - 1).map(InodeNo)
seqs = st.integers(0, (1 << 63) - 1).map(Seq)
signed = st.integers(-(1 << 63), (1 << 63) - 1)
modes = st.integers(0, 0o7777)
owners = st.integers(0, (1 << 32) - 1)
kinds = st.sampled_from(Kind)
hashes = st.binary(min_size=32, max_size=32)
names = st.binary(min_size=1, max_size=255).filter(
    lambda name: name not in (b".", b"..") and not {0, ord("/")} & set(name)
)
xattr_names = st.binary(min_size=1, max_size=255).filter(lambda name: 0 not in name)
texts = st.text(max_size=40)
pack_names = st.binary(min_size=40, max_size=40).map(PackName)
used_packs = st.builds(UsedPack, pack_names, st.integers(0, MOST_PACK_BYTES))
pack_lists = st.lists(used_packs, max_size=4, unique_by=lambda pack: pack.name)

holes = st.integers(1, 1 << 40).map(Extent)


@st.composite
def chunks_in(draw: st.DrawFn, packs: list[PackName]) -> Extent:
    """An extent that is a chunk in one of the packs."""
    length = draw(st.integers(1, MOST_CHUNK_BYTES))
    stored = draw(st.integers(1, length))
    offset = draw(st.integers(0, MOST_PACK_BYTES - stored))
    chunk = ChunkId(draw(hashes))
    return Extent(length, chunk, draw(st.sampled_from(packs)), offset, stored)


def extents_in(packs: list[PackName]) -> st.SearchStrategy[tuple[Extent, ...]]:
    """Extents of a file, with chunks only if there is a pack for them."""
    each = holes | chunks_in(packs) if packs else holes
    return st.lists(each, max_size=5).map(tuple)


object_keys = st.binary(min_size=1, max_size=80)
native_contents = st.builds(Native, object_keys, st.integers(0, 1 << 40), texts)


def contents_in(packs: list[PackName]) -> st.SearchStrategy[FileContent]:
    """Content of each kind that the packs allow."""
    inline = st.binary(max_size=64).map(Inline) | native_contents
    extents = extents_in(packs).map(Extents)
    if not packs:
        return inline | extents
    parts = st.builds(ListPart, st.integers(1, 1 << 40), chunks_in(packs))
    return inline | extents | st.lists(parts, max_size=3).map(tuple).map(ExtentList)


@st.composite
def new_contents(draw: st.DrawFn, packs: list[PackName]) -> SetContent:
    """An operation whose size is that of its content."""
    content = draw(contents_in(packs))
    return SetContent(draw(inodes), covered_bytes(content), content, draw(seqs))


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    """A range of numbers that is not empty."""
    first = draw(st.integers(1, FIRST_NATIVE_INODE - 1))
    return Grant(InodeNo(first), InodeNo(draw(st.integers(first + 1, FIRST_NATIVE_INODE))))


def operations_in(packs: list[PackName]) -> st.SearchStrategy[Operation]:
    """Any operation, with chunks in the packs."""
    maybe = st.none()
    return st.one_of(
        grants(),
        st.builds(
            NewInode,
            inodes,
            kinds,
            modes,
            owners,
            owners,
            signed,
            signed,
            seqs,
            maybe | texts,
            parents,
        ),
        new_contents(packs),
        st.builds(
            SetAttributes,
            inodes,
            maybe | modes,
            maybe | owners,
            maybe | owners,
            maybe | signed,
            maybe | signed,
        ),
        st.builds(SetXattr, inodes, xattr_names, maybe | st.binary(max_size=64)),
        st.builds(AddLinks, inodes, signed),
        st.builds(PutDirent, inodes, names, inodes, kinds, parents, texts),
        st.builds(DropDirent, inodes, names, inodes),
        st.builds(DropFolder, inodes),
        st.builds(MoveFolder, inodes, inodes),
        st.builds(Hide, object_keys, texts),
        st.builds(UnlinkNative, object_keys, texts),
        st.builds(Detach, inodes, texts),
        st.builds(DropNative, object_keys, texts),
    )


@st.composite
def operation_lists(draw: st.DrawFn) -> tuple[tuple[Operation, ...], list[PackName]]:
    """Operations, and the table of packs that they refer to."""
    packs = [pack.name for pack in draw(pack_lists)]
    return tuple(draw(st.lists(operations_in(packs), max_size=6))), packs


counters = st.builds(
    Counters,
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 60),
    st.binary(min_size=16, max_size=16),
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """An entry with its operations inside, or with lists elsewhere."""
    packs = draw(pack_lists)
    in_packs = [pack.name for pack in packs]
    is_long = bool(packs) and draw(st.booleans())
    parts = st.lists(chunks_in(in_packs), max_size=3).map(tuple) if is_long else st.just(())
    operations = st.lists(operations_in(in_packs), max_size=6).map(tuple)
    return Entry(
        seq=Seq(draw(st.integers(1, (1 << 63) - 1))),
        previous=draw(hashes),
        client=ClientId(draw(st.binary(min_size=16, max_size=16))),
        counter=draw(st.integers(1, (1 << 63) - 1)),
        time_ns=draw(signed),
        operations=() if is_long else draw(operations),
        packs=tuple(packs),
        counters=draw(st.none() | counters),
        operation_parts=draw(parts),
        pack_parts=draw(parts),
    )


# -- bytes that are nearly right -----------------------------------------------------

Damage = Callable[[bytes], bytes]


def _flipped(data: bytes, place: int, bits: int) -> bytes:
    if not data:
        return data
    place %= len(data)
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


def _spliced(data: bytes, start: int, length: int, put: bytes) -> bytes:
    start %= len(data) + 1
    return data[:start] + put + data[start + length :]


places = st.integers(0, 1 << 16)
flips = st.builds(
    lambda place, bits: lambda data: _flipped(data, place, bits), places, st.integers(1, 255)
)
cuts = st.builds(lambda place: lambda data: data[: place % (len(data) + 1)], places)
splices = st.builds(
    lambda start, length, put: lambda data: _spliced(data, start, length, put),
    places,
    st.integers(0, 16),
    st.binary(max_size=16)
    | st.sampled_from([b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"]),
)


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """One to three faults that a disk, a network or somebody may bring about."""
    faults = draw(st.lists(flips | cuts | splices, min_size=1, max_size=3))

    def damage(data: bytes) -> bytes:
        for fault in faults:
            data = fault(data)
        return data

    return damage


msgpack_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.integers(0, 12)
    | st.floats()
    | st.binary(max_size=41)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)
"""Whatever MessagePack or JSON can say."""
