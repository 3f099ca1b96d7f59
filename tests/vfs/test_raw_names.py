"""File names of a folder store that are no text are names like all others."""

import os
from pathlib import Path

from blobfs.env import Env
from blobfs.stores.local import LocalStore
from tests.contracts.core_files import CoreFiles
from tests.core import opened_core

NAMES = [b"a", b"b", b"c", b"caf\xe9", b"d"]


def make_folder(folder: Path) -> Path:
    folder.mkdir()
    for name in NAMES:
        (folder / os.fsdecode(name)).write_bytes(name)
    return folder


async def test_names_that_are_no_text_are_read_and_fetched_ahead(tmp_path: Path) -> None:
    """One old file name must not be unreadable, let alone end the mount for all others."""
    folder = make_folder(tmp_path / "source")
    async with opened_core(LocalStore(folder), tmp_path / "local", Env(), 60) as core:
        files = CoreFiles(core)
        assert await files.listdir(b"") == NAMES
        for name in NAMES:  # in order, so that the later ones are fetched ahead
            assert await files.read(name) == name
