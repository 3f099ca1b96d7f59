"""Keep objects as files in a folder on disk.

Keys are paths below the folder; `local_tree` says which files are objects, `local_write` how
they change. By its nature a folder cannot hold everything that a bucket can, and refuses
the rest with `Unsupported`:

- `a` and `a/b` at once, because `a` is either a file or a folder;
- content under a key with a final `/`. Putting `dir/` makes the folder, and `dir/` is an
  object as long as the folder is empty;
- empty, `.` and `..` segments, NUL, and names that the file system finds too long.

Deleting the last object of a folder removes the folder, as in a bucket, up to the root.
A version (ETag) is made of the file's times, size and inode number: two changes in place,
to the same size and within one tick of the file system's clock, look the same.

Concurrency: calls block in worker threads, which the store's own limiter counts. A folder
that stops answering (a network drive) holds those threads, and nothing else.
"""

# ruff: noqa: PTH116 - paths are bytes here, and pathlib takes none

import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import trio

from blobfs.env import Env
from blobfs.errors import (
    AccessDenied,
    BlobfsError,
    Changed,
    Damaged,
    LocalFault,
    NotFound,
    ReadOnly,
    StoreFull,
    Unreachable,
    Unsupported,
)
from blobfs.stores.base import MAX_PAGE_KEYS, Fetched, Store, StoreTraits
from blobfs.stores.local_tree import (
    NotAnObject,
    Pass,
    ScanTooLong,
    Tree,
    decode_key,
    describe,
    encode_key,
    split_key,
)
from blobfs.stores.local_write import Staging, Wanted, delete, delete_version, put
from blobfs.types import ByteRange, ListPage, ObjectInfo

FIRST_SCAN = 10_000
"""Names of one folder that the first page of a listing waits for, some 10 ms. In a larger
folder that page ends early, so that a mount, which asks for one page, need not read it all."""

T = TypeVar("T")
Args = TypeVarTuple("Args")

_FAULTS: dict[type[BlobfsError], tuple[int, ...]] = {
    NotFound: (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
    AccessDenied: (errno.EACCES, errno.EPERM),
    ReadOnly: (errno.EROFS,),
    StoreFull: (errno.ENOSPC, errno.EDQUOT),
    LocalFault: (errno.EFBIG,),
    Unsupported: (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EXDEV),
}
"""What a system error means; all others are Unreachable: a disk or a server in trouble."""

_HINTS: dict[type[BlobfsError], str] = {
    AccessDenied: "give yourself permission to it, or run as its owner",
    ReadOnly: "mount the file system that it lies on for writing",
    StoreFull: "make room on the disk that it lies on",
    LocalFault: "raise the limit of the size of files (ulimit -f)",
    Unsupported: "use a folder on a local disk",
    Unreachable: "check the disk or the network drive that it lies on",
}


@dataclass(slots=True)
class _Page:
    """A page of a listing while it is being filled."""

    prefix: str
    last: str
    max_keys: int
    recursive: bool
    objects: list[ObjectInfo] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.objects) + len(self.prefixes) == self.max_keys

    def add(self, key: str, path: bytes) -> None:
        self.last = key
        is_folder = key.endswith("/")
        if is_folder and not self.recursive and key != self.prefix:
            self.prefixes.append(key)
            return
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return  # deleted since the folder was scanned
        if (stat.S_ISDIR if is_folder else stat.S_ISREG)(status.st_mode):
            self.objects.append(describe(key, status))

    def finish(self, *, is_last: bool) -> ListPage:
        # The `>` keeps the token apart from "", which is where a listing may have to go on.
        token = None if is_last else f">{self.last}"
        return ListPage(tuple(self.objects), tuple(self.prefixes), token)


