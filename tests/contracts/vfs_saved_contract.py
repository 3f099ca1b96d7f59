"""What is in the bucket must be what programs wrote, for a machine that has only the bucket.

Each test writes, saves, and looks again: through the same mount, and through one that has no local
state.
"""

import os
import random
import stat
from pathlib import Path

from tests.contracts.files import MIB, Files
from tests.contracts.vfs_contract import VfsContract

CONTENTS = {
    b"empty": b"",
    b"small": b"x" * 100,
    b"chunk": random.Random(1).randbytes(100_000),
    b"chunks": random.Random(2).randbytes(3 * MIB + 5),
    b"zeros": bytes(2 * MIB),
    b"gap": b"begin" + bytes(5 * MIB) + b"end",
}


class SavedContract(VfsContract):
    """Subclass it, and pytest runs all of it."""

    async def test_files_of_all_sizes_arrive(self, tmp_path: Path) -> None:
        """In the row, in one chunk, in many; with holes."""
        store = await self.bucket()
        async with self.opened(store, tmp_path / "here", read_only=False) as files:
            for name, content in CONTENTS.items():
                await files.write(name, content)
            await files.save()
            await _hold(files, CONTENTS)
        async with self.opened(store, tmp_path / "elsewhere") as files:
            await _hold(files, CONTENTS)

    async def test_changes_of_saved_files_arrive(self, tmp_path: Path) -> None:
        """In the middle, at the end, shorter and longer: nothing else of the file changes."""
        expected = {name: bytearray(content) for name, content in CONTENTS.items()}
        store = await self.bucket()
        async with self.opened(store, tmp_path / "here", read_only=False) as files:
            for name, content in CONTENTS.items():
                await files.write(name, content)
            for step in range(3):
                await files.save()
                for number, (name, content) in enumerate(expected.items()):
                    await _change(files, name, content, random.Random(10 * number + step))
                await _hold(files, expected)
            await files.save()
            await _hold(files, expected)
        async with self.opened(store, tmp_path / "elsewhere") as files:
            await _hold(files, expected)

    async def test_an_open_file_goes_on_while_it_is_saved(self, tmp_path: Path) -> None:
        """Saving must not disturb who reads and writes."""
        content = bytearray(random.Random(3).randbytes(MIB))
        async with self.opened(await self.bucket(), tmp_path, read_only=False) as files:
            await files.write(b"f", bytes(content))
            handle = await files.open(b"f", os.O_RDWR)
            for step in range(4):
                assert await handle.read(0, 2 * MIB) == content
                await files.save()
                assert await handle.read(0, 2 * MIB) == content
                content[step * 1000 : step * 1000 + 10] = b"0123456789"
                await handle.write(step * 1000, b"0123456789")
            await handle.truncate(5000)
            assert await handle.read(0, 2 * MIB) == content[:5000]
            await handle.close()

    async def test_all_kinds_of_entries_arrive(self, tmp_path: Path) -> None:
        """With modes, times, links and attributes."""
        store = await self.bucket(**{"d/native": b"native"})
        async with self.opened(store, tmp_path / "here", read_only=False) as files:
            await _furnish(files)
            before = await _describe(files)
            await files.save()
            assert await _describe(files) == before
        async with self.opened(store, tmp_path / "elsewhere") as files:
            assert await _describe(files) == before
            assert await files.listdir(b"d") == [b"native", b"own"]
            assert await files.read(b"d/native") == b"native"
            assert await files.listdir(b"") == [b"d", b"link", b"moved", b"pipe"]

    async def test_what_was_removed_is_gone_everywhere(self, tmp_path: Path) -> None:
        """Names that were saved once, and whole trees; who has a file open keeps it."""
        content = bytearray(random.Random(5).randbytes(9000))
        store = await self.bucket()
        async with self.opened(store, tmp_path / "here", read_only=False) as files:
            await files.mkdir(b"d")
            await files.write(b"d/f", b"x" * 5000)
            await files.write(b"g", bytes(content))
            await files.save()
            handle = await files.open(b"g", os.O_RDWR)
            await handle.write(100, b"unsaved")
            await files.unlink(b"d/f")
            await files.rmdir(b"d")
            await files.unlink(b"g")
            await files.save()
            await files.write(b"h", b"last")
            await files.save()
            content[100:107] = b"unsaved"
            assert await handle.read(0, 10000) == content
            await handle.write(5000, b"orphan")
            content[5000:5006] = b"orphan"
            assert await handle.read(0, 10000) == content
            await handle.close()
            assert await files.listdir(b"") == [b"h"]
        async with self.opened(store, tmp_path / "elsewhere") as files:
            assert await files.listdir(b"") == [b"h"]

    async def test_what_is_saved_is_said(self, tmp_path: Path) -> None:
        """`user.blobfs.state` tells of one file what `blobfs status` tells of all."""
        store = await self.bucket()
        async with self.opened(store, tmp_path / "here", read_only=False) as files:
            await files.write(b"f", random.Random(4).randbytes(MIB))
            assert await files.getxattr(b"f", "user.blobfs.state") == b"unsaved"
            await files.save()
            assert await files.getxattr(b"f", "user.blobfs.state") != b"unsaved"
        async with self.opened(store, tmp_path / "elsewhere") as files:
            assert await files.getxattr(b"f", "user.blobfs.state") == b"remote"
            await files.read(b"f")
        for folder in ("here", "elsewhere"):  # what was sent or fetched once is here
            async with self.opened(store, tmp_path / folder) as files:
                assert await files.getxattr(b"f", "user.blobfs.state") == b"cached"
                assert await files.getxattr(b"f", "user.blobfs.cached_bytes") == b"%d" % MIB


