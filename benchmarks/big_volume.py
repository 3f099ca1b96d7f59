"""Make a volume of any number of files, as a checkpoint and a log, without writing them one by one.

Its log was cut below the checkpoint, as it is in an old volume; a few commits follow. Most files
have their content in packs that are not there: they can be listed, and not be read. The first one
of each directory lies in its row.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import xor

import msgspec

from blobfs.env import Env
from blobfs.formats.checkpoint import encode_checkpoint
from blobfs.formats.commit import AddLinks, Entry, NewInode, Operation, PutDirent
from blobfs.formats.entry import encode_entry, entry_hash
from blobfs.formats.head import Head, encode_head
from blobfs.formats.keys import checkpoint_key, head_key, log_key, volume_key
from blobfs.formats.rows import DirentRow, Extent, Extents, FileContent, Inline, InodeRow, Kind
from blobfs.formats.tables import ClientState, GrantedRange, Row, Table
from blobfs.formats.volume import VolumeInfo, encode_volume
from blobfs.model.checkpoint_blocks import KnownBlock
from blobfs.stores.base import Store
from blobfs.sync.checkpoint_making import CheckpointSizes, Making
from blobfs.types import KIB, MIB, ROOT_INODE, ChunkId, ClientId, InodeNo, PackName, Seq
from blobfs.volume.tree_rows import LogState, digest_bytes, digest_of, dirent_key, number_key

CLIENT = ClientId(b"big volume maker")
VOLUME_ID = hashlib.sha256(CLIENT).digest()[:16]
MADE_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000
MADE_AT = Seq(5000)
"""The commit that the checkpoint was made after."""

FILE_BYTES = 4 * KIB
FILES_IN_A_PACK = 16 * MIB // FILE_BYTES
INLINE = b"what a small file holds\n"
SPARE_NUMBERS = 1 << 20
"""Inode numbers that were granted and are not used yet."""

encode = msgspec.msgpack.encode

_Rows = Callable[[], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the volume looks like: so many directories in each, then so many files in each."""

    folders: tuple[int, ...] = (4, 5, 5, 10)
    files: int = 1000
    commits: int = 2
    """Behind the checkpoint: a new file in the last directory, each. Each is a request to open."""


@dataclass(slots=True)
class Folder:
    """A directory of the volume, and the numbers of what is in it."""

    number: int
    parent: int
    name: bytes
    path: str
    folders: list["Folder"] = field(default_factory=list)
    first_file: int = 0
    """Number of its first file; the others follow."""
    files: int = 0


