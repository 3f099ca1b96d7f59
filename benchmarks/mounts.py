"""Run `blobfs mount` as a user does, in folders of its own, and be sure that it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import run, seconds
from blobfs.control.client import mount_statuses
from blobfs.control.registry import registrations

BLOBFS = Path(sys.executable).parent / "blobfs"
END_WITHIN_S = 10.0
_QUIET_FOR_S = 0.3


class Home:
    """The folders of one user who never used blobfs before, and how to mount from them.

    State and cache live as long as the home does, so two mounts after one another are
    a remount.
    """

    def __init__(self, root: Path, source: str, options: tuple[str, ...], env: Mapping[str, str]):
        self._source = source
        self._options = options
        self.mountpoint = root / "data"
        self.cache = root / "cache"
        folders = {"XDG_CACHE_HOME": self.cache}
        folders |= {f"XDG_{kind}_HOME": root / kind.lower() for kind in ("STATE", "CONFIG")}
        folders["XDG_RUNTIME_DIR"] = root / "runtime"
        self.runtime = root / "runtime" / "blobfs"
        for folder in (self.mountpoint, *folders.values()):
            folder.mkdir(parents=True, mode=0o700)
        self._env = {**os.environ, **env, **{name: str(path) for name, path in folders.items()}}

    @contextmanager
    def mount(self) -> Iterator["Mount"]:
        """Mount; unmount at the end, and check that nothing is left.

        Raises:
            RuntimeError: `blobfs` failed, or mount or daemon are still there.
        """
        command = ("mount", self._source, str(self.mountpoint), *self._options)
        mounted_in_s = seconds(self.blobfs, *command)
        try:
            mount = Mount(self, mounted_in_s)
            yield mount
            self.blobfs("unmount", str(self.mountpoint))
            _wait_until_gone(mount.pid, self.mountpoint)
        finally:
            _force_away(self.mountpoint)

    def cached_files(self) -> list[Path]:
        """Return the files that hold cached bytes."""
        return sorted(path for path in self.cache.glob("blobfs/*/data/*") if path.is_file())

    def blobfs(self, *arguments: str) -> str:
        """Run one command and return what it printed.

        Raises:
            RuntimeError: it failed; the message is what it said.
        """
        done = subprocess.run(
            [BLOBFS, *arguments],
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"blobfs {arguments[0]}: {done.stderr.strip()}")
        return done.stdout


class Mount:
    """A mounted directory with its daemon."""

    def __init__(self, home: Home, mounted_in_s: float) -> None:
        self._home = home
        self.path = home.mountpoint
        self.mounted_in_s = mounted_in_s
        self.pid: int = self.status()["pid"]

    def status(self) -> dict[str, Any]:
        """Return what `blobfs status --json` says of this mount."""
        mounts = json.loads(self._home.blobfs("status", str(self.path), "--json"))["mounts"]
        only: dict[str, Any] = mounts[0]
        return only

    def requests(self) -> int:
        """Return how many requests the store has been sent."""
        return sum(self.status()["store"]["requests"].values())

    def is_saved(self) -> bool:
        """Return whether all that was written is committed in the bucket."""
        (status,) = mount_statuses(self._home.runtime, registrations(self._home.runtime))
        return status.safe is True

    def kernel_reads(self) -> int:
        """Return how many READ requests the kernel has sent."""
        return int(self.status()["fuse"].get("read", 0))

    def settled_bytes_received(self) -> int:
        """Return what the store has sent, once nothing more arrives."""
        before, now = -1, self._bytes_received()
        while now != before:
            time.sleep(_QUIET_FOR_S)
            before, now = now, self._bytes_received()
        return now

    def seq(self) -> int:
        """Return the last commit that the mount knows of."""
        return int(self.status()["seq"])

    def bytes_sent(self) -> int:
        """Return what the store has been sent."""
        return int(self.status()["store"]["bytes_sent"])

    def _bytes_received(self) -> int:
        return int(self.status()["store"]["bytes_received"])


@contextmanager
def fresh_home(
    root: Path, source: str, options: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> Iterator[Home]:
    """Make a home below `root`, removed at the end."""
    try:
        yield Home(root, source, options, env or {})
    finally:
        shutil.rmtree(root)


def _is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _is_mounted(mountpoint: Path) -> bool:
    return f" {mountpoint} " in Path("/proc/self/mountinfo").read_text()


def _wait_until_gone(pid: int, mountpoint: Path) -> None:
    give_up = time.monotonic() + END_WITHIN_S
    while _is_running(pid) or _is_mounted(mountpoint):
        if time.monotonic() > give_up:
            os.kill(pid, signal.SIGKILL)
            raise RuntimeError(f"still there after `blobfs unmount`. pid={pid}")
        time.sleep(0.02)


def _force_away(mountpoint: Path) -> None:
    """Leave no mount behind, whatever happened; a daemon without its mount ends by itself."""
    if _is_mounted(mountpoint):
        run(["fusermount3", "-u", "-z", mountpoint])
