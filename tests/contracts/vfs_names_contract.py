"""What every writable directory must do with names: make, move, link and remove them.

The errnos are those of the manual pages; where pages leave a choice, Linux' own file systems
decided it (the plain folder is the oracle).
"""

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.contracts.files import EXCHANGE, NOREPLACE, Files, failing
from tests.contracts.vfs_content_contract import CREATE, WritableContract

LONG = b"n" * 255


class NamesContract(WritableContract):
    """Subclass it, and pytest runs all of it."""

    # --- making and removing ---------------------------------------------------------

    async def test_names_come_and_go(self, tmp_path: Path) -> None:
        """What was made is listed, what was removed is not."""
        async with self.writable(tmp_path) as files:
            assert await files.listdir(b"") == []
            await files.mkdir(b"d")
            await files.write(b"d/f", b"x")
            await files.mkdir(b"d/e")
            assert await files.listdir(b"") == [b"d"]
            assert await files.listdir(b"d") == [b"e", b"f"]
            assert (await files.stat(b"d/e")).is_folder
            await files.unlink(b"d/f")
            await files.rmdir(b"d/e")
            assert await files.listdir(b"d") == []
            await files.rmdir(b"d")
            assert await files.listdir(b"") == []
            assert not await files.exists(b"d")

    async def test_a_name_can_be_taken_again(self, tmp_path: Path) -> None:
        """A lock file is made and removed a hundred times."""
        async with self.writable(tmp_path) as files:
            for number in range(5):
                await files.write(b"f", b"%d" % number)
                assert await files.read(b"f") == b"%d" % number
                await files.unlink(b"f")
                await files.mkdir(b"f")
                await files.rmdir(b"f")

    async def test_making_what_is_there_is_eexist(self, tmp_path: Path) -> None:
        """Locks by O_EXCL, mkdir and link count on it."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            await files.write(b"f", b"kept")
            for name in (b"d", b"f"):
                with failing(errno.EEXIST):
                    await files.open(name, CREATE)
                with failing(errno.EEXIST):
                    await files.mkdir(name)
                with failing(errno.EEXIST):
                    await files.symlink(b"t", name)
                with failing(errno.EEXIST):
                    await files.mknod(name, stat.S_IFIFO | 0o644)
                with failing(errno.EEXIST):
                    await files.link(b"f", name)
            assert await files.read(b"f") == b"kept"

    async def test_creating_without_exclusion_opens_what_is_there(self, tmp_path: Path) -> None:
        """And keeps its content."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"kept")
            handle = await files.open(b"f", os.O_RDWR | os.O_CREAT)
            assert await handle.read(0, 10) == b"kept"
            await handle.close()

    async def test_what_is_not_there_is_enoent(self, tmp_path: Path) -> None:
        """And nothing is made by the way."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            for attempt in (
                files.unlink(b"absent"),
                files.rmdir(b"absent"),
                files.rename(b"absent", b"x"),
                files.link(b"absent", b"x"),
                files.open(b"absent", os.O_RDWR),
                files.mkdir(b"absent/x"),
                files.write(b"absent/x"),
                files.rename(b"f", b"absent/x"),
            ):
                with failing(errno.ENOENT):
                    await attempt
            assert await files.listdir(b"") == [b"f"]

    async def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        """Nor the other way round."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            await files.mkdir(b"d")
            for attempt in (
                files.rmdir(b"f"),
                files.mkdir(b"f/x"),
                files.write(b"f/x"),
                files.unlink(b"f/x"),
                files.listdir(b"f"),
            ):
                with failing(errno.ENOTDIR):
                    await attempt
            with failing(errno.EISDIR):
                await files.unlink(b"d")

    async def test_a_folder_with_entries_stays(self, tmp_path: Path) -> None:
        """rmdir must never take a tree."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            await files.write(b"d/f", b"kept")
            with failing(errno.ENOTEMPTY):
                await files.rmdir(b"d")
            assert await files.read(b"d/f") == b"kept"

    async def test_any_byte_but_two_is_a_name(self, tmp_path: Path) -> None:
        """Names are bytes: nothing is normalised, escaped or refused."""
        names = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."]
        names += [b"...", b" ", b"a\nb", b"\xff\xfe", "é".encode(), "e\u0301".encode(), LONG]
        names += [b"con", b"a:b", b"100%", b"x.", b"-rf", b"*", b"A", b"a"]
        async with self.writable(tmp_path) as files:
            for name in names:
                await files.write(name, name)
            assert await files.listdir(b"") == sorted(set(names))
            for name in names:
                assert await files.read(name) == name

    async def test_a_name_of_256_bytes_is_too_long(self, tmp_path: Path) -> None:
        """And 255 are not."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(LONG)
            await files.write(LONG + b"/" + LONG, b"x")
            assert await files.read(LONG + b"/" + LONG) == b"x"
            for attempt in (
                files.write(LONG + b"n"),
                files.mkdir(LONG + b"n"),
                files.rename(LONG, LONG + b"n"),
                files.stat(LONG + b"n"),
            ):
                with failing(errno.ENAMETOOLONG):
                    await attempt

    async def test_a_deep_tree(self, tmp_path: Path) -> None:
        """node_modules exists."""
        async with self.writable(tmp_path) as files:
            path = b"d"
            for _ in range(60):
                await files.mkdir(path)
                path += b"/d"
            await files.write(path, b"deep")
            assert await files.read(path) == b"deep"
            await files.rename(b"d", b"e")
            assert await files.read(b"e" + path[1:]) == b"deep"

    async def test_a_folder_can_be_read_while_it_is_emptied(self, tmp_path: Path) -> None:
        """`rm -rf` does that, and must neither skip a name nor meet one twice."""
        names = {b"%s-%04d" % (b"n" * 40, number) for number in range(1200)}
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            for name in names:
                await files.mknod(b"d/" + name, stat.S_IFREG | 0o644)
            seen = []
            async for name in files.scan(b"d"):
                seen.append(name)
                await files.unlink(b"d/" + name)
            assert sorted(seen) == sorted(names)
            await files.rmdir(b"d")

    async def test_a_folder_can_be_read_while_it_grows(self, tmp_path: Path) -> None:
        """What was there all the time shows exactly once."""
        names = {b"%s-%04d" % (b"n" * 40, number) for number in range(0, 1200, 2)}
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            for name in names:
                await files.mknod(b"d/" + name, stat.S_IFREG | 0o644)
            seen = []
            async for name in files.scan(b"d"):
                seen.append(name)
                if len(seen) <= 600:
                    await files.write(b"d/%s-%04d" % (b"n" * 40, len(seen) * 2 - 1))
            assert sorted(name for name in seen if name in names) == sorted(names)
            assert len(set(seen)) == len(seen)

    # --- renames ---------------------------------------------------------------------

    async def test_a_rename_moves(self, tmp_path: Path) -> None:
        """Same inode, other name, in any directory."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            await files.write(b"f", b"x")
            inode = (await files.stat(b"f")).inode
            await files.rename(b"f", b"g")
            await files.rename(b"g", b"d/h")
            assert await files.listdir(b"") == [b"d"]
            assert await files.read(b"d/h") == b"x"
            assert (await files.stat(b"d/h")).inode == inode

    async def test_a_rename_replaces_a_file(self, tmp_path: Path) -> None:
        """Saving by rename: there is a file of that name at every moment."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"old")
            await files.write(b"new", b"new")
            inode = (await files.stat(b"new")).inode
            await files.rename(b"new", b"f")
            assert await files.listdir(b"") == [b"f"]
            assert await files.read(b"f") == b"new"
            assert (await files.stat(b"f")).inode == inode

    async def test_a_folder_is_renamed_with_all_below(self, tmp_path: Path) -> None:
        """And `..` leads to where it lies now."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"a")
            await files.mkdir(b"a/b")
            await files.write(b"a/b/f", b"x")
            await files.mkdir(b"c")
            await files.rename(b"a", b"c/z")
            assert await files.read(b"c/z/b/f") == b"x"
            assert await files.listdir(b"") == [b"c"]
            await files.write(b"c/z/b/g", b"y")
            assert await files.listdir(b"c/z/b") == [b"f", b"g"]

    async def test_a_rename_replaces_an_empty_folder_only(self, tmp_path: Path) -> None:
        """Never a tree, never a file by a directory, never a directory by a file."""
        async with self.writable(tmp_path) as files:
            for path in (b"d", b"empty", b"full"):
                await files.mkdir(path)
            await files.write(b"d/mark")
            await files.write(b"full/f", b"kept")
            await files.write(b"f", b"kept")
            with failing(errno.ENOTEMPTY):
                await files.rename(b"d", b"full")
            with failing(errno.ENOTDIR):
                await files.rename(b"d", b"f")
            with failing(errno.EISDIR):
                await files.rename(b"f", b"empty")
            await files.rename(b"d", b"empty")
            assert await files.listdir(b"") == [b"empty", b"f", b"full"]
            assert await files.listdir(b"empty") == [b"mark"]
            assert await files.read(b"full/f") == await files.read(b"f") == b"kept"

    async def test_a_folder_cannot_go_into_itself(self, tmp_path: Path) -> None:
        """It would be cut off, with all below it."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            await files.mkdir(b"d/e")
            for new in (b"d/x", b"d/e/x"):
                with failing(errno.EINVAL):
                    await files.rename(b"d", new)
            with failing(errno.ENOTEMPTY):
                await files.rename(b"d/e", b"d")
            assert await files.listdir(b"d") == [b"e"]

    async def test_a_rename_onto_itself_does_nothing(self, tmp_path: Path) -> None:
        """Nor one onto another name of the same file: rename(2) says so."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"x")
            await files.link(b"f", b"g")
            await files.rename(b"f", b"f")
            await files.rename(b"f", b"g")
            assert await files.listdir(b"") == [b"f", b"g"]
            assert (await files.stat(b"f")).nlink == 2

    async def test_a_rename_that_may_not_replace(self, tmp_path: Path) -> None:
        """RENAME_NOREPLACE: the existing file stays."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"f")
            await files.write(b"g", b"g")
            with failing(errno.EEXIST):
                await files.rename(b"f", b"g", NOREPLACE)
            assert await files.read(b"g") == b"g"
            await files.rename(b"f", b"h", NOREPLACE)
            assert await files.listdir(b"") == [b"g", b"h"]

    async def test_an_exchange(self, tmp_path: Path) -> None:
        """RENAME_EXCHANGE swaps any two things, and nothing is ever absent."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            await files.mkdir(b"d/e")
            await files.write(b"d/e/below", b"x")
            await files.write(b"f", b"file")
            await files.rename(b"f", b"d/e", EXCHANGE)
            assert await files.read(b"d/e") == b"file"
            assert await files.read(b"f/below") == b"x"
            with failing(errno.ENOENT):
                await files.rename(b"f", b"absent", EXCHANGE)
            with failing(errno.EINVAL):
                await files.rename(b"d", b"d/e", EXCHANGE)
            with failing(errno.EINVAL):
                await files.rename(b"f", b"d", EXCHANGE | NOREPLACE)

    # --- links and special files -----------------------------------------------------

    async def test_hard_links_are_one_file(self, tmp_path: Path) -> None:
        """git and rsync make thousands; the last name takes the file along."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            await files.write(b"f", b"one")
            await files.link(b"f", b"d/g")
            assert (await files.stat(b"f")).inode == (await files.stat(b"d/g")).inode
            await files.write(b"d/g", b"two")
            await files.chmod(b"f", 0o600)
            assert await files.read(b"f") == b"two"
            found = await files.stat(b"d/g")
            assert (found.nlink, found.permissions) == (2, 0o600)
            await files.unlink(b"f")
            assert (await files.stat(b"d/g")).nlink == 1
            assert await files.read(b"d/g") == b"two"

    async def test_a_folder_has_no_second_name(self, tmp_path: Path) -> None:
        """Else trees would have cycles."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            with failing(errno.EPERM):
                await files.link(b"d", b"e")

    async def test_symbolic_links_hold_any_bytes(self, tmp_path: Path) -> None:
        """What they say is their own affair, whether it leads anywhere or not."""
        targets = [b"f", b"../x//y", b"/abs", b"\xff bytes\n", b"t" * 4095]
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"x")
            for number, target in enumerate(targets):
                path = b"link-%d" % number
                await files.symlink(target, path)
                assert await files.readlink(path) == target
                found = await files.stat(path)
                assert stat.S_ISLNK(found.mode)
                assert (found.size_bytes, found.permissions) == (len(target), 0o777)
            await files.rename(b"link-0", b"moved")
            assert await files.readlink(b"moved") == b"f"
            await files.link(b"moved", b"twice")
            assert (await files.stat(b"moved")).nlink == 2
            await files.unlink(b"moved")
            assert await files.readlink(b"twice") == b"f"
            with failing(errno.EINVAL):
                await files.readlink(b"f")
            with failing(errno.EINVAL):
                await files.readlink(b"")

    @pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG])
    async def test_special_files(self, tmp_path: Path, kind: int) -> None:
        """Pipes and sockets lie in trees that are copied, and must arrive."""
        async with self.writable(tmp_path) as files:
            await files.mknod(b"n", kind | 0o640)
            found = await files.stat(b"n")
            assert oct(found.mode) == oct(kind | 0o640)
            assert (found.nlink, found.size_bytes) == (1, 0)
            await files.rename(b"n", b"m")
            await files.unlink(b"m")
            assert await files.listdir(b"") == []

    # --- times of directories --------------------------------------------------------

    async def test_a_change_in_a_folder_changes_its_time(self, tmp_path: Path) -> None:
        """Programs that keep lists of a directory look at its mtime."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            await files.mkdir(b"e")
            await files.write(b"other")
            for attempt in (
                files.write(b"d/f"),
                files.mkdir(b"d/g"),
                files.symlink(b"x", b"d/s"),
                files.link(b"other", b"d/l"),
                files.rename(b"d/f", b"d/h"),
                files.rename(b"d/h", b"e/h"),
                files.rename(b"e/h", b"d/h"),
                files.unlink(b"d/h"),
                files.rmdir(b"d/g"),
            ):
                await _back_in_time(files, b"d")
                await attempt
                found = await files.stat(b"d")
                assert found.mtime_ns > 1_000_000_000
                assert found.ctime_ns >= found.mtime_ns

    async def test_a_change_of_names_changes_the_ctime_of_the_file(self, tmp_path: Path) -> None:
        """Incremental backups find renamed and linked files by it."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            await files.utime(b"f", 0, 0)
            before = await files.stat(b"f")
            await files.link(b"f", b"g")
            linked = await files.stat(b"f")
            await files.unlink(b"g")
            unlinked = await files.stat(b"f")
            times = [before.ctime_ns, linked.ctime_ns, unlinked.ctime_ns]
            assert times == sorted(times)
            assert unlinked.mtime_ns == 0


async def _back_in_time(files: Files, path: bytes) -> None:
    await files.utime(path, 1_000_000_000, 1_000_000_000)
