"""Asking daemons: quick ones, silent ones, newer ones and dead ones."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import msgspec
import pytest

from blobfs.control.client import mount_statuses, request_unmount
from blobfs.control.messages import (
    PROTOCOL,
    Failure,
    MountStatus,
    StatusReply,
    Unmounted,
    encode,
)
from blobfs.control.processes import started_at
from blobfs.control.registry import Registration, claim, registrations
from blobfs.errors import BlobfsError, Unreachable, Unsupported
from tests.mountd.home import Home

SHORT_S = 0.2
LONG_S = 30.0


def entry(mountpoint: str, started: int | None = None) -> Registration:
    return Registration(
        mountpoint=mountpoint,
        source="s3://bucket",
        read_only=True,
        pid=os.getpid(),
        process_started=started or started_at(os.getpid()) or 0,
        ready=True,
    )


def status(mountpoint: str) -> MountStatus:
    return MountStatus(
        mountpoint=mountpoint,
        source="s3://bucket",
        pid=os.getpid(),
        read_only=True,
        uptime_s=1.5,
        state="mounted",
    )


@contextmanager
def daemon(home: Home, mountpoint: str, answer: Callable[[], bytes] | None) -> Iterator[None]:
    """Serve one client with `answer`; with None, take its request and stay silent."""
    with claim(home.runtime, entry(mountpoint)) as claimed, ExitStack() as open_until_end:

        def serve() -> None:
            try:
                client, _ = claimed.listener.accept()
            except OSError:
                return
            open_until_end.enter_context(client)
            client.recv(1000)
            if answer is not None:
                with suppress(BrokenPipeError, ConnectionResetError):
                    client.sendall(answer())
                    client.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        claimed.listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def states(home: Home, within_s: float) -> dict[str, str]:
    found = mount_statuses(home.runtime, registrations(home.runtime), within_s)
    return {mount.mountpoint: mount.state for mount in found}


def test_all_are_asked_at_the_same_time(home: Home) -> None:
    """With many mounts, status would take the sum of all waits."""
    # Neither answers before both were asked.
    both = threading.Barrier(2, timeout=LONG_S)

    def answer_as(mountpoint: str) -> Callable[[], bytes]:
        def answer() -> bytes:
            both.wait()
            return encode(StatusReply(mount=status(mountpoint)))

        return answer

    with daemon(home, "/a", answer_as("/a")), daemon(home, "/b", answer_as("/b")):
        found = mount_statuses(home.runtime, registrations(home.runtime), LONG_S)
    assert found == (status("/a"), status("/b"))


def test_a_silent_daemon_is_shown_and_delays_nobody(home: Home) -> None:
    """One hung mount would hide all others, or itself."""

    def answer() -> bytes:
        return encode(StatusReply(mount=status("/b")))

    with daemon(home, "/a", None), daemon(home, "/b", answer):
        found = mount_statuses(home.runtime, registrations(home.runtime), SHORT_S)
    assert [mount.state for mount in found] == ["unresponsive", "mounted"]
    assert found[0].pid == os.getpid()
    assert found[0].cache is None
    assert "does not answer" in (found[0].problem or "")


def test_a_daemon_of_another_version_says_so(home: Home) -> None:
    """After an update, the old daemon would look broken."""
    newer = msgspec.json.encode({"type": "status", "protocol": PROTOCOL + 1}) + b"\n"
    with daemon(home, "/a", lambda: newer):
        (found,) = mount_statuses(home.runtime, registrations(home.runtime), LONG_S)
    assert found.state == "unresponsive"
    assert "another version" in (found.problem or "")


def test_an_endless_answer_is_cut_off(home: Home) -> None:
    """A confused daemon would fill the memory of whoever asks."""
    with daemon(home, "/a", lambda: b"x" * 5_000_000):
        assert states(home, LONG_S) == {"/a": "unresponsive"}


def test_a_daemon_that_hangs_up_is_ending(home: Home) -> None:
    """A mount that is being unmounted would look broken."""
    with daemon(home, "/a", lambda: b""):
        assert states(home, LONG_S) == {"/a": "stopping"}


def test_a_daemon_that_starts_is_not_asked(home: Home) -> None:
    """Status would wait for a daemon that cannot answer yet."""
    starting = msgspec.structs.replace(entry("/a"), ready=False)
    with claim(home.runtime, starting):
        assert states(home, LONG_S) == {"/a": "starting"}


def test_what_a_dead_daemon_left_is_shown_once_and_removed(home: Home) -> None:
    """A crash would go unnoticed, or be shown for ever."""
    with claim(home.runtime, entry("/a", started=1)):
        assert states(home, LONG_S) == {"/a": "dead"}
        assert registrations(home.runtime) == []


class TestUnmount:
    def test_done(self, home: Home) -> None:
        """A mount that is gone would be reported as an error."""
        with daemon(home, "/a", lambda: encode(Unmounted())):
            request_unmount(home.runtime, entry("/a"))

    def test_ended_before_it_could_answer(self, home: Home) -> None:
        """The quickest daemons would be reported as errors."""
        with daemon(home, "/a", lambda: b""):
            request_unmount(home.runtime, entry("/a"))

    def test_the_reason_why_not(self, home: Home) -> None:
        """A busy mount would count as unmounted."""
        busy = Failure(message="files are open", hint="close them", exit_code=6)
        with (
            daemon(home, "/a", lambda: encode(busy)),
            pytest.raises(BlobfsError, match="files are open") as refused,
        ):
            request_unmount(home.runtime, entry("/a"))
        assert refused.value.exit_code == 6

    def test_another_answer_is_no_success(self, home: Home) -> None:
        """A mount that is still there would count as unmounted."""
        with (
            daemon(home, "/a", lambda: encode(StatusReply(mount=status("/a")))),
            pytest.raises(Unsupported),
        ):
            request_unmount(home.runtime, entry("/a"))

    def test_no_answer(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        """The command would wait for ever."""
        monkeypatch.setattr("blobfs.control.client._UNMOUNT_WITHIN_S", SHORT_S)
        with daemon(home, "/a", None), pytest.raises(Unreachable, match="does not answer"):
            request_unmount(home.runtime, entry("/a"))
