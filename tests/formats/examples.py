"""Name what the golden volume says: values whose bytes lie in `golden/`, and in docs/format.md."""

import functools
import operator
from collections.abc import Iterable

import xxhash

from blobfs.formats.blocks import encode_operation_blocks, encode_pack_blocks
from blobfs.formats.chunk import Buffer, chunk_id
from blobfs.formats.client import ClientRecord
from blobfs.formats.commit import (
    AddLinks,
    Counters,
    Detach,
    DropDirent,
    DropFolder,
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
from blobfs.formats.entry import entry_hash
from blobfs.formats.extent_list import encode_extent_list
from blobfs.formats.head import Head
from blobfs.formats.pack import Pack, PackBuilder
from blobfs.formats.rows import Extent, ExtentList, Extents, Inline, Kind, ListPart, Native
from blobfs.formats.version import spell_version
from blobfs.formats.volume import VolumeInfo
from blobfs.types import (
    FIRST_NATIVE_INODE,
    ROOT_INODE,
    ClientId,
    InodeNo,
    PackName,
    Seq,
)

CREATED_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000
CLIENT = ClientId(bytes(range(0xA0, 0xB0)))

VOLUME = VolumeInfo(id=bytes(range(16)), created_ns=CREATED_NS)
HEAD = Head()
CLIENT_RECORD = ClientRecord(
    id=CLIENT,
    host="workshop",
    seq=Seq(3),
    needs_from=Seq(1),
    lease_until_ns=CREATED_NS + 30 * 86400 * SECOND_NS,
    program="0.1",
)

RAW_CHUNK = b"0123456789abcdef"
LONG_CHUNK = b"a" * 4096
LONG_FRAME = bytes.fromhex("28b52ffd60000f4d00001061610100fbf70116")
"""What one version of zstd made of it; another may find other bytes as good."""

HELLO, DATA, FOLDER, LINK, MOVED, GONE, SPARSE = (InodeNo(number) for number in range(2, 9))

PHOTO, MUSIC, SONG = (InodeNo(FIRST_NATIVE_INODE + number) for number in (5, 6, 7))
PHOTO_OBJECT = Native(b"photos/cat.jpg", 2048, spell_version("0x8DC0FFEE", 2048, CREATED_NS))
SONG_OBJECT = Native(b"music/song.ogg", 4096, spell_version("0x8DC0C0DE", 4096, CREATED_NS))
OLD_KEY, OLD_VERSION = b"old.txt", spell_version("0x8DC0DEAD", 9, CREATED_NS)

NAMES_AFTER_SECOND = (
    (ROOT_INODE, b"folder", FOLDER),
    (ROOT_INODE, b"link", LINK),
    (ROOT_INODE, b"data", DATA),
    (ROOT_INODE, b"moved", MOVED),
    (FOLDER, b"data \xff", DATA),
    (FOLDER, b"hello", HELLO),
)


def digest(names: Iterable[tuple[InodeNo, bytes, InodeNo]]) -> bytes:
    """Return the digest of dirents that an entry's counters carry."""
    each = (
        xxhash.xxh3_128_intdigest(parent.to_bytes(8, "big") + name + inode.to_bytes(8, "big"))
        for parent, name, inode in names
    )
    return functools.reduce(operator.xor, each, 0).to_bytes(16, "big")


def pack_of(chunks: list[tuple[bytes, Buffer]], nonce: bytes) -> Pack:
    """Return a pack of plain bytes and their frames."""
    builder = PackBuilder()
    for plain, frame in chunks:
        builder.add(chunk_id(plain), frame, len(plain))
    return builder.seal(nonce)


def extents_of(pack: Pack) -> tuple[Extent, ...]:
    """Return an extent for each chunk of a pack."""
    return tuple(
        Extent(packed.length_bytes, packed.chunk, pack.name, packed.offset, packed.stored_bytes)
        for packed in pack.directory
    )


def content_pack() -> Pack:
    """Return the pack of entry 2: a raw chunk and a compressed one."""
    return pack_of([(RAW_CHUNK, RAW_CHUNK), (LONG_CHUNK, LONG_FRAME)], b"nonce--1")


def first_entry(volume: bytes) -> Entry:
    """Return the entry that makes the root and a small file in it."""
    return Entry(
        seq=Seq(1),
        previous=entry_hash(volume),
        client=CLIENT,
        counter=1,
        time_ns=CREATED_NS + SECOND_NS,
        operations=(
            Grant(InodeNo(2), InodeNo(1026)),
            NewInode(ROOT_INODE, Kind.FOLDER, 0o755, 0, 0, CREATED_NS, CREATED_NS, prefix=""),
            NewInode(HELLO, Kind.FILE, 0o644, 1000, 1000, CREATED_NS, CREATED_NS),
            SetContent(HELLO, 6, Inline(b"hello\n"), Seq(0)),
            AddLinks(HELLO, 1),
            PutDirent(ROOT_INODE, b"hello", HELLO, Kind.FILE),
        ),
    )


def second_entry(previous: bytes, pack: Pack) -> Entry:
    """Return an entry with every operation that the first has not."""
    raw, long = extents_of(pack)
    time_ns = CREATED_NS + 2 * SECOND_NS
    return Entry(
        seq=Seq(2),
        previous=entry_hash(previous),
        client=CLIENT,
        counter=2,
        time_ns=time_ns,
        operations=(
            NewInode(FOLDER, Kind.FOLDER, 0o2755, 0, 100, time_ns, time_ns, parent=ROOT_INODE),
            NewInode(DATA, Kind.FILE, 0o600, 1000, 1000, -1, time_ns),
            SetContent(DATA, 16 + 8192 + 4096, Extents((raw, Extent(8192), long)), Seq(0)),
            SetXattr(DATA, b"user.colour", b"blue"),
            SetXattr(DATA, b"user.shape", None),
            AddLinks(DATA, 2),
            NewInode(LINK, Kind.SYMLINK, 0o777, 1000, 1000, time_ns, time_ns),
            SetContent(LINK, 5, Inline(b"hello"), Seq(0)),
            AddLinks(LINK, 1),
            NewInode(MOVED, Kind.FOLDER, 0o755, 0, 0, time_ns, time_ns, parent=FOLDER),
            NewInode(GONE, Kind.FOLDER, 0o755, 0, 0, time_ns, time_ns, parent=FOLDER),
            DropDirent(ROOT_INODE, b"hello", HELLO),
            PutDirent(ROOT_INODE, b"folder", FOLDER, Kind.FOLDER),
            PutDirent(ROOT_INODE, b"link", LINK, Kind.SYMLINK),
            PutDirent(ROOT_INODE, b"data", DATA, Kind.FILE, shadows="0x8DC0FFEE"),
            PutDirent(FOLDER, b"data \xff", DATA, Kind.FILE),
            PutDirent(FOLDER, b"hello", HELLO, Kind.FILE),
            PutDirent(ROOT_INODE, b"moved", MOVED, Kind.FOLDER),
            MoveFolder(MOVED, ROOT_INODE),
            DropFolder(GONE),
            SetAttributes(ROOT_INODE, mtime_ns=time_ns, ctime_ns=time_ns),
        ),
        packs=(UsedPack(pack.name, len(pack.body)),),
        counters=Counters(6, 6 + 12304 + 5, digest(NAMES_AFTER_SECOND)),
    )


def list_parts(pack: Pack) -> list[bytes]:
    """Return the plain bytes of the two parts of the sparse file's list of extents."""
    raw, long = extents_of(pack)
    return [encode_extent_list([long, Extent(1 << 40)]), encode_extent_list([raw])]


def list_pack(pack: Pack) -> Pack:
    """Return the pack of the extent list in entry 3."""
    return pack_of([(part, part) for part in list_parts(pack)], b"nonce--2")


def third_operations(lists: Pack) -> tuple[Operation, ...]:
    """Return the operations of entry 3: a file with a long list of extents."""
    first, second = extents_of(lists)
    covered = 4096 + (1 << 40)
    content = ExtentList((ListPart(covered, first), ListPart(16, second)))
    time_ns = CREATED_NS + 3 * SECOND_NS
    return (
        NewInode(SPARSE, Kind.FILE, 0o644, 1000, 1000, time_ns, time_ns),
        SetContent(SPARSE, covered + 16, content, Seq(0)),
        AddLinks(SPARSE, 1),
        PutDirent(FOLDER, b"sparse", SPARSE, Kind.FILE),
    )


def block_pack(pack: Pack, lists: Pack) -> Pack:
    """Return the pack of entry 3's operations and of the packs beyond its first."""
    further = [UsedPack(lists.name, len(lists.body)), UsedPack(pack.name)]
    # The pack of the blocks comes first in the table. It has no name yet, and no operation
    # refers to it, so that only its number is kept free.
    names = [PackName(b""), *(used.name for used in further)]
    operations = encode_operation_blocks(third_operations(lists), names)
    blocks = [*operations, *encode_pack_blocks(further)]
    return pack_of([(block, block) for block in blocks], b"nonce--3")


def third_entry(previous: bytes, blocks: Pack) -> Entry:
    """Return an entry whose lists lie in chunks."""
    operations, packs = extents_of(blocks)
    return Entry(
        seq=Seq(3),
        previous=entry_hash(previous),
        client=CLIENT,
        counter=3,
        time_ns=CREATED_NS + 3 * SECOND_NS,
        packs=(UsedPack(blocks.name, len(blocks.body)),),
        operation_parts=(operations,),
        pack_parts=(packs,),
    )


def fourth_entry(previous: bytes) -> Entry:
    """Return an entry that renames an object of another tool, and removes one."""
    time_ns = CREATED_NS + 4 * SECOND_NS
    return Entry(
        seq=Seq(4),
        previous=entry_hash(previous),
        client=CLIENT,
        counter=4,
        time_ns=time_ns,
        operations=(
            NewInode(PHOTO, Kind.FILE, 0o644, 1000, 1000, CREATED_NS, time_ns),
            SetContent(PHOTO, 2048, PHOTO_OBJECT, Seq(0)),
            AddLinks(PHOTO, 1),
            PutDirent(FOLDER, b"cat.jpg", PHOTO, Kind.FILE),
            Hide(PHOTO_OBJECT.key, PHOTO_OBJECT.version),
            Hide(OLD_KEY, OLD_VERSION),
            UnlinkNative(OLD_KEY, OLD_VERSION),
        ),
    )


def fifth_entry(previous: bytes) -> Entry:
    """Return an entry that takes a directory of other tools' objects into the volume."""
    time_ns = CREATED_NS + 5 * SECOND_NS
    return Entry(
        seq=Seq(5),
        previous=entry_hash(previous),
        client=CLIENT,
        counter=5,
        time_ns=time_ns,
        operations=(
            NewInode(
                MUSIC, Kind.FOLDER, 0o700, 1000, 1000, CREATED_NS, time_ns, 0, "music/", ROOT_INODE
            ),
            PutDirent(ROOT_INODE, b"music", MUSIC, Kind.FOLDER),
        ),
    )


def sixth_entry(previous: bytes) -> Entry:
    """Return an entry that renames this directory, with the object in it."""
    time_ns = CREATED_NS + 6 * SECOND_NS
    return Entry(
        seq=Seq(6),
        previous=entry_hash(previous),
        client=CLIENT,
        counter=6,
        time_ns=time_ns,
        operations=(
            NewInode(SONG, Kind.FILE, 0o644, 1000, 1000, CREATED_NS, CREATED_NS),
            SetContent(SONG, 4096, SONG_OBJECT, Seq(0)),
            AddLinks(SONG, 1),
            DropDirent(ROOT_INODE, b"music", MUSIC),
            PutDirent(MUSIC, b"song.ogg", SONG, Kind.FILE, shadows=SONG_OBJECT.version),
            PutDirent(ROOT_INODE, b"songs", MUSIC, Kind.FOLDER),
            SetAttributes(MUSIC, ctime_ns=time_ns),
            Detach(MUSIC, "music/"),
            Hide(SONG_OBJECT.key, SONG_OBJECT.version),
        ),
    )
