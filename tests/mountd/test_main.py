"""The daemon's entry: what it tells whoever started it, in every outcome."""

import os
import signal
import subprocess

import pytest

from blobfs.config import encode_settings
from blobfs.control.messages import Failure, Ready, StartReport, decode_start_report
from blobfs.control.registry import registrations
from blobfs.errors import AccessDenied, InUse
from mountd.__main__ import explain
from mountd.logs import Redactor
from tests.mountd.home import Home

pytestmark = pytest.mark.slow


class Daemon:
    """A daemon in the background, and its report."""

    def __init__(self, home: Home, mode: str, **chosen: object) -> None:
        receive, send = os.pipe()
        home.settings().state_dir.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [*home.daemon(mode), str(send)],
            stdin=subprocess.PIPE,
            pass_fds=[send],
            env={**os.environ, **home.environ},
        )
        os.close(send)
        assert self.process.stdin is not None
        self.process.stdin.write(encode_settings(home.settings(**chosen)))
        self.process.stdin.close()
        with os.fdopen(receive, "rb") as reports:
            self.line = reports.readline()

    @property
    def report(self) -> StartReport:
        return decode_start_report(self.line)


def test_ready_then_a_clean_end(home: Home) -> None:
    """A mount that works would be reported as failed, or would not end cleanly."""
    daemon = Daemon(home, "plain")
    assert daemon.report == Ready()
    (found,) = registrations(home.runtime)
    assert found.pid == daemon.process.pid
    assert found.ready
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(20) == 0
    assert home.leftovers() == []
    assert "mounted. source=s3://bucket" in (home.settings().log_path or home.root).read_text()


def test_the_reason_why_not_without_secrets(home: Home) -> None:
    """The user would not know what to do, or a secret would be on the terminal."""
    daemon = Daemon(home, "denied")
    expected = Failure(
        message="the store refused us. sig=***",
        hint="log in again",
        exit_code=AccessDenied.exit_code,
    )
    assert daemon.report == expected
    assert daemon.process.wait(20) == AccessDenied.exit_code
    assert home.leftovers() == []
    assert "hunter2" not in (home.settings().log_path or home.root).read_text()


def test_a_fault_of_ours_is_told_and_logged(home: Home) -> None:
    """Nobody could find out what went wrong."""
    daemon = Daemon(home, "fault")
    assert isinstance(daemon.report, Failure)
    assert "ZeroDivisionError: one by none" in daemon.report.message
    assert daemon.process.wait(20) == 70
    assert "Traceback" in (home.settings().log_path or home.root).read_text()


def test_a_mount_that_nobody_waits_for_is_given_up(home: Home) -> None:
    """A command that was killed would leave a mount that nobody knows of."""
    receive, send = os.pipe()
    os.close(receive)
    done = subprocess.run(
        [*home.daemon("plain"), str(send)],
        input=encode_settings(home.settings(log_file=home.root / "log")),
        pass_fds=[send],
        timeout=20,
        check=False,
    )
    os.close(send)
    assert done.returncode != 0
    assert home.leftovers() == []
    assert "has gone" in (home.root / "log").read_text()


def test_the_foreground_speaks_to_the_terminal(home: Home) -> None:
    """Under a service manager, nobody would see that or why not."""
    settings = encode_settings(home.settings(foreground=True))
    with subprocess.Popen(
        home.daemon("plain"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **home.environ},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(settings)
        process.stdin.close()
        said = process.stdout.readline().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr is not None
        logged = process.stderr.read().decode()
    assert said == f"mounted s3://bucket on {home.mountpoint} (read-only)\n"
    assert "ending. signal=SIGINT" in logged
    assert home.leftovers() == []


def test_an_error_in_the_foreground(home: Home) -> None:
    """The reason would be lost, since there is no log file."""
    done = subprocess.run(
        home.daemon("denied"),
        input=encode_settings(home.settings(foreground=True)),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == AccessDenied.exit_code
    expected = "blobfs: the store refused us. sig=***\nhint: log in again\n"
    assert done.stderr.decode().endswith(expected)


def test_ours_counts_in_a_group_of_errors() -> None:
    """The user would read of an exception group instead of the reason."""
    ours = InUse("taken", hint="choose another")
    group = BaseExceptionGroup("g", [ValueError(), BaseExceptionGroup("h", [ours])])
    expected = Failure(message="taken", hint="choose another", exit_code=6)
    assert explain(group, Redactor({})) == expected


def test_an_interrupted_start() -> None:
    """Ctrl-C would be reported as a fault of blobfs."""
    assert explain(KeyboardInterrupt(), Redactor({})).exit_code == 130
