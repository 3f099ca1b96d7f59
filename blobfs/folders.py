"""Find and make the folders that blobfs keeps on this machine.

State, cache and sockets hold private data, so every folder made here is mode 0700. The
runtime folder is also checked: whoever owns it owns the sockets that commands trust.
"""

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from blobfs.errors import LocalFault


def state_root(environ: Mapping[str, str]) -> Path:
    """Return the folder that holds one state folder a source."""
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "blobfs"


def cache_root(environ: Mapping[str, str]) -> Path:
    """Return the folder that holds one cache folder a source."""
    return _xdg(environ, "XDG_CACHE_HOME", ".cache") / "blobfs"


def runtime_root(environ: Mapping[str, str], *, run_user: Path = Path("/run/user")) -> Path:
    """Return the folder of the control sockets, whether or not it exists yet.

    1. `$XDG_RUNTIME_DIR`, where it exists: containers often pass on one that does not.
    2. `/run/user/<uid>`, so that a cron job and a login find each other's mounts.
    3. A folder of our own below the temporary one, for machines without either.
    """
    given = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if given.is_absolute() and given.is_dir():
        return given / "blobfs"
    per_user = run_user / str(os.getuid())
    if per_user.is_dir():
        return per_user / "blobfs"
    return Path(environ.get("TMPDIR") or tempfile.gettempdir()) / f"blobfs-{os.getuid()}"


def known_runtime(environ: Mapping[str, str]) -> Path:
    """Return `runtime_root`, which may not exist, but is not somebody else's if it does.

    Raises:
        LocalFault: somebody else owns it or may enter it.
    """
    folder = runtime_root(environ)
    return require_private(folder) if folder.exists() else folder


def require_private(folder: Path) -> Path:
    """Return `folder` once it is known to be ours alone.

    Raises:
        LocalFault: somebody else owns it or may enter it.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise LocalFault(
            f"the folder for control sockets belongs to somebody else. path={str(folder)!r}",
            hint="set XDG_RUNTIME_DIR to a folder that only you can enter",
        )
    if found.st_mode & 0o077:
        raise LocalFault(
            f"the folder for control sockets is open to others. path={str(folder)!r}",
            hint=f"chmod 700 {folder}",
        )
    return folder


def make(folder: Path) -> Path:
    """Make `folder` and what is missing above it, mode 0700; return it.

    Raises:
        LocalFault: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalFault(f"cannot make a folder: {error.strerror}. path={str(folder)!r}") from error
    return folder


def replace_file(path: Path, data: bytes) -> None:
    """Make `data` the content of a file: all of it or what was there, whatever ends this program.

    Raises:
        OSError: the disk refused.
    """
    staged = path.with_name(path.name + ".new")
    with staged.open("wb", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())
    staged.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk: files that were made, renamed or removed.

    Raises:
        OSError: the disk refused.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def contains(folder: str, path: str) -> bool:
    """Return whether `path` is `folder` or lies below it, by their names alone."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _xdg(environ: Mapping[str, str], name: str, default: str) -> Path:
    # The XDG specification: a relative path is to be ignored.
    given = Path(environ.get(name, ""))
    return given if given.is_absolute() else Path.home() / default
