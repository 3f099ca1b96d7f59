"""Look at processes of this machine through /proc.

A process is known by its number and the moment it started, because numbers are used again.
"""

import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blobfs.control.mounts import read_mounts
from blobfs.folders import contains

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that keeps a mount busy."""

    pid: int
    name: str


def started_at(pid: int) -> int | None:
    """Return when `pid` started, in clock ticks since boot; None: no such process runs.

    A zombie does not run any more: it only waits for its parent to look.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): the name, in brackets, may hold anything; field 3 is the first one after it.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_running(pid: int, started: int) -> bool:
    return started_at(pid) == started


def wait_ended(pid: int, started: int, within_s: float, *, send: int | None = None) -> bool:
    """Wait until that process has ended; return False if it still runs after `within_s`.

    The signal `send`, if given, goes to exactly that process before the wait.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # Only now does `pid` stay what it is, so only now may its start be compared.
        if not is_running(pid, started):
            return True
        if send is not None:
            signal.pidfd_send_signal(handle, send)
        readable, _, _ = select.select([handle], [], [], within_s)
        return bool(readable)
    finally:
        os.close(handle)


def own_memory_bytes() -> int:
    """Return what this process holds in memory of its own: anonymous and shared pages.

    Mapped files (the local databases) do not count, since the kernel takes them back at will.
    """
    text = (_PROC / "self" / "status").read_text()
    rows = dict(line.split(":", 1) for line in text.splitlines())
    return sum(int(rows[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def holders(mountpoint: str) -> list[Holder]:
    """Return the processes that we may look at and that use something below `mountpoint`.

    Only links of /proc are read, never the mount itself, so a hung mount cannot hold this up.
    """
    pids = sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return [
        Holder(pid, _name(pid))
        for pid in pids
        if any(contains(mountpoint, path) for path in _used_paths(_PROC / str(pid)))
    ]


def seen_elsewhere(device: str) -> list[Holder]:
    """Return the processes that we may look at and that still see the file system `device`, in
    mount namespaces of their own: containers and services that were started while it was mounted.
    """
    seen: dict[str, bool] = {_namespace("self"): False}
    found = []
    for pid in sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()):
        namespace = _namespace(str(pid))
        if namespace not in seen:
            seen[namespace] = _sees(pid, device)
        if seen[namespace]:
            found.append(Holder(pid, _name(pid)))
    return found


def _namespace(process: str) -> str:
    """Return what a process's mount namespace is called; empty if it is not ours to look at."""
    return next(_links(_PROC / process / "ns" / "mnt"), "")


def _sees(pid: int, device: str) -> bool:
    try:
        return any(row.device == device for row in read_mounts(_PROC / str(pid) / "mountinfo"))
    except OSError:
        return False


def _used_paths(process: Path) -> Iterator[str]:
    yield from _links(process / "cwd", process / "root", process / "exe")
    for folder in ("fd", "map_files"):
        try:
            yield from _links(*(process / folder).iterdir())
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at


def _links(*links: Path) -> Iterator[str]:
    for link in links:
        try:
            yield os.readlink(link)  # noqa: PTH115 - Path.readlink() would take ten times as long
        except OSError:
            continue


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
