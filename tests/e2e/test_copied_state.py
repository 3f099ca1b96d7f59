"""A machine and a copy of its state folder both go on, with all that they had."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli import COMMAND, Home

pytestmark = [pytest.mark.mount, pytest.mark.slow]


class Machine:
    """A user's machine on which one bucket is mounted."""

    def __init__(self, root: Path, source: str) -> None:
        root.mkdir(exist_ok=True)
        self.home = Home(root, {})
        self.source = source
        self.folder = root / "mountpoint"
        self.folder.mkdir()

    def copied_to(self, root: Path) -> "Machine":
        """Return a machine with a copy of what this one keeps, as a backup brings it back."""
        copy = Machine(root, self.source)
        shutil.copytree(self.home.root / "state", root / "state")
        return copy

    def mount(self) -> None:
        self.home.run("mount", self.source, self.folder, "--settle", "1h")

    def unmount(self) -> None:
        self.home.run("unmount", self.folder)

    def kill(self) -> None:
        self.home.kill_daemon()
        self.home.run("unmount", self.folder, "--force")

    def save(self) -> None:
        self.home.run("sync", self.folder)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text)

    def seen(self) -> dict[str, str]:
        """Return all files, with their contents."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_text() for path in files}

    def why_not_saved(self) -> str:
        """Begin to save; return why that does not get on."""
        with subprocess.Popen(
            [*COMMAND, "sync", self.folder],
            env=self.home.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as saving:
            try:
                while saving.poll() is None:
                    if problem := self.home.status()["unsaved"]["problem"]:
                        return str(problem)
            finally:
                saving.kill()
        raise AssertionError("it gets on")

    def check(self) -> None:
        """See that `blobfs check` finds nothing wrong here, nor in the bucket."""
        assert "all is well" in self.home.run("check", self.source).stdout


@pytest.fixture
def first(tmp_path: Path, source: str) -> Machine:
    """One that has saved a file, and left another unsaved."""
    machine = Machine(tmp_path / "first", source)
    machine.mount()
    machine.write("d/old", "saved")
    machine.save()
    machine.write("d/new", "unsaved when it was copied")
    machine.unmount()
    return machine


def test_one_after_the_other(tmp_path: Path, first: Machine, source: str) -> None:
    """A restored backup would be of no use any more, or files of two machines be one (L6)."""
    copy = first.copied_to(tmp_path / "copy")
    first.mount()
    (first.folder / "d/new").rename(first.folder / "d/ours")
    first.write("d/more", "1")
    first.save()
    first.unmount()

    copy.mount()
    expected = {"d/old": "saved", "d/ours": "unsaved when it was copied", "d/more": "1"}
    expected["d/new"] = "unsaved when it was copied"
    assert copy.seen() == expected
    copy.write("d/old", "changed there")
    copy.write("theirs/more", "2")
    copy.kill()
    copy.mount()
    expected |= {"d/old": "changed there", "theirs/more": "2"}
    assert copy.seen() == expected
    copy.save()
    copy.unmount()
    assert seen_elsewhere(tmp_path, source) == expected
    first.check()
    copy.check()


def test_both_at_once(tmp_path: Path, first: Machine, source: str) -> None:
    """Whoever saves second would never save again, or over what the first has saved (L6)."""
    copy = first.copied_to(tmp_path / "copy")
    first.mount()
    copy.mount()
    (first.folder / "d/new").rename(first.folder / "d/ours")
    first.save()
    copy.write("theirs", "2")
    assert "is a copy" in copy.why_not_saved()
    first.write("d/more", "1")
    first.save()
    assert copy.seen().keys() == {"d/old", "d/new", "theirs"}
    copy.unmount()
    copy.mount()
    copy.save()
    first.unmount()
    copy.unmount()
    assert seen_elsewhere(tmp_path, source) == {
        "d/old": "saved",
        "d/ours": "unsaved when it was copied",
        "d/more": "1",
        "d/new": "unsaved when it was copied",
        "theirs": "2",
    }
    first.check()
    copy.check()


def seen_elsewhere(tmp_path: Path, source: str) -> dict[str, str]:
    """Return what a machine sees that has nothing but the bucket."""
    other = Machine(tmp_path / "elsewhere", source)
    other.mount()
    seen = other.seen()
    other.unmount()
    return seen