class BigVolume:
    """The rows of a volume, in the order of their keys; what `Making` makes a checkpoint of."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._next = int(ROOT_INODE)
        self.folders = list(self._grow(0, b"", "", 0))
        """In the order of their numbers, the root first."""

    @property
    def leaves(self) -> list[Folder]:
        """The directories that hold files."""
        return [folder for folder in self.folders if folder.files]

    @cached_property
    def state(self) -> LogState:
        """What the log comes to up to the checkpoint."""
        leaves = self.leaves
        files = sum(folder.files for folder in leaves)
        return LogState(
            seq=MADE_AT,
            chain=hashlib.sha256(b"an entry that was cut off").digest(),
            time_ns=MADE_NS,
            inodes=files + len(self.folders),
            content_bytes=len(leaves) * len(INLINE) + (files - len(leaves)) * FILE_BYTES,
            dirents_digest=digest_bytes(self._digest()),
            granted_to=self._next + SPARE_NUMBERS,
        )

    def known(self, table: Table) -> list[KnownBlock]:
        return []

    def changed(self, table: Table) -> Sequence[bytes] | None:
        return None

    def rows(self, table: Table, start: bytes, stop: bytes | None) -> Iterator[Row]:
        rows = self._tables[table]()
        return itertools.takewhile(
            lambda row: stop is None or row[0] < stop,
            itertools.dropwhile(lambda row: row[0] < start, rows),
        )

    def commits(self) -> Iterator[Entry]:
        """Yield the entries behind the checkpoint; their places in the log are left open."""
        last = self.leaves[-1]
        for count in range(self._shape.commits):
            yield Entry(
                seq=Seq(MADE_AT + 1 + count),
                previous=bytes(32),
                client=CLIENT,
                counter=MADE_AT + 1 + count,
                time_ns=MADE_NS + (count + 1) * SECOND_NS,
                operations=_new_file(last, InodeNo(self._next + count), b"new-%03d" % count),
            )

    # -- growing it ------------------------------------------------------------------

    def _grow(self, parent: int, name: bytes, path: str, depth: int) -> Iterator[Folder]:
        folder = Folder(self._take(1), parent, name, path)
        yield folder
        if depth == len(self._shape.folders):
            folder.files = self._shape.files
            folder.first_file = self._take(folder.files)
            return
        for count in range(self._shape.folders[depth]):
            below = b"folder-%02d" % count
            grown = self._grow(folder.number, below, f"{path}/{below.decode()}", depth + 1)
            child = next(grown)
            folder.folders.append(child)
            yield child
            yield from grown

    def _take(self, count: int) -> int:
        self._next += count
        return self._next - count

    # -- rows ------------------------------------------------------------------------

    @property
    def _tables(self) -> dict[Table, _Rows]:
        return {
            Table.INODES: self._inodes,
            Table.DIRENTS: self._dirents,
            Table.PACKS: self._packs,
            Table.CLIENTS: self._clients,
            Table.RANGES: self._ranges,
            Table.HIDDEN: lambda: iter(()),
        }

    def _inodes(self) -> Iterator[Row]:
        for folder in self.folders:
            yield number_key(folder.number), encode(_folder_row(folder))
            for count in range(folder.files):
                number = folder.first_file + count
                yield number_key(number), encode(_file_row(number, is_first=not count))

    def _dirents(self) -> Iterator[Row]:
        for folder in self.folders:
            for name, number, kind in _names(folder):
                row = DirentRow(InodeNo(number), kind, MADE_AT)
                yield dirent_key(InodeNo(folder.number), name), encode(row)

    def _digest(self) -> int:
        return reduce(
            xor,
            (
                digest_of(dirent_key(InodeNo(folder.number), name), InodeNo(number))
                for folder in self.folders
                for name, number, _ in _names(folder)
            ),
            0,
        )

    def _packs(self) -> Iterator[Row]:
        numbers = range(self._next // FILES_IN_A_PACK + 1)
        return iter(sorted((_pack(number), number_key(MADE_AT)) for number in numbers))

    def _clients(self) -> Iterator[Row]:
        yield CLIENT, encode(ClientState(MADE_AT, MADE_AT, self.state.chain))

    def _ranges(self) -> Iterator[Row]:
        stop = self._next + SPARE_NUMBERS
        row = GrantedRange(CLIENT, ROOT_INODE + 1, stop, self._next)
        yield number_key(stop - 1), encode(row)


async def write_volume(
    store: Store, shape: Shape, sizes: CheckpointSizes | None = None
) -> BigVolume:
    """Write a volume of that shape into an empty store; return what it holds."""
    volume = BigVolume(shape)
    checkpoint = await Making(store, volume, Env(), sizes or CheckpointSizes()).make(None)
    name, manifest = encode_checkpoint(checkpoint)
    await store.put(volume_key(), encode_volume(VolumeInfo(id=VOLUME_ID, created_ns=MADE_NS)))
    await store.put(checkpoint_key(name), manifest)
    previous = checkpoint.chain
    for entry in volume.commits():
        data = encode_entry(msgspec.structs.replace(entry, previous=previous))
        await store.put(log_key(entry.seq), data)
        previous = entry_hash(data)
    await store.put(head_key(), encode_head(Head(floor=MADE_AT, checkpoint=name)))
    return volume


def file_name(count: int) -> bytes:
    """Return the name of a file by its place in its directory."""
    return b"file-%04d.txt" % count


def _names(folder: Folder) -> Iterator[tuple[bytes, int, Kind]]:
    """Yield what is in a directory, in the order of names."""
    for child in folder.folders:
        yield child.name, child.number, Kind.FOLDER
    for count in range(folder.files):
        yield file_name(count), folder.first_file + count, Kind.FILE


def _folder_row(folder: Folder) -> InodeRow:
    prefix = "" if folder.number == ROOT_INODE else None
    return InodeRow(
        *(Kind.FOLDER, 0o755, 0, 0, MADE_NS, MADE_NS, 1),
        prefix=prefix,
        parent=InodeNo(folder.parent),
        seq=MADE_AT,
    )


def _file_row(number: int, *, is_first: bool) -> InodeRow:
    content: FileContent = Inline(INLINE) if is_first else Extents((_extent(number),))
    size_bytes = len(INLINE) if is_first else FILE_BYTES
    times = MADE_NS + number * SECOND_NS
    return InodeRow(
        *(Kind.FILE, 0o644, 1000, 1000, times, times, 1, size_bytes, content),
        seq=MADE_AT,
        content_seq=MADE_AT,
    )


def _extent(number: int) -> Extent:
    place = number % FILES_IN_A_PACK * FILE_BYTES
    chunk = ChunkId(hashlib.sha256(number_key(number)).digest())
    return Extent(FILE_BYTES, chunk, _pack(number // FILES_IN_A_PACK), place, FILE_BYTES)


def _pack(number: int) -> PackName:
    return PackName(hashlib.sha256(b"pack %d" % number).digest() + number_key(number))


def _new_file(folder: Folder, number: InodeNo, name: bytes) -> tuple[Operation, ...]:
    parent = InodeNo(folder.number)
    return (
        NewInode(number, Kind.FILE, 0o644, 1000, 1000, MADE_NS, MADE_NS),
        AddLinks(number, 1),
        PutDirent(parent, name, number, Kind.FILE),
    )
