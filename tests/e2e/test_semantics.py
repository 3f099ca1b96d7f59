"""docs/semantics.md cites a test for what it says, and here are those that no contract has."""

import ctypes
import errno
import fcntl
import os
import re
import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from blobfs.errors import AccessDenied
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from tests.contracts.files import failing
from tests.contracts.kernel_files import KernelFiles, in_thread
from tests.mountd.mounted import mounted

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs/semantics.md").read_text()
CITATION = re.compile(r"`(\w+)(?:\.py)?::(\w+)`")

FS_IOC_GETFLAGS = 0x80086601
FICLONE = 0x40049409
FS_IOC_FIEMAP = 0xC020660B
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
IN_CREATE, IN_NONBLOCK = 0x100, os.O_NONBLOCK

libc = ctypes.CDLL(None, use_errno=True)


def sections() -> dict[str, str]:
    """Return the text below each heading of the second level."""
    parts = re.split(r"^## (.*)$", DOCUMENT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", sections())
def test_what_is_said_is_executed(name: str) -> None:
    """A claim that nothing executes is a wish."""
    cited = CITATION.findall(sections()[name])
    assert cited
    for module, test in cited:
        paths = PROJECT.glob(f"tests/**/{module}.py")
        assert any(f"def {test}(" in path.read_text() for path in paths), (module, test)


def test_every_difference_is_executed() -> None:
    """What differs from a disk is what people trip over: each row has a test of its own."""
    rows = sections()["Where it differs from a local file system"].splitlines()
    rows = [row for row in rows if row.startswith("|")][2:]
    assert len(rows) > 7
    for row in rows:
        assert CITATION.search(row), row


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[KernelFiles]:
    async with mounted(MemoryStore(), tmp_path, read_only=False) as files:
        yield files


def path_in(files: KernelFiles, name: str) -> Path:
    return Path(os.fsdecode(files.path(name.encode())))


def errno_of(call: Callable[[], int]) -> int:
    """Return the errno that a call of the C library or of Python ends with, 0 for none."""
    try:
        return 0 if call() >= 0 else ctypes.get_errno()
    except OSError as error:
        return error.errno or 0


@pytest.mark.mount
@pytest.mark.parametrize("mode", [0, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE])
async def test_room_is_not_reserved(files: KernelFiles, mode: int) -> None:
    """fallocate(2): the C library writes zeros instead, and programs take it for worth a try."""

    def allocate() -> int:
        path = path_in(files, "f")
        path.write_bytes(bytes(100_000))
        span = (ctypes.c_long(0), ctypes.c_long(4096))
        with path.open("r+b") as file:
            return errno_of(lambda: libc.fallocate(file.fileno(), mode, *span))

    assert await in_thread(allocate) == errno.EOPNOTSUPP


@pytest.mark.mount
async def test_there_are_no_flags_extents_and_clones(files: KernelFiles) -> None:
    """chattr, filefrag and `cp --reflink=always`; a plain `cp` copies, also inside the kernel."""

    def ask() -> list[int]:
        one, other = path_in(files, "one"), path_in(files, "other")
        one.write_bytes(b"some bytes")
        extents = bytearray(struct.pack("=QQLLLL", 0, 100, 0, 0, 0, 0))
        with one.open("r+b") as source, other.open("w+b") as target:
            answers = [
                errno_of(lambda: fcntl.ioctl(source, FS_IOC_GETFLAGS, bytearray(8))),
                errno_of(lambda: fcntl.ioctl(source, FS_IOC_FIEMAP, extents)),
                errno_of(lambda: fcntl.ioctl(target, FICLONE, source.fileno())),
            ]
            assert os.copy_file_range(source.fileno(), target.fileno(), 100) == 10
        assert other.read_bytes() == b"some bytes"
        return answers

    assert set(await in_thread(ask)) <= {errno.EOPNOTSUPP, errno.ENOTTY}


@pytest.mark.mount
async def test_nobody_knows_when_a_file_was_born(files: KernelFiles) -> None:
    """`stat` prints a dash, rather than a time that is made up."""

    def born() -> str:
        path = path_in(files, "f")
        path.touch()
        return subprocess.check_output(["stat", "--format=%w", path], text=True)

    assert await in_thread(born) == "-\n"


@pytest.mark.mount
async def test_devices_and_setuid_have_no_effect(files: KernelFiles) -> None:
    """A bucket that others write to must not hand out this machine."""
    flags = (await in_thread(lambda: os.statvfs(files.root))).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV


@pytest.mark.mount
async def test_only_changes_of_this_machine_are_told_of(tmp_path: Path) -> None:
    """Programs that watch a folder see what is done here; for the rest they have to look."""
    store = MemoryStore()
    async with mounted(store, tmp_path, ttl_s=0, read_only=False) as files:
        watch = await in_thread(lambda: watch_for_new_names(files.root))
        await store.put("by-another-tool", b"x")
        assert await files.listdir(b"") == [b"by-another-tool"]
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
        await files.write(b"by-us", b"x")
        assert b"by-us" in os.read(watch, 4096)
        os.close(watch)


@pytest.mark.mount
async def test_a_refusal_of_the_store_is_eacces(tmp_path: Path) -> None:
    """Whose credentials may list and not read is told so, and not that a disk is broken."""
    store = FaultyStore(MemoryStore())
    await store.put("secret", b"x")
    async with mounted(store, tmp_path, read_only=False) as files:
        assert await files.listdir(b"") == [b"secret"]
        store.fail("get", AccessDenied("no"), times=None)
        with failing(errno.EACCES):
            await files.read(b"secret")


def watch_for_new_names(folder: bytes) -> int:
    watch = int(libc.inotify_init1(IN_NONBLOCK))
    assert libc.inotify_add_watch(watch, folder, IN_CREATE) >= 0
    return watch
