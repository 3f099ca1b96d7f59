"""Use blobfs as a user does: the command, a daemon of its own, a real mount."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [str(Path(sys.executable).parent / "blobfs")]
PATIENCE_S = 60


def is_running(pid: int) -> bool:
    """Whether the process lives; one that has ended but was not waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


@dataclass(frozen=True)
class Home:
    """A user's folders and variables, away from those of whoever runs the tests."""

    root: Path
    variables: Mapping[str, str]

    @property
    def env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        folders = {
            "HOME": self.root / "home",
            "XDG_STATE_HOME": self.root / "state",
            "XDG_CACHE_HOME": self.root / "cache",
            "XDG_CONFIG_HOME": self.root / "config",
            "XDG_RUNTIME_DIR": self.root / "run",
        }
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return {**kept, **{name: str(path) for name, path in folders.items()}, **self.variables}

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `blobfs` with these arguments."""
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done

    def status(self) -> dict[str, Any]:
        """Return what `blobfs status --json` says of the only mount."""
        (mount,) = json.loads(self.run("status", "--json").stdout)["mounts"]
        found: dict[str, Any] = mount
        return found

    @contextlib.contextmanager
    def mounted(self, source: str, *options: str, mode: str = "--read-only") -> Iterator[Path]:
        """Mount `source`, and unmount it afterwards; the daemon has ended by then."""
        mountpoint = self.root / "mountpoint"
        mountpoint.mkdir(exist_ok=True)
        self.run("mount", source, mountpoint, mode, *options)
        try:
            yield mountpoint
        finally:
            pid = self.status()["pid"]
            self.run("unmount", mountpoint)
            assert not mountpoint.is_mount()
            assert not is_running(pid)

    def kill_daemon(self) -> None:
        """Kill the daemon of the only mount, as no program would; it has ended by then."""
        handle = os.pidfd_open(self.status()["pid"])
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [])
        os.close(handle)
