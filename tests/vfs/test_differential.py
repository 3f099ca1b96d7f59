"""The core and the machine's own file system, side by side."""

from pathlib import Path

import pytest

from blobfs.env import Env
from blobfs.stores.memory import MemoryStore
from tests.contracts.core_files import CoreFiles
from tests.contracts.differential import Side, compare
from tests.contracts.kernel_files import KernelFiles
from tests.core import opened_core


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_done_ends_as_on_a_disk(tmp_path: Path, seed: int) -> None:
    """Programs handle the errors they know; any other result is a bug of theirs or ours."""
    plain = tmp_path / "plain"
    plain.mkdir()
    async with opened_core(MemoryStore(), tmp_path / "ours", Env(), 60, read_only=False) as core:
        await compare(Side(CoreFiles(core)), Side(KernelFiles(plain)), seed, 400)
