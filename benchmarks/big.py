"""Measure a volume of a million files: opening it, looking around, and its next checkpoint."""

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.big_volume import MADE_AT, BigVolume, file_name
from benchmarks.figures import Figure, at_least, at_most, timed_figure
from benchmarks.lab import Lab
from benchmarks.machine import memory_peak, private_memory_bytes, processor_s, run, seconds
from benchmarks.mounts import Home, Mount
from benchmarks.registry import benchmark
from blobfs.sync.checkpointer import CheckpointRules
from blobfs.types import MIB

ROUNDS = 3
CHANGES_TOGETHER = 17
"""Before each save: about 1,000 until a checkpoint falls due."""
MOST_CHANGES = 1200
WAITS_S = 60.0
LOOK_EVERY_S = 0.05


@benchmark("big-volume")
def big_volume(lab: Lab) -> list[Figure]:
    """Mount a volume of 1,000,000 files where nothing of it is known, and look at some.

    Three fresh mounts each, medians; of requests and memory the most.
    """
    prefix, volume = lab.big_volume("big-volume")
    folders = [volume.leaves[place] for place in (0, 500, 999)]
    mounted_s, requests, memory, listed_s, found_s = [], [], [], [], []
    for folder in folders:
        with lab.cold_mount(prefix) as mount:
            mounted_s.append(mount.mounted_in_s)
            requests.append(mount.requests())
            memory.append(private_memory_bytes(mount.pid) / MIB)
            listed_s.append(seconds(run, ["ls", "-l", f"{mount.path}{folder.path}"]))
        with lab.cold_mount(prefix) as mount:
            path = Path(f"{mount.path}{folder.path}", os.fsdecode(file_name(7)))
            found_s.append(seconds(os.stat, path))
    return [
        timed_figure("1,000,000 files, nothing known: mount", mounted_s, at_most(2)),
        Figure("requests of it", max(requests), "", at_most(10)),
        Figure("memory after it", max(memory), "MiB", at_most(100), tuple(memory)),
        timed_figure("ls -l of one directory of 1,000 then", listed_s, at_most(0.5)),
        timed_figure("a look at one file at depth 5 then", found_s, at_most(0.3)),
    ]


@benchmark("big-find")
def big_find(lab: Lab) -> list[Figure]:
    """Walk through a volume of 1,000,000 files with `find`, then mount it again. One run."""
    prefix, volume = lab.big_volume("big-volume")
    with lab.home(prefix) as home:
        with home.mount() as mount, memory_peak(mount.pid) as peak:
            begun, used_s = time.perf_counter(), processor_s(mount.pid)
            entries = run(["find", mount.path, "-printf", "%s\\n"]).count("\n")
            rate = entries / (time.perf_counter() - begun)
            used_s = processor_s(mount.pid) - used_s
            requests = mount.requests()
        with home.mount() as mount:
            again_s = mount.mounted_in_s
    if entries < volume.state.inodes:
        raise RuntimeError(f"find has not found all. found={entries}")
    return [
        Figure("find in 1,000,000 files: entries a second", rate, "", at_least(50_000)),
        Figure("processor time of the daemon, of one entry", used_s / entries * 1e6, "us"),
        Figure("requests of it", requests, ""),
        Figure("memory meanwhile", peak.value_bytes / MIB, "MiB"),
        Figure("mount of it again", again_s, "s", at_most(1)),
    ]


@benchmark("checkpoint")
def checkpoint(lab: Lab) -> list[Figure]:
    """Write the checkpoint that falls due after 1,000 changes in 1,000,000 files. One run."""
    prefix, volume = lab.big_volume("checkpoint")
    with lab.home(prefix, writable=True) as home, home.mount() as mount:
        due_at = MADE_AT + CheckpointRules().due_entries
        changes = _known_files(mount, volume)
        before = lab.bucket().get(f"{prefix}/.blobfs/head")
        # Saving may make two commits of what is changed together.
        while mount.seq() < due_at - 2:
            _change(home, mount, changes)
        sent_bytes, used_s = mount.bytes_sent(), processor_s(mount.pid)
        with _longest_wait(f"{mount.path}{volume.leaves[0].path}") as longest_s:
            while mount.seq() < due_at:
                _change(home, mount, changes)
            took_s = seconds(_wait_for_another, lab, prefix, before)
        used_s = processor_s(mount.pid) - used_s
        sent_bytes = mount.bytes_sent() - sent_bytes
    return [
        Figure("a checkpoint after 1,000 changes: processor time", used_s, "s", at_most(3)),
        Figure("from the save that made it due", took_s, "s"),
        Figure("uploaded for it", sent_bytes / MIB, "MiB", at_most(64)),
        Figure("longest operation meanwhile", longest_s[0] * 1000, "ms", at_most(50)),
    ]


def _known_files(mount: Mount, volume: BigVolume) -> Iterator[str]:
    """Yield files from all over the volume, which were looked at before: changing them is quick."""
    paths = []
    for place in range(MOST_CHANGES):
        folder = volume.leaves[place * 7919 % len(volume.leaves)]
        paths.append(f"{mount.path}{folder.path}/{os.fsdecode(file_name(place % folder.files))}")
        os.stat(paths[-1])  # noqa: PTH116
    return iter(paths)


def _change(home: Home, mount: Mount, paths: Iterator[str]) -> None:
    """Change some files, and save them."""
    for path in itertools.islice(paths, CHANGES_TOGETHER):
        os.chmod(path, 0o600)  # noqa: PTH101
    home.blobfs("sync", str(mount.path))


def _wait_for_another(lab: Lab, prefix: str, before: bytes) -> None:
    """Return when `head` is not what it was."""
    give_up = time.monotonic() + WAITS_S
    while lab.bucket().get(f"{prefix}/.blobfs/head") == before:
        if time.monotonic() > give_up:
            raise RuntimeError(f"no checkpoint came. waited={WAITS_S:.0f} s")
        time.sleep(LOOK_EVERY_S)


@contextmanager
def _longest_wait(path: str) -> Iterator[list[float]]:
    """Ask the daemon for something small, over and over; the longest answer is the first item.

    Concurrency: one thread of its own, joined at the end of the block.
    """
    longest_s, done = [0.0], threading.Event()

    def ask() -> None:
        while not done.wait(0.001):
            longest_s[0] = max(longest_s[0], seconds(os.listxattr, path))

    asking = threading.Thread(target=ask, name="asking")
    asking.start()
    try:
        yield longest_s
    finally:
        done.set()
        asking.join()
