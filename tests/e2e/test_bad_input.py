"""What a bucket, its credentials and a full disk can do to a mount: a clear word, nothing lost."""

import contextlib
import io
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli import Home
from tests.servers import S3Server

pytestmark = [pytest.mark.mount, pytest.mark.server, pytest.mark.slow]

MIB = 1024 * 1024
CONTENT = random.Random(1).randbytes(3 * MIB)


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.make_bucket()


@pytest.fixture
def home(tmp_path: Path, s3_server: S3Server) -> Home:
    """Somebody who may write."""
    return a_home(tmp_path / "home", s3_server)


def a_home(root: Path, server: S3Server, **variables: str) -> Home:
    root.mkdir()
    return Home(
        root, {**server.environment(), "AWS_ENDPOINT_URL": server.endpoint_url, **variables}
    )


def reader(root: Path, server: S3Server) -> Home:
    """Somebody who may only read."""
    key, secret = server.reader_access_key, server.reader_secret_key
    return a_home(root, server, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)


def fill(home: Home, bucket: str) -> None:
    """Make a volume of two commits: `kept` and `lost`, each in a pack of its own."""
    with home.mounted(f"s3://{bucket}", mode="--read-write") as mountpoint:
        for name in ("kept", "lost"):
            (mountpoint / name).write_bytes(CONTENT[: MIB + len(name)][::-1])
            (mountpoint / name).write_bytes(CONTENT if name == "kept" else CONTENT[::-1])
            home.run("sync", mountpoint)


def keys(server: S3Server, bucket: str, prefix: str) -> list[str]:
    found: list[dict[str, Any]] = server.client().list_objects_v2(
        Bucket=bucket, Prefix=f".blobfs/{prefix}"
    )["Contents"]
    return [each["Key"] for each in sorted(found, key=lambda each: each["LastModified"])]


