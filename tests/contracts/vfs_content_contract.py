"""What every writable directory must do with the bytes of files.

Proven on a plain folder of the machine's own file system, which is the oracle; then run on the
core alone and through a real mount.
"""

import errno
import os
import random
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.contracts.files import MIB, Files, Handle, failing

CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL


class WritableContract(ABC):
    """What all contracts of writing share."""

    @abstractmethod
    def writable(self, folder: Path) -> AbstractAsyncContextManager[Files]:
        """Give an empty directory, with all that it needs below `folder`."""


class ContentContract(WritableContract):
    """Subclass it, and pytest runs all of it."""

    async def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        """The least that a file system must do."""
        async with self.writable(tmp_path) as files:
            handle = await files.open(b"f", CREATE)
            await handle.write(0, b"hello")
            await handle.write(5, b" world")
            assert await handle.read(0, 100) == b"hello world"
            assert (await handle.stat()).size_bytes == 11
            await handle.close()
            assert await files.read(b"f") == b"hello world"
            assert (await files.stat(b"f")).size_bytes == 11
            await files.write(b"f", b"anew")
            assert await files.read(b"f") == b"anew"

    async def test_an_empty_file_is_a_file(self, tmp_path: Path) -> None:
        """`touch` makes them, and lock files are nothing else."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            assert await files.read(b"f") == b""
            assert (await files.stat(b"f")).size_bytes == 0

    async def test_a_write_in_the_middle_changes_nothing_else(self, tmp_path: Path) -> None:
        """Databases rewrite pages in place."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"a" * 10_000)
            handle = await files.open(b"f", os.O_WRONLY)
            await handle.write(4999, b"XY")
            await handle.close()
            assert await files.read(b"f") == b"a" * 4999 + b"XY" + b"a" * 4999

    async def test_a_gap_reads_as_zeros(self, tmp_path: Path) -> None:
        """Disk images are mostly gaps."""
        async with self.writable(tmp_path) as files:
            handle = await files.open(b"f", CREATE)
            await handle.write(10 * MIB, b"end")
            assert await handle.read(0, 100) == bytes(100)
            assert await handle.read(10 * MIB - 5, 100) == bytes(5) + b"end"
            await handle.close()
            assert (await files.stat(b"f")).size_bytes == 10 * MIB + 3

    async def test_a_write_of_nothing_leaves_the_size(self, tmp_path: Path) -> None:
        """A program that flushes an empty buffer far out must not grow the file."""
        async with self.writable(tmp_path) as files:
            handle = await files.open(b"f", CREATE)
            await handle.write(1000, b"")
            assert (await handle.stat()).size_bytes == 0
            await handle.close()

    async def test_a_file_that_was_cut_and_grew_shows_zeros(self, tmp_path: Path) -> None:
        """The old bytes are gone, not hidden: they may be secret, and sqlite counts on it."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"secret" * 1000)
            await files.truncate(b"f", 100)
            assert await files.read(b"f") == (b"secret" * 17)[:100]
            await files.truncate(b"f", 5000)
            assert await files.read(b"f") == (b"secret" * 17)[:100] + bytes(4900)
            handle = await files.open(b"f", os.O_RDWR)
            await handle.truncate(50)
            await handle.write(70, b"x")
            assert await handle.read(0, 100) == (b"secret" * 9)[:50] + bytes(20) + b"x"
            await handle.close()

    async def test_opening_to_truncate_empties(self, tmp_path: Path) -> None:
        """Else the tail of the old version follows the new one."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"a long first version")
            handle = await files.open(b"f", os.O_WRONLY | os.O_TRUNC)
            assert (await files.stat(b"f")).size_bytes == 0
            await handle.write(0, b"short")
            await handle.close()
            assert await files.read(b"f") == b"short"

    async def test_two_that_append_lose_nothing(self, tmp_path: Path) -> None:
        """Log files are written so."""
        async with self.writable(tmp_path) as files:
            await files.write(b"log", b"start\n")
            handles = [await files.open(b"log", os.O_WRONLY | os.O_APPEND) for _ in range(2)]
            for number in range(10):
                await handles[number % 2].append(b"%d\n" % number)
            for handle in handles:
                await handle.close()
            expected = b"start\n" + b"".join(b"%d\n" % number for number in range(10))
            assert await files.read(b"log") == expected

    async def test_others_see_a_write_at_once(self, tmp_path: Path) -> None:
        """One program writes while another one reads: no waiting for the close."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"old")
            reader = await files.open(b"f")
            assert await reader.read(0, 10) == b"old"
            writer = await files.open(b"f", os.O_WRONLY)
            await writer.write(1, b"NEW")
            assert await reader.read(0, 10) == b"oNEW"
            assert (await files.stat(b"f")).size_bytes == 4
            await writer.truncate(2)
            assert await reader.read(0, 10) == b"oN"
            await reader.close()
            await writer.close()

    async def test_a_file_removed_while_open_lives_on(self, tmp_path: Path) -> None:
        """Programs unlink their temporary files at once, and go on using them."""
        async with self.writable(tmp_path) as files:
            handle = await files.open(b"f", CREATE)
            await handle.write(0, b"before")
            await files.unlink(b"f")
            assert not await files.exists(b"f")
            await handle.write(6, b" after")
            assert await handle.read(0, 100) == b"before after"
            await handle.truncate(3)
            found = await handle.stat()
            assert (found.nlink, found.size_bytes) == (0, 3)
            await files.write(b"f", b"another")
            assert await handle.read(0, 100) == b"bef"
            await handle.sync()
            await handle.close()
            assert await files.read(b"f") == b"another"

    async def test_a_file_replaced_while_open_lives_on(self, tmp_path: Path) -> None:
        """Saving by rename must not disturb who still reads the old version."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"old")
            reader = await files.open(b"f")
            await files.write(b"new", b"newer")
            await files.rename(b"new", b"f")
            assert await reader.read(0, 10) == b"old"
            assert await files.read(b"f") == b"newer"
            await reader.close()

    async def test_sync_is_answered(self, tmp_path: Path) -> None:
        """A database that may not sync does not start."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            handle = await files.open(b"d/f", CREATE)
            await handle.write(0, b"x")
            await handle.sync()
            await handle.write(1, b"y")
            await handle.sync(data_only=True)
            await files.sync_folder(b"d")
            await files.sync_folder(b"")
            await handle.close()
            reader = await files.open(b"d/f")
            await reader.sync()
            await reader.close()

    async def test_times_follow_the_content(self, tmp_path: Path) -> None:
        """make builds by mtime, backups look at ctime."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"x")
            await files.utime(b"f", 1_000_000_000, 1_000_000_000)
            before = await files.stat(b"f")
            await files.read(b"f")
            assert (await files.stat(b"f")).mtime_ns == 1_000_000_000
            handle = await files.open(b"f", os.O_WRONLY)
            assert (await files.stat(b"f")).mtime_ns == 1_000_000_000
            await handle.write(0, b"y")
            after = await files.stat(b"f")
            assert after.mtime_ns > before.mtime_ns
            assert after.ctime_ns >= before.ctime_ns
            await files.utime(b"f", 1_000_000_000, 1_000_000_000)
            await handle.truncate(0)
            assert (await files.stat(b"f")).mtime_ns > 1_000_000_000
            await handle.close()

    async def test_a_folder_has_no_bytes(self, tmp_path: Path) -> None:
        """A program that takes a directory for a file gets told."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
                with failing(errno.EISDIR):
                    await files.open(b"d", flags)
            with failing(errno.EISDIR):
                await files.truncate(b"d", 0)

    async def test_a_file_of_many_writes(self, tmp_path: Path) -> None:
        """Copying a large file comes as a row of writes."""
        content = random.Random(1).randbytes(5 * MIB + 77)
        async with self.writable(tmp_path) as files:
            handle = await files.open(b"f", CREATE)
            for start in range(0, len(content), 128 * 1024):
                await handle.write(start, content[start : start + 128 * 1024])
            await handle.close()
            assert await files.read(b"f") == content

    @pytest.mark.parametrize("seed", range(4))
    async def test_any_order_of_changes(self, tmp_path: Path, seed: int) -> None:
        """Writes, cuts and growths over each other in any order end as in memory."""
        chance = random.Random(seed)
        expected = bytearray()
        async with self.writable(tmp_path) as files:
            handle = await files.open(b"f", CREATE)
            for _ in range(60):
                await _change(handle, expected, chance)
                offset, size = chance.randrange(300_000), chance.choice([1, 4096, 200_000])
                assert await handle.read(offset, size) == expected[offset : offset + size]
            await handle.close()
            assert await files.read(b"f") == expected


async def _change(handle: Handle, expected: bytearray, chance: random.Random) -> None:
    """Change a file and what is expected of it alike."""
    size = chance.choice([1, 100, 4096, 70_000])
    offset = chance.randrange(300_000)
    if chance.random() < 0.2:
        await handle.truncate(offset)
        del expected[offset:]
        expected.extend(bytes(offset - len(expected)))
        return
    data = chance.randbytes(size)
    await handle.write(offset, data)
    expected.extend(bytes(max(0, offset - len(expected))))
    expected[offset : offset + size] = data
