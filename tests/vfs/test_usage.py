"""`df` tells the truth."""

from pathlib import Path

from blobfs.env import Env
from blobfs.stores.memory import MemoryStore
from blobfs.types import MIB
from tests.contracts.core_files import CoreFiles
from tests.core import opened_core

ROOM_BYTES = 16 * MIB


async def test_what_is_written_is_used_saved_or_not(tmp_path: Path) -> None:
    """A user who copies a gigabyte and sees nothing used would copy it again."""
    store = MemoryStore()
    await store.put("native", bytes(1000))
    async with opened_core(store, tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        await files.listdir(b"")
        before = core.vfs.usage()
        assert before.used_bytes == 1000
        await files.write(b"f", b"x" * 5000)
        assert core.vfs.usage().used_bytes == 6000
        await files.save()
        after = core.vfs.usage()
        assert after.used_bytes == 6000
        assert after.files > before.files


async def test_free_is_the_room_for_unsaved_data(tmp_path: Path) -> None:
    """Programs ask before they write; the bucket's own size says nothing of what we can take."""
    here = opened_core(
        MemoryStore(), tmp_path, Env(), 60, read_only=False, unsaved_size_bytes=ROOM_BYTES
    )
    async with here as core:
        assert 0 < core.vfs.usage().free_bytes <= ROOM_BYTES
        before = core.vfs.usage().free_bytes
        await CoreFiles(core).write(b"f", b"x" * MIB)
        assert core.vfs.usage().free_bytes <= before - MIB


async def test_a_read_only_mount_has_nothing_free(tmp_path: Path) -> None:
    """Nothing can be written there, whatever the disk has."""
    async with opened_core(MemoryStore(), tmp_path, Env(), 60) as core:
        usage = core.vfs.usage()
        assert (usage.free_bytes, usage.free_files) == (0, 0)
