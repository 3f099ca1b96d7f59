"""Make up inodes and places for the rules of a tree."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from blobfs.errors import BlobfsError
from blobfs.formats.rows import Kind
from blobfs.model.changes import Change, LocalInode
from blobfs.model.listing import Entry
from blobfs.model.nodes import NativeLook, NativeNode, Node
from blobfs.model.tree_rules import Maker, Place
from blobfs.model.tree_rules_rename import Lineage
from blobfs.types import ROOT_INODE, InodeNo

NOW_NS = 7
NEW = InodeNo(99)
NO_LINEAGE = Lineage((), ())
LOOK = NativeLook(uid=1000, gid=1000)
USER = Maker(1, 2)


def node(number: int, kind: Kind = Kind.FILE, **fields: object) -> Node:
    row = LocalInode(kind, 0o644, 1000, 1000, 1, 1, 1)
    return Node(InodeNo(number), replace(row, **fields))


def folder(number: int, **fields: object) -> Node:
    return node(number, Kind.FOLDER, **{"parent": ROOT_INODE, **fields})


def native(name: bytes, *, is_folder: bool = False) -> Node:
    prefix = "a/" + name.decode() + "/" if is_folder else "a/"
    known = NativeNode(InodeNo(1 << 62), InodeNo(5), prefix, Entry(name, is_folder, etag="1"))
    return Node(known.number, LOOK.row(known, 1), known)


ROOT = Node(ROOT_INODE, LocalInode(Kind.FOLDER, 0o755, 0, 0, 1, 1, 1, prefix=""))
FOLDER = folder(5)
FILE = node(10)


def free(name: bytes = b"new", parent: Node = FOLDER) -> Place:
    return Place(parent, name)


def taken(by: Node, name: bytes = b"old", parent: Node = FOLDER, **facts: Any) -> Place:
    return Place(parent, name, by, **facts)


@contextmanager
def refusing(number: int) -> Iterator[None]:
    with pytest.raises(BlobfsError) as caught:
        yield
    assert errno.errorcode[caught.value.errno] == errno.errorcode[number]


def times(change: Change, inode: InodeNo) -> tuple[int, int]:
    row = change.inodes[inode]
    assert row is not None
    return row.mtime_ns, row.ctime_ns
