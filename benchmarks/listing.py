"""Measure listing: folders, walks through them, a crowd in one, and a million keys."""

import os
import time
from pathlib import Path

from benchmarks.figures import Figure, at_most, timed_figure
from benchmarks.lab import CROWD, SMALL_OBJECTS, Lab
from benchmarks.machine import memory_peak, run, seconds
from benchmarks.registry import benchmark
from blobfs.types import MIB

ROUNDS = 3


@benchmark("walk")
def walk(lab: Lab) -> list[Figure]:
    """List 1,000 objects in 20 folders with `ls -lR`, cold, then with `find`, warm.

    Three fresh mounts, medians; of the requests of `find` the most.
    """
    prefix = lab.small_objects()
    samples_s, warm_requests = [], 0
    for _ in range(ROUNDS):
        with lab.cold_mount(prefix) as mount:
            samples_s.append(seconds(run, ["ls", "-lR", mount.path]))
            before = mount.requests()
            _expect(SMALL_OBJECTS, len(_find_files(mount.path)))
            warm_requests = max(warm_requests, mount.requests() - before)
    return [
        timed_figure("ls -lR of 1,000 objects in 20 folders, cold", samples_s, at_most(0.3)),
        Figure("requests of a find after it", warm_requests, "", at_most(0)),
    ]


@benchmark("small-files")
def small_files(lab: Lab) -> list[Figure]:
    """Read 1,000 objects of 4 KiB one after the other with `cat */*`, cold.

    Three fresh mounts, median.
    """
    prefix = lab.small_objects()
    samples_s = []
    for _ in range(ROUNDS):
        with lab.cold_mount(prefix) as mount:
            samples_s.append(seconds(run, ["sh", "-c", "cat */* >/dev/null"], cwd=mount.path))
    return [timed_figure("cat */* of 1,000 objects of 4 KiB, cold", samples_s, at_most(4))]


@benchmark("crowd")
def crowd(lab: Lab) -> list[Figure]:
    """List 100,000 objects in one folder, cold: the first entry, all of them, memory.

    Three fresh mounts, medians; of memory the most.
    """
    prefix = lab.crowd()
    first_s, all_s, peaks = [], [], []
    for _ in range(ROUNDS):
        with lab.cold_mount(prefix) as mount, memory_peak(mount.pid) as peak:
            first, total = _scan(mount.path / "folder")
        first_s.append(first)
        all_s.append(total)
        peaks.append(peak.value_bytes / MIB)
    return [
        timed_figure("100,000 objects in one folder: first entry", first_s, at_most(0.2)),
        timed_figure("100,000 objects in one folder: all entries", all_s, at_most(4.5)),
        Figure("memory meanwhile", max(peaks), "MiB", at_most(150), tuple(peaks)),
    ]


@benchmark("million")
def million(lab: Lab) -> list[Figure]:
    """Mount a folder store with 1,000,000 keys. Three fresh mounts, median."""
    root = lab.million_files()
    samples_s = []
    for _ in range(ROUNDS):
        with lab.folder_mount(root) as mount:
            samples_s.append(mount.mounted_in_s)
    return [timed_figure("mount of 1,000,000 keys in a folder store", samples_s, at_most(2))]


def _find_files(folder: Path) -> list[str]:
    return run(["find", folder, "-type", "f", "-printf", "%p %s %t\\n"]).splitlines()


def _scan(folder: Path) -> tuple[float, float]:
    """Return the seconds to the first entry and to the last."""
    begun = time.perf_counter()
    with os.scandir(folder) as entries:
        next(entries)
        first_s = time.perf_counter() - begun
        count = 1 + sum(1 for _ in entries)
    total_s = time.perf_counter() - begun
    _expect(CROWD, count)
    return first_s, total_s


def _expect(expected: int, found: int) -> None:
    """Refuse to time a wrong answer."""
    if found != expected:
        raise RuntimeError(f"wrong number of entries. expected={expected} found={found}")
