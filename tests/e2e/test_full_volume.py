"""A quota, as a user meets it: `dd`, `df`, `blobfs settings`, and on with the work."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.buckets import make_bucket
from tests.e2e.cli import Home

pytestmark = [pytest.mark.mount, pytest.mark.slow]

MIB = 1 << 20
STORES = [
    "folder",
    pytest.param("s3", marks=pytest.mark.server),
    pytest.param("azure", marks=pytest.mark.server),
]


def dd(to: Path, count: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Write `count` MiB with `dd`, one MiB at a time."""
    command = ["dd", "if=/dev/zero", f"of={to}", "bs=1M", f"count={count}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def df(folder: Path) -> tuple[int, int, int]:
    """Return what `df` says: total, used, free, in bytes."""
    done = subprocess.run(
        ["df", "-B1", "--output=size,used,avail", folder],
        capture_output=True,
        text=True,
        check=True,
    )
    total, used, free = map(int, done.stdout.splitlines()[1].split())
    return total, used, free


@pytest.mark.parametrize("kind", STORES)
def test_dd_meets_it_and_goes_on_when_it_is_raised(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """A limit that somebody set would not hold, or could not be lifted without an interruption."""
    bucket = make_bucket(kind, tmp_path, request)
    home = Home(tmp_path / "here", bucket.variables)
    home.root.mkdir()
    source, options = bucket.source, bucket.options
    home.run("init", source, "--quota", "5MiB", *options)
    with home.mounted(source, *options, mode="--read-write") as mountpoint:
        film = mountpoint / "film"
        assert df(mountpoint) == (5 * MIB, 0, 5 * MIB)
        refused = dd(film, 8)
        assert refused.returncode == 1
        assert "No space left on device" in refused.stderr
        assert film.stat().st_size == 5 * MIB
        assert df(mountpoint) == (5 * MIB, 5 * MIB, 0)
        home.run("sync", mountpoint)
        assert df(mountpoint) == (5 * MIB, 5 * MIB, 0)
        assert home.status()["quota"] == {"used_bytes": 5 * MIB, "limit_bytes": 5 * MIB}
        assert "  quota     5.0 MiB of 5.0 MiB (100 %)" in home.run("status").stdout

        raised = home.run("settings", mountpoint, "--quota", "9MiB", "--json")
        assert json.loads(raised.stdout)["quota_bytes"] == 9 * MIB
        assert raised.stderr == ""
        assert dd(film, 3, "oflag=append", "conv=notrunc").returncode == 0
        assert df(mountpoint) == (9 * MIB, 8 * MIB, MIB)
        home.run("sync", mountpoint)
    elsewhere = Home(tmp_path / "elsewhere", bucket.variables)
    elsewhere.root.mkdir()
    with elsewhere.mounted(source, *options) as mountpoint:
        assert (mountpoint / "film").stat().st_size == 8 * MIB
        assert df(mountpoint) == (8 * MIB, 8 * MIB, 0)


def test_below_what_is_there_only_less_is_taken(home: Home, source: str) -> None:
    """What was written would be lost, or nothing could be removed any more."""
    with home.mounted(source, "--settle", "1h", mode="--read-write") as mountpoint:
        film, note = mountpoint / "film", mountpoint / "note"
        film.write_bytes(b"x" * 4 * MIB)
        home.run("settings", mountpoint, "--quota", "1MiB")
        assert df(mountpoint) == (4 * MIB, 4 * MIB, 0)
        with film.open("ab", buffering=0) as opened:
            with pytest.raises(OSError, match="No space left") as refused:
                opened.write(b"more")
            assert refused.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space left"):
            os.truncate(film, 4 * MIB + 1)
        home.run("sync", mountpoint)
        film.rename(note)
        note.chmod(0o600)
        (mountpoint / "empty").touch()
        with note.open("r+b") as opened:
            opened.write(b"over")
        os.truncate(note, MIB // 2)
        (mountpoint / "small").write_bytes(b"y" * (MIB // 2))
        assert df(mountpoint) == (MIB, MIB, 0)
        home.run("settings", mountpoint, "--quota", "none")
        (mountpoint / "large").write_bytes(b"z" * 2 * MIB)
        assert home.status()["quota"]["limit_bytes"] is None
        home.run("sync", mountpoint)
    assert "all is well" in home.run("check", source).stdout
