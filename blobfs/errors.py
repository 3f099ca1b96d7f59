"""Say what went wrong, by the reaction that it calls for.

One class per reaction, not per cause: the class carries the errno that a program
sees through the mount, the exit code of the command line, a hint, and whether
another try may help; the message carries the detail, values last.

    BlobfsError
    ├── NotFound            confirmed absent: the store answered, and it is not there
    ├── AlreadyExists       put-if-absent met an object
    ├── Changed             the version asked for is not the current one
    ├── OutcomeUnknown      a conditional put whose answer was lost; never repeated blindly
    ├── AccessDenied        credentials missing, wrong or too weak
    ├── StoreFull           the store takes no more until somebody makes room there
    ├── Unreachable         no answer in time (transient)
    │   └── Throttled       the store asked us to slow down (transient)
    ├── Damaged             bytes that are not what was asked for (transient: asked for again)
    ├── UsageError          the request itself makes no sense; exit code 2
    ├── Unsupported         the store or the format cannot do this
    ├── ReadOnly            writing is not possible here
    ├── InUse               somebody else holds what we need
    └── LocalFault          this machine lacks something: FUSE, a tool
        └── NoRoom          the disk, or the room given to unsaved data, is full

Exit codes: 0 done, 1 kept free for "something is unsaved", 2 usage, 3 not found,
4 access denied, 5 unreachable, 6 in use, 7 changed meanwhile, 8 this machine lacks
something, 9 `check` found damage, 70 a fault in blobfs itself.
"""

import errno as _errno


class BlobfsError(Exception):
    """Base of every error that blobfs raises on purpose."""

    errno: int = _errno.EIO
    exit_code: int = 70
    hint: str = ""
    transient: bool = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class NotFound(BlobfsError):
    """The store answered, and the thing is not there."""

    errno, exit_code = _errno.ENOENT, 3


class AlreadyExists(BlobfsError):
    """A put-if-absent met an object under its key."""

    errno, exit_code = _errno.EEXIST, 7


class Changed(BlobfsError):
    """The object is there, but not in the version that was asked for."""

    errno, exit_code = _errno.ESTALE, 7


class OutcomeUnknown(BlobfsError):
    """A conditional put was sent and its answer never came: it may have happened.

    Repeating it would meet its own success, so the caller has to look first
    (volume-format, commit table).
    """

    errno, exit_code = _errno.EIO, 5


class AccessDenied(BlobfsError):
    """The store refused us, or there are no credentials to show it."""

    errno, exit_code = _errno.EACCES, 4


class StoreFull(BlobfsError):
    """The store takes no more: its quota is used up, or its disks are full. Nothing was written,
    and what is there can be read."""

    errno, exit_code = _errno.ENOSPC, 4


class Unreachable(BlobfsError):
    """No usable answer in time. Never to be read as "it does not exist"."""

    errno, exit_code, transient = _errno.EIO, 5, True


class Throttled(Unreachable):
    """The store asked for a pause, of `retry_after_s` seconds when it said so."""

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Damaged(BlobfsError):
    """Bytes arrived, or lay on disk, that are not the ones asked for."""

    errno, exit_code, transient = _errno.EIO, 5, True


class UsageError(BlobfsError):
    """The request makes no sense as it stands."""

    errno, exit_code = _errno.EINVAL, 2


class Unsupported(BlobfsError):
    """The store, the format or the platform cannot do this."""

    errno, exit_code = _errno.EOPNOTSUPP, 2


class ReadOnly(BlobfsError):
    """Writing is not possible here."""

    errno, exit_code = _errno.EROFS, 4


class InUse(BlobfsError):
    """Another process, or another mount, holds what we need."""

    errno, exit_code = _errno.EBUSY, 6


class LocalFault(BlobfsError):
    """This machine lacks something that is needed: FUSE, a tool, room on the disk."""

    errno, exit_code = _errno.EIO, 8


class NoRoom(LocalFault):
    """The disk, or the room given to unsaved data, is full; what was accepted before stays."""

    errno = _errno.ENOSPC
    hint = "make room on the disk of the state folder (--state-dir)"
