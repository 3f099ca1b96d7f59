"""Write the entries of a log by hand, for tests of what reads them."""

import hashlib
from dataclasses import dataclass, field

import msgspec

from blobfs.formats.commit import (
    AddLinks,
    Counters,
    Entry,
    Grant,
    NewInode,
    Operation,
    PutDirent,
    SetContent,
    UsedPack,
)
from blobfs.formats.rows import Extent, Extents, Inline, Kind
from blobfs.model.chain import Landed
from blobfs.types import ROOT_INODE, ChunkId, ClientId, InodeNo, PackName, Seq

ORIGIN = b"o" * 32
ME = ClientId(b"m" * 16)
SOMEBODY = ClientId(b"s" * 16)
PACK = PackName(b"p" * 40)
GRANTED = Grant(2, 1000)
ROOT = NewInode(ROOT_INODE, Kind.FOLDER, 0o755, 0, 0, 1, 1, prefix="")


@dataclass(slots=True)
class Story:
    """A log that grows by what each test tells of; hashes are those of the values."""

    previous: bytes = ORIGIN
    seq: int = 0
    counters: dict[ClientId, int] = field(default_factory=dict)

    def entry(
        self,
        *operations: Operation,
        client: ClientId = ME,
        packs: tuple[PackName, ...] = (),
        expected: Counters | None = None,
    ) -> Landed:
        """Return the next entry of the log."""
        self.seq += 1
        count = self.counters[client] = self.counters.get(client, 0) + 1
        entry = Entry(
            Seq(self.seq),
            self.previous,
            client,
            count,
            self.seq * 1_000_000,
            operations,
            tuple(UsedPack(pack) for pack in packs),
            expected,
        )
        self.previous = hashlib.sha256(msgspec.msgpack.encode(entry)).digest()
        return Landed(entry, self.previous)


def new_file(
    number: int, name: bytes, data: bytes = b"", parent: int = ROOT_INODE
) -> tuple[Operation, ...]:
    """Return what a commit says of a small file that was made."""
    inode = InodeNo(number)
    return (
        NewInode(inode, Kind.FILE, 0o644, 1000, 1000, number, number),
        SetContent(inode, len(data), Inline(data), Seq(0)),
        AddLinks(inode, 1),
        PutDirent(InodeNo(parent), name, inode, Kind.FILE),
    )


def new_folder(number: int, name: bytes, parent: int = ROOT_INODE) -> tuple[Operation, ...]:
    """Return what a commit says of a directory that was made."""
    inode = InodeNo(number)
    return (
        NewInode(inode, Kind.FOLDER, 0o755, 1000, 1000, number, number, parent=InodeNo(parent)),
        PutDirent(InodeNo(parent), name, inode, Kind.FOLDER),
    )


def chunked(number: int, *, base: int = 0, pack: PackName = PACK, hole: int = 0) -> SetContent:
    """Return the content of a file of one chunk, and a hole behind it if wanted."""
    data = b"%d/%d" % (number, base)
    chunk = Extent(len(data), ChunkId(hashlib.sha256(data).digest()), pack, 8 * number, len(data))
    extents = (chunk, Extent(hole)) if hole else (chunk,)
    size_bytes = sum(extent.length_bytes for extent in extents)
    return SetContent(InodeNo(number), size_bytes, Extents(extents), Seq(base))
