"""Be a file system, in terms of inodes; whoever serves a kernel only translates.

Every method raises `BlobfsError` with the errno that a program should see, and nothing
else on purpose.

Concurrency: any method may run in any number of tasks. State changes between two awaits stand
together, so no locks are needed.
"""

import errno
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from blobfs.cache.reading import Reader, Reading
from blobfs.env import Env
from blobfs.errors import BlobfsError, Changed, NotFound, ReadOnly
from blobfs.model.listing import RESERVED_NAME, Entry
from blobfs.model.walk import NAMES_LOOKED_AHEAD, RunDetector
from blobfs.types import MIB, ByteRange, HandleNo, InodeNo
from blobfs.vfs.inodes import InodeTable, Node, content_of
from blobfs.volume.native import NativeTree
from blobfs.volume.runs import FolderView

MOST_VALID_S = 30.0
"""How long a kernel may believe a name or its attributes without asking us."""

SMALL_FILE_BYTES = MIB
"""Files up to this size are fetched ahead for a program that reads one after the other."""

XATTR_PREFIX = b"user.blobfs."


class BadHandle(BlobfsError):
    """A handle or an inode number that we did not give out."""

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


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """What `stat` needs to know of one inode."""

    inode: InodeNo
    is_folder: bool
    size_bytes: int
    mtime_ns: int
    valid_s: float
    """How long the name may be believed to lead to this inode."""


@dataclass(frozen=True, slots=True)
class Absent:
    """The name leads nowhere, and may be believed to do so for `valid_s`."""

    valid_s: float


class Dirent(msgspec.Struct, frozen=True):
    """One entry on its way to a reader of a directory."""

    name: bytes
    attributes: Attributes
    node: Node
    next_cookie: int
    """Where to go on behind this entry."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What `df` shows: what is known to lie in the bucket."""

    size_bytes: int
    files: int


@dataclass(slots=True)
class _OpenFolder:
    node: Node
    view: FolderView
    # Where each page begins, as the number of entries before it: cookies count entries.
    starts: list[int]


@dataclass(slots=True)
class _OpenFile:
    node: Node
    reader: Reader


