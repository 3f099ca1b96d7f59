"""A power cut at any moment takes nothing back that an fsync had promised (P2, S2)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.mount, pytest.mark.slow]

CUTS = int(os.environ.get("BLOBFS_SOAK_CUTS", "4"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount and shut down a file system")
@pytest.mark.skipif(
    not Path("/dev/loop-control").exists(), reason="this machine has no loop devices"
)
def test_nothing_synced_is_lost(tmp_path: Path) -> None:
    """A database would be broken, or hold zeros, when the lights come on again."""
    program = [sys.executable, "-m", "tests.e2e.power_cut", tmp_path, str(CUTS), "1"]
    done = subprocess.run(
        ["unshare", "--mount", *program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
