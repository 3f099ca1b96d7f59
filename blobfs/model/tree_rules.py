"""Decide what becomes of names: the rules by which entries are made, linked and removed. Pure.

A rule gets what is known of the names in question and returns the rows that change, or refuses
with the errno that the man pages name. Checks of permission are the kernel's.

Native files are taken into the volume before a rule sees them (`plan_binding`), so that to a rule
they are files like any other. Of native directories only what can be removed is.
"""

import errno
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from blobfs.formats.rows import Kind
from blobfs.model.changes import Change, DirentKey, LocalDirent, LocalInode, hiding
from blobfs.model.listing import MOST_NAME_BYTES, RESERVED_NAME, to_name
from blobfs.model.nodes import NativeNode, Node
from blobfs.model.refusal import Refused
from blobfs.types import InodeNo

MOST_LINKS = 65_000
"""Names of one file, as many as ext4 allows."""

MOST_TARGET_BYTES = 4095
"""Of a symbolic link: a path, without its NUL byte (PATH_MAX)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a directory, and all that a rule needs to know of it."""

    folder: Node
    name: bytes
    found: Node | None = None
    """What it leads to."""
    shadows: str = ""
    """What the dirent here says of the native object behind it (volume format, N4)."""
    has_entries: bool = False
    """Of a directory found here: it is not empty."""
    marker: str | None = None
    """Of a directory found here: the version of the object that would keep it in being."""

    @property
    def key(self) -> DirentKey:
        return self.folder.inode, self.name


@dataclass(frozen=True, slots=True)
class Maker:
    """The user in whose name something is made."""

    uid: int
    gid: int


