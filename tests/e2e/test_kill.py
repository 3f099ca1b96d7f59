"""A daemon that is killed at any moment loses nothing that a program was told is done (P1)."""

import os
import random
import time
from pathlib import Path

import pytest

from tests.e2e.buckets import make_bucket
from tests.e2e.cli import Home
from tests.e2e.notes import difference, explain, read_notes, working
from tests.e2e.worker import Tree, scan

pytestmark = [pytest.mark.mount, pytest.mark.server, pytest.mark.slow]

KILLS = os.environ.get("BLOBFS_SOAK_KILLS")


@pytest.mark.parametrize(("kind", "kills"), [("s3", 4), ("azure", 2)])
def test_nothing_acknowledged_is_lost(
    tmp_path: Path, kind: str, kills: int, request: pytest.FixtureRequest
) -> None:
    """The one promise: what `write`, `rename` and the others said is done stays done."""
    bucket = make_bucket(kind, tmp_path, request)
    source, options = bucket.source, (*bucket.options, "--settle", "0.1s")
    home = Home(tmp_path / "here", bucket.variables)
    mountpoint = home.root / "mountpoint"
    mountpoint.mkdir(parents=True)
    chance = random.Random(1)
    tree: Tree = {}
    for number in range(int(KILLS or kills)):
        notes = tmp_path / f"notes-{number}"
        home.run("mount", source, mountpoint, *options)
        assert difference(scan(mountpoint), tree) == {}
        with working(mountpoint, notes, seed=number):
            time.sleep(0.2 + chance.random() * 2)  # any moment is as good as any other
            kill(home, mountpoint)
        home.run("mount", source, mountpoint, *options)
        told, found = read_notes(notes), scan(mountpoint)
        trees = told.trees(tree, len(told.done))
        # What was under way when the daemon died happened, or it did not.
        assert told.done
        assert found in trees, explain(found, trees)
        tree = found
        kill(home, mountpoint)
    home.run("mount", source, mountpoint, *options)
    home.run("sync", mountpoint)
    assert home.status()["safe"]
    home.run("unmount", mountpoint)
    elsewhere = Home(tmp_path / "elsewhere", bucket.variables)
    elsewhere.root.mkdir()
    with elsewhere.mounted(source, *options) as other:
        assert difference(scan(other), tree) == {}


def kill(home: Home, mountpoint: Path) -> None:
    """Kill the daemon, and clear away the mount that it left."""
    home.kill_daemon()
    home.run("unmount", mountpoint, "--force")
