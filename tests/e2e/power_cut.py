"""Cut the power of a state directory again and again, and see what is there after each boot.

    unshare --mount python -m tests.e2e.power_cut FOLDER CUTS SEED SOURCE [MOUNT-OPTION]...

Credentials come from the environment. Run as root, in mounts of its own: they end with it. The
state directory lies on ext4 in a loop device, which forgets whatever was not flushed when it is
shut down. Each boot has an id of its own, as the kernel gives it, because a journal trusts the page
cache of its own boot.
"""

import fcntl
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from blobfs.control.mounts import FILE_SYSTEM_TYPE, read_mounts
from tests.e2e.buckets import Bucket
from tests.e2e.cli import Home
from tests.e2e.notes import Notes, difference, explain, read_notes, working
from tests.e2e.worker import Tree, scan

SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
"""EXT4_IOC_SHUTDOWN, and its flag: nothing more reaches the disk, not even ext4's journal."""
DISK_BYTES = 512 * 1024 * 1024
CREDENTIALS = ("AZURE_STORAGE_CONNECTION_STRING", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Machine:
    """A disk that loses what was not flushed, and boots that differ."""

    def __init__(self, folder: Path) -> None:
        self.image, self.disk, self._id = folder / "image", folder / "disk", folder / "boot-id"
        self._boots = 0
        _let_go_of_others()
        self.disk.mkdir()
        with self.image.open("wb") as file:
            file.truncate(DISK_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self.image))
        self._id.touch()
        _run("mount", "--bind", str(self._id), str(BOOT_ID))

    def boot(self) -> None:
        self._boots += 1
        self._id.write_text(f"boot-{self._boots}\n")
        _run("mount", "-o", "loop", str(self.image), str(self.disk))

    def cut_power(self) -> None:
        disk = os.open(self.disk, os.O_RDONLY)
        fcntl.ioctl(disk, SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, sys.byteorder))
        os.close(disk)

    def take_away(self) -> None:
        """Nobody uses the disk any more."""
        _run("umount", str(self.disk))


class User:
    """Somebody who works on a machine whose power goes off."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        self.machine = Machine(folder)
        self.home = Home(folder / "here", bucket.variables)
        self.mountpoint = self.home.root / "mountpoint"
        self.mountpoint.mkdir(parents=True)
        self.bucket = bucket
        self.tree: Tree = {}

    def mount(self) -> None:
        self.machine.boot()
        options = ("--state-dir", self.machine.disk / "state", "--settle", "0.1s")
        self.home.run("mount", self.bucket.source, self.mountpoint, *options, *self.bucket.options)

    def work_until_cut(self, notes: Path, seed: int, work_s: float) -> Notes:
        with working(self.mountpoint, notes, seed):
            time.sleep(work_s)
            # An fsync under way when ext4 is shut down can succeed though nothing was written:
            # with its journal aborted, a transaction counts as committed. Without power nobody
            # would have heard of it.
            promised_bytes = notes.stat().st_size
            self.machine.cut_power()
            self.home.kill_daemon()
            self.home.run("unmount", self.mountpoint, "--force")
        self.machine.take_away()
        return read_notes(notes, promised_bytes)

    def look(self, told: Notes) -> None:
        """See that all that was synced is there, and nothing that never was."""
        found, trees = scan(self.mountpoint), told.trees(self.tree, told.synced)
        assert found in trees, explain(found, trees)
        self.tree = found


def main(folder: Path, cuts: int, seed: int, bucket: Bucket) -> None:
    chance = random.Random(seed)
    user = User(folder, bucket)
    told, synced = Notes([], None), 0
    for number in range(cuts):
        user.mount()
        user.look(told)
        told = user.work_until_cut(folder / f"notes-{number}", number, 0.1 + chance.random() * 1.5)
        synced += told.synced
    assert synced, "nothing was promised, so nothing was shown"
    user.mount()
    user.look(told)
    user.home.run("sync", user.mountpoint)
    assert user.home.status()["unsaved"]["damaged"] == []
    user.home.run("unmount", user.mountpoint)
    elsewhere = Home(folder / "elsewhere", bucket.variables)
    elsewhere.root.mkdir()
    with elsewhere.mounted(bucket.source, *bucket.options) as other:
        assert difference(scan(other), user.tree) == {}


def _let_go_of_others() -> None:
    """Forget the mounts of blobfs that this namespace began with: it would keep their daemons."""
    for row in read_mounts():
        if row.kind == FILE_SYSTEM_TYPE:
            _run("umount", "--lazy", row.mountpoint)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    place, cuts, seed, source, *options = sys.argv[1:]
    credentials = {name: os.environ[name] for name in CREDENTIALS if name in os.environ}
    main(Path(place), int(cuts), int(seed), Bucket(source, tuple(options), credentials))
