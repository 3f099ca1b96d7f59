"""A power cut at any moment takes nothing back that an fsync had promised (P2, S2)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.buckets import make_bucket

pytestmark = [pytest.mark.mount, pytest.mark.server, pytest.mark.slow]

CUTS = os.environ.get("BLOBFS_SOAK_CUTS")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount and shut down a file system")
@pytest.mark.skipif(
    not Path("/dev/loop-control").exists(), reason="this machine has no loop devices"
)
@pytest.mark.parametrize(("kind", "cuts"), [("folder", 4), ("azure", 2)])
def test_nothing_synced_is_lost(
    tmp_path: Path, kind: str, cuts: int, request: pytest.FixtureRequest
) -> None:
    """A database would be broken, or hold zeros, when the lights come on again."""
    bucket = make_bucket(kind, tmp_path, request)
    program = [sys.executable, "-m", "tests.e2e.power_cut", tmp_path, CUTS or str(cuts), "1"]
    done = subprocess.run(
        ["unshare", "--mount", *program, bucket.source, *bucket.options],
        env={**os.environ, **bucket.variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
