"""Ask the kernel what is mounted, and take a mount away.

The mount table is read, never the mountpoint itself: a `stat` of a mount whose daemon hangs
would hang too.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from blobfs.errors import InUse, LocalFault

FILE_SYSTEM_TYPE = "fuse.blobfs"
"""What the mount table calls our mounts (the mount option `subtype=blobfs`)."""

_DETACH_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Mounted:
    """One row of the mount table."""

    mountpoint: str
    kind: str
    source: str
    device: str
    """What the kernel calls the file system, wherever it is mounted: `0:40`."""


def read_mounts(table: Path = Path("/proc/self/mountinfo")) -> list[Mounted]:
    """Return all rows of a mount table; on one mountpoint, the uppermost is the last.

    Raises:
        OSError: it cannot be read.
    """
    # Names may hold whatever else Python takes for the end of a line.
    lines = os.fsdecode(table.read_bytes()).split("\n")
    return [_parse_row(line) for line in lines if line]


def find_mount(mountpoint: str, table: Path = Path("/proc/self/mountinfo")) -> Mounted | None:
    """Return what is mounted on exactly `mountpoint`; with several on it, the uppermost."""
    rows = reversed(read_mounts(table))
    return next((row for row in rows if row.mountpoint == mountpoint), None)


def detach(mountpoint: str, *, lazy: bool = False) -> None:
    """Unmount `mountpoint`; `lazy` takes it out of sight at once, whoever still uses it.

    Raises:
        InUse: something below it is open.
        LocalFault: it could not be done for another reason.
    """
    command = [detach_tool(), "-u", *(["-z"] if lazy else []), "--", mountpoint]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DETACH_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise LocalFault(f"unmounting takes too long. mountpoint={mountpoint!r}") from None
    if done.returncode == 0:
        return
    said = " ".join(done.stderr.split())
    if "busy" in said.lower():
        raise InUse(f"files are open in the mount. mountpoint={mountpoint!r}")
    raise LocalFault(f"cannot unmount: {said}. mountpoint={mountpoint!r}")


def detach_tool() -> str:
    """Return the path of fusermount3.

    Raises:
        LocalFault: it is not installed.
    """
    found = shutil.which("fusermount3")
    if found is None:
        raise LocalFault(
            "the program fusermount3 is missing",
            hint="install the package fuse3, for example: sudo apt install fuse3",
        )
    return found


def _parse_row(line: str) -> Mounted:
    # proc(5): 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    left, _, right = line.partition(" - ")
    fields = left.split(" ")
    kind, source = right.split(" ")[:2]
    return Mounted(_unescape(fields[4]), kind, _unescape(source), fields[2])


def _unescape(field: str) -> str:
    # Space, tab, newline and backslash are written as octal escapes.
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
