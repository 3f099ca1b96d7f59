"""`blobfs unmount`, with real mounts: busy ones, hung ones and dead ones."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from blobfs.cli import daemon, unmount
from blobfs.cli.main import main
from blobfs.control.registry import registrations
from tests.mountd.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.mount]

Mount = Callable[[str], int]


@pytest.fixture
def mount(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    """Mount in one of the modes of the daemon for tests; return the daemon's pid."""
    for name, value in home.environ.items():
        monkeypatch.setenv(name, value)
    started: list[int] = []

    def mount_in(mode: str) -> int:
        monkeypatch.setattr(daemon, "DAEMON", home.daemon(mode))
        daemon.start(home.settings())
        started.append(registrations(home.runtime)[0].pid)
        return started[-1]

    yield mount_in
    for pid in started:
        os.kill(pid, signal.SIGKILL)  # a zombie at least, since only we can collect it
        os.waitpid(pid, 0)


def call(home: Home, *arguments: object) -> Result:
    return CliRunner().invoke(
        main, ["unmount", *map(str, arguments)], env=home.environ, prog_name="blobfs"
    )


def test_a_mount_is_gone_with_its_daemon(home: Home, mount: Mount) -> None:
    """What is mounted next could meet the old daemon."""
    mount("real")
    assert (home.mountpoint / "hello").read_bytes() == b"hello"
    done = call(home, home.mountpoint / "some" / "where")
    assert (done.exit_code, done.output) == (0, f"unmounted {home.mountpoint}\n")
    assert home.leftovers() == []
    assert list(home.mountpoint.iterdir()) == []


def test_open_files_are_named_with_their_program(home: Home, mount: Mount) -> None:
    """The user would not know which program to close, or it would lose its files."""
    mount("real")
    with (home.mountpoint / "hello").open("rb") as file:
        refused = call(home, home.mountpoint)
        assert refused.exit_code == 6
        first, second = refused.stderr.splitlines()
        assert first.startswith("blobfs: files are open in the mount.")
        assert f"({os.getpid()})" in second
        assert "--force" in second
        assert file.read() == b"hello"
    assert call(home, home.mountpoint).exit_code == 0
    assert home.leftovers() == []


def test_force_does_not_wait_for_open_files(home: Home, mount: Mount) -> None:
    """A forgotten shell could keep a machine from shutting down."""
    mount("real")
    file = os.open(home.mountpoint / "hello", os.O_RDONLY)
    assert call(home, "--force", home.mountpoint).exit_code == 0
    assert home.leftovers() == []
    with pytest.raises(OSError, match="not connected"):
        os.close(file)


def test_a_hung_daemon(home: Home, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a restart of the machine would help."""
    monkeypatch.setattr("blobfs.control.client._UNMOUNT_WITHIN_S", 0.2)
    monkeypatch.setattr(unmount, "_POLITE_S", 0.2)
    pid = mount("real")
    os.kill(pid, signal.SIGSTOP)
    refused = call(home, home.mountpoint)
    assert refused.exit_code == 5
    assert f"hint: end it with: blobfs unmount --force {home.mountpoint}" in refused.stderr
    assert call(home, "--force", home.mountpoint).exit_code == 0
    assert home.leftovers() == []


def test_a_dead_mount(home: Home, mount: Mount) -> None:
    """`Transport endpoint is not connected` would stay until somebody knows the trick."""
    os.kill(mount("real"), signal.SIGKILL)
    wait_until_dead(home)
    assert call(home, home.mountpoint).exit_code == 0
    assert home.leftovers() == []
    assert list(home.mountpoint.iterdir()) == []


def test_a_dead_mount_is_kept_in_sight(home: Home, mount: Mount) -> None:
    """After one look at status, unmount would not know of it any more."""
    os.kill(mount("real"), signal.SIGKILL)
    wait_until_dead(home)
    for _ in range(2):
        shown = CliRunner().invoke(main, ["status"], env=home.environ)
        assert "dead, pid" in shown.output
    assert call(home, home.mountpoint).exit_code == 0


def test_a_mount_whose_record_is_lost(home: Home, mount: Mount) -> None:
    """Cleaning up a temporary folder would make mounts that cannot be ended."""
    mount("real")
    shutil.rmtree(home.runtime)
    assert call(home, home.mountpoint).exit_code == 0
    assert home.mounts() == []


def test_unmounted_by_other_means(home: Home, mount: Mount) -> None:
    """`umount` by hand would leave a daemon behind."""
    pid = mount("real")
    subprocess.run(["fusermount3", "-u", str(home.mountpoint)], check=True)
    handle = os.pidfd_open(pid)
    os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOWAIT)
    os.close(handle)
    assert home.leftovers() == []


def test_a_daemon_that_waits_for_a_dead_disk(home: Home, mount: Mount) -> None:
    """It would hold the state folder, and nothing could be mounted before the next boot."""
    mount("lingers")
    assert call(home, home.mountpoint).exit_code == 0
    assert home.leftovers() == []
    told = home.settings().log_path
    assert told is not None
    assert "ended as if killed" in told.read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make a mount namespace")
def test_a_mount_that_others_still_see(
    home: Home, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs a container would wait, and not learn that it is what keeps the daemon."""
    monkeypatch.setattr(unmount, "_ENDS_SOON_S", 0.1)
    pid = mount("real")
    others = ["unshare", "--mount", "--propagation", "private"]
    with subprocess.Popen(
        [*others, "sh", "-c", "echo; read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()  # it has its namespace
        refused = call(home, home.mountpoint)
        assert refused.exit_code == 6
        first, second = refused.stderr.splitlines()
        assert f"others still see it: sh ({other.pid})" in first
        assert second.endswith(f"with: blobfs unmount --force {home.mountpoint}")
        other.communicate(b"\n")
    handle = os.pidfd_open(pid)
    os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOWAIT)  # it ends by itself now
    os.close(handle)
    assert home.leftovers() == []


def test_a_daemon_that_outlives_its_mount(home: Home, mount: Mount) -> None:
    """A mount that hangs at its end would leave nothing to do but to guess."""
    mount("plain")
    refused = call(home, home.mountpoint)
    assert refused.exit_code == 8
    assert refused.stderr.splitlines()[1] == (
        f"hint: end it with: blobfs unmount --force {home.mountpoint}"
    )
    assert call(home, "--force", home.mountpoint).exit_code == 0
    assert home.leftovers() == []


def test_nothing_is_mounted_there(home: Home) -> None:
    """A script could not tell that there was nothing to do."""
    missing = call(home, home.mountpoint)
    assert missing.exit_code == 3
    assert "blobfs has mounted nothing there" in missing.stderr


def wait_until_dead(home: Home) -> None:
    """Wait until the kernel has taken the killed daemon's mount from it."""
    (found,) = registrations(home.runtime)
    os.waitid(os.P_PID, found.pid, os.WEXITED | os.WNOWAIT)
    assert len(home.mounts()) == 1
