"""Find out before a daemon is started what would keep a mount from working.

Nothing here changes anything, and nothing waits for a mount that hangs.
"""

import errno
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from blobfs.control.mounts import detach_tool, find_mount
from blobfs.errors import BlobfsError, InUse, LocalFault, NotFound, UsageError
from blobfs.folders import contains

FUSE_DEVICE = Path("/dev/fuse")
FUSE_CONFIG = Path("/etc/fuse.conf")
_PROBE_S = 1.0


def usable_mountpoint(given: str) -> Path:
    """Return the mountpoint, absolute and without links, if something can be mounted there.

    Raises:
        NotFound: it does not exist.
        UsageError: it is no folder, or holds something.
        InUse: something is mounted there, dead or alive.
        LocalFault: it cannot be looked at.
    """
    place = Path(os.path.abspath(Path(given).expanduser()))  # noqa: PTH100 - resolve() would ask the mount
    try:
        # The parent first: were there a mount already, asking it might take for ever.
        place = place.parent.resolve(strict=True) / place.name
        _refuse_mounted(place)
        place = place.resolve(strict=True)
        _refuse_mounted(place)
        _refuse_unsuitable(place)
        place.as_posix().encode()
    except OSError as error:
        raise _mountpoint_error(error, place) from error
    except UnicodeEncodeError:
        raise UsageError(f"the mountpoint's name is not UTF-8. path={given!r}") from None
    return place


def check_fuse(*, allow_other: bool) -> None:
    """Check that this machine can mount at all.

    Raises:
        LocalFault: it lacks something; says what.
    """
    if not FUSE_DEVICE.exists():
        raise LocalFault(
            f"this machine has no FUSE. missing={str(FUSE_DEVICE)!r}",
            hint="load it with `sudo modprobe fuse`, or give a container --device /dev/fuse",
        )
    detach_tool()
    if allow_other and os.getuid() != 0 and not _others_allowed():
        raise LocalFault(
            f"--allow-other is not permitted here. file={str(FUSE_CONFIG)!r}",
            hint=f"let an administrator add the line user_allow_other to {FUSE_CONFIG}",
        )


def check_apart(mountpoint: Path, folders: Iterable[Path]) -> None:
    """Check that the daemon will need nothing that its own mount hides: it would wait for itself.

    Raises:
        UsageError: one of `folders` is at or below the mountpoint.
    """
    for folder in folders:
        if contains(str(mountpoint), str(folder)):
            raise UsageError(
                f"the mount would hide what it needs. mountpoint={str(mountpoint)!r} "
                f"needs={str(folder)!r}",
                hint="choose a mountpoint elsewhere",
            )


def check_outside(mountpoint: Path, source: Path) -> None:
    """Check that a folder that is to be mounted does not show itself.

    Raises:
        UsageError: the mountpoint is at or below `source`.
    """
    if contains(str(source), str(mountpoint)):
        raise UsageError(
            f"a folder cannot be mounted inside itself. mountpoint={str(mountpoint)!r}",
            hint="choose a mountpoint outside of the folder that you mount",
        )


def _refuse_mounted(place: Path) -> None:
    found = find_mount(str(place))
    if found is None:
        return
    if found.kind.startswith("fuse") and _is_dead(place):
        raise InUse(
            f"a dead mount is in the way. mountpoint={str(place)!r} type={found.kind}",
            hint=f"clear it with: {_clearing(found.kind, place)}",
        )
    raise InUse(
        f"something is mounted there already. mountpoint={str(place)!r} source={found.source}",
        hint=f"choose another folder, or free it with: {_clearing(found.kind, place)}",
    )


def _clearing(kind: str, place: Path) -> str:
    if kind == "fuse.blobfs":
        return f"blobfs unmount {place}"
    return f"fusermount3 -u {place}" if kind.startswith("fuse") else f"sudo umount {place}"


def _is_dead(place: Path) -> bool:
    """Return whether the mount lost its daemon; False also for one that does not answer."""
    outcome: list[int] = []

    def probe() -> None:
        try:
            os.statvfs(place)  # a stat is answered by what the kernel remembers, for a while
        except OSError as error:
            outcome.append(error.errno or 0)

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_PROBE_S)
    return errno.ENOTCONN in outcome


def _refuse_unsuitable(place: Path) -> None:
    if not place.is_dir():
        raise UsageError(f"the mountpoint is not a folder. path={str(place)!r}")
    if any(place.iterdir()):
        raise UsageError(
            f"the mountpoint is not empty. path={str(place)!r}",
            hint="choose an empty folder: a mount would hide what is in it",
        )


def _mountpoint_error(error: OSError, place: Path) -> BlobfsError:
    if isinstance(error, FileNotFoundError):
        return NotFound(
            f"the mountpoint does not exist. path={str(place)!r}",
            hint=f"create it with: mkdir -p {place}",
        )
    if isinstance(error, NotADirectoryError):
        return UsageError(f"the mountpoint is not a folder. path={str(place)!r}")
    return LocalFault(f"cannot use the mountpoint: {error.strerror}. path={str(place)!r}")


def _others_allowed() -> bool:
    try:
        lines = FUSE_CONFIG.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)
