"""Name the values that the core gives to front-ends, and the errors that are its own."""

import errno
import stat
from dataclasses import dataclass

import msgspec

from blobfs.errors import BlobfsError
from blobfs.formats.rows import Kind
from blobfs.model.nodes import Node
from blobfs.model.refusal import Refused
from blobfs.types import InodeNo, NodeNo

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
}


class BadHandle(BlobfsError):
    """A handle that we did not give out, or that was opened for something else."""

    errno, exit_code = errno.EBADF, 70


class NotAFolder(BlobfsError):
    """A directory was needed."""

    errno, exit_code = errno.ENOTDIR, 2


class IsAFolder(BlobfsError):
    """A file was needed."""

    errno, exit_code = errno.EISDIR, 2


class NotAllowed(BlobfsError):
    """The name is blobfs' own (volume format, N7)."""

    errno, exit_code = errno.EPERM, 4


class NoAttribute(BlobfsError):
    """There is no extended attribute of that name."""

    errno, exit_code = errno.ENODATA, 3


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """What `stat` needs to know of one inode. Times are ns since the epoch."""

    inode: NodeNo
    """What the kernel calls it, and programs see as `st_ino`."""
    mode: int
    """File type and permission bits, as `st_mode` has them."""
    nlink: int
    uid: int
    gid: int
    rdev: int
    size_bytes: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    valid_s: float
    """How long the name may be believed to lead to this inode, and these to be its attributes."""


@dataclass(frozen=True, slots=True)
class Absent:
    """The name leads nowhere, and may be believed to do so for `valid_s`."""

    valid_s: float


class Dirent(msgspec.Struct, frozen=True, gc=False):
    """One entry on its way to a reader of a directory."""

    name: bytes
    attributes: Attributes
    parent: InodeNo
    node: Node
    next_cookie: int
    """Where to go on behind this entry."""


def attributes_of(node: Node, number: NodeNo, atime_ns: int, valid_s: float) -> Attributes:
    """Return the attributes of `node` as a kernel takes them that calls it `number`."""
    row = node.row
    return Attributes(
        number,
        node.mode,
        row.nlink,
        row.uid,
        row.gid,
        row.rdev,
        row.size_bytes,
        atime_ns,
        row.mtime_ns,
        row.ctime_ns,
        valid_s,
    )


def kind_of(mode: int) -> Kind:
    """Return what mknod(2) makes of this mode.

    Raises:
        Refused: EINVAL.
    """
    kind = _KINDS.get(stat.S_IFMT(mode) or stat.S_IFREG)
    if kind is None:
        raise Refused(errno.EINVAL, f"nothing that mknod makes. mode={mode:#o}")
    return kind


def state_of(cached_bytes: int, size_bytes: int) -> bytes:
    """Return how much of a file is here, in the words of `user.blobfs.state`."""
    if cached_bytes >= size_bytes:
        return b"cached"
    return b"partial" if cached_bytes else b"remote"
