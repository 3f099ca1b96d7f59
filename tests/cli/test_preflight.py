"""What is found out before a daemon is started."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blobfs.cli import preflight
from blobfs.control.mounts import Mounted
from blobfs.errors import InUse, LocalFault, NotFound, UsageError

Table = Callable[[str, str], None]


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> Table:
    """Return a function that puts a row into the mount table."""
    rows: dict[str, Mounted] = {}
    monkeypatch.setattr(preflight, "find_mount", rows.get)

    def add(mountpoint: str, kind: str) -> None:
        rows[mountpoint] = Mounted(mountpoint, kind, "s3://old", "0:1")

    return add


class TestMountpoint:
    def test_an_empty_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing could be mounted, or under a name that `unmount` does not find."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        for given in ("real", "./real/", "link", "real/../link", "~/real", str(tmp_path / "real")):
            assert preflight.usable_mountpoint(given) == tmp_path.resolve() / "real"

    def test_missing(self, tmp_path: Path) -> None:
        """The user would not know that it has to be made first."""
        with pytest.raises(NotFound, match="does not exist") as refused:
            preflight.usable_mountpoint(str(tmp_path / "a" / "b"))
        assert refused.value.hint == f"create it with: mkdir -p {tmp_path}/a/b"

    def test_a_file(self, tmp_path: Path) -> None:
        """The reason would come from deep inside FUSE."""
        (tmp_path / "f").touch()
        for given in ("f", "f/x"):
            with pytest.raises(UsageError, match="not a folder"):
                preflight.usable_mountpoint(str(tmp_path / given))

    def test_not_empty(self, tmp_path: Path) -> None:
        """The mount would hide the user's files."""
        (tmp_path / ".hidden").touch()
        with pytest.raises(UsageError, match="not empty"):
            preflight.usable_mountpoint(str(tmp_path))

    def test_a_name_that_is_not_utf8(self, tmp_path: Path) -> None:
        """The settings could not be sent to the daemon: a traceback."""
        name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
        Path(name).mkdir()
        with pytest.raises(UsageError, match="not UTF-8"):
            preflight.usable_mountpoint(name)

    @pytest.mark.parametrize(
        ("kind", "command"),
        [
            ("fuse.blobfs", "blobfs unmount"),
            ("fuse.sshfs", "fusermount3 -u"),
            ("ext4", "sudo umount"),
        ],
    )
    def test_mounted_already(self, kind: str, command: str, tmp_path: Path, mounted: Table) -> None:
        """One mount would hide the other."""
        mounted(str(tmp_path), kind)
        with pytest.raises(InUse, match="mounted there already") as refused:
            preflight.usable_mountpoint(str(tmp_path))
        assert refused.value.hint.endswith(f"{command} {tmp_path}")

    def test_a_link_to_a_mount(self, tmp_path: Path, mounted: Table) -> None:
        """The same, on a detour."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        mounted(str(tmp_path / "real"), "fuse.blobfs")
        with pytest.raises(InUse, match="mounted there already"):
            preflight.usable_mountpoint(str(tmp_path / "link"))

    def test_a_dead_mount(
        self, tmp_path: Path, mounted: Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`Transport endpoint is not connected` tells nobody what to do."""

        def statvfs(path: Path) -> os.statvfs_result:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), str(path))

        mounted(str(tmp_path), "fuse.blobfs")
        monkeypatch.setattr(os, "statvfs", statvfs)
        with pytest.raises(InUse, match="a dead mount is in the way") as refused:
            preflight.usable_mountpoint(str(tmp_path))
        assert refused.value.hint == f"clear it with: blobfs unmount {tmp_path}"


class TestMachine:
    def test_no_fuse(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a container, the reason would be a number."""
        monkeypatch.setattr(preflight, "FUSE_DEVICE", tmp_path / "fuse")
        with pytest.raises(LocalFault, match="no FUSE") as refused:
            preflight.check_fuse(allow_other=False)
        assert "--device /dev/fuse" in refused.value.hint

    def test_no_tool(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The mount would come about and could not be ended."""
        monkeypatch.setattr(preflight, "FUSE_DEVICE", tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(LocalFault, match="fusermount3 is missing"):
            preflight.check_fuse(allow_other=False)

    @pytest.mark.parametrize(
        ("text", "permitted"),
        [
            ("#user_allow_other\n", False),
            ("mount_max = 9\nuser_allow_other\n", True),
            (None, False),
        ],
    )
    def test_letting_others_in(
        self, text: str | None, permitted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """fusermount3 would refuse with a riddle."""
        config = tmp_path / "fuse.conf"
        if text is not None:
            config.write_text(text)
        (tmp_path / "fusermount3").touch(mode=0o755)
        monkeypatch.setattr(preflight, "FUSE_DEVICE", tmp_path)
        monkeypatch.setattr(preflight, "FUSE_CONFIG", config)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(os, "getuid", lambda: 1000)
        if permitted:
            preflight.check_fuse(allow_other=True)
        else:
            with pytest.raises(LocalFault, match="--allow-other") as refused:
                preflight.check_fuse(allow_other=True)
            assert str(config) in refused.value.hint


class TestOverlap:
    def test_what_the_mount_would_hide(self) -> None:
        """The daemon would wait for itself, for ever."""
        place = Path("/home/u/data")
        preflight.check_apart(place, [Path("/home/u/data2"), Path("/home/u")])
        for needed in ("/home/u/data", "/home/u/data/cache/id"):
            with pytest.raises(UsageError, match="would hide what it needs"):
                preflight.check_apart(place, [Path("/tmp"), Path(needed)])

    def test_a_folder_inside_itself(self) -> None:
        """A walk through it would never end."""
        preflight.check_outside(Path("/home/u/data"), Path("/home/u/files"))
        preflight.check_outside(Path("/srv"), Path("/srv/files"))
        for source in ("/home/u", "/home/u/data", "/"):
            with pytest.raises(UsageError, match="inside itself"):
                preflight.check_outside(Path("/home/u/data"), Path(source))
