"""Name the tables of a volume's tree, their keys and their rows, as checkpoints hold them.

    1  inodes     inode                    InodeRow
    2  dirents    parent inode, name       DirentRow
    3  packs      pack name                seq of the last entry that refers to it
    4  clients    client id                ClientState
    5  ranges     last number of a range   GrantedRange (M1)
    6  hidden     as `hidden_key` says     HiddenRow (N1)

Numbers and seqs in keys, and the seq that is a row, are 8 bytes, big-endian, so that keys sort as
their numbers do. All other rows are MessagePack, an array of the fields in their order, and a
content is spelled with the names of packs in it. The local tree holds the same keys and rows, so
that a checkpoint is read into it and written from it as bytes.
"""

import enum
import hashlib
import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from blobfs.formats.rows import (
    DirentRow,
    InodeRow,
    KeyField,
    SeqField,
    SignedField,
    SizeField,
    VersionField,
)
from blobfs.formats.version import parse_version
from blobfs.formats.wire import Malformed, covered_bytes
from blobfs.types import FIRST_NATIVE_INODE, ClientId, Seq

Row = tuple[bytes, bytes]
"""A key of a table, and what lies under it."""

HashField = Annotated[bytes, Meta(min_length=32, max_length=32)]
ClientField = Annotated[ClientId, Meta(min_length=16, max_length=16)]
CountField = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]

_NUMBER_BYTES = 8
_FIRST_INODE, _LAST_INODE = b"\0" * 7 + b"\1", b"\x7f" + b"\xff" * 7

_NAME = re.compile(rb"(?!\.\.?\Z)[^/\0]{1,255}")
"""What an entry of a directory may be called."""


class Table(enum.IntEnum):
    """The tables of a tree; the numbers are part of the format."""

    INODES = 1
    DIRENTS = 2
    PACKS = 3
    CLIENTS = 4
    RANGES = 5
    HIDDEN = 6


class ClientState(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last commit of a client, as the log shows it (L3, L6)."""

    counter: CountField
    seq: SeqField
    hash: HashField


class GrantedRange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Inode numbers `first` up to, not including, `stop`, that belong to one client (M1)."""

    client: ClientField
    first: CountField
    stop: CountField
    unused: CountField
    """The high-water mark: numbers from here on were in no entry yet."""


class HiddenRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A version of a native object that is not shown under its key."""

    key: KeyField
    version: VersionField
    seq: SeqField
    """The commit that hid it."""
    unlinked_ns: SignedField | None = None
    """When the last reference to it went, by the time of that commit; None: there is one, or its
    bytes are gone (N5)."""


class Kept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the objects come to that were given up, and whose bytes are kept (N5)."""

    objects: SizeField = 0
    bytes: SizeField = 0


def kept_of(version: str) -> Kept:
    """Return what one version of an object comes to; one that does not say its size, to none."""
    return Kept(1, parse_version(version).size_bytes or 0)


HIDDEN_STEM_BYTES = 300
"""As much of an object's key begins the key of its row, so that those below a prefix are near."""


def hidden_key(key: bytes, version: str) -> bytes:
    """Return the key of a hidden version's row: its stem, a NUL, 16 bytes of SHA-256."""
    return hidden_stem(key) + b"\0" + hashlib.sha256(hidden_name(key, version)).digest()[:16]


def hidden_stem(key: bytes) -> bytes:
    """Return what the rows of all objects whose keys begin with `key` begin with."""
    return key[:HIDDEN_STEM_BYTES]


def hidden_name(key: bytes, version: str) -> bytes:
    """Return the bytes that stand for one version of an object."""
    return key + b"\0" + version.encode("utf-8", "surrogateescape")


def row_check(table: Table) -> Callable[[bytes, bytes], Any]:
    """Return what says what a row of the table says, once it is sure that it can lie under its key.

    It raises Malformed, and other ValueErrors, for what no writer writes.
    """
    return _CHECKS[table]


def _check_inode(key: bytes, data: bytes) -> InodeRow:
    # Keys compare as their numbers do, and this is asked of each file of a volume.
    if len(key) != _NUMBER_BYTES or not _FIRST_INODE <= key <= _LAST_INODE:
        raise Malformed(f"no inode has the number {key.hex()}")
    row = _INODE.decode(data)
    if covered_bytes(row.content) != row.size_bytes:
        raise Malformed(f"content is not that of a file of {row.size_bytes} bytes")
    return row


def _check_dirent(key: bytes, data: bytes) -> DirentRow:
    if _NAME.fullmatch(key, _NUMBER_BYTES) is None:
        raise Malformed(f"an entry of a directory cannot be called {key[_NUMBER_BYTES:]!r}")
    return _DIRENT.decode(data)


def _check_pack(key: bytes, data: bytes) -> Seq:
    if len(key) != 40:
        raise Malformed(f"no pack is called {key.hex()}")
    return Seq(_number(data))


def _check_client(key: bytes, data: bytes) -> ClientState:
    if len(key) != 16:
        raise Malformed(f"no client is called {key.hex()}")
    return _CLIENT.decode(data)


def _check_range(key: bytes, data: bytes) -> GrantedRange:
    row = _RANGE.decode(data)
    if row.stop - 1 != _number(key) or not row.first < row.stop <= FIRST_NATIVE_INODE:
        raise Malformed(f"inode numbers {row.first} to {row.stop} cannot be granted")
    if not row.first <= row.unused <= row.stop:
        raise Malformed(f"inode numbers up to {row.unused} are used of {row.first} to {row.stop}")
    return row


def _check_hidden(key: bytes, data: bytes) -> HiddenRow:
    row = _HIDDEN.decode(data)
    if hidden_key(row.key, row.version) != key:
        raise Malformed(f"a hidden version lies under another key. object={row.key!r}")
    return row


def _number(data: bytes) -> int:
    number = int.from_bytes(data, "big")
    if len(data) != _NUMBER_BYTES or number >= 1 << 63:
        raise Malformed(f"this is no number: {data.hex()}")
    return number


_INODE = msgspec.msgpack.Decoder(InodeRow)
_DIRENT = msgspec.msgpack.Decoder(DirentRow)
_CLIENT = msgspec.msgpack.Decoder(ClientState)
_RANGE = msgspec.msgpack.Decoder(GrantedRange)
_HIDDEN = msgspec.msgpack.Decoder(HiddenRow)

_CHECKS: dict[Table, Callable[[bytes, bytes], Any]] = {
    Table.INODES: _check_inode,
    Table.DIRENTS: _check_dirent,
    Table.PACKS: _check_pack,
    Table.CLIENTS: _check_client,
    Table.RANGES: _check_range,
    Table.HIDDEN: _check_hidden,
}
