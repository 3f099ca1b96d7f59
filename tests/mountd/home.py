"""Give tests a user of their own: folders, mounts and daemons that nobody else has.

What is left behind is looked for by an independent witness: the environment of every process,
and the kernel's mount table.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from blobfs.config import MountSettings
from blobfs.control.processes import started_at

TINY_DAEMON = Path(__file__).with_name("tiny_daemon.py")


@dataclass(frozen=True)
class Home:
    """The folders of one user, below one short temporary folder."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def runtime(self) -> Path:
        return self.root / "run" / "blobfs"

    @property
    def mountpoint(self) -> Path:
        return self.root / "data"

    def settings(self, **chosen: object) -> MountSettings:
        values: dict[str, object] = {
            "source": "s3://bucket",
            "mountpoint": self.mountpoint,
            "state_dir": self.root / "state" / "id",
            "cache_dir": self.root / "cache" / "id",
            "runtime_dir": self.runtime,
            "read_only": True,
        }
        return MountSettings(**{**values, **chosen})  # type: ignore[arg-type]

    def daemon(self, mode: str) -> list[str]:
        """Return the command of a daemon with a file system for tests; see tiny_daemon.py."""
        return [sys.executable, "-P", str(TINY_DAEMON), mode]

    def blobfs(
        self, *arguments: object, mode: str | None = None, **environ: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run `blobfs` as users do: in a process of its own.

        With `mode`, the daemon behind it is the one for tests.
        """
        program = "from blobfs.cli import daemon; from blobfs.cli.main import main; "
        if mode is not None:
            program += f"daemon.DAEMON = {self.daemon(mode)!r}; "
        return subprocess.run(
            [sys.executable, "-c", program + "main()", *map(str, arguments)],
            env={**_neutral_environ(), **self.environ, **environ},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def processes(self) -> list[int]:
        """Return the processes that were started with these folders and still run."""
        marker = os.fsencode(self.root)
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and int(entry.name) != os.getpid()
            and marker in _environ_of(entry)
            and started_at(int(entry.name)) is not None
        ]

    def mounts(self) -> list[str]:
        """Return the rows of the mount table that are below these folders."""
        rows = Path("/proc/self/mountinfo").read_text().splitlines()
        return [row for row in rows if str(self.root) in row]

    def leftovers(self) -> list[object]:
        """Return every process, mount, socket and record that is still there."""
        sockets = sorted(self.runtime.glob("*")) if self.runtime.exists() else []
        return [*self.processes(), *self.mounts(), *sockets]

    def kill_daemons(self) -> None:
        """Kill every process of ours, and wait until it has ended."""
        for pid in self.processes():
            handle = os.pidfd_open(pid)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [])
            os.close(handle)

    def clear(self) -> None:
        self.kill_daemons()
        for row in self.mounts():
            subprocess.run(["fusermount3", "-u", "-z", row.split(" ")[4]], check=False)
        shutil.rmtree(self.root, ignore_errors=True)


def make_home() -> Home:
    # Not pytest's tmp_path: with it, sockets would have longer names than the kernel takes.
    root = Path(tempfile.mkdtemp(prefix="bfs-"))
    environ = {
        "HOME": str(root),
        "XDG_STATE_HOME": str(root / "state"),
        "XDG_CACHE_HOME": str(root / "cache"),
        "XDG_RUNTIME_DIR": str(root / "run"),
    }
    (root / "run").mkdir(mode=0o700)
    (root / "data").mkdir()
    return Home(root, environ)


def _neutral_environ() -> dict[str, str]:
    """Return the environment without the developer's own credentials and settings."""
    own = ("AWS_", "AZURE_", "BLOBFS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}


def _environ_of(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
