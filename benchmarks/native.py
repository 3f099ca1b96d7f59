"""Measure the first change of a large object that another tool wrote."""

import os
import time
from pathlib import Path

from benchmarks.figures import Figure, at_most, timed_figure
from benchmarks.lab import Lab
from benchmarks.machine import memory_peak, private_memory_bytes, seconds
from benchmarks.mounts import Mount
from benchmarks.registry import benchmark
from blobfs.types import GIB, KIB, MIB

ROUNDS = 3
OBJECT_BYTES = GIB
CHANGED_BYTES = 4 * KIB
WAITS_S = 120.0
LOOK_EVERY_S = 0.03
BUDGET_MIB = 256
"""What `--memory` is by default."""


@benchmark("native-change")
def native_change(lab: Lab) -> list[Figure]:
    """Change 4 KiB inside objects of 1 GiB, which nobody has looked at, until they are committed.

    Three objects, one after another, medians; of memory the most.
    """
    prefix = lab.native_objects(ROUNDS, OBJECT_BYTES)
    acknowledged_s, saved_s, memory = [], [], []
    with lab.home(prefix, writable=True) as home, home.mount() as mount:
        for number in range(ROUNDS):
            before = private_memory_bytes(mount.pid)
            with memory_peak(mount.pid) as peak:
                path = mount.path / f"{number}"
                acknowledged_s.append(seconds(_change, path))
                saved_s.append(seconds(_wait_saved, mount))
            memory.append((peak.value_bytes - before) / MIB)
            _require_changed(path)
        requests = mount.requests()
    return [
        timed_figure("first 4 KiB change of 1 GiB: acknowledged", acknowledged_s, at_most(0.1)),
        timed_figure("until it was committed", saved_s),
        Figure("memory meanwhile, above that before", max(memory), "MiB", at_most(BUDGET_MIB)),
        Figure("requests of all three", requests, ""),
    ]


def _change(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), bytes(CHANGED_BYTES), OBJECT_BYTES // 2)


def _wait_saved(mount: Mount) -> None:
    give_up = time.monotonic() + WAITS_S
    while not mount.is_saved():
        if time.monotonic() > give_up:
            raise RuntimeError(f"it is not saved. waited={WAITS_S:.0f} s")
        time.sleep(LOOK_EVERY_S)


def _require_changed(path: Path) -> None:
    """Make sure that these bytes are others, and no more of them."""
    before, behind = OBJECT_BYTES // 2 - 1, OBJECT_BYTES // 2 + CHANGED_BYTES
    with path.open("rb", buffering=0) as file:
        found = os.pread(file.fileno(), CHANGED_BYTES, before + 1)
        around = os.pread(file.fileno(), KIB, before - KIB), os.pread(file.fileno(), KIB, behind)
    if any(found) or not all(map(any, around)) or path.stat().st_size != OBJECT_BYTES:
        raise RuntimeError(f"the change is not what was written. path={path}")
