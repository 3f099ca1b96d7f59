"""The folders on the user's machine, above all whom the sockets are safe from."""

import os
from pathlib import Path

import pytest

from blobfs import folders
from blobfs.errors import LocalFault


def test_a_relative_xdg_folder_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """State would land wherever the user happens to stand."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.state_root({"XDG_STATE_HOME": "x"}) == tmp_path / ".local/state/blobfs"
    assert folders.cache_root({}) == tmp_path / ".cache/blobfs"
    assert folders.cache_root({"XDG_CACHE_HOME": "/c"}) == Path("/c/blobfs")


class TestRuntimeRoot:
    def test_where_the_session_says(self, tmp_path: Path) -> None:
        """Sockets would lie where other tools of the session do not clean up."""
        environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
        assert folders.runtime_root(environ) == tmp_path / "blobfs"

    def test_a_job_without_a_session_finds_the_same_place(self, tmp_path: Path) -> None:
        """A cron job would not see what the login mounted."""
        (tmp_path / str(os.getuid())).mkdir()
        for environ in ({}, {"XDG_RUNTIME_DIR": "/does/not/exist"}):
            found = folders.runtime_root(environ, run_user=tmp_path)
            assert found == tmp_path / str(os.getuid()) / "blobfs"

    def test_a_machine_with_neither(self, tmp_path: Path) -> None:
        """Nothing could be mounted in a plain container."""
        found = folders.runtime_root({"TMPDIR": str(tmp_path)}, run_user=tmp_path / "none")
        assert found == tmp_path / f"blobfs-{os.getuid()}"


class TestPrivacy:
    def test_what_is_made_is_private(self, tmp_path: Path) -> None:
        """Other users could read cached files."""
        folder = folders.require_private(folders.make(tmp_path / "a"))
        assert folder.stat().st_mode & 0o777 == 0o700

    def test_a_folder_open_to_others_is_refused(self, tmp_path: Path) -> None:
        """Others could put a socket there, and be trusted."""
        tmp_path.chmod(0o755)
        with pytest.raises(LocalFault, match="open to others") as refused:
            folders.require_private(tmp_path)
        assert refused.value.hint == f"chmod 700 {tmp_path}"

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        """Others could lead us to a folder of theirs."""
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        with pytest.raises(LocalFault, match="somebody else"):
            folders.require_private(tmp_path / "link")

    def test_somebody_elses_folder_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who made the folder first in a shared place would own the sockets."""
        tmp_path.chmod(0o700)
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        with pytest.raises(LocalFault, match="somebody else"):
            folders.require_private(tmp_path)

    def test_commands_refuse_it_too(self, tmp_path: Path) -> None:
        """`blobfs status` would believe records that others wrote."""
        (tmp_path / "blobfs").mkdir(mode=0o755)
        with pytest.raises(LocalFault):
            folders.known_runtime({"XDG_RUNTIME_DIR": str(tmp_path)})

    def test_a_folder_that_does_not_exist_is_no_fault(self, tmp_path: Path) -> None:
        """`blobfs status` would fail before the first mount."""
        environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
        assert not folders.known_runtime(environ).exists()

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        """The reason would be a traceback."""
        (tmp_path / "file").touch()
        with pytest.raises(LocalFault, match="cannot make a folder"):
            folders.make(tmp_path / "file" / "below")
