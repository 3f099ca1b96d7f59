"""`blobfs mount`, from the command line to a mount and back; and every way it can be refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blobfs.cli import daemon, preflight
from blobfs.cli.main import main
from tests.mountd.home import Home

pytestmark = pytest.mark.slow


def mount(home: Home, *arguments: object) -> Result:
    return CliRunner().invoke(
        main, ["mount", *map(str, arguments)], env=home.environ, prog_name="blobfs"
    )


@pytest.mark.mount
def test_a_session(home: Home) -> None:
    """The first thing that a newcomer tries would not work."""
    mounted = home.blobfs("mount", "s3://bucket", "data", "--read-only", mode="real")
    expected = f"mounted s3://bucket on {home.mountpoint} (read-only)\n"
    assert (mounted.returncode, mounted.stdout, mounted.stderr) == (0, expected, "")
    assert (home.mountpoint / "hello").read_bytes() == b"hello"
    (status,) = json.loads(home.blobfs("status", "data", "--json").stdout)["mounts"]
    assert (status["state"], status["source"]) == ("mounted", "s3://bucket")
    ended = home.blobfs("umount", "data")
    assert (ended.returncode, ended.stdout) == (0, f"unmounted {home.mountpoint}\n")
    assert home.leftovers() == []


@pytest.mark.mount
def test_what_cannot_be_written_and_what_is_not_saved_is_said(home: Home) -> None:
    """Work would be done that nobody saves, or be left on a machine that is given away."""
    mounted = home.blobfs("mount", "s3://bucket", "data", mode="unsaved")
    assert mounted.stdout.splitlines() == [
        f"mounted s3://bucket on {home.mountpoint} (read-only)",
        "read-only because the store said so",
    ]
    shown = home.blobfs("status").stdout.splitlines()
    assert shown[1:4] == [
        "  read-only because the store said so",
        "  unsaved   2 files and folders, 300 B are not saved yet, the oldest for 5 s",
        "            saving does not get on: no answer",
    ]
    ended = home.blobfs("unmount", "data")
    assert ended.stdout.splitlines() == [
        f"unmounted {home.mountpoint}",
        "unsaved: 2 files and folders, 300 B; safe here, saved by the next mount",
    ]
    assert home.blobfs("mount", "s3://bucket", "data", mode="unsaved").returncode == 0
    assert "unsaved: 2 files" in home.blobfs("unmount", "--force", "data").stdout
    assert home.leftovers() == []


@pytest.mark.mount
def test_a_mountpoint_is_taken_once(home: Home) -> None:
    """The second mount would hide the first."""
    assert home.blobfs("mount", "bucket", "data", "--read-only", mode="real").returncode == 0
    refused = home.blobfs("mount", "s3://other", "data", "--read-only", mode="real")
    assert refused.returncode == 6
    assert "something is mounted there already" in refused.stderr
    assert f"blobfs unmount {home.mountpoint}" in refused.stderr
    assert len(home.mounts()) == len(home.processes()) == 1
    assert home.blobfs("unmount", "data").returncode == 0


@pytest.mark.mount
def test_a_dead_mount_in_the_way_can_be_cleared_as_the_hint_says(home: Home) -> None:
    """After a crash, nothing could be mounted there any more."""
    assert home.blobfs("mount", "bucket", "data", "--read-only", mode="real").returncode == 0
    home.kill_daemons()
    refused = home.blobfs("mount", "bucket", "data", "--read-only", mode="real")
    assert refused.returncode == 6
    assert "a dead mount is in the way" in refused.stderr
    assert refused.stderr.splitlines()[1] == (
        f"hint: clear it with: blobfs unmount {home.mountpoint}"
    )
    assert home.blobfs("unmount", "data").returncode == 0
    assert home.blobfs("mount", "bucket", "data", "--read-only", mode="real").returncode == 0
    assert home.blobfs("unmount", "data").returncode == 0


def test_what_the_daemon_met_is_told(home: Home) -> None:
    """The user would have to look into a log."""
    refused = home.blobfs("mount", "bucket", "data", "--read-only", mode="denied")
    assert refused.returncode == 4
    assert refused.stderr == "blobfs: the store refused us. sig=***\nhint: log in again\n"
    assert home.leftovers() == []


def not_empty(home: Home) -> None:
    (home.mountpoint / "mine").touch()


def is_a_file(home: Home) -> None:
    home.mountpoint.rmdir()
    home.mountpoint.touch()


def folder_of_that_name(home: Home) -> None:
    (home.root / "bucket").mkdir()


def nothing(home: Home) -> None:
    """Leave all as it is."""


@pytest.mark.parametrize(
    ("prepare", "arguments", "code", "said", "hint"),
    [
        (nothing, ["s3://bucket", "data", "--read-only", "--read-write"], 2, "opposites", "away"),
        (nothing, ["s3://bucket", "gone", "--read-only"], 3, "does not exist", "mkdir -p"),
        (not_empty, ["s3://bucket", "data", "--read-only"], 2, "is not empty", "empty folder"),
        (is_a_file, ["s3://bucket", "data", "--read-only"], 2, "is not a folder", ""),
        (
            folder_of_that_name,
            ["bucket", "data", "--read-only"],
            2,
            "there is a folder of that name",
            "write s3://bucket or file://",
        ),
        (nothing, ["ftp://bucket", "data", "--read-only"], 2, "ftp", ""),
        (nothing, ["az://container?sig=hunter2", "data", "--account=a", "--read-only"], 2, "", ""),
        (
            nothing,
            ["s3://bucket", "data", "--read-only", "--cache-size=lots"],
            2,
            "--cache-size: not a size",
            "20GiB",
        ),
        (
            nothing,
            ["s3://bucket", "data", "--read-only", "--cache-dir=data/cache"],
            2,
            "would hide what it needs",
            "elsewhere",
        ),
        (nothing, ["file:///", "data", "--read-only"], 2, "inside itself", "outside"),
    ],
)
def test_refused_before_anything_is_started(
    prepare: Callable[[Home], None],
    arguments: list[str],
    code: int,
    said: str,
    hint: str,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason would be a riddle, or something would stay behind."""
    prepare(home)
    monkeypatch.chdir(home.root)
    monkeypatch.setattr(daemon, "DAEMON", ["/bin/false"])
    refused = mount(home, *arguments)
    assert refused.exit_code == code, refused.output
    assert said in refused.stderr.splitlines()[0]
    assert hint in refused.stderr.partition("\nhint: ")[2]
    assert len(refused.stderr.splitlines()) <= 2
    assert "hunter2" not in refused.output
    assert home.leftovers() == []
    assert not (home.root / "state").exists()


