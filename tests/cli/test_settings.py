"""`blobfs settings`, and `init` with settings, on a folder that plays the bucket."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from blobfs.cli import daemon
from blobfs.control.registry import registrations
from blobfs.formats.head import VolumeSettings, decode_head
from blobfs.sync.delete_probe import FAILED, FILE
from tests.cli.calls import call
from tests.mountd.home import Home

pytestmark = pytest.mark.slow


@pytest.fixture
def deaf_mount(home: Home, bucket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A daemon that has the bucket mounted, and cannot look at its settings."""
    for name, value in home.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(daemon, "DAEMON", home.daemon("plain"))
    daemon.start(home.settings(source=f"file://{bucket}"))
    (found,) = registrations(home.runtime)
    yield
    os.kill(found.pid, signal.SIGKILL)
    os.waitpid(found.pid, 0)


def settings_in(bucket: Path) -> VolumeSettings:
    """Return what lies in the bucket, past all that is tested here."""
    return decode_head((bucket / ".blobfs" / "head").read_bytes(), key="head").settings


def test_they_are_shown_and_changed(home: Home, bucket: Path) -> None:
    """Nobody could set a limit, nor see whether there is one."""
    source = f"file://{bucket}"
    assert call(home, "init", source).exit_code == 0
    assert call(home, "settings", source).output.splitlines() == [
        "quota       none",
        "trash time  30 d 0 h",
    ]
    changed = call(home, "settings", source, "--quota", "1.5GiB", "--trash-time", "7d")
    assert changed.output.splitlines() == ["quota       1.5 GiB", "trash time  7 d 0 h"]
    assert settings_in(bucket) == VolumeSettings(quota_bytes=3 * 2**29, trash_s=7 * 86_400)
    only_one = call(home, "settings", source, "--quota", "none", "--json")
    assert json.loads(only_one.output) == {
        "source": source,
        "quota_bytes": None,
        "trash_s": 7 * 86_400,
        "trash_problem": None,
    }


def test_a_store_that_cannot_be_relied_on_is_named(home: Home, bucket: Path) -> None:
    """Who asks for no trash would believe that there is none (N5)."""
    source = f"file://{bucket}"
    call(home, "init", source, "--trash-time", "0")
    (state,) = (home.root / "state" / "blobfs").iterdir()
    (state / FILE).write_bytes(b'{"keeps_conditions": false}')
    assert FAILED in call(home, "settings", source).output
    assert json.loads(call(home, "settings", source, "--json").output)["trash_problem"] == FAILED


def test_a_new_volume_has_those_that_were_asked_for(home: Home, bucket: Path) -> None:
    """The first files would be written without the limit."""
    made = call(home, "init", f"file://{bucket}", "--quota", "10GiB", "--trash-time", "0")
    assert made.output.splitlines()[2:5] == [
        "  compression  zstd",
        "  quota        10GiB",
        "  trash time   0",
    ]
    assert settings_in(bucket) == VolumeSettings(quota_bytes=10 * 2**30, trash_s=0)


@pytest.mark.parametrize("arguments", [("--quota", "1000"), ("--trash-time", "soon")])
def test_a_slip_changes_nothing(home: Home, bucket: Path, arguments: tuple[str, str]) -> None:
    """A volume would be made, or limited, before the mistake is found."""
    source = f"file://{bucket}"
    for command in ("init", "settings"):
        refused = call(home, command, source, *arguments)
        assert refused.exit_code == 2
        assert refused.stderr.startswith(f"blobfs: {arguments[0]}: ")
    assert list(bucket.iterdir()) == []


def test_without_a_volume_it_says_what_to_do(home: Home, bucket: Path) -> None:
    """A slip in the name of the bucket would look like a fault, or write into it."""
    missing = call(home, "settings", f"file://{bucket}", "--quota", "1GiB")
    assert missing.exit_code == 3
    assert "there is no volume" in missing.stderr
    assert "`blobfs init` makes one" in missing.stderr
    assert list(bucket.iterdir()) == []


def test_a_mount_that_does_not_hear_of_it_is_named(
    home: Home, bucket: Path, deaf_mount: None
) -> None:
    """Somebody would wonder why a quota that was raised is still in force."""
    source = f"file://{bucket}"
    assert call(home, "init", source).exit_code == 0
    changed = call(home, "settings", source, "--quota", "1GiB")
    assert changed.exit_code == 0
    assert settings_in(bucket).quota_bytes == 2**30
    assert changed.stderr == (
        f"blobfs: {home.mountpoint} will heed it with its next commit, or within an hour: "
        "there is no store to ask\n"
    )
