"""A bucket that is a volume is never shown as if it were none."""

import hashlib

import pytest

from blobfs.errors import AccessDenied, Damaged, NotFound, Unreachable, Unsupported
from blobfs.formats.head import Head, encode_head
from blobfs.formats.keys import CHECKPOINTS, CLIENTS, LOG, PACKS, head_key, volume_key
from blobfs.formats.volume import VolumeInfo, encode_volume
from blobfs.model.chain import Position
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import Seq
from blobfs.volume.presence import Volume, look

INFO = VolumeInfo(id=b"v" * 16, created_ns=1)
DATA = encode_volume(INFO)
NOT_YET = NotFound("not yet")


async def bucket(*keys: str) -> MemoryStore:
    store = MemoryStore()
    contents = {volume_key(): DATA, head_key(): encode_head(Head())}
    for key in keys:
        await store.put(key, contents.get(key, b"anything"))
    return store


class TestLook:
    async def test_a_volume_is_found(self) -> None:
        """Its exact bytes are where the chain of commits begins."""
        store = FaultyStore(await bucket(volume_key(), head_key(), LOG + "1", "native"))
        volume = await look(store)
        assert volume == Volume(INFO, DATA, Head())
        assert volume.origin == Position(Seq(0), hashlib.sha256(DATA).digest())
        assert store.calls == {"get": 2}

    @pytest.mark.parametrize("keys", [(), ("native", ".blobfs.txt", ".blobfs-old/volume")])
    async def test_a_bucket_without_one(self, keys: tuple[str, ...]) -> None:
        """A bucket that blobfs never wrote to is all native."""
        assert await look(await bucket(*keys)) is None

    async def test_an_empty_folder_is_no_remains(self) -> None:
        """A folder store shows one where a creation was killed before its first file."""
        assert await look(await bucket(".blobfs/")) is None

    @pytest.mark.parametrize("left", [head_key(), LOG + "1", PACKS + "aa/x", CLIENTS + "c"])
    async def test_a_lost_volume_mark_is_refused(self, left: str) -> None:
        """Taken for an empty bucket, it would be made a volume anew, over the old one (L5)."""
        with pytest.raises(Damaged, match=r"lost='\.blobfs/volume'"):
            await look(await bucket(left, "native"))

    @pytest.mark.parametrize("left", [LOG + "1", CHECKPOINTS + "1"])
    async def test_a_lost_head_is_refused(self, left: str) -> None:
        """Without it nobody knows how far down the log counts (L5)."""
        with pytest.raises(Damaged, match=r"lost='\.blobfs/head'"):
            await look(await bucket(volume_key(), left))

    async def test_a_creation_that_was_killed(self) -> None:
        """It can be completed: nothing was committed yet."""
        volume = await look(await bucket(volume_key()))
        assert volume is not None
        assert volume.head is None

    @pytest.mark.parametrize("first", [volume_key(), head_key()])
    async def test_a_creation_under_way_is_no_damage(self, first: str) -> None:
        """A second client that mounts while the first one creates must not be frightened."""
        store = FaultyStore(await bucket(volume_key(), head_key(), LOG + "1"))
        store.fail("get", NOT_YET, key=first)
        volume = await look(store)
        assert volume is not None
        assert volume.head is not None

    @pytest.mark.parametrize("error", [AccessDenied("no"), Unreachable("gone")])
    @pytest.mark.parametrize("nth", [1, 2])
    async def test_not_knowing_is_not_absence(
        self, error: AccessDenied | Unreachable, nth: int
    ) -> None:
        """403 and silence are no 404 (L5)."""
        for keys in ((volume_key(), head_key()), ()):
            store = FaultyStore(await bucket(*keys))
            store.fail("any", error, nth=nth)
            with pytest.raises(type(error)):
                await look(store)

    async def test_a_newer_volume_is_refused(self) -> None:
        """Its files would be shown wrong by a version that knows half of it."""
        store = MemoryStore()
        await store.put(volume_key(), DATA.replace(b'"version": 1', b'"version": 2'))
        with pytest.raises(Unsupported, match="version 2"):
            await look(store)
