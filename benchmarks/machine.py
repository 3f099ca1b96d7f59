"""Ask this machine for what a fair measurement needs: dropped caches, a process's memory, dd."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec

from blobfs.types import KIB, MIB

P = ParamSpec("P")

SAMPLE_EVERY_S = 0.02
_PRIVATE_MEMORY = ("RssAnon:", "RssShmem:")


class NotMeasurable(Exception):
    """This machine does not allow what the benchmark needs. The message says what."""


def drop_page_cache() -> None:
    """Make the next read of any file come from its disk.

    Raises:
        NotMeasurable: only root may.
    """
    os.sync()  # dirty pages are never dropped
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except PermissionError as error:
        raise NotMeasurable("dropping the page cache needs root") from error


def seconds(action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """Return how long `action` took with these arguments."""
    begun = time.perf_counter()
    action(*args, **kwargs)
    return time.perf_counter() - begun


def run(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    """Run a program to its end and return what it printed.

    Raises:
        subprocess.CalledProcessError: it failed; what it said is on our stderr.
    """
    done = subprocess.run(
        command, cwd=cwd, check=True, text=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    return done.stdout


def dd(files: Sequence[Path]) -> None:
    """Read `files` one after the other with `dd bs=1M`."""
    for file in files:
        run(["dd", f"if={file}", "of=/dev/null", "bs=1M", "status=none"])


def mib_per_s(size_bytes: int, took_s: float) -> float:
    return size_bytes / MIB / took_s


def private_memory_bytes(pid: int) -> int:
    """Return RssAnon + RssShmem: mapped files, LMDB's among them, are the kernel's to drop."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * KIB for line in lines if line.startswith(_PRIVATE_MEMORY))


def processor_s(pid: int) -> float:
    """Return how much processor time a process has used, all of its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class MemoryPeak:
    """The most private memory that a process had at any sample so far."""

    def __init__(self) -> None:
        self.value_bytes = 0


@contextmanager
def memory_peak(pid: int) -> Iterator[MemoryPeak]:
    """Sample the memory of `pid` every 20 ms while the block runs.

    Concurrency: one thread of its own, joined at the end of the block.
    """
    peak, done = MemoryPeak(), threading.Event()

    def sample() -> None:
        while not done.is_set():
            peak.value_bytes = max(peak.value_bytes, private_memory_bytes(pid))
            done.wait(SAMPLE_EVERY_S)

    sampler = threading.Thread(target=sample, name="memory sampler")
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()
