"""What others commit is seen through a real mount at once, and never mixed with what was before."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from blobfs.stores.memory import MemoryStore
from tests.contracts.core_files import CoreFiles
from tests.contracts.files import Handle
from tests.contracts.kernel_files import KernelFiles, KernelHandle, in_thread
from tests.contracts.vfs_kernel_contract import MAPPING_PROGRAM
from tests.core import Core
from tests.mountd.mounted import mounted_core
from tests.vfs.foreign import NEW, OLD, other_client, put

pytestmark = pytest.mark.mount


@dataclass(frozen=True)
class Here:
    """A mount of a volume that another client changes."""

    mine: Core
    theirs: CoreFiles
    files: KernelFiles

    def path(self, name: str = "f") -> Path:
        return Path(os.fsdecode(self.files.root), name)

    async def until_closed(self) -> None:
        """Wait until we know that nothing is open: the kernel says so behind close(2)."""
        with trio.fail_after(10):
            while self.mine.vfs.open_files:
                await trio.lowlevel.checkpoint()

    async def replaced(self, content: bytes = NEW) -> None:
        """Let the other client replace what `f` holds."""
        await put(self.theirs, b"f", content)
        await self.seen()

    async def seen(self) -> None:
        """Let the other client save, and take in what it did."""
        await self.theirs.save()
        serial = self.mine.engine.begin_sync()
        with trio.fail_after(30):
            while not self.mine.engine.is_synced(serial):
                await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def opened(self, flags: int = os.O_RDONLY) -> AsyncIterator[Handle]:
        """Open `f`. It is closed while we still answer, or its end would wait for us."""
        handle = await self.files.open(b"f", flags)
        try:
            yield handle
        finally:
            await handle.close()


@asynccontextmanager
async def mounted_here(folder: Path, *, is_told: bool = True) -> AsyncIterator[Here]:
    store = MemoryStore()
    async with (
        other_client(store, folder / "theirs") as theirs,
        mounted_core(store, folder / "mine", read_only=False, is_told=is_told) as mine,
    ):
        yield Here(mine.core, theirs, mine.files)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until the kernel was told: long before it would ask by itself."""
    with trio.fail_after(10):
        while not await in_thread(is_so):
            await trio.lowlevel.checkpoint()


async def test_a_reader_in_the_middle_of_a_file_sees_the_old_version_to_its_end(
    tmp_path: Path,
) -> None:
    """A program would read the beginning of one version and the end of another (C2)."""
    async with mounted_here(tmp_path) as here, here.opened() as handle:
        assert await handle.read(0, 100) == OLD[:100]
        await here.replaced()
        assert await handle.read(100, len(NEW)) == OLD[100:]
        assert (await handle.stat()).size_bytes == len(OLD)
        assert await in_thread(here.path().read_bytes) == NEW
        await until(lambda: here.path().stat().st_size == len(NEW))


@pytest.mark.parametrize("ask", ["open", "stat", "chmod", "truncate"])
async def test_a_name_that_the_kernel_still_believes_leads_to_the_new_version(
    ask: str, tmp_path: Path
) -> None:
    """Who comes between a replacement and the word of it would get, or change, what was before."""
    async with mounted_here(tmp_path, is_told=False) as here:
        path = here.path()
        assert await in_thread(path.read_bytes) == OLD
        await here.until_closed()
        await here.replaced()
        if ask == "open":
            assert await in_thread(path.read_bytes) == NEW
        elif ask == "chmod":
            await in_thread(lambda: path.chmod(0o600))
            assert (await here.files.stat(b"f")).size_bytes == len(NEW)
        elif ask == "truncate":
            await in_thread(lambda: os.truncate(path, 3))
            assert await in_thread(path.read_bytes) == NEW[:3]
        else:
            await in_thread(lambda: os.getxattr(path, "user.blobfs.state"))
            assert await in_thread(path.read_bytes) == NEW


async def test_a_name_of_a_version_that_is_open_leads_to_the_new_one(tmp_path: Path) -> None:
    """As long as one program has a file open, all others would get the old version, too."""
    async with mounted_here(tmp_path, is_told=False) as here, here.opened() as handle:
        await here.replaced()
        assert await in_thread(here.path().read_bytes) == NEW
        assert await handle.read(0, len(NEW)) == OLD


