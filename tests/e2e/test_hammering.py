"""Several mounts of one bucket, killed daemons, a silent server: no line is lost.

What each program was told is done is in the tree in the end, or in a conflict copy beside it, and
all machines show the same (P3, P4, P5, P8).
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.buckets import Bucket, azure_bucket, s3_bucket
from tests.e2e.cli import Home
from tests.e2e.hammer import FOLDERS, Worker, contents, lines_in
from tests.e2e.test_dead_server import silent
from tests.servers import AzureServer, S3Server

pytestmark = [pytest.mark.mount, pytest.mark.server, pytest.mark.slow]

HAMMERED_S = float(os.environ.get("BLOBFS_SOAK_HAMMER_S", "30"))
OPTIONS = ("--settle", "0.2s", "--deadline", "5s")


class Machine:
    """A mount on a machine of its own, and somebody who works in it."""

    def __init__(self, bucket: Bucket, root: Path, seed: int) -> None:
        self.home = Home(root, bucket.variables)
        self.bucket = bucket
        self.mountpoint = root / "mountpoint"
        self.mountpoint.mkdir(parents=True)
        self.tree = self.mountpoint / "work"
        self.worker = Worker(root.name, self.tree, seed)

    def mount(self) -> None:
        self.home.run("mount", self.bucket.source, self.mountpoint, *self.bucket.options, *OPTIONS)

    def kill(self) -> None:
        self.home.kill_daemon()
        self.home.run("unmount", self.mountpoint, "--force")

    def leave(self) -> None:
        """Leave no mount behind, whatever happened."""
        if self.mountpoint.is_mount():
            self.kill()

    def sync(self) -> None:
        self.home.run("sync", self.mountpoint)


@contextmanager
def working(machines: list[Machine]) -> Iterator[None]:
    with ExitStack() as stack:
        for machine in machines:
            stack.callback(machine.worker.stop)
            machine.worker.start()
        yield


def hammer(machines: list[Machine], server: S3Server | AzureServer, chance: random.Random) -> None:
    """Let all work for a while, kill daemons and cut the network."""
    end = time.monotonic() + HAMMERED_S
    with working(machines):
        while time.monotonic() < end:
            time.sleep(1 + chance.random() * 3)
            if chance.random() < 0.4:
                with silent(server):
                    time.sleep(chance.random() * 4)
            else:
                machine = chance.choice(machines)
                machine.kill()
                machine.mount()


def settle(machines: list[Machine]) -> dict[str, bytes | None]:
    """Save on all machines until all show the same, and return that."""
    for _ in range(4):
        for machine in machines:
            machine.sync()
        trees = [contents(machine.tree) for machine in machines]
        if all(tree == trees[0] for tree in trees):
            break
    assert all(tree == trees[0] for tree in trees)
    return trees[0]


@pytest.mark.parametrize(("kind", "count"), [("s3", 3), ("azure", 2)])
def test_no_line_is_lost(
    tmp_path: Path, kind: str, count: int, request: pytest.FixtureRequest
) -> None:
    """Two laptops and a server in one bucket: what one of them saved would be gone."""
    server = request.getfixturevalue(f"{kind}_server")
    bucket = s3_bucket(server) if kind == "s3" else azure_bucket(server)
    machines = [Machine(bucket, tmp_path / f"m{number}", number) for number in range(count)]
    request.addfinalizer(lambda: [machine.leave() for machine in machines])
    machines[0].home.run("init", bucket.source, *bucket.options)
    for machine in machines:
        machine.mount()
    for folder in FOLDERS:
        (machines[0].tree / folder).mkdir()
    settle(machines[:1])
    for machine in machines:
        machine.sync()
    hammer(machines, server, random.Random(kind))
    settle(machines)
    for machine in machines:
        assert machine.worker.operations > HAMMERED_S
        there = lines_in(machines[0].mountpoint)
        missing = [
            f"{line} {how}" for line, how in machine.worker.done.items() if line not in there
        ]
        assert not missing, "\n".join(missing)
    for machine in machines:
        machine.home.run("unmount", machine.mountpoint)
    done = machines[0].home.run("check", bucket.source, *bucket.options)
    assert "no problem" in done.stdout or done.returncode == 0, done.stdout