def test_a_machine_without_fuse(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, the reason would be a riddle."""
    monkeypatch.setattr(preflight, "FUSE_DEVICE", Path("/dev/no-fuse"))
    refused = mount(home, "s3://bucket", home.mountpoint, "--read-only")
    assert refused.exit_code == 8
    assert "this machine has no FUSE" in refused.stderr
    assert home.leftovers() == []


def test_a_machine_without_fusermount3(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount could not be ended."""
    monkeypatch.setenv("PATH", str(home.root))
    refused = mount(home, "s3://bucket", home.mountpoint, "--read-only")
    assert refused.exit_code == 8
    assert "fusermount3 is missing" in refused.stderr
    assert "apt install fuse3" in refused.stderr
    assert home.leftovers() == []


def test_settings_reach_the_daemon(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag or a variable would be accepted and do nothing."""
    received = []
    monkeypatch.setattr(daemon, "start", received.append)
    monkeypatch.setenv("BLOBFS_DEADLINE", "5s")
    flags = ["--read-only", "--cache-size=1GiB", "--umask=077", "--anonymous", "--profile=p"]
    assert mount(home, "bucket/photos", home.mountpoint, *flags).exit_code == 0
    (settings,) = received
    assert settings.source == "s3://bucket/photos"
    assert settings.mountpoint == home.mountpoint
    assert (settings.deadline_s, settings.cache_size_bytes) == (5, 2**30)
    assert (settings.umask, settings.anonymous, settings.profile) == (0o077, True, "p")
    assert settings.state_dir.parent == home.root / "state" / "blobfs"
