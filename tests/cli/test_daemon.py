"""Starting a daemon: it works, or nothing of it is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from blobfs.cli import daemon
from blobfs.config import encode_settings
from blobfs.control.registry import registrations
from blobfs.errors import BlobfsError, LocalFault, Unreachable
from tests.mountd.home import Home

pytestmark = pytest.mark.slow


@pytest.fixture
def start(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Start the daemon for tests in one of its modes."""
    for name, value in home.environ.items():
        monkeypatch.setenv(name, value)

    def start_in(mode: str) -> None:
        monkeypatch.setattr(daemon, "DAEMON", home.daemon(mode))
        daemon.start(home.settings())

    return start_in


def test_it_runs_on_its_own(home: Home, start: Callable[[str], None]) -> None:
    """Closing the terminal would end the mount, or the daemon keep a folder busy."""
    start("plain")
    (found,) = registrations(home.runtime)
    assert found.ready
    assert os.getsid(found.pid) == found.pid
    process = Path("/proc") / str(found.pid)
    assert (process / "cwd").readlink() == Path("/")
    streams = [(process / "fd" / str(number)).readlink() for number in range(3)]
    log = home.settings().log_path
    assert streams == [Path("/dev/null"), log, log]
    os.kill(found.pid, signal.SIGTERM)
    os.waitpid(found.pid, 0)
    assert home.leftovers() == []


def test_the_daemons_reason_is_ours(home: Home, start: Callable[[str], None]) -> None:
    """The user would have to look into a log."""
    with pytest.raises(BlobfsError, match="the store refused us") as refused:
        start("denied")
    assert (refused.value.exit_code, refused.value.hint) == (4, "log in again")
    assert home.leftovers() == []


def test_a_crash_names_the_log(home: Home, start: Callable[[str], None]) -> None:
    """The command would wait for a daemon that is no more."""
    with pytest.raises(BlobfsError, match=r"ended before it was ready.*exit_code=3") as refused:
        start("crash")
    assert str(home.settings().log_path) in refused.value.hint
    assert home.leftovers() == []


def test_a_daemon_that_will_not_tell_is_ended(home: Home, start: Callable[[str], None]) -> None:
    """A daemon that lost its way to us would stay, and the command wait in vain."""
    with pytest.raises(BlobfsError, match=r"ended before it was ready.*exit_code=none"):
        start("closed")
    assert home.leftovers() == []


@pytest.mark.parametrize("mode", ["slow", "deaf"])
def test_one_that_is_not_ready_in_time_is_ended(
    mode: str, home: Home, start: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`blobfs mount` would hang, or leave a daemon that comes to life later."""
    monkeypatch.setattr(daemon, "READY_WITHIN_S", 1.0)
    with pytest.raises(Unreachable, match="not ready in time"):
        start(mode)
    assert home.leftovers() == []


@pytest.mark.mount
def test_a_mount_that_hangs_is_taken_away(
    home: Home, start: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead mount would be left: `Transport endpoint is not connected`."""
    monkeypatch.setattr(daemon, "READY_WITHIN_S", 1.0)
    with pytest.raises(Unreachable, match="not ready in time"):
        start("stuck")
    assert home.leftovers() == []


def test_a_daemon_that_cannot_be_started(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation would be a traceback."""
    monkeypatch.setattr(daemon, "DAEMON", ["/no/such/python"])
    with pytest.raises(LocalFault, match="cannot start the daemon"):
        daemon.start(home.settings())


def test_a_state_folder_that_cannot_be_made(home: Home) -> None:
    """A read-only home would be a traceback."""
    (home.root / "state").touch()
    with pytest.raises(LocalFault, match="cannot make a folder"):
        daemon.start(home.settings())


def test_interrupting_the_wait_leaves_nothing(home: Home) -> None:
    """Ctrl-C would leave a daemon that mounts a little later."""
    home.settings().state_dir.mkdir(parents=True)
    os.mkfifo(home.settings().state_dir / "started")
    program = (
        # Shells start what runs in the background with SIGINT ignored, and us with it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import sys; from blobfs.cli import daemon; from blobfs.config import decode_settings; "
        f"daemon.DAEMON = {home.daemon('slow')!r}; "
        "daemon.start(decode_settings(sys.stdin.buffer.read()))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **home.environ},
    ) as command:
        assert command.stdin is not None
        assert command.stderr is not None
        command.stdin.write(encode_settings(home.settings()))
        command.stdin.close()
        (home.settings().state_dir / "started").read_bytes()
        command.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in command.stderr.read()
    assert home.leftovers() == []


def test_the_foreground_is_the_same_process(home: Home) -> None:
    """A service manager would watch, and end, the wrong process."""
    program = (
        "import sys; from blobfs.cli import daemon; from blobfs.config import decode_settings; "
        f"daemon.DAEMON = {home.daemon('plain')!r}; "
        "daemon.become(decode_settings(sys.stdin.buffer.read()))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **home.environ},
    ) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        command.stdin.write(encode_settings(home.settings(foreground=True)))
        command.stdin.close()
        assert command.stdout.readline().startswith(b"mounted s3://bucket on ")
        assert registrations(home.runtime)[0].pid == command.pid
        command.send_signal(signal.SIGTERM)
        assert command.wait(20) == 0
    assert home.leftovers() == []
