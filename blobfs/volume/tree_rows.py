"""Lay out the replayed tree in LMDB: its tables, their keys and their rows.

Tables:

    inodes      inode                       -> InodeRow
    dirents     parent inode, name          -> DirentRow
    chunks      chunk id                    -> Place: where that chunk lies
    packs       pack name                   -> seq of the last entry that refers to it
    clients     client id                   -> ClientState
    ranges      last number of the range    -> GrantedRange (M1)
    hidden      `tables.hidden_key`         -> HiddenRow (N1)
    kept        `tables.hidden_key`         -> KeptObject: see `tree_kept`
    state       b"format" / b"volume"       -> version of these tables / id of the volume
                b"log"                      -> LogState
                b"base"                     -> name of the checkpoint that the tree began from
                b"doubted"                  -> names of checkpoints of which parts are gone
                b"rebased"                  -> see `Tree.replay`
    changed     seq                         -> the keys of the rows that this entry changed
    unloaded    table, first key            -> BlockRef: see `tree_blocks`
    loaded      table, first key            -> BlockRef
    unnoted     table, first key            -> BlockRef: see `tree_places`

Inode numbers and seqs in keys are 8 bytes, big-endian, so that rows sort as their numbers do.
A range has the last of its numbers as key: the first key from a number on is the only range that
can hold it.

Trees at one seq hold the same rows, to the byte (C6), but for `chunks`: a client may know more
places than the log spells out, those in long lists that it wrote itself.
"""

import msgspec
import xxhash

from blobfs.formats.commit import Counters
from blobfs.formats.rows import DirentRow, Inline, InodeRow, Kind
from blobfs.formats.tables import ClientState, GrantedRange, HiddenRow, Kept
from blobfs.model.chain import Position
from blobfs.model.changes import LocalInode
from blobfs.types import ROOT_INODE, InodeNo, PackName, Seq

TABLES = (
    *("inodes", "dirents", "chunks", "packs", "clients", "ranges", "hidden", "state"),
    *("kept", "changed", "unloaded", "loaded", "unnoted"),
)

FORMAT = b"2"


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a chunk lies: an `Extent` without the id that is its key."""

    length_bytes: int
    pack: PackName
    offset: int
    stored_bytes: int


class _Outside(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An `InodeRow` without its content: what a directory shows of it, for half of the time."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    nlink: int
    size_bytes: int
    content: msgspec.Raw
    xattrs: tuple[tuple[bytes, bytes], ...]
    rdev: int
    prefix: str | None
    parent: InodeNo


class LogState(msgspec.Struct, frozen=True, array_like=True):
    """How far the log was replayed, and what all entries up to there add up to."""

    seq: Seq
    chain: bytes
    """SHA-256 of that entry; of `volume` before the first."""
    time_ns: int
    """When that entry was made, by its author's clock; 0 before the first."""
    inodes: int
    content_bytes: int
    dirents_digest: bytes
    """As in `Counters`."""
    granted_to: int
    """Numbers from here on, below those of native objects, were granted to nobody (M1)."""
    kept: Kept = Kept()
    """What native objects come to that were given up, and whose bytes are kept (N5)."""

    @property
    def position(self) -> Position:
        return Position(self.seq, self.chain)

    @property
    def counters(self) -> Counters:
        return Counters(self.inodes, self.content_bytes, self.dirents_digest)


def first_state(origin: bytes) -> LogState:
    """Return the state before the first entry; `origin` is the SHA-256 of `volume`."""
    return LogState(Seq(0), origin, 0, 0, 0, digest_bytes(0), ROOT_INODE + 1)


encode = msgspec.msgpack.Encoder().encode
decode_inode = msgspec.msgpack.Decoder(InodeRow).decode
_decode_target = msgspec.msgpack.Decoder(Inline).decode
_decode_outside = msgspec.msgpack.Decoder(_Outside).decode
decode_dirent = msgspec.msgpack.Decoder(DirentRow).decode
decode_place = msgspec.msgpack.Decoder(Place).decode
decode_client = msgspec.msgpack.Decoder(ClientState).decode
decode_range = msgspec.msgpack.Decoder(GrantedRange).decode
decode_hidden = msgspec.msgpack.Decoder(HiddenRow).decode
decode_state = msgspec.msgpack.Decoder(LogState).decode


def decode_shown(data: bytes) -> LocalInode:
    """Return what a directory shows of an inode, by its row: as `nodes.as_local` of all of it.

    By position, since names would take three times as long.
    """
    row = _decode_outside(data)
    return LocalInode(
        row.kind,
        row.mode,
        row.uid,
        row.gid,
        row.mtime_ns,
        row.ctime_ns,
        row.nlink,
        row.size_bytes,
        row.size_bytes,  # base_limit_bytes
        row.xattrs,
        row.rdev,
        row.prefix,
        row.parent,
        _decode_target(row.content).data if row.kind is Kind.SYMLINK else b"",
    )


def number_key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def decode_seq(row: bytes) -> Seq:
    return Seq(int.from_bytes(row, "big"))


def dirent_key(parent: InodeNo, name: bytes) -> bytes:
    return parent.to_bytes(8, "big") + name


def digest_of(key: bytes, inode: InodeNo) -> int:
    """Return what a dirent, by its `dirent_key`, adds to the digest of all of them (L9)."""
    return xxhash.xxh3_128_intdigest(key + inode.to_bytes(8, "big"))


def digest_bytes(digest: int) -> bytes:
    return digest.to_bytes(16, "big")
