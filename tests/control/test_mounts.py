"""The mount table, and taking mounts away."""

from pathlib import Path

import pytest

from blobfs.control.mounts import Mounted, detach, find_mount
from blobfs.errors import InUse, LocalFault

TABLE = r"""22 1 8:1 / / rw,relatime - ext4 /dev/root rw
30 22 0:40 / /home/u/da\040ta rw,nosuid - fuse.blobfs s3://b\134x rw,user_id=0
31 22 0:41 / /m rw shared:7 - tmpfs tmpfs rw
32 31 0:42 / /m rw shared:8 master:2 - fuse.blobfs az://c rw
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    return path


def tool(folder: Path, script: str) -> None:
    program = folder / "fusermount3"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_names_are_unescaped(table: Path) -> None:
    """A mount with a blank in its name could not be unmounted."""
    expected = Mounted("/home/u/da ta", "fuse.blobfs", "s3://b\\x", "0:40")
    assert find_mount("/home/u/da ta", table) == expected


def test_a_name_that_looks_like_the_end_of_a_line(table: Path) -> None:
    """One odd directory that anybody mounted on would stop every command of this machine."""
    odd = "/m/a\x0cb\x85c\u2028d\re"
    table.write_bytes(f"{TABLE}33 22 0:43 / {odd} rw - tmpfs tmpfs rw\n".encode())
    assert find_mount(odd, table) == Mounted(odd, "tmpfs", "tmpfs", "0:43")


def test_the_uppermost_counts(table: Path) -> None:
    """A mount on top of another would be taken for the one below."""
    assert find_mount("/m", table) == Mounted("/m", "fuse.blobfs", "az://c", "0:42")


def test_only_a_mountpoint_itself_is_one(table: Path) -> None:
    """Every folder of the machine would count as mounted."""
    assert find_mount("/m/below", table) is None
    assert find_mount("/home", table) is None


def test_a_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user would not know which package is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalFault, match="fusermount3 is missing") as refused:
        detach("/m")
    assert "fuse3" in refused.value.hint


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'fusermount3: failed to unmount /m: Device or resource busy' >&2; exit 1", InUse),
        ("echo 'fusermount3: entry for /m not found' >&2; exit 1", LocalFault),
    ],
)
def test_what_the_tool_says_is_understood(
    script: str, expected: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy mount and one that is gone would look the same."""
    tool(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(expected, match="'/m'"):
        detach("/m")
