"""Read a folder on disk as a sorted set of keys. Blocking; called in worker threads.

Which files are objects:

1. Regular files are. A name that is not UTF-8 travels as surrogate escapes.
2. Folders are common prefixes; one with nothing to show in it is a marker object `dir/`.
3. Symbolic links stand for what they lead to, as long as that lies inside the root.
   Links that lead out of it, lead nowhere, or lead to a folder that they lie in themselves
   are not objects, and neither are sockets, pipes and devices.
4. The folder where puts are staged is hidden.

Order: keys are ordered by their bytes. Within a folder that is the order of the names when
each sub-folder is given its final `/` first, because `a-b` < `a/x` < `a0`.

Concurrency: one `Tree` is used by many threads; its scans are kept under a lock.
"""

# ruff: noqa: PTH116 - paths are bytes here, and pathlib takes none

import bisect
import errno
import itertools
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from blobfs.types import ObjectInfo

STAGING = b".blobfs-staging"
"""Folder in the root where bodies lie until they are whole. Not shown, not an object."""

MAX_KEPT_NAMES = 1_000_000
MAX_KEPT_SCANS = 64
SCAN_LIFE_S = 30.0
"""How long the pages of one listing share a scan. Long enough that a million names are
not read again for each thousand, short enough that nobody sees last hour's folder."""


class NotAnObject(OSError):
    """The path exists, but nothing under it is an object (rules 3 and 4)."""


class ScanTooLong(Exception):
    """A folder holds more names than this request may wait for."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What one folder held when it was scanned.

    `base` is the key of the folder with its final `/` (b"" for the root), `way` the real
    paths of the folders on the way to it, itself last; `names` are sorted, those of
    sub-folders end with `/`.
    """

    base: bytes
    way: tuple[bytes, ...]
    names: Sequence[bytes]

    @property
    def path(self) -> bytes:
        return self.way[-1]


@dataclass(slots=True)
class Scans:
    """Scans that later pages of a listing may use; the least recently used go first."""

    _kept: OrderedDict[bytes, tuple[float, Folder]] = field(default_factory=OrderedDict)
    _names: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, base: bytes, now_s: float) -> Folder | None:
        with self._lock:
            scanned_s, folder = self._kept.get(base, (0.0, None))
            if folder is None or now_s - scanned_s > SCAN_LIFE_S:
                return None
            self._kept.move_to_end(base)
            return folder

    def keep(self, folder: Folder, now_s: float) -> None:
        with self._lock:
            self._drop(folder.base)
            self._kept[folder.base] = (now_s, folder)
            self._names += len(folder.names)
            # The newest stays however large it is, or its listing would never end.
            while len(self._kept) > 1 and (
                self._names > MAX_KEPT_NAMES or len(self._kept) > MAX_KEPT_SCANS
            ):
                self._drop(next(iter(self._kept)))

    def _drop(self, base: bytes) -> None:
        _, folder = self._kept.pop(base, (0.0, None))
        if folder is not None:
            self._names -= len(folder.names)


@dataclass(frozen=True, slots=True)
class Pass:
    """One request's look at the tree.

    `now_s` is its time. A `fresh` one sees the folders as they are and waits for at most
    `max_scan` names of one folder; the others may use what earlier pages scanned.
    """

    now_s: float
    fresh: bool
    max_scan: int | None


@dataclass(slots=True)
class _Cursor:
    folder: Folder
    index: int
    stem: bytes = b""


