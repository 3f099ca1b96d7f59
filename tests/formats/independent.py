"""Read a volume as docs/format.md says, without any of blobfs: a witness of its own.

It refuses nothing politely and checks only what it needs; what it returns is the tree of files.
"""

import functools
import hashlib
import json
import operator
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash
import zstandard

Objects = Mapping[str, bytes]

_NUMBERS = {
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_LENGTHS = {
    0xC4: (">B", "bin"),
    0xC5: (">H", "bin"),
    0xC6: (">I", "bin"),
    0xD9: (">B", "str"),
    0xDA: (">H", "str"),
    0xDB: (">I", "str"),
    0xDC: (">H", "array"),
    0xDD: (">I", "array"),
}


def unpack(data: bytes) -> Any:
    """Return the one MessagePack value that `data` is."""
    value, stop = _value(data, 0)
    assert stop == len(data)
    return value


def _value(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at]
    if kind < 0x80 or kind >= 0xE0:
        return kind if kind < 0x80 else kind - 256, at + 1
    if kind == 0xC0:
        return None, at + 1
    if kind in _NUMBERS:
        (number,) = struct.unpack_from(_NUMBERS[kind], data, at + 1)
        return number, at + 1 + struct.calcsize(_NUMBERS[kind])
    if 0x90 <= kind < 0xA0:
        return _array(data, at + 1, kind & 15)
    if 0xA0 <= kind < 0xC0:
        return _text(data, at + 1, kind & 31)
    spelled, what = _LENGTHS[kind]
    (length,) = struct.unpack_from(spelled, data, at + 1)
    at += 1 + struct.calcsize(spelled)
    if what == "array":
        return _array(data, at, length)
    return _text(data, at, length) if what == "str" else (data[at : at + length], at + length)


def _array(data: bytes, at: int, length: int) -> tuple[list[Any], int]:
    values = []
    for _ in range(length):
        value, at = _value(data, at)
        values.append(value)
    return values, at


def _text(data: bytes, at: int, length: int) -> tuple[str, int]:
    return data[at : at + length].decode(), at + length


@dataclass
class File:
    """An inode, and what leads to it."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    parent: int
    nlink: int
    size: int = 0
    content: tuple[bytes | int | tuple[bytes, str], ...] = (b"",)
    """Bytes, the lengths of holes, or the key and the version of another tool's object."""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


class Volume:
    """A volume's tree, replayed from its log."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.inodes: dict[int, File] = {}
        self.dirents: dict[tuple[int, bytes], int] = {}
        self.hidden: dict[tuple[bytes, str], bool] = {}
        """Versions of objects that do not show, and whether they may go."""
        self.prefixes: dict[int, str] = {}
        """The directories that show objects of other tools, and below which keys."""
        self._packs: list[bytes] = []
        about = json.loads(objects[".blobfs/volume"])
        assert (about["format"], about["version"]) == ("blobfs volume", 1)
        previous, seq = objects[".blobfs/volume"], 1
        while (slot := objects.get(f".blobfs/log/{seq:020d}")) is not None:
            self._replay(slot, seq, hashlib.sha256(previous).digest())
            previous, seq = slot, seq + 1
        assert json.loads(objects[".blobfs/head"])["floor"] < 1

    def paths(self) -> dict[bytes, File]:
        """Return all files by their paths."""
        return dict(self._walk(b"", 1))

    def _walk(self, path: bytes, folder: int) -> Iterator[tuple[bytes, File]]:
        for (parent, name), inode in sorted(self.dirents.items()):
            if parent == folder:
                yield path + name, self.inodes[inode]
                yield from self._walk(path + name + b"/", inode)

    def _replay(self, slot: bytes, seq: int, chain: bytes) -> None:
        body = unpack(open_entry(slot))
        assert (body[0], body[1], body[2]) == ([], seq, chain)
        self._packs = [name for name, _ in body[6]]
        for block in map(self._chunk, body[10]):
            self._packs += [name for name, _ in unpack(block)[1]]
        operations = body[7]
        for block in map(self._chunk, body[9]):
            operations += unpack(block)[1]
        for number, *fields in operations:
            _OPERATIONS[number](self, *fields)
        self.inodes = {n: file for n, file in self.inodes.items() if file.nlink}
        if body[8] is not None:
            assert body[8] == self._counters()

    def _counters(self) -> list[Any]:
        digests = (
            xxhash.xxh3_128_intdigest(struct.pack(">Q", parent) + name + struct.pack(">Q", inode))
            for (parent, name), inode in self.dirents.items()
        )
        digest = functools.reduce(operator.xor, digests, 0)
        sizes = sum(file.size for file in self.inodes.values())
        return [len(self.inodes), sizes, digest.to_bytes(16, "big")]

    # -- content ---------------------------------------------------------------------

    def _chunk(self, place: list[Any], packs: list[bytes] | None = None) -> bytes:
        length, chunk, pack, offset, stored = place
        name = (self._packs if packs is None else packs)[pack]
        return read_chunk(self._objects, length, chunk, name, offset, stored)

    def _extents(self, extents: list[Any], packs: list[bytes] | None = None) -> Iterator[Any]:
        for extent in extents:
            yield extent if isinstance(extent, int) else self._chunk(extent, packs)

    def _content(self, content: list[Any]) -> Iterator[Any]:
        kind, value = content[:2]
        if kind == 4:
            yield content[1], content[3]
        elif kind == 1:
            yield value
        elif kind == 2:
            yield from self._extents(value)
        else:
            for _, chunk in value:
                version, packs, extents = unpack(self._chunk(chunk))
                assert version == 1
                yield from self._extents(extents, packs)

    # -- operations ------------------------------------------------------------------

    def _new_inode(self, inode: int, *fields: Any) -> None:
        kind, mode, uid, gid, mtime_ns, ctime_ns, _, prefix, parent = fields
        if prefix is not None:
            self.prefixes[inode] = prefix
        nlink = 1 if kind == 2 else 0
        self.inodes[inode] = File(kind, mode, uid, gid, mtime_ns, ctime_ns, parent, nlink)

    def _set_content(self, inode: int, size: int, content: list[Any], _: int) -> None:
        self.inodes[inode].size = size
        self.inodes[inode].content = tuple(self._content(content))

    def _set_attributes(self, inode: int, *values: int | None) -> None:
        for name, value in zip(("mode", "uid", "gid", "mtime_ns", "ctime_ns"), values, strict=True):
            if value is not None:
                setattr(self.inodes[inode], name, value)

    def _set_xattr(self, inode: int, name: bytes, value: bytes | None) -> None:
        self.inodes[inode].xattrs.pop(name, None)
        if value is not None:
            self.inodes[inode].xattrs[name] = value

    def _add_links(self, inode: int, delta: int) -> None:
        self.inodes[inode].nlink += delta

    def _put_dirent(self, parent: int, name: bytes, inode: int, *_: Any) -> None:
        self.dirents[parent, name] = inode

    def _drop_dirent(self, parent: int, name: bytes, inode: int) -> None:
        assert self.dirents.pop((parent, name)) == inode

    def _drop_folder(self, inode: int) -> None:
        del self.inodes[inode]
        self.prefixes.pop(inode, None)

    def _move_folder(self, inode: int, parent: int) -> None:
        self.inodes[inode].parent = parent

    def _hide(self, key: bytes, version: str) -> None:
        self.hidden.setdefault((key, version), False)

    def _unlink_native(self, key: bytes, version: str) -> None:
        assert (key, version) in self.hidden
        self.hidden[key, version] = True

    def _drop_native(self, key: bytes, version: str) -> None:
        assert (key, version) in self.hidden
        self.hidden[key, version] = False

    def _detach(self, inode: int, prefix: str) -> None:
        assert self.prefixes.pop(inode) == prefix


_OPERATIONS: dict[int, Callable[..., None]] = {
    1: lambda *_: None,
    2: Volume._new_inode,
    3: Volume._set_content,
    4: Volume._set_attributes,
    5: Volume._set_xattr,
    6: Volume._add_links,
    7: Volume._put_dirent,
    8: Volume._drop_dirent,
    9: Volume._drop_folder,
    10: Volume._move_folder,
    11: Volume._hide,
    12: Volume._unlink_native,
    13: Volume._detach,
    14: Volume._drop_native,
}


def read_checkpoint(
    objects: Objects, name: str
) -> tuple[dict[int, File], dict[tuple[int, bytes], int]]:
    """Return the inodes and the names that a checkpoint holds."""
    manifest = objects[f".blobfs/checkpoints/{name}"]
    assert hashlib.sha256(manifest).hexdigest()[:16] == name[-16:]
    body = unpack(open_entry(manifest, b"BLOBCKPT"))
    assert (body[0], body[1]) == ([], int(name[:20]))
    tables = {
        number: rows or list(_rows_below(objects, refs, body[7])) for number, refs, rows in body[8]
    }
    inodes = {_number(key): _file(objects, unpack(row)) for key, row in tables[1]}
    dirents = {(_number(key[:8]), key[8:]): unpack(row)[0] for key, row in tables[2]}
    return inodes, dirents


def _rows_below(objects: Objects, refs: list[Any], packs: list[bytes]) -> Iterator[Any]:
    for level, first, last, count, (length, chunk, pack, offset, stored) in refs:
        block = unpack(read_chunk(objects, length, chunk, packs[pack], offset, stored))
        assert block[0] == 1
        rows = list(_rows_below(objects, block[2], block[1]) if level else block[1])
        assert (rows[0][0], rows[-1][0], len(rows)) == (first, last, count)
        yield from rows


def _file(objects: Objects, row: list[Any]) -> File:
    kind, mode, uid, gid, mtime_ns, ctime_ns, nlink, size, content, xattrs, _, _, parent, *_ = row
    return File(
        *(kind, mode, uid, gid, mtime_ns, ctime_ns, parent, nlink, size),
        tuple(_content_of_row(objects, *content)),
        dict(xattrs),
    )


def _content_of_row(objects: Objects, kind: int, value: Any) -> Iterator[Any]:
    if kind == 1:
        yield value
    elif kind == 2:
        for length, chunk, pack, offset, stored in value:
            is_hole = chunk == b""
            yield length if is_hole else read_chunk(objects, length, chunk, pack, offset, stored)
    else:
        for _, place in value:
            version, packs, extents = unpack(read_chunk(objects, *place))
            assert version == 1
            for each in extents:
                if isinstance(each, int):
                    yield each
                else:
                    length, chunk, pack, offset, stored = each
                    yield read_chunk(objects, length, chunk, packs[pack], offset, stored)


def _number(key: bytes) -> int:
    return int.from_bytes(key, "big")


def read_chunk(
    objects: Objects, length: int, chunk: bytes, pack: bytes, offset: int, stored: int
) -> bytes:
    """Return the plain bytes of a chunk that lies in a pack."""
    name = pack.hex()
    frame = objects[f".blobfs/packs/{name[:2]}/{name}"][offset : offset + stored]
    plain = open_frame(frame, length)
    assert hashlib.sha256(plain).digest() == chunk
    return plain


def open_frame(frame: bytes, length: int) -> bytes:
    """Return the plain bytes of a frame."""
    return frame if len(frame) == length else zstandard.ZstdDecompressor().decompress(frame)


def open_entry(slot: bytes, expected: bytes = b"BLOBLOG\0") -> bytes:
    """Return the plain body of an entry of the log, or of what else lies in an envelope."""
    magic, version, flags, length = struct.unpack_from(">8sHHI", slot)
    assert (magic, version, flags) == (expected, 1, 0)
    assert hashlib.sha256(slot[:-32]).digest() == slot[-32:]
    return open_frame(slot[16:-32], length)


def open_pack(body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the id and the plain bytes of all chunks of a pack, from its directory alone."""
    count, version, flags, checksum, magic = struct.unpack(">IHH32s8s", body[-48:])
    assert (magic, version, flags) == (b"BLOBPACK", 1, 0)
    directory = body[len(body) - 48 - 40 * count : -48]
    assert hashlib.sha256(directory + body[-48:-40]).digest() == checksum
    chunks, at = [], 0
    for chunk, stored, length in struct.iter_unpack(">32sII", directory):
        chunks.append((chunk, open_frame(body[at : at + stored], length)))
        at += stored
    assert at == len(body) - 48 - 40 * count
    return chunks
