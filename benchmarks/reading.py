"""Measure reading: throughput, latency, what is fetched in vain, and memory."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figures import Figure, Target, at_least, at_most, timed_figure
from benchmarks.lab import BIG_BYTES, BIG_OBJECTS, DEEPEST, Lab
from benchmarks.machine import dd, drop_page_cache, memory_peak, mib_per_s, seconds
from benchmarks.mounts import Home
from benchmarks.registry import benchmark
from benchmarks.remote import DELAY_MS
from blobfs.types import KIB, MIB

ROUNDS = 5
FIRST_BYTE_ROUNDS = 5


@benchmark("cold-read")
def cold_read(lab: Lab) -> list[Figure]:
    """Read 256 MiB that were never read before, against 16 parallel ranged GETs.

    One warm-up of the GETs, then five rounds of both in turn; medians.
    """
    prefix = lab.big_objects()
    bucket = lab.bucket()
    bucket.get_in_parallel(f"{prefix}/0", BIG_BYTES)
    direct_s, mounted_s = [], []
    for _ in range(ROUNDS):
        direct_s.append(seconds(bucket.get_in_parallel, f"{prefix}/0", BIG_BYTES))
        with lab.cold_mount(prefix) as mount:
            mounted_s.append(seconds(dd, [mount.path / "0"]))
    return _compared(
        "cold read of 256 MiB", "16 parallel ranged GETs", mounted_s, direct_s, at_least(70)
    )


@benchmark("reread")
def reread(lab: Lab) -> list[Figure]:
    """Read 256 MiB again after a remount, from the disk cache, then a third time.

    Five rounds, in turn with `dd` of the cache's own data files; the page cache is dropped
    before each of both. Medians.
    """
    mounted_s, dd_mib_per_s = [], []
    third_reads = 0
    with lab.home(lab.big_objects()) as home:
        with home.mount() as mount:
            dd([mount.path / "0"])
        for _ in range(ROUNDS):
            dd_mib_per_s.append(_dd_of_cache(home))
            drop_page_cache()
            with home.mount() as mount:
                file = mount.path / "0"
                mounted_s.append(seconds(dd, [file]))
                before = mount.kernel_reads()
                dd([file])
                third_reads = max(third_reads, mount.kernel_reads() - before)
    direct_s = [BIG_BYTES / MIB / rate for rate in dd_mib_per_s]
    figures = _compared(
        "read from the disk cache", "dd of its files", mounted_s, direct_s, at_least(80)
    )
    return [*figures, Figure("READ requests of the third read", third_reads, "", at_most(0))]


@benchmark("first-byte")
def first_byte(lab: Lab) -> list[Figure]:
    """Open a small file after the mount and read its first byte, at depths 0 to 4.

    Five fresh mounts each, medians. A round trip counts as the 20 ms of the relay; what one
    takes with the server's own time is printed beside it, median of 20 on a warm connection.
    """
    prefix = lab.deep_objects()
    round_trips_ms = [1000 * took for took in lab.bucket().round_trips_s(f"{prefix}/file")]
    return [
        *[_first_byte_at(lab, prefix, depth) for depth in range(DEEPEST + 1)],
        timed_figure("one round trip, a HEAD with obstore", round_trips_ms, unit="ms"),
    ]


@benchmark("middle-4k")
def middle_4k(lab: Lab) -> list[Figure]:
    """Read 4 KiB in the middle of a 256 MiB object, and see what that fetches."""
    with lab.cold_mount(lab.big_objects()) as mount:
        before = mount.settled_bytes_received()
        with (mount.path / "0").open("rb", buffering=0) as file:
            os.pread(file.fileno(), 4 * KIB, BIG_BYTES // 2)
            fetched = mount.settled_bytes_received() - before
    return [
        Figure("fetched for 4 KiB in the middle of 256 MiB", fetched / KIB, "KiB", at_most(1024))
    ]


@benchmark("memory")
def memory(lab: Lab) -> list[Figure]:
    """Stream eight objects of 256 MiB at once, cold, and watch the daemon's memory."""
    with lab.cold_mount(lab.big_objects()) as mount, memory_peak(mount.pid) as peak:
        files = [[mount.path / str(number)] for number in range(BIG_OBJECTS)]
        with ThreadPoolExecutor(BIG_OBJECTS) as readers:
            took_s = seconds(lambda: list(readers.map(dd, files)))
    rate = mib_per_s(BIG_OBJECTS * BIG_BYTES, took_s)
    return [
        Figure("memory while 8 readers stream", peak.value_bytes / MIB, "MiB", at_most(350)),
        Figure("8 readers together", rate, "MiB/s"),
    ]


def _compared(
    title: str, yardstick: str, ours_s: list[float], theirs_s: list[float], target: Target
) -> list[Figure]:
    """Return the speeds of both for 256 MiB, and ours as a share of theirs."""
    ours = timed_figure(title, [mib_per_s(BIG_BYTES, took) for took in ours_s], unit="MiB/s")
    theirs = timed_figure(
        yardstick, [mib_per_s(BIG_BYTES, took) for took in theirs_s], unit="MiB/s"
    )
    return [ours, theirs, Figure(f"{title}: share", 100 * ours.value / theirs.value, "%", target)]


def _dd_of_cache(home: Home) -> float:
    """Return at how many MiB/s the cache's own files come from the disk."""
    files = home.cached_files()
    drop_page_cache()
    return mib_per_s(sum(file.stat().st_size for file in files), seconds(dd, files))


def _first_byte_at(lab: Lab, prefix: str, depth: int) -> Figure:
    samples_ms = []
    for _ in range(FIRST_BYTE_ROUNDS):
        with lab.cold_mount(prefix) as mount:
            file = mount.path.joinpath(*["folder"] * depth, "file")
            samples_ms.append(1000 * seconds(_read_one_byte, file))
    most_ms = (depth + 2) * DELAY_MS + 10
    return timed_figure(f"first byte at depth {depth}", samples_ms, at_most(most_ms), "ms")


def _read_one_byte(file: Path) -> None:
    with file.open("rb", buffering=0) as opened:
        opened.read(1)
