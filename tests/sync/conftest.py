"""Give tests that open hundreds of volumes a folder whose flushes cost nothing."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """Return a folder of the test's own, in memory where that is possible."""
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="blobfs-tests-", dir=parent) as folder:
        yield Path(folder)