async def _hold(files: Files, contents: "dict[bytes, bytes] | dict[bytes, bytearray]") -> None:
    """See that the files are there, and no others."""
    assert await files.listdir(b"") == sorted(contents)
    for name, content in contents.items():
        assert (await files.stat(name)).size_bytes == len(content)
        assert await files.read(name) == content


async def _change(files: Files, name: bytes, content: bytearray, chance: random.Random) -> None:
    """Write into a file and cut or stretch it, as expected of `content`."""
    handle = await files.open(name, os.O_RDWR)
    offset = chance.randrange(len(content) + 1)
    data = chance.randbytes(chance.choice([1, 4096, 300_000]))
    await handle.write(offset, data)
    content[offset : offset + len(data)] = data
    if chance.random() < 0.5:
        size = chance.randrange(len(content) + MIB)
        await handle.truncate(size)
        content[size:] = b""
        content.extend(bytes(size - len(content)))
    await handle.close()


async def _furnish(files: Files) -> None:
    await files.mkdir(b"d/own", 0o750)
    await files.write(b"d/own/f", b"content", 0o600)
    await files.link(b"d/own/f", b"d/own/hard")
    await files.setxattr(b"d/own/f", "user.a", b"value")
    await files.symlink(b"to/somewhere", b"link")
    await files.mknod(b"pipe", stat.S_IFIFO | 0o640)
    await files.write(b"moving", b"moved")
    await files.rename(b"moving", b"moved")
    await files.chown(b"moved", 12, 34)
    await files.utime(b"moved", 7, 1_234_567_890_123_456_789)
    await files.write(b"dies", b"young")
    await files.unlink(b"dies")


async def _describe(files: Files) -> list[object]:
    """Return all that another machine should see of the furniture."""
    described: list[object] = []
    for path in (b"d/own", b"d/own/f", b"d/own/hard", b"link", b"pipe", b"moved"):
        found = await files.stat(path)
        owner = (found.uid, found.gid)
        described.append((found.inode, found.mode, found.nlink, owner, found.mtime_ns))
    described.append(await files.readlink(b"link"))
    described.append(await files.getxattr(b"d/own/hard", "user.a"))
    described.append(await files.read(b"d/own/hard"))
    return described
