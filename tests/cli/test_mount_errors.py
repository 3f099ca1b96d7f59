"""Stores that cannot be mounted, with the real daemon: said in time, and nothing is left."""

import errno
import io
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.mountd.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.mount]

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_REGION": "us-east-1"}
WITHIN_S = 10.0


def refused(home: Home, *arguments: object, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a mount that must not come about; check what every refusal has in common."""
    started_s = time.monotonic()
    outcome = home.blobfs("mount", *arguments, "--read-only", **environ)
    assert time.monotonic() - started_s < WITHIN_S
    assert outcome.returncode not in (0, 1, 70), outcome.stderr
    first, second = outcome.stderr.splitlines()
    assert first.startswith("blobfs: ")
    assert second.startswith("hint: ")
    assert "hunter2" not in outcome.stderr
    return outcome


def test_no_such_folder(home: Home) -> None:
    """An empty mount would look like a folder that lost its files."""
    outcome = refused(home, f"file://{home.root}/none", "data")
    assert outcome.returncode == 3
    assert home.leftovers() == []


def test_no_credentials(home: Home) -> None:
    """The user would not know that it is about logging in."""
    nobody = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1"}
    outcome = refused(home, "s3://bucket", "data", **nobody)
    assert outcome.returncode == 4
    assert "credentials" in outcome.stderr
    assert home.leftovers() == []


def test_servers_that_are_not_there_or_say_nothing(home: Home) -> None:
    """`blobfs mount` would hang, or a daemon wait for a server in the background."""
    (home.root / "other").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as both:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            ports = [closed.getsockname()[1], silent.getsockname()[1]]
        asked = [
            both.submit(
                refused,
                home,
                f"s3://{name}-bucket",
                name,
                f"--endpoint-url=http://127.0.0.1:{port}",
                **KEYS,
            )
            for name, port in zip(("data", "other"), ports, strict=True)
        ]
        assert [outcome.result().returncode for outcome in asked] == [5, 5]
    assert home.leftovers() == []


def test_state_or_cache_in_use(home: Home) -> None:
    """Two daemons would write the same files, and lose what is in them."""
    source = f"file://{home.root}/files"
    (home.root / "files").mkdir()
    (home.root / "other").mkdir()
    assert home.blobfs("mount", source, "data", "--read-only").returncode == 0
    for elsewhere in ("--cache-dir=c2", "--state-dir=s2"):
        outcome = refused(home, source, "other", elsewhere)
        assert outcome.returncode == 6
        assert str(home.root) in outcome.stderr
    assert len(home.mounts()) == len(home.processes()) == 1
    assert home.blobfs("unmount", "data").returncode == 0
    assert home.leftovers() == []


def test_a_cache_that_cannot_be_written(home: Home) -> None:
    """The reason would be a traceback in a log."""
    (home.root / "files").mkdir()
    (home.root / "file").touch()
    outcome = refused(home, f"file://{home.root}/files", "data", "--cache-dir=file/c")
    assert outcome.returncode == 8
    assert home.leftovers() == []


@pytest.mark.parametrize("option", ["--cache-dir", "--state-dir"])
def test_no_room_on_the_disk(home: Home, option: str) -> None:
    """A daemon that starts and then fails at every file would be worse than none."""
    small, source = home.root / "small", home.root / "source"
    source.mkdir()
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        with (small / "rest").open("wb", buffering=0) as rest:
            fill_up(rest)
        outcome = refused(home, f"file://{source}", "data", option, small)
    finally:
        subprocess.run(["umount", small], check=True)
    assert outcome.returncode == 8
    assert "no room" in outcome.stderr
    assert home.leftovers() == []


def fill_up(file: io.RawIOBase) -> None:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
