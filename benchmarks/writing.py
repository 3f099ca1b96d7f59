"""Measure writing: until everything is committed in the bucket, and what it costs.

All on a volume that this client already uses: it was made and committed to before.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import ParamSpec

from benchmarks.figures import Figure, at_most, timed_figure
from benchmarks.lab import SMALL_BYTES, Lab
from benchmarks.machine import memory_peak, run, seconds
from benchmarks.mounts import Mount
from benchmarks.registry import benchmark
from blobfs.types import KIB, MIB

P = ParamSpec("P")

ROUNDS = 3
SMALL_FILES, SMALL_FOLDERS = 1_000, 20
BIG_BYTES = 256 * MIB
PIECE_BYTES = 16 * MIB
MOST_MEMORY_MIB = 400
CROWD = 10_000
CHANGED_BYTES = 200 * MIB
TRANSACTIONS = 100
ASK_EVERY_S = 0.03
"""A question costs daemon and asker 1.4 ms of processor time together, which is what both cores
lack meanwhile: asked every 10 ms, 256 MiB took a tenth longer."""


@benchmark("write-small")
def write_small(lab: Lab) -> list[Figure]:
    """Write 1,000 files of 4 KiB in 20 folders, until they are committed."""
    took_s, requests = [], []
    with _used_volume(lab, "write-small") as mount, memory_peak(mount.pid) as peak:
        for number in range(ROUNDS):
            before = mount.requests()
            took_s.append(_until_saved(mount, _write_small, mount.path / f"{number}"))
            requests.append(mount.requests() - before)
    return [
        timed_figure("1,000 new files of 4 KiB, first write to commit", took_s, at_most(1.5)),
        Figure("requests of it", max(requests), "", at_most(10)),
        _memory("memory meanwhile", peak.value_bytes),
    ]


@benchmark("untar")
def untar(lab: Lab) -> list[Figure]:
    """Untar Python's library without its tests, against a bare file system in memory.

    Three rounds of both in turn; medians. Ours counts until it is committed.
    """
    with _library(lab.folder) as archive, _used_volume(lab, "untar") as mount:
        entries, size_bytes = _contents(archive)
        ours_s, bare_s = [], []
        with memory_peak(mount.pid) as peak:
            for number in range(ROUNDS):
                bare_s.append(_bare_untar(lab.folder, archive))
                place = mount.path / f"{number}"
                ours_s.append(_until_saved(mount, _untar, archive, place))
    ours = timed_figure("untar of Python's library, until committed", ours_s)
    bare = timed_figure("the same into a bare file system in memory", bare_s)
    return [
        Figure("entries of it", entries, ""),
        Figure("bytes of it", size_bytes / MIB, "MiB"),
        ours,
        bare,
        Figure("untar: times the bare one", ours.value / bare.value, "", at_most(1.6)),
        _memory("memory meanwhile", peak.value_bytes),
    ]


@benchmark("write-big")
def write_big(lab: Lab) -> list[Figure]:
    """Write 256 MiB of random bytes, until committed, against 16 PUTs of 16 MiB.

    Three rounds of both in turn; medians.
    """
    body = os.urandom(BIG_BYTES)
    with _used_volume(lab, "write-big") as mount:
        ours_s, puts_s = [], []
        with memory_peak(mount.pid) as peak:
            for number in range(ROUNDS):
                puts_s.append(lab.bucket().put_in_parallel("yardstick", body, PIECE_BYTES))
                # Other bytes each time: what the volume has is not sent again.
                changed = _every_chunk_changed(body, number)
                place = mount.path / f"{number}"
                ours_s.append(_until_saved(mount, _write, place, changed))
    ours = timed_figure("256 MiB of random bytes, first write to commit", ours_s)
    puts = timed_figure("16 PUTs of 16 MiB, 8 at a time", puts_s)
    return [
        ours,
        puts,
        Figure("256 MiB: times the PUTs", ours.value / puts.value, "", at_most(1.2)),
        _memory("memory meanwhile", peak.value_bytes),
    ]


@benchmark("rename-crowd")
def rename_crowd(lab: Lab) -> list[Figure]:
    """Rename a directory of 10,000 files."""
    with _used_volume(lab, "rename-crowd") as mount:
        old, new = mount.path / "old", mount.path / "new"
        old.mkdir()
        _until_saved(mount, _touch_many, old)
        before = mount.status()["seq"]
        took_s = seconds(os.rename, old, new)
        _wait_saved(mount)
        commits = mount.status()["seq"] - before
        if sum(1 for _ in new.iterdir()) != CROWD:
            raise RuntimeError("files are missing after the rename")
    return [
        Figure("rename of a directory of 10,000 files", took_s, "s", at_most(0.2)),
        Figure("commits of it", commits, "", at_most(1)),
    ]


@benchmark("native-rename")
def native_rename(lab: Lab) -> list[Figure]:
    """Rename directories that 10,000 objects of another tool make up, against listing them.

    Three of them, each listed alone before; medians.
    """
    bucket, prefix = lab.bucket(), "native-rename"
    for crowd in range(ROUNDS):
        bucket.put_many((f"{prefix}/{crowd}/{n:05}" for n in range(CROWD)), b"x")
    renames_s, listings_s = [], []
    with _used_volume(lab, prefix) as mount, memory_peak(mount.pid) as peak:
        before = mount.status()["seq"]
        for crowd in range(ROUNDS):
            listings_s.append(seconds(bucket.list_all, f"{prefix}/{crowd}/"))
            new = mount.path / f"renamed-{crowd}"
            renames_s.append(seconds(os.rename, mount.path / f"{crowd}", new))
            _wait_saved(mount)
            if sum(1 for _ in new.iterdir()) != CROWD or (mount.path / f"{crowd}").exists():
                raise RuntimeError("objects are missing after the rename, or in two places")
        commits = mount.status()["seq"] - before
    renamed = timed_figure("rename of a directory of 10,000 objects", renames_s)
    listed = timed_figure("their listing alone", listings_s)
    return [
        renamed,
        listed,
        Figure("rename of it beyond its listing", renamed.value - listed.value, "s", at_most(0.2)),
        Figure("commits of each", commits / ROUNDS, "", at_most(1)),
        _memory("memory meanwhile", peak.value_bytes),
    ]


@benchmark("change-4k")
def change_4k(lab: Lab) -> list[Figure]:
    """Change 4 KiB inside a file of 200 MiB, and see what that uploads."""
    with _used_volume(lab, "change-4k") as mount:
        place = mount.path / "file"
        _until_saved(mount, _write, place, os.urandom(CHANGED_BYTES))
        before = mount.status()["store"]["bytes_sent"]
        _until_saved(mount, _change, place, CHANGED_BYTES // 2, os.urandom(4 * KIB))
        sent = mount.status()["store"]["bytes_sent"] - before
    return [Figure("uploaded for 4 KiB inside 200 MiB", sent / KIB, "KiB", at_most(300))]


@benchmark("sqlite")
def sqlite(lab: Lab) -> list[Figure]:
    """Commit 100 transactions of sqlite; each waits for the disk, never for the network."""
    with (
        _used_volume(lab, "sqlite") as mount,
        closing(sqlite3.connect(mount.path / "db")) as database,
    ):
        database.execute("create table t (x)")
        took_ms = [1000 * seconds(_transaction, database) for _ in range(TRANSACTIONS)]
    return [timed_figure("one sqlite transaction", took_ms, at_most(20), "ms")]


@contextmanager
def _used_volume(lab: Lab, prefix: str) -> Iterator[Mount]:
    """Mount an empty prefix for writing, with a first commit already made."""
    with lab.home(prefix, writable=True) as home, home.mount() as mount:
        _until_saved(mount, _write, mount.path / "first", b"first")
        yield mount


def _until_saved(
    mount: Mount, action: Callable[P, object], *args: P.args, **kwargs: P.kwargs
) -> float:
    """Return how long `action` with these arguments and then saving it took."""
    begun = time.perf_counter()
    action(*args, **kwargs)
    _wait_saved(mount)
    return time.perf_counter() - begun


def _wait_saved(mount: Mount) -> None:
    while not mount.is_saved():
        time.sleep(ASK_EVERY_S)


def _memory(title: str, peak_bytes: int) -> Figure:
    return Figure(title, peak_bytes / MIB, "MiB", at_most(MOST_MEMORY_MIB))


def _write_small(root: Path) -> None:
    each = SMALL_FILES // SMALL_FOLDERS
    for folder in range(SMALL_FOLDERS):
        (root / f"{folder:02}").mkdir(parents=True)
        for name in range(each):
            _write(root / f"{folder:02}" / f"{name:02}", os.urandom(SMALL_BYTES))


def _touch_many(folder: Path) -> None:
    for number in range(CROWD):
        (folder / f"{number:05}").touch()


def _write(path: Path, body: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(body), MIB):
            file.write(body[start : start + MIB])


def _every_chunk_changed(body: bytes, number: int) -> bytes:
    """Return `body` with a mark in each 4 KiB, so that no chunk of it is known."""
    marked = bytearray(body)
    marked[:: 4 * KIB] = bytes([number]) * len(marked[:: 4 * KIB])
    return bytes(marked)


def _change(path: Path, offset: int, body: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), body, offset)


def _transaction(database: sqlite3.Connection) -> None:
    with database:
        database.execute("insert into t values (1)")


@contextmanager
def _library(folder: Path) -> Iterator[Path]:
    """Make an archive of Python's own library, without tests and compiled files."""
    archive = folder / "library.tar"

    def wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        skip = {"test", "tests", "idle_test", "__pycache__", "site-packages", "dist-packages"}
        return None if skip & set(Path(info.name).parts) else info

    with tarfile.open(archive, "w") as tar:
        tar.add(sysconfig.get_path("stdlib"), "library", filter=wanted)
    yield archive
    archive.unlink()


def _contents(archive: Path) -> tuple[int, int]:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    return len(members), sum(member.size for member in members)


def _untar(archive: Path, place: Path) -> None:
    place.mkdir()
    run(["tar", "--no-same-owner", "-xf", archive, "-C", place])


def _bare_untar(folder: Path, archive: Path) -> float:
    """Return how long it takes into a bare file system in memory, made and gone for it."""
    mountpoint = folder / "bare"
    mountpoint.mkdir()
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.memfs", mountpoint])
    try:
        while not mountpoint.is_mount():
            time.sleep(0.01)
        took_s = seconds(_untar, archive, mountpoint / "0")
    finally:
        run(["umount", mountpoint])
        server.wait()
        shutil.rmtree(mountpoint)
    return took_s
