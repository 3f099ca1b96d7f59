"""A server that stops answering while mounted: errors in time, and no harm to what is known.

The server is stopped by a signal, so that it keeps its connections and takes new ones but
never says a word: the worst that a network can do.
"""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.cli import Home
from tests.servers import S3Server

pytestmark = [pytest.mark.mount, pytest.mark.server, pytest.mark.slow]

DEADLINE_S = 2.0
SLACK_S = 1.5
"""For a machine that is busy with other things."""
RECOVERED_WITHIN_S = 8.0
OPTIONS = ("--deadline", f"{DEADLINE_S:g}s", "--native-ttl", "1s")


@contextlib.contextmanager
def silent(server: S3Server) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= seconds, took


def failure_of(path: Path) -> str:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - judged by its errno
        path.read_bytes()
    return errno.errorcode[caught.value.errno or 0]


def until_it_works(act: Callable[[], object]) -> None:
    """Do as a patient user does: try again until it succeeds, within the time of a pause."""
    deadline = time.monotonic() + RECOVERED_WITHIN_S
    while True:
        with contextlib.suppress(OSError):
            if act():
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    name = s3_server.make_bucket()
    for key in ("d/cached", "d/remote", "d/remote-too", "other/x"):
        s3_server.client().put_object(Bucket=name, Key=key, Body=key.encode() * 1000)
    return name


@contextlib.contextmanager
def mounted(home: Home, server: S3Server, bucket: str) -> Iterator[Path]:
    options = ("--endpoint-url", server.endpoint_url, *OPTIONS)
    with home.mounted(f"s3://{bucket}", *options) as mountpoint:
        assert (mountpoint / "d/cached").read_bytes() == b"d/cached" * 1000
        assert len(os.listdir(mountpoint / "d")) == 3  # noqa: PTH208 - as `ls` does
        yield mountpoint


def test_an_outage_is_errors_in_time_and_passes(
    tmp_path: Path, s3_server: S3Server, bucket: str
) -> None:
    """Programs fail instead of hanging, others go on, and nobody has to mount anew."""
    home = Home(tmp_path, s3_server.environment())
    with mounted(home, s3_server, bucket) as mountpoint, ThreadPoolExecutor() as programs:
        folder = mountpoint / "d"
        with (folder / "remote").open("rb", buffering=0) as opened, silent(s3_server):
            began = time.monotonic()
            reading = programs.submit(opened.read)
            with at_most(SLACK_S):
                assert home.status()["state"] == "mounted"
            assert not reading.done()
            assert isinstance(error := reading.exception(), OSError)
            assert error.errno == errno.EIO
            assert time.monotonic() - began <= DEADLINE_S + SLACK_S

            time.sleep(1)  # the listing's time to live
            with at_most(DEADLINE_S + SLACK_S):
                assert sorted(path.name for path in folder.iterdir()) == [
                    "cached",
                    "remote",
                    "remote-too",
                ]
                assert (folder / "cached").read_bytes() == b"d/cached" * 1000
            with at_most(2 * DEADLINE_S + SLACK_S):
                assert failure_of(folder / "unheard-of") == "EIO"
            status = home.status()
            assert status["listings"]["stale"] > 0
            assert status["listings"]["last_error"]
            assert status["store"]["errors"] + status["store"]["retries"] > 0

        s3_server.client().put_object(Bucket=bucket, Key="d/new", Body=b"new")
        until_it_works(lambda: (folder / "new").read_bytes())
        assert (folder / "remote-too").read_bytes() == b"d/remote-too" * 1000
        assert (folder / "remote").read_bytes() == b"d/remote" * 1000
        until_it_works(lambda: len(os.listdir(folder)) == 4)  # noqa: PTH208
        assert home.status()["listings"]["stale"] == 0


def test_a_mount_of_a_dead_server_can_be_unmounted(
    tmp_path: Path, s3_server: S3Server, bucket: str
) -> None:
    """Also while a program waits for it; whoever shuts down a machine cannot wait."""
    home = Home(tmp_path, s3_server.environment())
    with contextlib.ExitStack() as outage:
        with mounted(home, s3_server, bucket) as mountpoint:
            outage.enter_context(silent(s3_server))
            assert failure_of(mountpoint / "d/remote") == "EIO"
            began = time.monotonic()
        assert time.monotonic() - began <= DEADLINE_S + SLACK_S