class Draft:
    """Collects the rows of one change; a row that changes twice is there once."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._inodes: dict[InodeNo, LocalInode | None] = {}
        self._dirents: dict[DirentKey, LocalDirent | None] = {}

    def row(self, node: Node) -> LocalInode:
        """Return the row as it will be."""
        return self._inodes.get(node.inode) or node.row

    def set(self, inode: InodeNo, row: LocalInode) -> None:
        self._inodes[inode] = row

    def alter(self, node: Node, **fields: Any) -> None:
        """Change fields of an inode; its ctime is now."""
        row = msgspec.structs.replace(self.row(node), ctime_ns=self._now_ns, **fields)
        self._inodes[node.inode] = row

    def touch(self, folder: Node) -> None:
        """Note that the entries of a directory change."""
        self.alter(folder, mtime_ns=self._now_ns)

    def name(self, place: Place, inode: InodeNo, kind: Kind) -> None:
        """Let a name lead to an inode. What it shadows belongs to the name, not to the inode."""
        self._dirents[place.key] = LocalDirent(inode, kind, place.shadows)

    def unname(self, place: Place) -> None:
        self._dirents[place.key] = None

    def unlink(self, node: Node) -> None:
        """Take one name away. With the last one the inode becomes an orphan (nlink 0)."""
        self.alter(node, nlink=0 if node.is_folder else self.row(node).nlink - 1)

    def change(self) -> Change:
        return Change(self._inodes, self._dirents)


def check_name(name: bytes) -> None:
    """Refuse a name that no entry can have.

    Raises:
        Refused: EPERM for blobfs' own name at any depth (volume format, N7), ENAMETOOLONG.
    """
    if name == RESERVED_NAME:
        raise Refused(errno.EPERM, f"the name is kept for blobfs itself. name={name!r}")
    if len(name) > MOST_NAME_BYTES:
        raise Refused(errno.ENAMETOOLONG, f"a name of over {MOST_NAME_BYTES} bytes. name={name!r}")


def check_folder(node: Node) -> None:
    """Refuse to look for names in what is no directory.

    Raises:
        Refused: ENOTDIR.
    """
    if not node.is_folder:
        raise Refused(errno.ENOTDIR, f"not a directory. inode={node.inode}")


def new_row(
    folder: Node,
    kind: Kind,
    mode: int,
    maker: Maker,
    now_ns: int,
    *,
    target: bytes = b"",
    rdev: int = 0,
) -> LocalInode:
    """Return the row of an inode that is made in `folder`; `mode` is already less the umask.

    In a setgid directory it belongs to the directory's group, and a directory is setgid, too.
    """
    inherits = bool(folder.row.mode & stat.S_ISGID)
    if inherits and kind is Kind.FOLDER:
        mode |= stat.S_ISGID
    return LocalInode(
        kind=kind,
        mode=stat.S_IMODE(mode),
        uid=maker.uid,
        gid=folder.row.gid if inherits else maker.gid,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        nlink=1,
        size_bytes=len(target),
        rdev=rdev,
        parent=folder.inode if kind is Kind.FOLDER else InodeNo(0),
        target=target,
    )


def plan_make(place: Place, inode: InodeNo, row: LocalInode, now_ns: int) -> Change:
    """Make an entry of any kind, with a new inode.

    Raises:
        Refused: EEXIST, ENOENT (the directory was removed), ENAMETOOLONG (a link's target),
            and as `check_name`.
    """
    _check_free(place)
    if len(row.target) > MOST_TARGET_BYTES:
        raise Refused(errno.ENAMETOOLONG, f"a target too long. bytes={len(row.target)}")
    draft = Draft(now_ns)
    draft.set(inode, row)
    draft.name(place, inode, row.kind)
    draft.touch(place.folder)
    return draft.change()


def plan_link(node: Node, place: Place, now_ns: int) -> Change:
    """Give a file one more name.

    Raises:
        Refused: EEXIST, EPERM (a directory), ENOENT (it or the directory was removed), EMLINK.
    """
    _check_free(place)
    if node.is_folder:
        raise Refused(errno.EPERM, f"a directory has one name. inode={node.inode}")
    if node.is_gone:
        raise Refused(errno.ENOENT, f"the file was removed. inode={node.inode}")
    if node.row.nlink >= MOST_LINKS:
        raise Refused(errno.EMLINK, f"too many names. inode={node.inode} names={node.row.nlink}")
    draft = Draft(now_ns)
    draft.alter(node, nlink=node.row.nlink + 1)
    draft.name(place, node.inode, node.kind)
    draft.touch(place.folder)
    return draft.change()


def plan_unlink(place: Place, now_ns: int) -> Change:
    """Take a name from a file. The inode goes with its last name, once nobody holds it.

    Raises:
        Refused: ENOENT, EISDIR, EPERM (a name of blobfs' own).
    """
    check_name(place.name)
    node = existing(place)
    if node.is_folder:
        raise Refused(errno.EISDIR, f"a directory. name={place.name!r}")
    return _plan_remove(place, node, now_ns)


def plan_rmdir(place: Place, now_ns: int) -> Change:
    """Remove an empty directory.

    Raises:
        Refused: ENOENT, ENOTDIR, ENOTEMPTY, EPERM (a name of blobfs' own).
    """
    check_name(place.name)
    node = existing(place)
    if not node.is_folder:
        raise Refused(errno.ENOTDIR, f"not a directory. name={place.name!r}")
    check_removable(place)
    return _plan_remove(place, node, now_ns)


def plan_adoption(folders: Iterable[Node]) -> Change:
    """Take native directories into the volume: outermost first, each with the number it has.

    The root has no name; every other one gets one in the directory before it.
    """
    inodes: dict[InodeNo, LocalInode | None] = {}
    dirents: dict[DirentKey, LocalDirent | None] = {}
    for node in folders:
        inodes[node.inode] = node.row
        if node.native is not None and node.row.parent:
            dirents[node.row.parent, node.native.entry.name] = LocalDirent(node.inode, node.kind)
    return Change(inodes, dirents)


def plan_binding(folder: Node, native: NativeNode, row: LocalInode) -> Change:
    """Take a native file into the volume by reference, under the name that it has (N3).

    Its `row` refers to the object where it lies; nothing is copied. From then on the object
    itself does not show, whatever becomes of the name (N1).
    """
    bound = native.object
    row = msgspec.structs.replace(row, bound=bound)
    dirent = LocalDirent(native.number, Kind.FILE, bound.version)
    return Change(
        {native.number: row},
        {(folder.inode, native.entry.name): dirent, hiding(bound.key, bound.version): dirent},
    )


def plan_following(folder: Node, native: NativeNode, row: LocalInode, old: Node) -> Change:
    """Let a name lead to the version that another tool put in place of the `old` one (N4).

    The file was never changed here but in its attributes, which `row` has kept.
    """
    others = old.row.nlink - 1
    left = msgspec.structs.replace(old.row, nlink=others) if others else None
    return merged(Change({old.inode: left}), plan_binding(folder, native, row))


def plan_unmarking(place: Place) -> Change:
    """Hide the marker object that would keep a directory in being which goes."""
    node = place.found
    if node is None or node.row.prefix is None or place.marker is None:
        return Change()
    return plan_hiding_marker(node, place.marker)


def plan_hiding_marker(folder: Node, version: str) -> Change:
    """Hide one version of the object that would keep a native directory in being."""
    dirent = LocalDirent(folder.inode, Kind.FOLDER, version)
    return Change(dirents={hiding(to_name(folder.row.prefix or ""), version): dirent})


def merged(*changes: Change) -> Change:
    """Return all changes as one; where they meet, the later one holds."""
    inodes: dict[InodeNo, LocalInode | None] = {}
    dirents: dict[DirentKey, LocalDirent | None] = {}
    for change in changes:
        inodes |= change.inodes
        dirents |= change.dirents
    return Change(inodes, dirents)


def existing(place: Place) -> Node:
    """Return what the name leads to.

    Raises:
        Refused: ENOENT.
    """
    if place.found is None:
        raise Refused(errno.ENOENT, f"no such entry. name={place.name!r}")
    return place.found


def check_removable(place: Place) -> None:
    """Refuse to remove a directory that is not empty.

    Raises:
        Refused: ENOTEMPTY.
    """
    if place.has_entries:
        raise Refused(errno.ENOTEMPTY, f"the directory is not empty. name={place.name!r}")


def _check_free(place: Place) -> None:
    check_name(place.name)
    if place.found is not None:
        raise Refused(errno.EEXIST, f"the name is taken. name={place.name!r}")
    if place.folder.is_gone:
        raise Refused(errno.ENOENT, f"the directory was removed. inode={place.folder.inode}")


def _plan_remove(place: Place, node: Node, now_ns: int) -> Change:
    draft = Draft(now_ns)
    draft.unlink(node)
    draft.unname(place)
    draft.touch(place.folder)
    return draft.change()