class Vfs:
    """The mounted directory."""

    def __init__(self, source: str, native: NativeTree, reading: Reading, env: Env) -> None:
        self._native = native
        self._reading = reading
        self._env = env
        self._inodes = InodeTable(source)
        self._handles = itertools.count(1)
        self._files: dict[int, _OpenFile] = {}
        self._folders: dict[int, _OpenFolder] = {}
        self._runs = RunDetector()
        self._fetched_ahead: tuple[str, bytes] = ("", b"")

    # --- names and attributes --------------------------------------------------------

    async def lookup(self, parent: InodeNo, name: bytes) -> Attributes | Absent:
        """Find `name`, and count a lookup of its inode.

        Raises:
            NotAllowed: the name is reserved.
            NotAFolder: `parent` is a file.
        """
        folder = self._folder_node(parent)
        if name == RESERVED_NAME:
            raise NotAllowed(f"the name is kept for blobfs itself. name={name!r}")
        found = await self._native.lookup(folder.prefix, name)
        valid_s = self._valid_s(found.valid_until_s)
        if found.entry is None:
            return Absent(valid_s)
        node = self._inodes.node(folder, found.entry)
        self._inodes.count_lookup(node)
        return self._attributes(node, valid_s)

    def forget(self, inode: InodeNo, count: int) -> None:
        """Take back `count` lookups of `inode`."""
        self._inodes.forget(inode, count)

    def getattr(self, inode: InodeNo) -> Attributes:
        """Return the attributes of an inode; those of a version never change."""
        return self._attributes(self._node(inode), MOST_VALID_S)

    def usage(self) -> Usage:
        """Return what is known to lie in the bucket, which costs no request."""
        statistics = self._native.statistics()
        return Usage(statistics.size_bytes, statistics.entries)

    # --- directories -----------------------------------------------------------------

    async def opendir(self, inode: InodeNo) -> HandleNo:
        """Open a directory for reading."""
        node = self._folder_node(inode)
        view = await self._native.open_folder(node.prefix)
        handle = HandleNo(next(self._handles))
        self._folders[handle] = _OpenFolder(node, view, [0])
        return handle

    async def readdir(self, handle: HandleNo, cookie: int) -> Iterator[Dirent] | None:
        """Return some entries behind `cookie` (0: from the start); None at the end.

        An entry counts as looked up only when the caller says so, by `count_lookup`.
        """
        folder = self._open_folder(handle)
        number = _page_of(folder.starts, cookie)
        while (page := await folder.view.page(number)) is not None:
            start = folder.starts[number]
            if number + 1 == len(folder.starts):
                folder.starts.append(start + len(page))
            if cookie < start + len(page):
                return self._dirents(folder, page[cookie - start :], cookie)
            number += 1
        return None

    def dots(self, handle: HandleNo) -> Iterator[tuple[bytes, Attributes]]:
        """Yield `.` and `..` of an open directory."""
        node = self._open_folder(handle).node
        yield b".", self._attributes(node, 0)
        yield b"..", self._attributes(self._inodes.get(node.parent) or node, 0)

    def count_lookup(self, dirent: Dirent) -> None:
        """Note that the kernel took this entry, and its inode with it."""
        self._inodes.count_lookup(dirent.node)

    def releasedir(self, handle: HandleNo) -> None:
        """Close a directory."""
        if (folder := self._folders.pop(handle, None)) is not None:
            folder.view.close()

    # --- files -----------------------------------------------------------------------

    def open(self, inode: InodeNo, *, for_writing: bool) -> HandleNo:
        """Open a file; it keeps the version that it was opened on.

        Raises:
            Changed: the store is known to hold another version; look the name up again.
            ReadOnly: writing was asked for.
        """
        node = self._node(inode)
        if node.entry.is_folder:
            raise IsAFolder(f"a directory cannot be opened as a file. prefix={node.prefix!r}")
        if for_writing:
            raise ReadOnly(f"mounted read-only. key={node.content.key!r}")
        if node.outdated:
            raise Changed(f"the object was replaced. key={node.content.key!r}")
        self._fetch_neighbours(node)
        handle = HandleNo(next(self._handles))
        self._files[handle] = _OpenFile(node, self._reading.open(node.content))
        return handle

    async def read(self, handle: HandleNo, span: ByteRange) -> bytes | memoryview:
        """Return the bytes of `span`, shorter only at the end of the file.

        Raises:
            Changed: the store holds another version by now: never a mixture of two.
        """
        file = self._files.get(handle)
        if file is None:
            raise BadHandle(f"no such open file. handle={handle}")
        try:
            return await file.reader.read(span)
        except (Changed, NotFound) as error:
            self._note_outdated(file.node)
            raise Changed(f"the object was replaced or removed while open: {error}") from error

    def release(self, handle: HandleNo) -> None:
        """Close a file."""
        if (file := self._files.pop(handle, None)) is not None:
            file.reader.close()

    @property
    def open_files(self) -> int:
        return len(self._files)

    # --- extended attributes -----------------------------------------------------------

    async def getxattr(self, inode: InodeNo, name: bytes) -> bytes | None:
        """Return an extended attribute; None when there is none of that name.

        They can be read but are not listed, since tools that copy attributes would try to
        set them elsewhere.
        """
        if not name.startswith(XATTR_PREFIX):
            return None
        node = self._node(inode)
        if node.entry.is_folder:
            return None
        match name[len(XATTR_PREFIX) :]:
            case b"etag":
                return node.entry.etag.encode("utf-8", "surrogateescape")
            case b"cached_bytes":
                return b"%d" % await self._reading.cached_bytes(node.content)
            case b"state":
                return (await self._state(node)).encode()
            case _:
                return None

    # --- inside ----------------------------------------------------------------------

    def _node(self, inode: InodeNo) -> Node:
        node = self._inodes.get(inode)
        if node is None:
            raise Changed(f"an inode that was forgotten. inode={inode}")
        return node

    def _folder_node(self, inode: InodeNo) -> Node:
        node = self._node(inode)
        if not node.entry.is_folder:
            raise NotAFolder(f"not a directory. key={node.content.key!r}")
        return node

    def _open_folder(self, handle: HandleNo) -> _OpenFolder:
        folder = self._folders.get(handle)
        if folder is None:
            raise BadHandle(f"no such open directory. handle={handle}")
        return folder

    def _valid_s(self, until_s: float) -> float:
        return min(MOST_VALID_S, max(0.0, until_s - self._env.monotonic_s()))

    def _attributes(self, node: Node, valid_s: float) -> Attributes:
        entry = node.entry
        mtime_ns = entry.mtime_ns
        if entry.is_folder:
            mtime_ns = self._native.folder_mtime_ns(node.prefix)
        return Attributes(node.number, entry.is_folder, entry.size_bytes, mtime_ns, valid_s)

    def _dirents(self, folder: _OpenFolder, page: list[Entry], cookie: int) -> Iterator[Dirent]:
        valid_s = self._valid_s(folder.view.valid_until_s)
        for position, entry in enumerate(page, cookie + 1):
            node = self._inodes.node(folder.node, entry)
            yield Dirent(entry.name, self._attributes(node, valid_s), node, position)

    def _note_outdated(self, node: Node) -> None:
        node.outdated = True
        self._native.forget(node.prefix, node.entry.name)

    async def _state(self, node: Node) -> str:
        cached_bytes = await self._reading.cached_bytes(node.content)
        if cached_bytes >= node.entry.size_bytes:
            return "cached"
        return "partial" if cached_bytes else "remote"

    def _fetch_neighbours(self, node: Node) -> None:
        """Fetch the next small files for a program that reads a directory in order."""
        prefix, name = node.prefix, node.entry.name
        if node.entry.size_bytes > SMALL_FILE_BYTES:
            return
        following = self._native.following(prefix, name, NAMES_LOOKED_AHEAD)
        first = self._native.is_first_file(prefix, name)
        count = self._runs.opened(prefix, name, [entry.name for entry in following], first=first)
        if not count:
            return
        ahead_prefix, ahead_name = self._fetched_ahead
        if ahead_prefix != prefix or ahead_name < name:
            ahead_name = name
        window = self._native.following(prefix, name, count)
        wanted = [entry for entry in window if entry.name > ahead_name and _is_small(entry)]
        if wanted:
            self._fetched_ahead = (prefix, wanted[-1].name)
            self._reading.prefetch([content_of(prefix, entry) for entry in wanted])


def _is_small(entry: Entry) -> bool:
    return not entry.is_folder and 0 < entry.size_bytes <= SMALL_FILE_BYTES


def _page_of(starts: list[int], cookie: int) -> int:
    """Return the last page known to begin at or before `cookie`."""
    for number in range(len(starts) - 1, -1, -1):
        if starts[number] <= cookie:
            return number
    return 0
