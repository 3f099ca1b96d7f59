"""Run programs on a mount, and let another machine look at what they made."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.cli import Home
from tests.e2e.trees import differing, seen

PATIENCE_S = 60


def run(folder: Path, *command: str | Path) -> str:
    """Run a program in `folder`; return what it printed."""
    neutral = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **neutral, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def at_once(*commands: list[str | Path]) -> None:
    """Run programs at the same time; all have to succeed."""
    running = [subprocess.Popen(list(map(str, command))) for command in commands]
    assert [each.wait(PATIENCE_S) for each in running] == [0] * len(commands)


@contextlib.contextmanager
def volume(home: Home, source: str, *options: str) -> Iterator[Path]:
    """Yield a folder on a mount; what is in it in the end is what another machine sees."""
    with home.mounted(source, *options, mode="--read-write") as mountpoint:
        yield mountpoint
        home.run("sync", mountpoint)
        expected = seen(mountpoint)
    another = Home(home.root / "another", home.variables)
    another.root.mkdir()
    with another.mounted(source, *options) as mountpoint:
        assert differing(seen(mountpoint), expected) == {}
