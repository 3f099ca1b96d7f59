"""Change a folder of objects so that each change is whole, durable and seen by one winner.

A body is written to the staging folder and fsynced there; then, under a lock file that every
writer and deleter of the folder holds for its turn, the key is looked at and the body linked
(if-absent) or renamed to its place; then the folder that names it is fsynced. A link and a
rename happen or do not, so a killed writer leaves at most a staged body, which the next
one sweeps away. Blocking; called in worker threads.
"""

# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH114, PTH116, PTH118, PTH208
# Paths are bytes here, and pathlib takes none.

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blobfs.errors import AlreadyExists, Changed, Unsupported
from blobfs.stores.local_tree import STAGING, NotAnObject, Tree, describe, split_key
from blobfs.types import ObjectInfo

_LOCK = b"lock"

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
"""What file systems answer that cannot link (FAT), or where the folder is another disk."""

_NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_IN_THE_WAY = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A put as it was asked for; `staged_name` is a name that no other put has."""

    key: str
    body: bytes
    if_absent: bool
    if_match: str | None
    staged_name: str


class Staging:
    """The folder where bodies lie until they are whole, with the writers' lock."""

    def __init__(self, root: bytes) -> None:
        self._path = os.path.join(root, STAGING)
        self._swept = False

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all other writers of this folder out, in this process and in others."""
        fd = self._open_lock()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _open_lock(self) -> int:
        path = os.path.join(self._path, _LOCK)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._path)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    @contextlib.contextmanager
    def body(self, name: str, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Give (descriptor, path) of a file that durably holds `data`; remove what is left."""
        path = os.path.join(self._path, name.encode())
        with self.lock():
            self._sweep()
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            fcntl.flock(fd, fcntl.LOCK_EX)  # says that its writer lives
        try:
            _write_all(fd, data)
            os.fsync(fd)
            yield fd, path
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.close(fd)

    def _sweep(self) -> None:
        """Remove, once, the bodies whose writers are dead."""
        if self._swept:
            return
        self._swept = True
        for name in os.listdir(self._path):
            if name != _LOCK:
                _remove_unless_locked(os.path.join(self._path, name))


def put(tree: Tree, staging: Staging, wanted: Wanted) -> str:
    """Store the body, or make the folder of a key with a final `/`; return its version.

    Raises:
        AlreadyExists, Changed: as `Store.put`.
        Unsupported: a folder cannot hold this key.
        OSError: as the system says.
    """
    parts = split_key(wanted.key)
    if not parts or parts[0] == STAGING:
        raise Unsupported(f"a folder on disk cannot hold this key. key={wanted.key!r}")
    try:
        if wanted.key.endswith("/"):
            return _put_marker(tree, staging, wanted, parts)
        return _put_file(tree, staging, wanted, parts)
    except OSError as error:
        if error.errno in _NO_SUCH_NAME:
            raise Unsupported(
                f"the file system cannot hold this key. key={wanted.key!r} cause={error.strerror}"
            ) from error
        if error.errno in _IN_THE_WAY:
            raise _in_the_way(wanted.key) from error
        raise


def delete(tree: Tree, staging: Staging, keys: Sequence[str]) -> dict[str, OSError]:
    """Delete `keys` and the folders that become empty by it; return what could not be."""
    failed: dict[str, OSError] = {}
    touched: set[bytes] = set()
    with staging.lock():
        for key in keys:
            try:
                touched |= _delete_one(tree, key)
            except OSError as error:
                failed[key] = error
        for folder in touched:
            with contextlib.suppress(FileNotFoundError):
                _sync_folder(folder)
    return failed


def delete_version(tree: Tree, staging: Staging, key: str, etag: str) -> None:
    """Delete `key`, and the folders that become empty by it, if its version is `etag`.

    Nobody who takes the lock can come between the look and the removal; other programs could, in
    the microseconds between them.

    Raises:
        Changed: as `Store.delete_if_match`.
        OSError: as the system says.
    """
    parts = split_key(key)
    with staging.lock():
        found = None
        if parts and parts[0] != STAGING:
            with contextlib.suppress(Unsupported):  # no object, and not ours to remove
                found = _find(tree, key, parts)
        if found is not None and found.etag != etag:
            raise Changed(f"object has another version. key={key!r} expected={etag!r}")
        for folder in _delete_one(tree, key):
            with contextlib.suppress(FileNotFoundError):
                _sync_folder(folder)


