"""`init` makes a volume with the settings asked for, and loses nothing that waits for one."""

import random
from pathlib import Path

import pytest

from blobfs.env import Env
from blobfs.errors import AlreadyExists, Unsupported, UsageError
from blobfs.formats.keys import volume_key
from blobfs.formats.volume import VolumeInfo, decode_volume
from blobfs.stores.base import Store
from blobfs.stores.layers import Prefixed
from blobfs.stores.memory import MemoryStore
from blobfs.sync.binding import Bucket
from blobfs.sync.creating import create_volume
from tests.sync.place import opened_place
from tests.volume.careless import Careless

KIB = 1024


async def init(
    store: Store, folder: Path, compression: str = "zstd", **options: bool
) -> VolumeInfo:
    bucket = Bucket(store, store, "")
    state = folder / "state"
    single_writer = options.get("single_writer", False)
    return await create_volume(
        bucket, state, Env(), compression=compression, single_writer=single_writer
    )


@pytest.mark.parametrize("compression", ["zstd", "none"])
async def test_the_settings_asked_for_are_kept(tmp_path: Path, compression: str) -> None:
    """Who pays for processor time and not for bytes would not get what was chosen."""
    store, body = MemoryStore(), b"abcd" * 16 * KIB
    info = await init(store, tmp_path, compression)
    assert decode_volume(store.peek(volume_key()), key="") == info
    assert info.compression == compression
    async with opened_place(store, tmp_path) as place:
        await place.write("f", body)
        await place.save()
        assert (place.engine.uploads.sent_bytes < len(body)) == (compression == "zstd")
    async with opened_place(store, tmp_path / "other") as place:
        assert await place.tree() == {"f": body}


async def test_a_volume_is_made_once(tmp_path: Path) -> None:
    """A second one would hide all that the first holds."""
    store = MemoryStore()
    info = await init(store, tmp_path)
    with pytest.raises(AlreadyExists, match=f"there is a volume already.*{info.id.hex()}"):
        await init(store, tmp_path / "other")


async def test_not_inside_of_another(tmp_path: Path) -> None:
    """Two volumes would lie in one bucket, and each take the other for files (N7)."""
    store = MemoryStore()
    await init(store, tmp_path)
    below = Bucket(Prefixed(store, "a/"), store, "a/")
    with pytest.raises(UsageError, match="volume above"):
        await create_volume(
            below, tmp_path / "below", Env(), compression="zstd", single_writer=False
        )


@pytest.mark.parametrize("compression", ["zstd", "none"])
async def test_what_was_written_before_goes_into_it(tmp_path: Path, compression: str) -> None:
    """Work that waited for the bucket to answer would be lost to a change of settings."""
    store, body = MemoryStore(), random.Random(1).randbytes(9 * KIB)
    async with opened_place(store, tmp_path) as place:
        await place.mkdir("d")
        await place.write("d/f", body)
    await init(store, tmp_path, compression)
    async with opened_place(store, tmp_path) as place:
        await place.save()
    async with opened_place(store, tmp_path / "other") as place:
        assert await place.tree() == {"d": None, "d/f": body}


async def test_a_store_that_keeps_no_writers_apart(tmp_path: Path) -> None:
    """Two clients would destroy each other's commits; who is alone would be locked out."""
    with pytest.raises(Unsupported, match="does not refuse to overwrite"):
        await init(Careless(MemoryStore()), tmp_path / "shared")
    store = Careless(MemoryStore())
    await init(store, tmp_path, single_writer=True)
    async with opened_place(store, tmp_path, single_writer=True, read_write=True) as place:
        await place.write("f", b"1")
        await place.save()
