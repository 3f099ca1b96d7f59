"""What every writable directory must do with modes, owners, times and extended attributes."""

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.contracts.files import failing
from tests.contracts.vfs_content_contract import CREATE, WritableContract

SECOND_NS = 1_000_000_000


class AttributesContract(WritableContract):
    """Subclass it, and pytest runs all of it."""

    async def test_new_things_have_the_modes_asked_for(self, tmp_path: Path) -> None:
        """A key file made with 0600 is never readable for others, not even for a moment."""
        async with self.writable(tmp_path) as files:
            handle = await files.open(b"f", CREATE, 0o600)
            await handle.close()
            await files.mkdir(b"d", 0o700)
            await files.mkdir(b"t", 0o1755)
            assert oct((await files.stat(b"f")).mode) == oct(stat.S_IFREG | 0o600)
            assert oct((await files.stat(b"d")).mode) == oct(stat.S_IFDIR | 0o700)
            assert oct((await files.stat(b"t")).mode) == oct(stat.S_IFDIR | 0o1755)
            assert (await files.stat(b"f")).uid == os.getuid()

    async def test_modes_can_be_changed(self, tmp_path: Path) -> None:
        """All twelve bits, of files and directories, and nothing else with them."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"x")
            await files.mkdir(b"d")
            before = await files.stat(b"f")
            for permissions in (0o000, 0o755, 0o4755, 0o2755, 0o640):
                await files.chmod(b"f", permissions)
                assert oct((await files.stat(b"f")).permissions) == oct(permissions)
            await files.chmod(b"d", 0o3775)
            assert oct((await files.stat(b"d")).permissions) == oct(0o3775)
            after = await files.stat(b"f")
            assert (after.mtime_ns, after.size_bytes) == (before.mtime_ns, 1)
            assert after.ctime_ns >= before.ctime_ns

    async def test_things_can_be_given_away(self, tmp_path: Path) -> None:
        """tar and rsync restore owners, of links too; -1 leaves one as it is."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            await files.symlink(b"x", b"l")
            await files.mkdir(b"d")
            for path in (b"f", b"l", b"d"):
                await files.chown(path, 1234, 5678)
                await files.chown(path, -1, 99)
                found = await files.stat(path)
                assert (found.uid, found.gid) == (1234, 99)
                await files.chown(path, 7, -1)
                assert (await files.stat(path)).uid == 7

    async def test_a_program_given_away_loses_its_privilege(self, tmp_path: Path) -> None:
        """Else chown would hand out setuid programs."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            await files.chmod(b"f", 0o6755)
            await files.chown(b"f", 1234, 1234)
            assert oct((await files.stat(b"f")).permissions) == oct(0o755)

    @pytest.mark.parametrize("moment_ns", [0, 1, 1_700_000_000_123_456_789, -1_500_000_000])
    async def test_times_are_kept_to_the_nanosecond(self, tmp_path: Path, moment_ns: int) -> None:
        """rsync and make would see changes that are none."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            await files.mkdir(b"d")
            await files.symlink(b"x", b"l")
            for path in (b"f", b"d", b"l"):
                before = await files.stat(path)
                await files.utime(path, moment_ns + 7 * SECOND_NS, moment_ns)
                found = await files.stat(path)
                assert (found.atime_ns - 7 * SECOND_NS, found.mtime_ns) == (moment_ns, moment_ns)
                assert found.ctime_ns >= before.ctime_ns

    async def test_new_things_are_of_now(self, tmp_path: Path) -> None:
        """All three times, as of one moment."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            found = await files.stat(b"f")
            assert found.mtime_ns > 1_700_000_000 * SECOND_NS
            assert abs(found.atime_ns - found.mtime_ns) < SECOND_NS
            assert abs(found.ctime_ns - found.mtime_ns) < SECOND_NS

    async def test_a_touch_is_never_older_than_the_write_before(self, tmp_path: Path) -> None:
        """make would think that the file it has just written is out of date."""
        async with self.writable(tmp_path) as files:
            for number in range(20):
                path = b"f%d" % number
                await files.write(path, b"x")
                written = await files.stat(path)
                await files.touch(path)
                touched = await files.stat(path)
                assert touched.mtime_ns >= written.mtime_ns
                assert touched.atime_ns >= written.atime_ns

    async def test_reading_is_noted_once(self, tmp_path: Path) -> None:
        """relatime: mail readers compare atime with mtime."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"x")
            await files.utime(b"f", SECOND_NS, 2 * SECOND_NS)
            await files.read(b"f")
            assert (await files.stat(b"f")).atime_ns > 2 * SECOND_NS

    async def test_a_group_folder_hands_on_its_group(self, tmp_path: Path) -> None:
        """Teams share directories by setgid; all that is made below belongs to the team."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"team")
            await files.chown(b"team", -1, 4321)
            await files.chmod(b"team", 0o2775)
            await files.write(b"team/f")
            await files.mkdir(b"team/d", 0o755)
            await files.symlink(b"x", b"team/l")
            await files.mknod(b"team/p", stat.S_IFIFO | 0o644)
            for path in (b"team/f", b"team/d", b"team/l", b"team/p"):
                assert (await files.stat(path)).gid == 4321
            assert oct((await files.stat(b"team/d")).permissions) == oct(0o2755)
            assert not (await files.stat(b"team/f")).mode & stat.S_ISGID

    async def test_attributes_can_be_attached(self, tmp_path: Path) -> None:
        """Values are bytes, the empty one included."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            await files.mkdir(b"d")
            for path in (b"f", b"d"):
                assert await files.listxattr(path) == []
                await files.setxattr(path, "user.a", b"\0binary\xff")
                await files.setxattr(path, "user.empty", b"")
                await files.setxattr(path, "user.a", b"replaced")
                assert await files.getxattr(path, "user.a") == b"replaced"
                assert await files.getxattr(path, "user.empty") == b""
                assert sorted(await files.listxattr(path)) == ["user.a", "user.empty"]
                await files.removexattr(path, "user.a")
                assert await files.listxattr(path) == ["user.empty"]
                with failing(errno.ENODATA):
                    await files.getxattr(path, "user.a")
                with failing(errno.ENODATA):
                    await files.removexattr(path, "user.a")

    async def test_attributes_can_be_made_or_replaced_only(self, tmp_path: Path) -> None:
        """setxattr(2) promises both."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            with failing(errno.ENODATA):
                await files.setxattr(b"f", "user.a", b"x", os.XATTR_REPLACE)
            await files.setxattr(b"f", "user.a", b"x", os.XATTR_CREATE)
            with failing(errno.EEXIST):
                await files.setxattr(b"f", "user.a", b"y", os.XATTR_CREATE)
            await files.setxattr(b"f", "user.a", b"z", os.XATTR_REPLACE)
            assert await files.getxattr(b"f", "user.a") == b"z"

    async def test_attributes_follow_the_file(self, tmp_path: Path) -> None:
        """They belong to the inode, whatever it is called."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f")
            await files.setxattr(b"f", "user.a", b"x")
            await files.link(b"f", b"g")
            await files.rename(b"f", b"h")
            for path in (b"g", b"h"):
                assert await files.getxattr(path, "user.a") == b"x"

    async def test_df_tells_of_free_room(self, tmp_path: Path) -> None:
        """Installers refuse to start without."""
        async with self.writable(tmp_path) as files:
            space = await files.space()
            assert space.free_bytes > 0
            assert space.most_name_bytes == 255
