"""Name what the golden checkpoint says: the tree after the third entry of the golden volume.

No head names it, as if another client had been quicker to change `head`: such a checkpoint is
nobody's, and does no harm.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from blobfs.formats.checkpoint import Checkpoint, TableRoot
from blobfs.formats.checkpoint_blocks import BlockRef, encode_refs, encode_rows
from blobfs.formats.commit import Counters
from blobfs.formats.entry import entry_hash
from blobfs.formats.pack import Pack
from blobfs.formats.rows import (
    DirentRow,
    Extent,
    ExtentList,
    Extents,
    Inline,
    InodeRow,
    Kind,
    ListPart,
)
from blobfs.formats.tables import ClientState, GrantedRange, Row, Table
from blobfs.types import ROOT_INODE, InodeNo, Seq
from tests.formats.examples import (
    CLIENT,
    CREATED_NS,
    DATA,
    FOLDER,
    HELLO,
    LINK,
    MOVED,
    NAMES_AFTER_SECOND,
    SECOND_NS,
    SPARSE,
    digest,
    extents_of,
    pack_of,
)

SEQ = Seq(3)
SECOND = CREATED_NS + 2 * SECOND_NS
THIRD = CREATED_NS + 3 * SECOND_NS
SPARSE_BYTES = 4096 + (1 << 40) + 16


def number(value: int) -> bytes:
    """Return how keys, and rows of packs, spell a number."""
    return value.to_bytes(8, "big")


def spelled(rows: dict[bytes, Any]) -> tuple[Row, ...]:
    """Return rows in the order of their keys."""
    return tuple((key, msgspec.msgpack.encode(rows[key])) for key in sorted(rows))


def inode_rows(content: Pack, lists: Pack) -> tuple[Row, ...]:
    """Return the rows of all inodes."""
    file = partial(InodeRow, Kind.FILE, uid=1000, gid=1000, nlink=1)
    folder = partial(InodeRow, Kind.FOLDER, mtime_ns=SECOND, ctime_ns=SECOND, nlink=1, seq=Seq(2))
    raw, long = extents_of(content)
    first, second = extents_of(lists)
    parts = (ListPart(4096 + (1 << 40), first), ListPart(16, second))
    rows = {
        ROOT_INODE: folder(mode=0o755, uid=0, gid=0, prefix=""),
        HELLO: file(
            mode=0o644,
            mtime_ns=CREATED_NS,
            ctime_ns=CREATED_NS,
            size_bytes=6,
            content=Inline(b"hello\n"),
            seq=Seq(1),
            content_seq=Seq(1),
        ),
        DATA: file(
            mode=0o600,
            mtime_ns=-1,
            ctime_ns=SECOND,
            nlink=2,
            size_bytes=16 + 8192 + 4096,
            content=Extents((raw, Extent(8192), long)),
            xattrs=((b"user.colour", b"blue"),),
            seq=Seq(2),
            content_seq=Seq(2),
        ),
        FOLDER: folder(mode=0o2755, uid=0, gid=100, parent=ROOT_INODE),
        LINK: InodeRow(
            *(Kind.SYMLINK, 0o777, 1000, 1000, SECOND, SECOND, 1),
            size_bytes=5,
            content=Inline(b"hello"),
            seq=Seq(2),
            content_seq=Seq(2),
        ),
        MOVED: folder(mode=0o755, uid=0, gid=0, parent=ROOT_INODE),
        SPARSE: file(
            mode=0o644,
            mtime_ns=THIRD,
            ctime_ns=THIRD,
            size_bytes=SPARSE_BYTES,
            content=ExtentList(parts),
            seq=Seq(3),
            content_seq=Seq(3),
        ),
    }
    return spelled({number(inode): row for inode, row in rows.items()})


def names() -> tuple[tuple[InodeNo, bytes, InodeNo], ...]:
    """Return all names with where they are and where they lead."""
    return (*NAMES_AFTER_SECOND, (FOLDER, b"sparse", SPARSE))


def dirent_rows() -> tuple[Row, ...]:
    """Return the rows of all names."""
    kinds = {FOLDER: Kind.FOLDER, MOVED: Kind.FOLDER, LINK: Kind.SYMLINK}
    rows = {
        number(parent) + name: DirentRow(
            inode,
            kinds.get(inode, Kind.FILE),
            Seq(3 if inode == SPARSE else 2),
            "0x8DC0FFEE" if name == b"data" else "",
        )
        for parent, name, inode in names()
    }
    return spelled(rows)


def small_tables(third: bytes, packs: Sequence[Pack]) -> dict[Table, tuple[Row, ...]]:
    """Return the rows that lie in the manifest itself; `packs` are those of the log's entries."""
    return {
        Table.PACKS: tuple(sorted((pack.name, number(3)) for pack in packs)),
        Table.CLIENTS: spelled({CLIENT: ClientState(3, SEQ, entry_hash(third))}),
        Table.RANGES: spelled({number(1025): GrantedRange(CLIENT, 2, 1026, 9)}),
    }


def leaf_pack(content: Pack, lists: Pack) -> Pack:
    """Return the pack of the blocks of rows: two of inodes, one of dirents."""
    inodes = inode_rows(content, lists)
    blocks = [encode_rows(rows) for rows in (inodes[:4], inodes[4:], dirent_rows())]
    return pack_of([(block, block) for block in blocks], b"nonce--4")


def inode_refs(leaves: Pack, inodes: Sequence[Row]) -> tuple[BlockRef, ...]:
    """Return the refs of the two blocks of inodes."""
    first, second, _ = extents_of(leaves)
    return ref_of(first, inodes[:4]), ref_of(second, inodes[4:])


def ref_of(place: Extent, rows: Sequence[Row], level: int = 0) -> BlockRef:
    """Return a ref to the block at `place`, which covers these rows."""
    return BlockRef(level, rows[0][0], rows[-1][0], len(rows), place)


def refs_pack(content: Pack, lists: Pack, leaves: Pack) -> Pack:
    """Return the pack of the one block of refs."""
    block = encode_refs(inode_refs(leaves, inode_rows(content, lists)))
    return pack_of([(block, block)], b"nonce--5")


def checkpoint(third: bytes, content: Pack, lists: Pack, blocks: Pack) -> Checkpoint:
    """Return the checkpoint after the entry `third`, whose blocks of operations are `blocks`."""
    leaves = leaf_pack(content, lists)
    (refs,) = extents_of(refs_pack(content, lists, leaves))
    inodes, dirents = inode_rows(content, lists), dirent_rows()
    small = small_tables(third, (content, lists, blocks))
    return Checkpoint(
        seq=SEQ,
        chain=entry_hash(third),
        time_ns=THIRD,
        counters=Counters(7, 6 + 12304 + 5 + SPARSE_BYTES, digest(names())),
        granted_to=1026,
        previous=None,
        tables=(
            TableRoot(Table.INODES, (ref_of(refs, inodes, level=1),)),
            TableRoot(Table.DIRENTS, (ref_of(extents_of(leaves)[2], dirents),)),
            *(TableRoot(table, rows=rows) for table, rows in small.items()),
        ),
    )
