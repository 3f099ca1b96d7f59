"""What writing must do in a bucket that holds objects of other tools, and after a remount.

New entries can be made beside native objects anywhere, and these are files like any other.
"""

import errno
import os
from pathlib import Path

import trio

from blobfs.stores.memory import MemoryStore
from tests.contracts.files import EXCHANGE, Files, failing
from tests.contracts.vfs_contract import VfsContract


class MixedContract(VfsContract):
    """Subclass it, and pytest runs all of it."""

    async def native(self) -> MemoryStore:
        return await self.bucket(**{"d/e/deep": b"deep", "d/f": b"native", "top": b"top"})

    async def test_new_files_stand_beside_native_ones(self, tmp_path: Path) -> None:
        """A bucket that is full of data is where work begins."""
        async with self.opened(await self.native(), tmp_path, read_only=False) as files:
            await files.write(b"d/e/new", b"new")
            await files.mkdir(b"d/more")
            await files.write(b"d/more/x", b"x")
            await files.symlink(b"f", b"d/link")
            assert await files.listdir(b"") == [b"d", b"top"]
            assert await files.listdir(b"d") == [b"e", b"f", b"link", b"more"]
            assert await files.listdir(b"d/e") == [b"deep", b"new"]
            assert await files.read(b"d/e/new") == b"new"
            assert await files.read(b"d/e/deep") == b"deep"
            assert await files.read(b"d/f") == b"native"

    async def test_numbers_stay_when_something_is_made(self, tmp_path: Path) -> None:
        """A program that stands in a directory must not lose it."""
        paths = (b"", b"d", b"d/e", b"d/e/deep", b"d/f")
        async with self.opened(await self.native(), tmp_path, read_only=False) as files:
            before = [(await files.stat(path)).inode for path in paths]
            await files.write(b"d/e/new", b"new")
            assert [(await files.stat(path)).inode for path in paths] == before

    async def test_native_files_can_be_renamed_and_removed(self, tmp_path: Path) -> None:
        """What another tool wrote is a file like any other."""
        store = await self.native()
        async with self.opened(store, tmp_path, read_only=False) as files:
            before = (await files.stat(b"d/f")).inode
            await files.write(b"d/new", b"new")
            await files.rename(b"d/f", b"g")
            await files.link(b"g", b"d/h")
            await files.rename(b"d/new", b"top")
            await files.rename(b"top", b"d/e/deep", EXCHANGE)
            await files.unlink(b"g")
            assert await files.listdir(b"") == [b"d", b"top"]
            assert await files.listdir(b"d") == [b"e", b"h"]
            assert await files.read(b"d/h") == b"native"
            assert await files.read(b"d/e/deep") == b"new"
            assert await files.read(b"top") == b"deep"
            found = await files.stat(b"d/h")
            assert (found.inode, found.nlink) == (before, 1)
        async with self.opened(store, tmp_path) as files:
            assert await files.listdir(b"d") == [b"e", b"h"]
            assert await files.read(b"d/h") == b"native"
            assert await files.read(b"top") == b"deep"

    async def test_native_folders_can_be_renamed(self, tmp_path: Path) -> None:
        """With all that they show, and whatever is open in them stays open (volume format, N2)."""
        store = await self.native()
        async with self.opened(store, tmp_path, read_only=False) as files:
            before = [(await files.stat(path)).inode for path in (b"d", b"d/e", b"d/e/deep")]
            reader, writer = await files.open(b"d/f"), await files.open(b"d/e/deep", os.O_RDWR)
            await files.rename(b"d", b"elsewhere")
            assert await files.listdir(b"") == [b"elsewhere", b"top"]
            assert await files.listdir(b"elsewhere") == [b"e", b"f"]
            assert await files.read(b"elsewhere/e/deep") == b"deep"
            await writer.write(4, b"er")
            assert await reader.read(0, 100) == b"native"
            assert await files.read(b"elsewhere/e/deep") == b"deeper"
            await reader.close()
            await writer.close()
            paths = (b"elsewhere", b"elsewhere/e", b"elsewhere/e/deep")
            assert [(await files.stat(path)).inode for path in paths] == before
            with failing(errno.ENOENT):
                await files.stat(b"d")
            await files.mkdir(b"d")
            await files.rename(b"elsewhere/e", b"d")
            assert await files.listdir(b"d") == [b"deep"]
            with failing(errno.EINVAL):
                await files.rename(b"elsewhere", b"elsewhere/below")
        async with self.opened(store, tmp_path) as files:
            assert await files.listdir(b"") == [b"d", b"elsewhere", b"top"]
            assert await files.listdir(b"d") == [b"deep"]
            assert await files.read(b"d/deep") == b"deeper"
            assert await files.listdir(b"elsewhere") == [b"f"]
            assert await files.read(b"elsewhere/f") == b"native"

    async def test_native_files_have_attributes(self, tmp_path: Path) -> None:
        """`rsync -a` sets them on everything that it has written."""
        async with self.opened(await self.native(), tmp_path, read_only=False) as files:
            etag = await files.getxattr(b"d/f", "user.blobfs.etag")
            await files.chmod(b"d/f", 0o600)
            await files.utime(b"d/f", 5, 7)
            await files.setxattr(b"d/f", "user.a", b"x")
            found = await files.stat(b"d/f")
            assert (oct(found.permissions), found.mtime_ns) == (oct(0o600), 7)
            assert await files.getxattr(b"d/f", "user.a") == b"x"
            assert await files.getxattr(b"d/f", "user.blobfs.etag") == etag
            assert await files.read(b"d/f") == b"native"

    async def test_native_files_can_be_written(self, tmp_path: Path) -> None:
        """Editing the file that lies there is the most ordinary thing."""
        store = await self.native()
        async with self.opened(store, tmp_path, read_only=False) as files:
            reader = await files.open(b"d/f")
            assert await reader.read(0, 100) == b"native"
            handle = await files.open(b"d/f", os.O_RDWR)
            assert await handle.read(0, 100) == b"native"
            await handle.write(2, b"--")
            assert await handle.read(0, 100) == b"na--ve"
            assert await reader.read(0, 100) == b"na--ve"
            await handle.write(8, b"end")
            await handle.close()
            await reader.close()
            await files.truncate(b"top", 2)
            emptied = await files.open(b"d/e/deep", os.O_WRONLY | os.O_TRUNC)
            await emptied.write(1, b"x")
            await emptied.close()
            assert await files.read(b"d/f") == b"na--ve\0\0end"
            assert await files.read(b"top") == b"to"
            assert await files.read(b"d/e/deep") == b"\0x"
        async with self.opened(store, tmp_path) as files:
            assert await files.read(b"d/f") == b"na--ve\0\0end"
            assert await files.read(b"top") == b"to"
            assert await files.read(b"d/e/deep") == b"\0x"

    async def test_native_folders_can_be_removed_with_all_in_them(self, tmp_path: Path) -> None:
        """`rm -r`; and nothing of it comes back."""
        store = await self.native()
        async with self.opened(store, tmp_path, read_only=False) as files:
            with failing(errno.ENOTEMPTY):
                await files.rmdir(b"d")
            await files.unlink(b"d/e/deep")
            await files.rmdir(b"d/e")
            await files.unlink(b"d/f")
            await files.rmdir(b"d")
            assert await files.listdir(b"") == [b"top"]
            await files.mkdir(b"d")
            assert await files.listdir(b"d") == []
        async with self.opened(store, tmp_path) as files:
            assert await files.listdir(b"") == [b"d", b"top"]
            assert await files.listdir(b"d") == []

    async def test_another_tools_version_is_not_lost(self, tmp_path: Path) -> None:
        """It shows under its name, or beside what was written here (volume format, N4)."""
        store = await self.native()
        async with self.opened(store, tmp_path, read_only=False, ttl_s=0) as files:
            await files.chmod(b"d/f", 0o600)
            await files.write(b"top", b"mine")
            for key in ("d/f", "top"):
                await store.put(key, b"theirs")
            found = await files.stat(b"d/f")
            assert (oct(found.permissions), found.size_bytes) == (oct(0o600), 6)
            assert await files.read(b"d/f") == b"theirs"
            with trio.fail_after(10):  # a listing may have been under way when they wrote
                while len(names := await files.listdir(b"")) < 3:
                    await trio.lowlevel.checkpoint()
            beside = names.pop()
            assert names == [b"d", b"top"]
            assert beside.startswith(b"top (conflict bucket ")
            assert await files.read(b"top") == b"mine"
            assert await files.read(beside) == b"theirs"
            await files.rename(beside, b"top")
            assert await files.listdir(b"") == [b"d", b"top"]
            assert await files.read(b"top") == b"theirs"

    async def test_a_removed_native_file_lives_on_while_it_is_open(self, tmp_path: Path) -> None:
        """Programs remove what they have just opened, so that nobody else finds it."""
        async with self.opened(await self.native(), tmp_path, read_only=False) as files:
            for path, flags in ((b"d/f", os.O_RDONLY), (b"top", os.O_RDWR)):
                handle = await files.open(path, flags)
                await files.unlink(path)
                assert await handle.read(0, 100) in (b"native", b"top")
                await handle.close()
            assert await files.listdir(b"d") == [b"e"]

    async def test_native_names_are_taken(self, tmp_path: Path) -> None:
        """Looked up before or not."""
        async with self.opened(await self.native(), tmp_path, read_only=False) as files:
            for name in (b"d", b"top"):
                with failing(errno.EEXIST):
                    await files.mkdir(name)
                with failing(errno.EEXIST):
                    await files.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            with failing(errno.ENOTEMPTY):
                await files.rmdir(b"d")

    async def test_native_folders_can_be_changed(self, tmp_path: Path) -> None:
        """Their modes, owners and times belong to the volume once somebody sets them."""
        async with self.opened(await self.native(), tmp_path, read_only=False) as files:
            await files.chmod(b"d", 0o2770)
            await files.setxattr(b"d", "user.a", b"x")
            await files.utime(b"d", 5, 7)
            found = await files.stat(b"d")
            assert (oct(found.permissions), found.mtime_ns) == (oct(0o2770), 7)
            assert await files.getxattr(b"d", "user.a") == b"x"
            assert await files.listdir(b"d") == [b"e", b"f"]
            assert await files.read(b"d/e/deep") == b"deep"

    async def test_the_volume_folder_cannot_be_made(self, tmp_path: Path) -> None:
        """At any depth (volume format, N7)."""
        async with self.opened(await self.native(), tmp_path, read_only=False) as files:
            await files.mkdir(b"mine")
            for path in (b".blobfs", b"d/.blobfs", b"mine/.blobfs"):
                with failing(errno.EPERM):
                    await files.mkdir(path)
                with failing(errno.EPERM):
                    await files.write(path)
                with failing(errno.EPERM):
                    await files.rename(b"mine", path)

    async def test_reserved_attributes_cannot_be_set(self, tmp_path: Path) -> None:
        """What blobfs says of a file is no program's to change."""
        async with self.opened(await self.native(), tmp_path, read_only=False) as files:
            await files.write(b"new", b"12345")
            assert await files.getxattr(b"new", "user.blobfs.state") == b"unsaved"
            with failing(errno.EPERM):
                await files.setxattr(b"new", "user.blobfs.state", b"x")
            assert await files.listxattr(b"new") == []

    async def test_unsaved_changes_are_there_after_a_remount(self, tmp_path: Path) -> None:
        """Promise P1: what was acknowledged is kept, with all that belongs to it."""
        store = await self.native()
        async with self.opened(store, tmp_path, read_only=False) as files:
            before = await _furnish(files)
        for read_only in (False, True):
            async with self.opened(store, tmp_path, read_only=read_only) as files:
                assert await files.read(b"d/e/new") == b"new\0\0end"
                assert await files.listdir(b"d") == [b"e", b"f", b"hard", b"link"]
                assert await files.readlink(b"d/link") == b"target"
                assert await files.getxattr(b"d/hard", "user.a") == b"x"
                assert await files.read(b"d/f") == b"native"
                after = await files.stat(b"d/hard")
                assert (after.inode, after.nlink) == (before, 2)
                assert (await files.stat(b"d/e/new")).inode == before

    async def test_numbers_are_used_once(self, tmp_path: Path) -> None:
        """After a remount too, or two files would be one for a backup program."""
        seen = set()
        for step in range(3):
            async with self.opened(MemoryStore(), tmp_path, read_only=False) as files:
                for name in (b"a", b"b"):
                    await files.write(name + b"%d" % step)
                    seen.add((await files.stat(name + b"%d" % step)).inode)
        assert len(seen) == 6


async def _furnish(files: Files) -> int:
    """Leave a bit of everything; return the number of the file."""
    await files.write(b"d/e/new", b"new")
    handle = await files.open(b"d/e/new", os.O_WRONLY)
    await handle.write(5, b"end")
    await handle.close()
    await files.symlink(b"target", b"d/link")
    await files.link(b"d/e/new", b"d/hard")
    await files.setxattr(b"d/hard", "user.a", b"x")
    await files.write(b"d/gone", b"x")
    await files.unlink(b"d/gone")
    return (await files.stat(b"d/hard")).inode