@dataclass(slots=True)
class LocalStore(Store):
    """Objects below the folder `root`, which has to exist."""

    root: Path
    env: Env = field(default_factory=Env)
    url: str = field(init=False)
    traits: StoreTraits = field(
        default=StoreTraits(
            put_if_absent=True,
            put_if_match=True,
            delete_if_match=True,
            delete_batch=1000,
            parallel=16,
            raw_keys=True,
        )
    )
    _limiter: trio.CapacityLimiter = field(init=False)
    _tree: Tree | None = field(default=None, init=False)
    _staging: Staging = field(init=False)
    _identity: tuple[int, int] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.root = self.root.absolute()
        self.url = f"file://{self.root}"
        self._limiter = trio.CapacityLimiter(self.traits.parallel)
        self._staging = Staging(os.fsencode(self.root))

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        if span is not None and not span:
            raise ValueError(f"empty span. key={key!r}")
        return await self._in_thread(key, _get, key, span, if_match)

    async def head(self, key: str) -> ObjectInfo:
        return await self._in_thread(key, _head, key)

    async def list(
        self,
        prefix: str = "",
        *,
        delimiter: bool = False,
        start_after: str = "",
        max_keys: int = MAX_PAGE_KEYS,
        token: str | None = None,
    ) -> ListPage:
        look = Pass(self.env.monotonic_s(), token is None, FIRST_SCAN if token is None else None)
        page = _Page(prefix, start_after if token is None else token[1:], max_keys, not delimiter)
        return await self._in_thread(prefix, self._list, page, look)

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        staged_name = f"{int(self.env.chance() * 2**53):014x}"
        # A copy, because a cancelled put goes on when the caller may use its buffer again.
        wanted = Wanted(key, bytes(data), if_absent, if_match, staged_name)
        return await self._in_thread(key, put, self._staging, wanted)

    async def delete_many(self, keys: Iterable[str]) -> dict[str, BlobfsError]:
        wanted = tuple(keys)
        if not wanted:
            return {}
        failed = await self._in_thread("", delete, self._staging, wanted)
        return {key: _fault(error, key, self.url) for key, error in failed.items()}

    async def delete_if_match(self, key: str, etag: str) -> None:
        await self._in_thread(key, delete_version, self._staging, key, etag)

    # -- threads ---------------------------------------------------------------------

    async def _in_thread(self, key: str, call: Callable[[Tree, *Args], T], *args: *Args) -> T:
        return await trio.to_thread.run_sync(
            self._run, key, call, args, abandon_on_cancel=True, limiter=self._limiter
        )

    def _run(self, key: str, call: Callable[[Tree, *Args], T], args: tuple[*Args]) -> T:
        """Run `call` on the tree, and name its errors."""
        tree = self._enter()
        try:
            return call(tree, *args)
        except (NotFound, OSError) as error:
            self._enter()  # a missing root is not a missing key
            if isinstance(error, NotFound):
                raise
            raise _fault(error, key, self.url) from error

    def _enter(self) -> Tree:
        """Return the tree, after a look whether the root is still the one it was.

        A drive that is not plugged in leaves no folder, or an empty one that was below it.
        """
        try:
            status = self.root.stat()
            real = os.path.realpath(os.fsencode(self.root)) if self._tree is None else b""
        except OSError as error:
            raise self._missing_root(error) from error
        if not stat.S_ISDIR(status.st_mode):
            raise NotFound(
                f"not a folder. store={self.url!r}", hint="name the folder that holds the files"
            )
        identity = (status.st_dev, status.st_ino)
        if self._tree is None:
            self._tree, self._identity = Tree(real), identity
        elif identity != self._identity:
            raise Unreachable(
                f"another folder is in the place of the one in use. store={self.url!r}",
                hint="attach the drive again, or unmount and mount what is there now",
            )
        return self._tree

    def _missing_root(self, error: OSError) -> BlobfsError:
        if error.errno not in _FAULTS[NotFound]:
            return _fault(error, "", self.url)
        if self._tree is None:
            return NotFound(
                f"no such folder. store={self.url!r}", hint="create it, or check the spelling"
            )
        return Unreachable(f"the folder is gone. store={self.url!r}", hint="attach its drive again")

    def _list(self, tree: Tree, page: _Page, look: Pass) -> ListPage:
        raw_prefix, raw_after = encode_key(page.prefix), encode_key(page.last)
        is_last = True
        try:
            for raw, path in tree.walk(raw_prefix, raw_after, look, recursive=page.recursive):
                if page.is_full:
                    is_last = False
                    break
                page.add(decode_key(raw), path)
        except ScanTooLong:
            is_last = False  # the next page reads on, without a limit
        self._enter()  # what vanished is gone only if the root is still there
        return page.finish(is_last=is_last)


def _head(tree: Tree, key: str) -> ObjectInfo:
    return _look(tree, key)[1]


def _get(tree: Tree, key: str, span: ByteRange | None, if_match: str | None) -> Fetched:
    path, info = _look(tree, key)
    if key.endswith("/"):
        _expect(info, if_match)
        return Fetched(info, memoryview(b""))
    # Without NONBLOCK, a pipe that took the file's place would hold us for ever.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        return _read(fd, key, span, if_match)
    finally:
        os.close(fd)


def _look(tree: Tree, key: str) -> tuple[bytes, ObjectInfo]:
    """Return (path, description) of the object under `key`.

    Raises:
        NotFound: there is none.
        OSError: the system cannot say.
    """
    parts = split_key(key)
    if not parts:
        raise _no_object(key)
    try:
        path = tree.resolve(parts)
        status = os.stat(path)
        is_folder = stat.S_ISDIR(status.st_mode)
        is_file = stat.S_ISREG(status.st_mode)
        if not (is_folder and tree.is_empty(parts) if key.endswith("/") else is_file):
            raise _no_object(key)
    except NotAnObject:
        raise _no_object(key) from None
    return path, describe(key, status)


def _read(fd: int, key: str, span: ByteRange | None, if_match: str | None) -> Fetched:
    """Read `span` of an open file, all of it from one version."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise _no_object(key)
    info = describe(key, status)
    _expect(info, if_match)
    span = (span or ByteRange(0, info.size_bytes)).clamp(info.size_bytes)
    buffer = memoryview(bytearray(len(span)))
    done = 0
    while done < len(span) and (count := os.preadv(fd, [buffer[done:]], span.start + done)):
        done += count
    now = describe(key, os.fstat(fd))
    _expect(now, if_match)
    if now != info or done < len(span):
        raise Damaged(f"the file changed while it was read. key={key!r}")
    return Fetched(info, buffer.toreadonly())


def _expect(info: ObjectInfo, if_match: str | None) -> None:
    if if_match is not None and info.etag != if_match:
        raise Changed(f"object has another version. key={info.key!r} expected={if_match!r}")


def _no_object(key: str) -> NotFound:
    return NotFound(f"no such object. key={key!r}")


def _fault(error: OSError, key: str, url: str) -> BlobfsError:
    """Return what `error` means to those who asked for `key`."""
    kind = next((kind for kind, codes in _FAULTS.items() if error.errno in codes), Unreachable)
    return kind(f"{error.strerror or error}. key={key!r} store={url!r}", hint=_HINTS.get(kind))
