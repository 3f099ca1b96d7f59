"""Measure several clients of one volume: how soon they see each other, and whether they get in
each other's way.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from benchmarks.big_volume import CLIENT, MADE_AT, MADE_NS, SECOND_NS, Shape, write_volume
from benchmarks.figures import Figure, at_most, median_of, timed_figure
from benchmarks.lab import SMALL_BYTES, Lab
from benchmarks.machine import seconds
from benchmarks.mounts import Mount
from benchmarks.registry import benchmark
from blobfs.formats.commit import Entry, SetAttributes
from blobfs.formats.entry import encode_entry, entry_hash
from blobfs.formats.keys import log_key
from blobfs.model.chain import Position
from blobfs.stores.memory import MemoryStore
from blobfs.sync.slots import list_all
from blobfs.types import InodeNo, Seq

SEEN_FILES = 50
COMMITS, CHANGES = 1_000, 10
CROWD = 1_000
ASK_EVERY_S = 0.01
PATIENCE_S = 60.0


@benchmark("visibility")
def visibility(lab: Lab) -> list[Figure]:
    """Write small files on one machine, and see them on another that is in use."""
    took_s, pause = [], random.Random(1)
    with _two_mounts(lab, "visibility") as (here, there):
        for number in range(SEEN_FILES):
            name = f"file-{number}"
            (here.path / name).write_bytes(os.urandom(SMALL_BYTES))
            _wait(here.is_saved)
            landed_s = time.perf_counter()
            _wait((there.path / name).exists)
            took_s.append(time.perf_counter() - landed_s)
            time.sleep(pause.random() * 2)  # any moment between two looks is as likely
    slowest = sorted(took_s)[len(took_s) * 99 // 100]
    return [
        Figure("landing to visibility elsewhere: median", median_of(took_s), "s", at_most(1.3)),
        Figure("landing to visibility elsewhere: 99 %", slowest, "s", at_most(2.5)),
    ]


@benchmark("backlog")
def backlog(lab: Lab) -> list[Figure]:
    """Catch up with 1,000 commits of 10 changes each that appear at once."""
    first, entries = _put_volume(lab, "backlog")
    with lab.home("backlog", writable=True) as home, home.mount() as mount:
        lab.bucket().put_objects(entries[1:])  # there is a hole before them
        lab.bucket().put_objects(entries[:1])
        took_s = seconds(home.blobfs, "sync", str(mount.path))
        if mount.seq() != first + COMMITS - 1:
            raise RuntimeError("not all commits are seen")
    title = f"catching up {COMMITS:,} commits of {CHANGES} changes, by `blobfs sync`"
    return [timed_figure(title, [took_s], at_most(3))]


@benchmark("two-writers")
def two_writers(lab: Lab) -> list[Figure]:
    """Let two clients make 1,000 files each in one directory, one by one and both at once."""
    with _two_mounts(lab, "two-writers") as (here, there):
        (here.path / "all").mkdir()
        _wait((there.path / "all").exists)
        alone_s = [_make(mount, f"alone-{name}") for name, mount in (("a", here), ("b", there))]
        both_s = _together(
            lambda: _make(here, "together-a"),
            lambda: _make(there, "together-b"),
        )
    share = both_s / sum(alone_s)
    return [
        timed_figure("1,000 files in one directory by each of two, added up", [sum(alone_s)]),
        timed_figure("the same, both at once", [both_s]),
        Figure("both at once: times the sum", share, "", at_most(1.1)),
    ]


@contextmanager
def _two_mounts(lab: Lab, prefix: str) -> Iterator[tuple[Mount, Mount]]:
    """Mount a volume twice, each as a machine of its own; both have written to it."""
    with lab.home(prefix, writable=True) as one, one.mount() as here:
        (here.path / "first").write_bytes(b"first")
        _wait(here.is_saved)
        with lab.home(prefix, writable=True) as other, other.mount() as there:
            (there.path / "second").write_bytes(b"second")
            _wait(there.is_saved)
            _wait((here.path / "second").exists)
            yield here, there


def _make(mount: Mount, name: str) -> float:
    """Make files in the directory of both; return how long it took until they were committed."""
    begun = time.perf_counter()
    for number in range(CROWD):
        (mount.path / "all" / f"{name}-{number}").write_bytes(b"%d" % number)
    _wait(mount.is_saved)
    return time.perf_counter() - begun


def _together(*actions: Callable[[], object]) -> float:
    threads = [threading.Thread(target=action) for action in actions]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def _put_volume(lab: Lab, prefix: str) -> tuple[int, list[tuple[str, bytes]]]:
    """Put a small volume; return the first of many entries that follow, and all with their keys."""
    store = MemoryStore()

    async def make() -> tuple[Position, InodeNo, list[str]]:
        volume = await write_volume(store, Shape(folders=(1,), files=CHANGES, commits=0))
        keys = [found.key async for found in list_all(store, "")]
        return volume.state.position, InodeNo(volume.leaves[0].first_file), keys

    position, inode, keys = trio.run(make)
    lab.bucket().put_objects([(f"{prefix}/{key}", store.peek(key)) for key in keys])
    return position.seq + 1, list(_entries(prefix, position, inode))


def _entries(prefix: str, after: Position, inode: InodeNo) -> Iterator[tuple[str, bytes]]:
    previous = after.chain
    for count in range(1, COMMITS + 1):
        entry = Entry(
            seq=Seq(MADE_AT + count),
            previous=previous,
            client=CLIENT,
            counter=MADE_AT + count,
            time_ns=MADE_NS + count * SECOND_NS,
            operations=tuple(
                SetAttributes(InodeNo(inode + number), mtime_ns=MADE_NS + count)
                for number in range(CHANGES)
            ),
        )
        data = encode_entry(entry)
        previous = entry_hash(data)
        yield f"{prefix}/{log_key(entry.seq)}", data


def _wait(is_so: Callable[[], bool]) -> None:
    give_up = time.perf_counter() + PATIENCE_S
    while not is_so():
        if time.perf_counter() > give_up:
            raise RuntimeError("it did not come to pass in a minute")
        time.sleep(ASK_EVERY_S)
