"""Hold a folder against a second process, and tell how its last holder ended."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from blobfs.errors import InUse, LocalFault

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class FolderLock:
    """A lock file that this process holds. Made by `hold_folder`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.machine_stopped = _machine_stopped(os.pread(descriptor, 200, 0), boot_id())
        """The last holder did not let go, and the machine was started since: what it wrote
        without a flush may be torn."""

    def sign(self) -> None:
        """Write down who holds the folder."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()} {boot_id()}\n".encode(), 0)

    def release(self) -> None:
        """Let go after an orderly end."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def in_place(self) -> bool:
        """Return whether the lock file is still the one that lies in the folder."""
        return _same_file(self._path, self._descriptor)


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[FolderLock]:
    """Make `folder` if it is not there, and hold `folder/lock` for as long as we are inside.

    Raises:
        InUse: another process holds it.
        LocalFault: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _acquire(folder / "lock")
        lock.sign()
    except OSError as error:
        raise folder_fault(folder, error) from error
    try:
        yield lock
    finally:
        lock.release()


def folder_fault(folder: Path, error: OSError) -> LocalFault:
    """Return what to tell the user of a folder that refused us."""
    if error.errno in NO_ROOM:
        return no_room(folder)
    return LocalFault(
        f"cannot use the folder: {error.strerror}. path={str(folder)!r}",
        hint="choose a folder that you may write to",
    )


def no_room(folder: Path) -> LocalFault:
    """Return what to tell the user of a full disk."""
    return LocalFault(
        f"no room on the disk. path={str(folder)!r}",
        hint="make room or choose a folder on another disk",
    )


def boot_id() -> str:
    """Return what identifies the present run of the machine; empty where it does not tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _acquire(path: Path) -> FolderLock:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and flock the file may have been deleted: a lock on it holds nothing.
            if _same_file(path, descriptor):
                return FolderLock(path, descriptor)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").split(" ")[0]
            os.close(descriptor)
            raise InUse(
                f"another process holds the folder. path={str(path.parent)!r} pid={holder}",
                hint="unmount what uses it, or choose another folder",
            ) from None
        os.close(descriptor)


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:  # gone, or out of our reach: it is not in place either way
        return False


def _machine_stopped(signed: bytes, now: str) -> bool:
    if not signed:
        return False
    then = signed.decode(errors="replace").strip().partition(" ")[2]
    return then != now or not now