def _put_file(tree: Tree, staging: Staging, wanted: Wanted, parts: list[bytes]) -> str:
    with staging.body(wanted.staged_name, wanted.body) as (fd, staged):
        with staging.lock():
            _expect(_find(tree, wanted.key, parts), wanted)
            folder = _make_folders(tree, wanted.key, parts[:-1])
            _place(staged, os.path.join(folder, parts[-1]), wanted)
            # Linking and renaming move the ctime, so the version is what it is after them.
            version = describe(wanted.key, os.fstat(fd)).etag
        _sync_folder(folder)
        return version


def _put_marker(tree: Tree, staging: Staging, wanted: Wanted, parts: list[bytes]) -> str:
    if wanted.body:
        raise Unsupported(f"a folder on disk has no content of its own. key={wanted.key!r}")
    with staging.lock():
        _expect(_find(tree, wanted.key, parts), wanted)
        folder = _make_folders(tree, wanted.key, parts)
        return describe(wanted.key, os.stat(folder)).etag


def _find(tree: Tree, key: str, parts: list[bytes]) -> ObjectInfo | None:
    """Return the object under `key`, None when there is none.

    Raises:
        Unsupported: what is there is not an object, and putting must not replace it.
    """
    try:
        status = os.stat(tree.resolve(parts))
    except NotAnObject:
        raise _in_the_way(key) from None
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(os.path.join(tree.root, *parts)):
            raise _in_the_way(key) from None  # it leads nowhere
        return None
    wanted_kind = stat.S_ISDIR if key.endswith("/") else stat.S_ISREG
    if not wanted_kind(status.st_mode):
        raise _in_the_way(key)
    if key.endswith("/") and not tree.is_empty(parts):
        return None  # a folder, but no object: something lies in it
    return describe(key, status)


def _expect(found: ObjectInfo | None, wanted: Wanted) -> None:
    if wanted.if_absent and found is not None:
        raise AlreadyExists(f"object exists. key={wanted.key!r}")
    if wanted.if_match is not None and (found is None or found.etag != wanted.if_match):
        raise Changed(
            f"object has another version. key={wanted.key!r} expected={wanted.if_match!r}"
        )


def _make_folders(tree: Tree, key: str, parts: list[bytes]) -> bytes:
    """Make the folders `parts` where they are missing; return the real path of the last."""
    try:
        return tree.resolve(parts)
    except FileNotFoundError:
        parent = _make_folders(tree, key, parts[:-1])
        os.mkdir(os.path.join(parent, parts[-1]))
        _sync_folder(parent)
        return os.path.join(parent, parts[-1])
    except NotAnObject:
        raise _in_the_way(key) from None


def _place(staged: bytes, target: bytes, wanted: Wanted) -> None:
    if not wanted.if_absent:
        os.rename(staged, target)
        return
    try:
        os.link(staged, target)
    except FileExistsError:
        raise AlreadyExists(f"object exists. key={wanted.key!r}") from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise Unsupported(
            f"no file can be created by link here. key={wanted.key!r} cause={error.strerror}",
            hint="use a folder on one disk whose file system has hard links",
        ) from error
    os.unlink(staged)


def _delete_one(tree: Tree, key: str) -> set[bytes]:
    """Delete `key` if it is an object; return the folders that have to be fsynced."""
    parts = split_key(key)
    try:
        if not parts or parts[0] == STAGING or _find(tree, key, parts) is None:
            return set()
    except Unsupported:
        return set()  # no object, and not ours to remove
    folder = tree.resolve(parts[:-1])
    path = os.path.join(folder, parts[-1])
    if key.endswith("/") and not os.path.islink(path):
        os.rmdir(path)
    else:
        os.unlink(path)
    return {folder, _prune(tree, parts[:-1])}


def _prune(tree: Tree, parts: list[bytes]) -> bytes:
    """Remove the folder `parts` and those above it as far as they are empty.

    Return the one that is left. A symbolic link to a folder stays, and so does the root.
    """
    for count in range(len(parts), 0, -1):
        path = os.path.join(tree.root, *parts[:count])
        try:
            os.rmdir(path)
        except OSError:
            return path
    return tree.root


def _remove_unless_locked(path: bytes) -> None:
    with contextlib.suppress(OSError):  # another writer swept it, or holds it
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _sync_folder(path: bytes) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _in_the_way(key: str) -> Unsupported:
    return Unsupported(
        f"a file, a folder or a link lies in the way of this key. key={key!r}",
        hint="in a folder on disk, `a` cannot be a file while `a/b` exists",
    )