async def test_mapped_pages_stay_of_the_old_version(tmp_path: Path) -> None:
    """A running program, or a database, would find pages of two versions in its memory (S3)."""
    content = random.Random(1).randbytes(200_000)
    async with mounted_here(tmp_path) as here:
        await here.replaced(content)
        seen = await mapped("read_in_two", here.path(), lambda: here.replaced(content[::-1]))
        assert seen == content
        assert await in_thread(here.path().read_bytes) == content[::-1]


async def test_a_name_that_was_not_there_appears(tmp_path: Path) -> None:
    """A program that waits for a file of another machine would wait half a minute."""
    async with mounted_here(tmp_path) as here:
        path = here.path("g")
        assert not await in_thread(path.exists)
        await put(here.theirs, b"g", NEW)
        await here.seen()
        await until(path.exists)
        assert await in_thread(path.read_bytes) == NEW


async def test_a_rename_is_seen(tmp_path: Path) -> None:
    """A name that is gone would lead on to the file, and a path through it, too."""
    async with mounted_here(tmp_path) as here:
        await here.theirs.mkdir(b"d")
        await here.theirs.rename(b"f", b"d/f")
        await here.seen()
        await until(here.path("d/f").exists)
        await here.theirs.rename(b"d", b"e")
        await here.seen()
        await until(lambda: not here.path("d/f").exists())
        assert await in_thread(here.path("e/f").read_bytes) == OLD
        assert await here.files.listdir(b"") == [b"e"]


async def test_attributes_are_seen(tmp_path: Path) -> None:
    """A file that was made unreadable elsewhere would be read here for half a minute."""
    async with mounted_here(tmp_path) as here:
        await here.files.stat(b"f")
        await here.theirs.chmod(b"f", 0o600)
        await here.seen()
        await until(lambda: here.path().stat().st_mode & 0o777 == 0o600)


async def mapped(function: str, path: Path, meanwhile: Callable[[], Awaitable[None]]) -> bytes:
    """Run a function of the mapping program; return what it saw before and after `meanwhile`."""
    command = [sys.executable, str(MAPPING_PROGRAM), function, str(path)]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.fail_after(60):
        async with process.stdin, process.stdout:
            seen = bytes(await process.stdout.receive_some())
            await meanwhile()
            await process.stdin.send_all(b"\n")
            async for part in process.stdout:
                seen += part
        assert await process.wait() == 0
    return seen


async def test_a_write_through_a_mapping_of_an_old_version_makes_a_conflict_copy(
    tmp_path: Path,
) -> None:
    """A database that maps its files would write into what another machine made of them (C2)."""
    async with mounted_here(tmp_path) as here:
        seen = await mapped("write_later", here.path(), here.replaced)
        assert seen == OLD[:1] + b"dit" + OLD[4:]
        (copy,) = set(await here.files.listdir(b"")) - {b"f"}
        assert await in_thread(here.path(os.fsdecode(copy)).read_bytes) == b"edit" + OLD[4:]
        assert await in_thread(here.path().read_bytes) == NEW


@pytest.mark.parametrize("how", ["write", "cut"])
async def test_a_change_through_an_old_handle_makes_a_conflict_copy(
    how: str, tmp_path: Path
) -> None:
    """It would be lost, or mixed into a version that its program never saw (C2, P4)."""
    async with mounted_here(tmp_path) as here, here.opened(os.O_RDWR) as handle:
        await here.replaced()
        if how == "write":
            await handle.write(0, b"edit")
        else:
            await handle.truncate(4)
        edited = OLD[:4] if how == "cut" else b"edit" + OLD[4:]
        original, copy = sorted(await here.files.listdir(b""), key=len)
        assert original == b"f"
        assert copy.startswith(b"f (conflict ")
        assert await in_thread(here.path().read_bytes) == NEW
        assert await in_thread(here.path(os.fsdecode(copy)).read_bytes) == edited
        assert await handle.read(0, len(OLD)) == edited
        assert await here.files.getxattr(copy, "user.blobfs.conflict_of") == b"f"
        assert await here.files.listxattr(copy) == []


