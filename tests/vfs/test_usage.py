"""`df` tells the truth."""

from pathlib import Path

from msgspec.structs import replace

from blobfs.env import Env
from blobfs.formats.head import Head, VolumeSettings
from blobfs.stores.memory import MemoryStore
from blobfs.types import MIB
from blobfs.volume.head_change import change_head
from tests.contracts.core_files import CoreFiles
from tests.core import opened_core

ROOM_BYTES = 16 * MIB
ONE_MIB = VolumeSettings(quota_bytes=MIB)


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


async def test_with_a_quota_it_is_the_size_of_the_volume(tmp_path: Path) -> None:
    """Users would see room that they do not have, and installers begin what cannot end."""
    store = MemoryStore()
    await store.put("native", bytes(1000))
    async with opened_core(store, tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        await files.listdir(b"")
        await files.write(b"f", b"x" * 1000)
        await files.save()
        await change_head(store, lambda head: replace(head, settings=ONE_MIB))
        await core.engine.look_at_settings()
        await files.write(b"f", b"x" * 5000)
        usage = core.vfs.usage()
        assert (usage.used_bytes, usage.free_bytes) == (5000, MIB - 5000)
        await files.save()
        usage = core.vfs.usage()
        assert (usage.used_bytes, usage.free_bytes) == (5000, MIB - 5000)


async def test_beyond_the_quota_nothing_is_free(tmp_path: Path) -> None:
    """Tools that compute with a negative number show millions of terabytes."""
    async with opened_core(MemoryStore(), tmp_path, Env(), 60, read_only=False) as core:
        await CoreFiles(core).write(b"f", b"x" * 5000)
        core.engine.settings.note(Head(settings=VolumeSettings(quota_bytes=1000)))
        usage = core.vfs.usage()
        assert (usage.used_bytes, usage.free_bytes) == (5000, 0)


async def test_what_is_written_anew_counts_once(tmp_path: Path) -> None:
    """A file that is rewritten would seem to need twice its size until it is saved."""
    async with opened_core(MemoryStore(), tmp_path, Env(), 60, read_only=False) as core:
        files = CoreFiles(core)
        await files.write(b"f", b"x" * 5000)
        await files.save()
        await files.write(b"f", b"y" * 6000)
        assert core.vfs.usage().used_bytes == 6000
