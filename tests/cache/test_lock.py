"""One process a folder, and a true account of how the last one ended."""

import os
from pathlib import Path

import pytest

from blobfs.cache import lock as module
from blobfs.cache.lock import hold_folder
from blobfs.errors import InUse, LocalFault


def test_second_holder_is_told_who_holds_it(root: Path) -> None:
    """Two daemons on one folder would ruin it for both, and the user could not tell which."""
    with hold_folder(root), pytest.raises(InUse, match=f"pid={os.getpid()}"), hold_folder(root):
        pass


def test_folder_is_free_again(root: Path) -> None:
    """Users could not mount a second time."""
    for _ in range(2):
        with hold_folder(root) as lock:
            assert not lock.machine_stopped
            assert lock.in_place()


def test_killed_holder_is_not_a_stopped_machine(root: Path) -> None:
    """Users would lose their cache with each killed daemon."""
    root.mkdir()
    (root / "lock").write_text(f"1 {module.boot_id()}\n")
    with hold_folder(root) as lock:
        assert not lock.machine_stopped


def test_stopped_machine_is_noticed(root: Path) -> None:
    """Users would read an index that a power cut tore."""
    root.mkdir()
    (root / "lock").write_text("1 of-another-boot\n")
    with hold_folder(root) as lock:
        assert lock.machine_stopped


def test_deleted_folder_is_noticed(root: Path) -> None:
    """Two daemons would hold "the same" folder after one of them was deleted."""
    with hold_folder(root) as lock:
        (root / "lock").unlink()
        assert not lock.in_place()
        (root / "lock").touch()
        assert not lock.in_place()


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Users would see a traceback instead of the folder to change."""
    (tmp_path / "file").touch()
    with pytest.raises(LocalFault, match="file/cache"), hold_folder(tmp_path / "file" / "cache"):
        pass
