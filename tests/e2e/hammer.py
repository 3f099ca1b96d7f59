"""Work on one tree from several mounts at once, and know which lines have to be in it in the end.

Whoever works here writes lines that say who wrote them, and notes each when the kernel said that it
is done. A line goes for good only where somebody who has read it takes it away.
"""

import ctypes
import os
import random
import threading
import time
from pathlib import Path

RENAME_EXCHANGE = 2
AT_FDCWD = -100
FOLDERS = ("", "one", "two")
FILES = tuple(f"shared-{number}" for number in range(4))

_libc = ctypes.CDLL(None, use_errno=True)


def exchange(one: Path, other: Path) -> None:
    """Let two names lead to each other's file at once, so that nobody's bytes go unseen."""
    paths = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), os.fspath(other))


class Worker(threading.Thread):
    """Works below `root`, which is not there while its mount is dead, until it is told to stop."""

    def __init__(self, name: str, root: Path, seed: int) -> None:
        super().__init__(name=name)
        self.root = root
        self.done: dict[str, str] = {}
        """Lines that have to be found, and how they were written."""
        self.operations = 0
        self._rng = random.Random(seed)
        self._stopping = threading.Event()
        self._numbers = 0

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        steps = (self.append, self.append, self.save, self.save, self.make, self.move, self.drop)
        while not self._stopping.is_set():
            try:
                self._rng.choice(steps)()
                self.operations += 1
            except OSError:
                # The daemon was killed, or somebody else moved what was to be changed.
                self._stopping.wait(0.05)
            self._stopping.wait(self._rng.random() * 0.02)

    def line(self) -> str:
        self._numbers += 1
        return f"{self.name} {self._numbers}"

    def _note(self, line: str, how: str, path: Path) -> None:
        self.done[line] = f"{how} {path.relative_to(self.root)} at {time.time():.3f}"

    def path(self) -> Path:
        return self.root / self._rng.choice(FOLDERS) / self._rng.choice(FILES)

    def append(self) -> None:
        """Add a line to a file that others write to, too."""
        line = self.line()
        path = self.path()
        with path.open("a") as file:
            file.write(line + "\n")
        self._note(line, "appended to", path)

    def save(self) -> None:
        """Write a file anew beside itself, as an editor does, and put it in its place."""
        path, line = self.path(), self.line()
        kept = path.read_text() if path.exists() else ""
        beside = self.root / f"{self.name}-new"
        beside.write_text(kept + line + "\n")
        if not path.exists():
            beside.rename(path := self.root / f"{self.name}-{self._numbers}")
            self._note(line, "saved as", path)
            return
        exchange(beside, path)
        self._note(line, "exchanged with", path)
        # What was there is kept: somebody may have written to it since we read it.
        beside.rename(self.root / f"{self.name}-old-{self._numbers}")

    def make(self) -> None:
        """Make a file and directories of its own, under names that others make as well."""
        line = self.line()
        folder = self.root / self._rng.choice(FOLDERS) / "made"
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.name}-{self._numbers}"
        path.write_text(line + "\n")
        self._note(line, "made", path)

    def move(self) -> None:
        """Give a file of all, or a directory, another name."""
        folder = self.root / self._rng.choice(FOLDERS)
        if self._rng.random() < 0.5:
            (folder / "made").rename(self.root / f"made-{self._rng.randrange(3)}")
        else:
            path = self.path()
            path.rename(path.with_name(f"{path.name}-{self.name}-{self._numbers}"))

    def drop(self) -> None:
        """Make and remove what nobody else knows."""
        path = self.root / f"{self.name}-short"
        path.write_text("short\n")
        path.unlink()


def lines_in(root: Path) -> set[str]:
    """Return all lines of all files below a directory."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {line for path in files for line in path.read_text().splitlines()}


def contents(root: Path) -> dict[str, bytes | None]:
    """Return all paths below a directory with what they hold, None for directories."""
    return {
        os.fspath(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }
