"""Where a mount differs from a local file system, as docs/semantics.md lists it."""

import errno
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from blobfs.stores.memory import MemoryStore
from tests.contracts.files import failing
from tests.contracts.kernel_files import KernelFiles, in_thread
from tests.mountd.mounted import mounted

pytestmark = pytest.mark.mount

MAPPED_TOO_EARLY = """
import mmap, os, sys
writer = os.open(sys.argv[1], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
os.write(writer, b"x")
with open(sys.argv[1], "rb") as file:
    try:
        mmap.mmap(file.fileno(), 1, prot=mmap.PROT_READ)
    except OSError as error:
        print(error.errno)
os.close(writer)
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 1, prot=mmap.PROT_READ) as mapped:
    print(mapped[:].decode())
"""


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[KernelFiles]:
    async with mounted(MemoryStore(), tmp_path, read_only=False) as files:
        yield files


async def test_attributes_of_this_machine_alone_are_not_kept(files: KernelFiles) -> None:
    """A label or an ACL of one machine would mean something else, or nothing, on another."""
    await files.write(b"f")
    with failing(errno.EOPNOTSUPP):
        await files.setxattr(b"f", "security.x", b"x")
    for name in ("security.x", "system.posix_acl_access"):
        with failing(errno.EOPNOTSUPP):
            await files.getxattr(b"f", name)
    await files.setxattr(b"f", "trusted.x", b"kept")
    assert await files.getxattr(b"f", "trusted.x") == b"kept"


async def test_a_write_takes_setuid_from_root_too(files: KernelFiles) -> None:
    """Nobody tells us who writes, so the safe answer is the same for all."""
    await files.write(b"f", b"x")
    await files.chmod(b"f", 0o4755)
    handle = await files.open(b"f", os.O_WRONLY)
    await handle.write(0, b"y")
    await handle.close()
    assert oct((await files.stat(b"f")).permissions) == oct(0o755)


async def test_there_are_no_files_without_a_name(files: KernelFiles) -> None:
    """Libraries fall back to a name that they remove."""
    with failing(errno.EOPNOTSUPP):
        await files.open(b"", os.O_TMPFILE | os.O_RDWR)


async def test_holes_are_not_told_of(files: KernelFiles) -> None:
    """Programs that copy sparse files then read zeros, which is right but slower."""
    handle = await files.open(b"f", os.O_RDWR | os.O_CREAT)
    await handle.write(1_000_000, b"x")
    descriptor = handle.descriptor
    assert await in_thread(lambda: os.lseek(descriptor, 0, os.SEEK_DATA)) == 0
    assert await in_thread(lambda: os.lseek(descriptor, 0, os.SEEK_HOLE)) == 1_000_001
    await handle.close()
    found = await in_thread(lambda: Path(os.fsdecode(files.path(b"f"))).stat())
    assert found.st_blocks == -(-1_000_001 // 512)


async def test_directories_have_one_link(files: KernelFiles) -> None:
    """Nobody has counted what lies below, and a wrong number would be worse."""
    await files.mkdir(b"d")
    await files.mkdir(b"d/e")
    assert (await files.stat(b"d")).nlink == (await files.stat(b"")).nlink == 1


async def test_devices_are_kept(files: KernelFiles) -> None:
    """They do not work on the mount (nodev), but a restored system has them again."""
    device = os.makedev(1, 3)
    await in_thread(lambda: os.mknod(files.path(b"null"), stat.S_IFCHR | 0o666, device))
    found = await in_thread(lambda: Path(os.fsdecode(files.path(b"null"))).stat())
    assert (stat.S_ISCHR(found.st_mode), found.st_rdev) == (True, device)
    with failing(errno.EACCES):
        await files.open(b"null")


async def test_what_is_still_being_made_is_not_mapped_shared(files: KernelFiles) -> None:
    """Programs that cannot map a file read it; a mapping that shows zeros would be worse."""
    command = [sys.executable, "-c", MAPPED_TOO_EARLY, os.fsdecode(files.path(b"f"))]
    said = await trio.run_process(command, capture_stdout=True)
    assert said.stdout.split() == [b"%d" % errno.ENODEV, b"x"]
