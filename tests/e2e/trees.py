"""Say what a directory tree holds, so that two can be compared: all that programs can see of it."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """One name of a tree.

    `content` is a digest, a link's target, or a device's number. The sizes of directories are
    left out: every file system has its own idea of them.
    """

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    size_bytes: int
    content: str
    xattrs: tuple[tuple[str, bytes], ...]
    same_as: str
    """The first name of this file, which differs from its own one for further hard links."""


def seen(root: Path) -> dict[str, Seen]:
    """Return what lies below `root`, by relative path."""
    found: dict[str, Seen] = {}
    first_names: dict[int, str] = {}
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = Path(folder, name)
            relative = str(path.relative_to(root))
            status = path.lstat()
            first = relative
            if not stat.S_ISDIR(status.st_mode):
                first = first_names.setdefault(status.st_ino, relative)
            found[relative] = _see(path, status, first)
    return found


def differing(one: dict[str, Seen], other: dict[str, Seen]) -> dict[str, tuple[object, object]]:
    """Return what two trees do not have in common, by name."""
    return {
        name: (one.get(name), other.get(name))
        for name in one.keys() | other.keys()
        if one.get(name) != other.get(name)
    }


def _see(path: Path, status: os.stat_result, first: str) -> Seen:
    return Seen(
        kind=stat.filemode(status.st_mode)[0],
        mode=stat.S_IMODE(status.st_mode),
        owner=(status.st_uid, status.st_gid),
        mtime_ns=status.st_mtime_ns,
        size_bytes=0 if stat.S_ISDIR(status.st_mode) else status.st_size,
        content=_content(path, status),
        xattrs=tuple(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        ),
        same_as=first,
    )


def _content(path: Path, status: os.stat_result) -> str:
    if stat.S_ISREG(status.st_mode):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)  # noqa: PTH115 - as it is, not as a path would write it
    return str(status.st_rdev)