async def test_attributes_go_to_the_new_version_or_nowhere(tmp_path: Path) -> None:
    """Who changes a mode by a handle would change that of a version that nobody can find."""
    async with mounted_here(tmp_path) as here:
        async with here.opened(os.O_RDWR) as handle:
            assert isinstance(handle, KernelHandle)
            await here.replaced()
            with pytest.raises(OSError, match="Stale"):
                await in_thread(lambda: os.fchmod(handle.descriptor, 0o600))
            await handle.write(0, b"edit")
            await in_thread(lambda: os.fchmod(handle.descriptor, 0o600))
        (copy,) = set(await here.files.listdir(b"")) - {b"f"}
        assert (await here.files.stat(copy)).mode & 0o777 == 0o600
        assert (await here.files.stat(b"f")).mode & 0o777 == 0o644


async def test_sizes_and_contents_never_mix(tmp_path: Path) -> None:
    """A program would take half a file for a whole one (S3)."""
    chance = random.Random(5)
    contents = [bytes([number]) * chance.randrange(1, 300_000) for number in range(1, 16)]
    known = {OLD, *contents}
    sizes = {len(content) for content in known}
    over, failures, read = threading.Event(), list[str](), list[int]()

    def check(path: Path) -> None:
        while not over.is_set():
            try:
                if path.stat().st_size not in sizes:
                    failures.append("a size that no version has")
                with path.open("rb", buffering=0) as file:
                    size = os.fstat(file.fileno()).st_size
                    found = file.read(size + 1) + file.read()
            except OSError as error:
                failures.append(str(error))
                continue
            read.append(size)
            if found not in known or len(found) != size:
                failures.append(f"a mixture. size={size} read={len(found)}")

    async with mounted_here(tmp_path) as here, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(in_thread, lambda: check(here.path()))
        for content in contents:
            await here.replaced(content)
        over.set()
    assert not failures
    assert len(set(read)) > 2


async def test_a_file_that_others_save_by_rename_is_read_to_its_end(tmp_path: Path) -> None:
    """Most editors save so: whoever reads meanwhile would lose the rest of the file (C2, C3)."""
    async with mounted_here(tmp_path) as here, here.opened() as handle:
        assert await handle.read(0, 100) == OLD[:100]
        await put(here.theirs, b"f.tmp", NEW)
        await here.theirs.rename(b"f.tmp", b"f")
        await here.seen()
        assert await handle.read(100, len(NEW)) == OLD[100:]
        assert (await handle.stat()).size_bytes == len(OLD)
        await until(lambda: here.path().read_bytes() == NEW)


async def test_a_file_that_others_removed_is_kept_for_who_writes_to_it(tmp_path: Path) -> None:
    """What a program wrote after the removal would be gone when it closes the file (C4)."""
    async with mounted_here(tmp_path) as here:
        async with here.opened(os.O_RDWR) as handle:
            await here.theirs.unlink(b"f")
            await here.seen()
            await until(lambda: not here.path().exists())
            assert await handle.read(0, len(OLD)) == OLD
            await handle.write(0, b"edit")
        (name,) = await here.files.listdir(b"")
        edited = await in_thread(here.path(os.fsdecode(name)).read_bytes)
        assert edited == b"edit" + OLD[4:]


async def test_an_edit_under_way_becomes_a_copy_and_goes_on_there(tmp_path: Path) -> None:
    """The first half of a long save would be in the copy, and the second in the file of others."""
    async with mounted_here(tmp_path) as here:
        async with here.opened(os.O_RDWR) as handle:
            await handle.write(0, b"first")
            await here.replaced()
            await handle.write(10, b"second")
            expected = b"first" + OLD[5:10] + b"second" + OLD[16:]
            assert await handle.read(0, len(OLD)) == expected
        await here.files.save()
        (copy,) = set(await here.files.listdir(b"")) - {b"f"}
        assert await in_thread(here.path(os.fsdecode(copy)).read_bytes) == expected
        assert await in_thread(here.path().read_bytes) == NEW