@contextlib.contextmanager
def silent(server: S3Server) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def write_until_full(file: io.FileIO) -> int:
    """Return how much of it was taken in, in whole MiB, and cut off the rest."""
    written = 0
    with contextlib.suppress(OSError):
        while written < 100 * MIB:
            written += file.write(CONTENT[:MIB])
    file.truncate(written // MIB * MIB)
    return written // MIB * MIB


def test_full_room_for_unsaved_data(home: Home, bucket: str, s3_server: S3Server) -> None:
    """A dead network would fill the disk, or hang programs, or lose what they wrote (P7)."""
    options = ("--unsaved-size", "16MiB", "--deadline", "1s", "--settle", "0.1s")
    with home.mounted(f"s3://{bucket}", *options, mode="--read-write") as mountpoint:
        with (mountpoint / "f").open("wb", buffering=0) as file, silent(s3_server):
            written = write_until_full(file)
            with pytest.raises(OSError, match="No space left"):
                os.pwrite(file.fileno(), CONTENT, written)
            assert 8 * MIB <= written < 16 * MIB
            began = time.monotonic()
            assert (mountpoint / "f").read_bytes() == CONTENT[:MIB] * (written // MIB)
            assert time.monotonic() - began < 2
            assert home.status()["unsaved"]["problem"]
        home.run("sync", mountpoint)
        (mountpoint / "g").write_bytes(CONTENT)
        home.run("sync", mountpoint)
    elsewhere = a_home(home.root.parent / "elsewhere", s3_server)
    with elsewhere.mounted(f"s3://{bucket}") as other:
        assert (other / "f").read_bytes() == CONTENT[:MIB] * (written // MIB)
        assert (other / "g").read_bytes() == CONTENT


def test_a_small_disk(tmp_path: Path) -> None:
    """A large file could not be written where little is free, though saving makes room, or not
    as much as `df` says."""
    with on_a_small_disk(tmp_path) as (home, source, mountpoint):
        with (mountpoint / "f").open("wb", buffering=0) as file:
            write_much(file)
        home.run("sync", mountpoint)
    assert home.run("check", source, "--read-data").stdout.startswith(f"{source}: all is well")


def test_a_full_disk(tmp_path: Path) -> None:
    """Programs would be told that all is written, and find half of it later (P7)."""
    bucket = tmp_path / "bucket"
    with on_a_small_disk(tmp_path) as (home, _, mountpoint):
        with (mountpoint / "f").open("wb", buffering=0) as file:
            bucket.rename(tmp_path / "away")
            bucket.touch()  # nothing can be saved, and it is of no use to try again soon
            with pytest.raises(OSError, match="No space left"):
                write_much(file)
            written = file.tell() // MIB * MIB
            file.truncate(written)
        assert 16 * MIB <= written < 40 * MIB
        bucket.unlink()
        (tmp_path / "away").rename(bucket)
        assert (mountpoint / "f").read_bytes() == CONTENT[:MIB] * (written // MIB)
        home.run("sync", mountpoint)
        (mountpoint / "g").write_bytes(CONTENT)
        home.run("sync", mountpoint)


def write_much(file: io.FileIO) -> None:
    for _ in range(48):
        assert file.write(CONTENT[:MIB]) == MIB


@contextlib.contextmanager
def on_a_small_disk(folder: Path) -> Iterator[tuple[Home, str, Path]]:
    """Mount a new volume, whose state folder lies on a disk of 40 MiB."""
    home = Home(folder, {})
    for name in ("bucket", "disk"):
        (folder / name).mkdir()
    source = f"file://{folder}/bucket"
    with a_disk(folder / "disk", 40 * MIB) as disk:
        options = ("--state-dir", str(disk / "state"), "--settle", "0.1s")
        with home.mounted(source, *options, mode="--read-write") as mountpoint:
            yield home, source, mountpoint


@contextlib.contextmanager
def a_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Have a disk of that size at `folder`."""
    if os.getuid() != 0:
        pytest.skip("only root may mount a small disk")
    options = f"size={size_bytes}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class Login:
    """A program that SDKs ask for credentials; they expire before they are used twice."""

    def __init__(self, home: Path) -> None:
        self._program = home / "login"
        (home / ".aws").mkdir(parents=True)
        (home / ".aws/config").write_text(f"[default]\ncredential_process = {self._program}\n")

    def give(self, key: str, secret: str) -> None:
        """Let it give credentials that the SDKs take for expiring."""
        soon = datetime.now(UTC) + timedelta(minutes=5)
        said = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": secret}
        self._become(f"echo '{json.dumps({**said, 'Expiration': soon.isoformat()})}'")

    def refuse(self) -> None:
        self._become("echo 'the session has expired: log in' >&2; exit 255")

    def _become(self, script: str) -> None:
        made = self._program.with_suffix(".new")
        made.write_text(f"#!/bin/sh\n{script}\n")
        made.chmod(0o755)
        made.replace(self._program)


def test_credentials_that_expire(bucket: str, s3_server: S3Server, tmp_path: Path) -> None:
    """A day of work would be lost with a login, or nobody know why it is not saved."""
    variables = {"AWS_ENDPOINT_URL": s3_server.endpoint_url, "AWS_DEFAULT_REGION": "us-east-1"}
    home = Home(tmp_path, variables)
    login = Login(tmp_path / "home")
    login.give(s3_server.access_key, s3_server.secret_key)
    with home.mounted(f"s3://{bucket}", "--settle", "0.1s", mode="--read-write") as mountpoint:
        (mountpoint / "before").write_bytes(CONTENT)
        home.run("sync", mountpoint)
        login.refuse()
        (mountpoint / "after").write_bytes(CONTENT[::-1])
        assert "check how you log in" in wait_problem(home, "could not be had")
        login.give(s3_server.reader_access_key, s3_server.reader_secret_key)
        wait_problem(home, "do not allow it")
        assert (mountpoint / "after").read_bytes() == CONTENT[::-1]
        login.give(s3_server.access_key, s3_server.secret_key)
        home.run("sync", mountpoint)
    elsewhere = a_home(tmp_path / "elsewhere", s3_server)
    with elsewhere.mounted(f"s3://{bucket}") as other:
        assert (other / "after").read_bytes() == CONTENT[::-1]


def wait_problem(home: Home, words: str) -> str:
    """Return what `status` says of saving once it holds `words`."""
    deadline = time.monotonic() + 20
    while words not in (said := home.status()["unsaved"]["problem"] or ""):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    return str(said)


def test_credentials_for_reading(
    home: Home, bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    """It would be noticed when the first file cannot be saved, after a day of work."""
    fill(home, bucket)
    visitor = reader(tmp_path / "reader", s3_server)
    mountpoint = visitor.root / "mountpoint"
    mountpoint.mkdir()
    said = visitor.run("mount", f"s3://{bucket}", mountpoint)
    assert "read-only" in said.stdout + said.stderr
    assert "may not write" in visitor.status()["read_only_reason"]
    with pytest.raises(OSError, match="Read-only file system"):
        (mountpoint / "new").touch()
    assert (mountpoint / "kept").read_bytes() == CONTENT
    visitor.run("unmount", mountpoint)
    refused = visitor.run("mount", f"s3://{bucket}", mountpoint, "--read-write", check=False)
    assert refused.returncode == 4
    assert "may not write" in refused.stderr


def test_a_volume_of_a_newer_version(home: Home, bucket: str, s3_server: S3Server) -> None:
    """What this version does not understand, it would read wrongly and then overwrite."""
    fill(home, bucket)
    client = s3_server.client()
    body = client.get_object(Bucket=bucket, Key=".blobfs/volume")["Body"].read()
    newer = body.replace(b'"version": 1', b'"version": 2').replace(b'"version":1', b'"version":2')
    assert newer != body
    client.put_object(Bucket=bucket, Key=".blobfs/volume", Body=newer)
    refused = home.run("mount", f"s3://{bucket}", home.root / "mountpoint", check=False)
    assert refused.returncode == 2
    assert "newer" in refused.stderr
    assert ".blobfs/volume" in refused.stderr


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_pack(home: Home, bucket: str, s3_server: S3Server, tmp_path: Path, damage: str) -> None:
    """One bad object would take everything else with it, or be read as other bytes (P6)."""
    fill(home, bucket)
    client, pack = s3_server.client(), keys(s3_server, bucket, "packs/")[-1]
    if damage == "missing":
        client.delete_object(Bucket=bucket, Key=pack)
    else:
        body = client.get_object(Bucket=bucket, Key=pack)["Body"].read()
        client.put_object(Bucket=bucket, Key=pack, Body=b"\xff" * 1000 + body[1000:])
    elsewhere = a_home(tmp_path / "elsewhere", s3_server)
    with elsewhere.mounted(f"s3://{bucket}") as mountpoint:
        assert (mountpoint / "kept").read_bytes() == CONTENT
        with pytest.raises(OSError, match="Input/output error"):
            (mountpoint / "lost").read_bytes()
    (log,) = (elsewhere.root / "state").rglob("*.log")
    assert pack.rpartition("/")[2] in log.read_text()


def test_a_slot_of_the_log(home: Home, bucket: str, s3_server: S3Server, tmp_path: Path) -> None:
    """An older tree would be shown as if it were the newest, and written upon (P3, L5)."""
    fill(home, bucket)
    client, first = s3_server.client(), keys(s3_server, bucket, "log/")[0]
    body = client.get_object(Bucket=bucket, Key=first)["Body"].read()
    elsewhere = a_home(tmp_path / "elsewhere", s3_server)
    for damage in (None, body[:-1], b"nonsense"):
        if damage is None:
            client.delete_object(Bucket=bucket, Key=first)
        else:
            client.put_object(Bucket=bucket, Key=first, Body=damage)
        (mountpoint := elsewhere.root / "mountpoint").mkdir(exist_ok=True)
        refused = elsewhere.run("mount", f"s3://{bucket}", mountpoint, check=False)
        assert refused.returncode not in (0, 70)
        assert first in refused.stderr
    with home.mounted(f"s3://{bucket}") as mountpoint:  # who has read it needs it no more
        assert (mountpoint / "kept").read_bytes() == CONTENT
        assert (mountpoint / "lost").read_bytes() == CONTENT[::-1]


def test_two_daemons(home: Home, bucket: str) -> None:
    """Both would write one journal, and neither could be read."""
    with home.mounted(f"s3://{bucket}", mode="--read-write"):
        (other := home.root / "other").mkdir()
        refused = home.run("mount", f"s3://{bucket}", other, check=False)
        assert refused.returncode == 6
        assert "another blobfs uses this bucket on this machine" in refused.stderr
