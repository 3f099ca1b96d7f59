"""`blobfs status`, against real daemons."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blobfs.cli import daemon
from blobfs.cli.main import main
from blobfs.control import client
from blobfs.control.registry import registrations
from tests.mountd.home import Home

pytestmark = pytest.mark.slow


@pytest.fixture
def mounted(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A daemon that runs; its pid."""
    for name, value in home.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(daemon, "DAEMON", home.daemon("plain"))
    daemon.start(home.settings())
    (found,) = registrations(home.runtime)
    yield found.pid
    if found.alive:
        os.kill(found.pid, signal.SIGKILL)
        os.waitpid(found.pid, 0)


def status(home: Home, *arguments: object) -> Result:
    return CliRunner().invoke(
        main, ["status", *map(str, arguments)], env=home.environ, prog_name="blobfs"
    )


def test_nothing_is_mounted(home: Home) -> None:
    """Looking would be an error before the first mount."""
    assert (status(home).exit_code, status(home).output) == (0, "nothing is mounted\n")
    assert json.loads(status(home, "--json").output) == {"mounts": [], "schema": 1}


def test_a_mount_in_words(home: Home, mounted: int) -> None:
    """The user would not see what is mounted."""
    shown = status(home)
    assert shown.exit_code == 0
    first, second, third, fourth, fifth, *_ = shown.output.splitlines()
    assert first == f"{home.mountpoint}  s3://bucket (read-only)"
    assert second.endswith(f"pid {mounted}")
    assert third == "  volume    commit 5"
    assert fourth == "  quota     50 B of 200 B (25 %)"
    assert fifth == "  cache     10 B of 100 B (10 %), 3 hits, 4 misses"


def test_a_mount_for_programs(home: Home, mounted: int) -> None:
    """Programs could not read it."""
    document = json.loads(status(home, "--json").output)
    assert document["schema"] == 1
    (mount,) = document["mounts"]
    assert mount["mountpoint"] == str(home.mountpoint)
    assert mount["source"] == "s3://bucket"
    assert mount["pid"] == mounted
    assert mount["cache"] == {"bytes": 10, "limit_bytes": 100, "hits": 3, "misses": 4}
    assert mount["store"]["requests"] == {"get": 1, "list": 2}


def test_one_mount_by_any_path_inside(
    home: Home, mounted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`blobfs status .` would not know where it is."""
    monkeypatch.chdir(home.root)
    (home.root / "link").symlink_to(home.mountpoint)
    for path in (home.mountpoint, home.mountpoint / "a" / "b", "data", "link/x", "~/data"):
        assert str(mounted) in status(home, path).output


def test_no_such_mount(home: Home, mounted: int) -> None:
    """A script could not tell whether its mount is there."""
    missing = status(home, home.root / "database")
    assert missing.exit_code == 3
    assert "blobfs has mounted nothing there" in missing.stderr
    assert missing.stdout == ""


def test_a_hung_daemon_is_shown(home: Home, mounted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status would hang with it, and the user not learn which process to end."""
    os.kill(mounted, signal.SIGSTOP)
    monkeypatch.setattr(client.mount_statuses, "__defaults__", (0.2,))
    shown = status(home)
    assert shown.exit_code == 0
    assert f"not answering, pid {mounted}" in shown.output
    assert f"blobfs unmount --force {home.mountpoint}" in shown.output


def test_a_killed_daemon_is_shown_as_dead(home: Home, mounted: int) -> None:
    """A mount would be gone without a trace."""
    os.kill(mounted, signal.SIGKILL)
    os.waitpid(mounted, 0)
    assert f"dead, pid {mounted}: its daemon has ended" in status(home).output
    assert status(home).output == "nothing is mounted\n"
    assert list(Path(home.runtime).glob("*.sock")) == []


def test_somebody_elses_folder_is_not_trusted(home: Home) -> None:
    """Records that others wrote would be believed."""
    home.runtime.mkdir(mode=0o755)
    refused = status(home)
    assert refused.exit_code == 8
    assert "open to others" in refused.stderr
