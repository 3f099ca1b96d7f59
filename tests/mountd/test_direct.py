"""What making a file costs in requests: it is written past the page cache, and stays right."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import pytest
import trio

from blobfs.env import Env
from blobfs.stores.memory import MemoryStore
from blobfs.types import HandleNo, NodeNo
from mountd.direct import Direct, Pages
from mountd.fuse3 import Front, open_mount
from mountd.mount_options import MountOptions
from tests.contracts.kernel_files import KernelFiles
from tests.core import opened_core

FILE, OTHER = NodeNo(10), NodeNo(11)
ANEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY

PRIVATE_MAPPING = """
import mmap, os, sys
path = sys.argv[1]
writer = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
os.write(writer, b"a" * 4096)
with open(path, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    seen = mapped[:1]
    os.pwrite(writer, b"b", 0)
    os.close(writer)
    seen += open(path, "rb").read(1)
sys.stdout.buffer.write(seen)
"""


def handles() -> list[HandleNo]:
    return [HandleNo(number) for number in range(1, 6)]


def test_all_who_open_a_file_that_is_written_so_pass_its_pages() -> None:
    """A reader would keep pages that a write leaves as they were: zeros at the end of a log."""
    direct = Direct()
    first, second, third, *_ = handles()
    assert direct.created(FILE, first, ANEW) is Pages.PASSED
    assert direct.opened(FILE, second, for_writing=False) is Pages.PASSED
    assert direct.opened(OTHER, third, for_writing=False) is Pages.KEPT


def test_the_last_who_writes_so_counts() -> None:
    """A second writer goes on past the pages when the first has closed the file long ago."""
    direct = Direct()
    first, second, *others = handles()
    direct.created(FILE, first, ANEW)
    direct.opened(FILE, second, for_writing=True)
    direct.closed(first)
    assert direct.opened(FILE, others[0], for_writing=False) is Pages.PASSED
    direct.closed(second)
    direct.closed(others[0])
    assert direct.opened(FILE, others[1], for_writing=False) is Pages.DROPPED
    assert direct.opened(FILE, others[2], for_writing=False) is Pages.KEPT


@pytest.mark.parametrize("flags", [os.O_EXCL | os.O_RDWR, os.O_WRONLY | os.O_TRUNC])
def test_who_may_read_or_find_a_file_of_others_uses_its_pages(flags: int) -> None:
    """Databases map what they make; and others may have pages of what was there already."""
    direct = Direct()
    first, second, *_ = handles()
    assert direct.created(FILE, first, os.O_CREAT | flags) is Pages.KEPT
    assert direct.opened(FILE, second, for_writing=False) is Pages.KEPT


def test_nothing_is_dropped_where_nobody_could_have_brought_pages_in() -> None:
    """Whatever an archive holds would be read twice."""
    direct = Direct()
    first, second, *_ = handles()
    direct.created(FILE, first, ANEW)
    direct.closed(first)
    assert direct.opened(FILE, second, for_writing=False) is Pages.KEPT


def test_what_the_kernel_let_go_of_is_forgotten() -> None:
    """Each log file that was followed once would stay in memory for ever."""
    direct = Direct()
    first, second, third, *_ = handles()
    direct.created(FILE, first, ANEW)
    direct.opened(FILE, second, for_writing=False)
    direct.closed(first)
    direct.forgot([FILE])
    assert direct.opened(FILE, third, for_writing=False) is Pages.KEPT


class ClosesCounted(Front):
    """Counts how often the kernel asks at a close, and answers what the front-end does."""

    closes = 0

    async def flush(self, fh: int) -> None:
        self.closes += 1
        await super().flush(pyfuse3.FileHandleT(fh))


@dataclass
class Served:
    """A mount, and what answers its requests."""

    files: KernelFiles
    front: ClosesCounted


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Served]:
    mountpoint = folder / "mountpoint"
    mountpoint.mkdir()
    options = MountOptions("memory://test", allow_other=True, read_only=False)
    async with opened_core(MemoryStore(), folder, Env(), 60, read_only=False) as core:
        front = ClosesCounted(core.vfs, options, core.engine.tree.load)
        async with open_mount(front, mountpoint) as mount, trio.open_nursery() as nursery:
            nursery.start_soon(mount.serve)
            await mount.wait_ready()
            yield Served(KernelFiles(mountpoint), front)
            mount.stop()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


@pytest.mark.mount
async def test_each_write_is_one_request(served: Served) -> None:
    """Unpacking an archive would take a third longer."""
    handle = await served.files.open(b"f", ANEW)
    for number in range(10):
        await handle.write(number * 10_240, bytes([number]) * 10_240)
    await handle.close()
    assert served.front.counts["write"] == 10
    assert await served.files.read(b"f") == b"".join(bytes([n]) * 10_240 for n in range(10))


@pytest.mark.mount
async def test_the_kernel_asks_at_one_close_only(served: Served) -> None:
    """Each file of an archive would cost a request more, for nothing."""
    for name in b"f", b"g", b"h":
        await served.files.write(name, b"x")
    assert served.front.closes == 1


@pytest.mark.mount
async def test_a_file_that_grows_is_followed_to_its_end(served: Served) -> None:
    """`tail -f` would show zeros, or miss what was written, where it had read before."""
    writer = await served.files.open(b"log", ANEW)
    await writer.write(0, b"one\n")
    early = await served.files.open(b"log")
    assert await early.read(0, 100) == b"one\n"
    await writer.write(4, b"two\n")
    assert await early.read(0, 100) == b"one\ntwo\n"
    other = await served.files.open(b"log", os.O_WRONLY)
    await writer.close()
    late = await served.files.open(b"log")
    assert await late.read(0, 100) == b"one\ntwo\n"
    await other.write(8, b"three\n")
    for handle in (early, late):
        assert await handle.read(0, 100) == b"one\ntwo\nthree\n"
        await handle.close()
    await other.close()
    assert await served.files.read(b"log") == b"one\ntwo\nthree\n"


@pytest.mark.mount
async def test_a_file_that_was_closed_is_kept_by_the_kernel(served: Served) -> None:
    """What was unpacked would be asked of us each time that a compiler reads it."""
    handle = await served.files.open(b"f", ANEW)
    await handle.write(0, b"x" * 5000)
    await handle.close()
    await served.files.read(b"f")
    before = served.front.counts["read"]
    assert before
    assert await served.files.read(b"f") == b"x" * 5000
    assert served.front.counts["read"] == before


@pytest.mark.mount
async def test_pages_of_a_private_mapping_are_not_left_behind(served: Served) -> None:
    """Who reads a file after somebody mapped it too early would read what it was then."""
    path = os.fsdecode(served.files.path(b"f"))
    command = [sys.executable, "-c", PRIVATE_MAPPING, path]
    seen = await trio.run_process(command, capture_stdout=True)
    assert seen.stdout == b"ab"