@dataclass(frozen=True, slots=True)
class Tree:
    """The keys below `root`, which is a real, absolute path."""

    root: bytes
    _scans: Scans = field(default_factory=Scans)

    # -- paths -----------------------------------------------------------------------

    def resolve(self, parts: Sequence[bytes]) -> bytes:
        """Return the real path behind the key made of `parts`.

        Raises:
            NotAnObject: it leads out of the root, round in circles, or to the staging folder.
            OSError: as the system says, FileNotFoundError first of all.
        """
        return self._way(parts)[-1]

    def _way(self, parts: Sequence[bytes]) -> tuple[bytes, ...]:
        way: tuple[bytes, ...] = (self.root,)
        if parts and parts[0] == STAGING:
            raise NotAnObject(f"the staging folder holds no objects. path={parts!r}")
        paths = list(itertools.accumulate(parts, _at, initial=self.root))
        if _real_path(paths[-1]) == paths[-1]:
            return tuple(paths)  # no link on the way
        for part in parts:
            way = (*way, self._step(way, part))
        return way

    def _step(self, way: tuple[bytes, ...], name: bytes) -> bytes:
        """Return the real path of `name` in the folder at the end of `way`."""
        plain = _at(way[-1], name)
        real = _real_path(plain)
        if real != plain:
            hidden = _lies_in(real, _at(self.root, STAGING))
            loop = any(_lies_in(folder, real) for folder in way)
            if hidden or loop or not _lies_in(real, self.root):
                raise NotAnObject(f"link leads out or in circles. path={plain!r}")
        return real

    # -- folders ---------------------------------------------------------------------

    def is_empty(self, parts: Sequence[bytes]) -> bool:
        """Say whether the folder made of `parts` shows nothing.

        Raises:
            OSError: it cannot be read, NotADirectoryError when it is no folder.
        """
        return next(self._visible(self._way(parts)), None) is None

    def _visible(self, way: tuple[bytes, ...]) -> Iterator[bytes]:
        with os.scandir(way[-1]) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield from self._behind_link(way, entry.name)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.name
                elif entry.is_dir(follow_symlinks=False) and not (
                    len(way) == 1 and entry.name == STAGING
                ):
                    yield entry.name + b"/"

    def _behind_link(self, way: tuple[bytes, ...], name: bytes) -> Iterator[bytes]:
        try:
            mode = os.stat(self._step(way, name)).st_mode
        except (FileNotFoundError, NotADirectoryError, NotAnObject):
            return
        except OSError:
            # What lies inside and cannot be read is an error; what lies outside is not ours.
            if _lies_in(os.path.realpath(_at(way[-1], name)), self.root):
                raise
            return
        if stat.S_ISREG(mode):
            yield name
        elif stat.S_ISDIR(mode):
            yield name + b"/"

    def _scan(self, base: bytes, way: tuple[bytes, ...], look: Pass) -> Folder:
        if not look.fresh and (kept := self._scans.find(base, look.now_s)):
            return kept
        names: list[bytes] = []
        for name in self._visible(way):
            if len(names) == look.max_scan:
                raise ScanTooLong
            names.append(name)
        names.sort()
        folder = Folder(base, way, names)
        self._scans.keep(folder, look.now_s)
        return folder

    def _top(self, base: bytes, look: Pass) -> Folder | None:
        """Return the folder whose key is `base`; None when there is none."""
        parts = base.split(b"/")[:-1]
        if not _are_names(parts):
            return None
        try:
            return self._scan(base, self._way(parts), look)
        except (FileNotFoundError, NotADirectoryError, NotAnObject):
            if not parts:
                raise  # the root itself: never an empty listing
            return None

    def _below(self, parent: Folder, name: bytes, look: Pass) -> Folder | None:
        """Return the sub-folder `name` of `parent`; None when it vanished meanwhile."""
        try:
            real = self._step(parent.way, name[:-1])
            return self._scan(parent.base + name, (*parent.way, real), look)
        except (FileNotFoundError, NotADirectoryError, NotAnObject):
            return None

    # -- keys ------------------------------------------------------------------------

    def walk(
        self, prefix: bytes, after: bytes, look: Pass, *, recursive: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, path) in key order, of keys above `after` that start with `prefix`.

        Folders are read when their turn comes. Without `recursive`, sub-folders are
        yielded as prefixes: keys with a final `/` that are longer than `prefix`.
        """
        cut = prefix.rfind(b"/") + 1
        top = self._top(prefix[:cut], look)
        if top is None:
            return
        if top.base and top.base == prefix and not top.names and top.base > after:
            yield top.base, top.path
        stack = [_Cursor(top, _first(top, prefix[cut:], after, recursive), prefix[cut:])]
        while stack:
            cursor = stack[-1]
            folder = cursor.folder
            name = folder.names[cursor.index] if cursor.index < len(folder.names) else None
            if name is None or not name.startswith(cursor.stem):
                stack.pop()
                continue
            cursor.index += 1
            if not (recursive and name.endswith(b"/")):
                yield folder.base + name, _at(folder.path, name)
            elif child := self._below(folder, name, look):
                if not child.names and child.base > after:
                    yield child.base, child.path
                stack.append(_Cursor(child, _first(child, b"", after, recursive)))


def encode_key(key: str) -> bytes:
    """Return the bytes of `key`; text that no file name decodes to sorts as good as nothing."""
    return key.encode("utf-8", "surrogateescape")


def decode_key(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def split_key(key: str) -> list[bytes]:
    """Return the names on the way to `key`, without its final `/`; [] when no file can have it."""
    try:
        parts = encode_key(key).removesuffix(b"/").split(b"/")
    except UnicodeEncodeError:
        return []
    return parts if _are_names(parts) else []


def _are_names(parts: Sequence[bytes]) -> bool:
    return all(part not in (b"", b".", b"..") and b"\0" not in part for part in parts)


def describe(key: str, status: os.stat_result) -> ObjectInfo:
    """Return what a store says of the file or folder with this `status`.

    The version holds all that the system changes when a file does: contents written in
    place move mtime and ctime, a file renamed over it has another inode number.
    """
    size_bytes = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    etag = f"{status.st_mtime_ns:x}-{size_bytes:x}-{status.st_ino:x}-{status.st_ctime_ns:x}"
    return ObjectInfo(key, size_bytes, etag, status.st_mtime_ns)


def _first(folder: Folder, stem: bytes, after: bytes, recursive: bool) -> int:
    """Return the index of the first name in `folder` that is asked for."""
    start = bisect.bisect_left(folder.names, stem)
    if not after.startswith(folder.base):
        return start if after < folder.base else len(folder.names)
    rest = after[len(folder.base) :]
    head, slash, _ = rest.partition(b"/")
    if recursive and slash:
        # The folder that `after` lies in may hold more behind it.
        return max(start, bisect.bisect_left(folder.names, head + slash))
    return max(start, bisect.bisect_right(folder.names, rest))


def _real_path(path: bytes) -> bytes:
    """Return `path` without its links.

    Raises:
        NotAnObject: its links lead round in circles.
        FileNotFoundError: there is no such path, or it is too long for there to be one.
    """
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAnObject(f"link leads in circles. path={path!r}") from None
        if error.errno == errno.ENAMETOOLONG:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        raise


def _at(folder: bytes, name: bytes) -> bytes:
    return folder + name if folder == b"/" else folder + b"/" + name


def _lies_in(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")
