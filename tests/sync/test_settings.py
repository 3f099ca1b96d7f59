"""The settings of a volume can be looked at and changed, and only by who may write to it."""

from pathlib import Path

import pytest

from blobfs.cache.lock import hold_folder
from blobfs.env import Env
from blobfs.errors import AccessDenied, InUse, NotFound, ReadOnly, Unsupported
from blobfs.formats.head import Head, VolumeSettings, encode_head
from blobfs.formats.keys import head_key, volume_key
from blobfs.formats.volume import VolumeInfo
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.sync.settings import change_settings, volume_settings
from blobfs.volume.client import open_identity
from blobfs.volume.creation import create, require_writable
from tests.volume.careless import Careless
from tests.volume.story import SOMEBODY

INFO = VolumeInfo(id=b"v" * 16, created_ns=1)


class HeedsAbsenceAlone(Careless):
    """A store where an object is put once, and then over whatever version."""

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        return await self.inner.put(key, data, if_absent=if_absent)


async def volume_in(store: Store) -> Store:
    await create(store, INFO)
    return store


async def owned(store: Store, state_dir: Path) -> Store:
    """Make a volume whose one writer has its state in `state_dir`."""
    volume = await create(store, INFO)
    with hold_folder(state_dir):
        me = (await open_identity(state_dir, INFO.id, Env())).client
    await require_writable(store, volume, me, single_writer=True)
    return store


async def test_nothing_is_set_at_first() -> None:
    """A new volume would have a limit that nobody chose."""
    assert await volume_settings(await volume_in(MemoryStore())) == VolumeSettings()


async def test_one_is_set_and_the_other_stays(tmp_path: Path) -> None:
    """Who sets a quota would lose the trash time, or the other way round."""
    store = await volume_in(MemoryStore())
    await change_settings(store, tmp_path, {"trash_s": 5}, is_mounted=False)
    changed = await change_settings(store, tmp_path, {"quota_bytes": 7}, is_mounted=True)
    assert changed == await volume_settings(store) == VolumeSettings(quota_bytes=7, trash_s=5)
    await change_settings(store, tmp_path, {"quota_bytes": None}, is_mounted=False)
    assert await volume_settings(store) == VolumeSettings(trash_s=5)


async def test_a_machine_that_never_mounted_keeps_nothing(tmp_path: Path) -> None:
    """Looking after volumes would leave a folder for each."""
    store = await volume_in(MemoryStore())
    await change_settings(store, tmp_path / "state", {"trash_s": 5}, is_mounted=False)
    assert not (tmp_path / "state").exists()


async def test_a_volume_that_was_half_made_is_completed(tmp_path: Path) -> None:
    """Who was interrupted making it could set nothing."""
    store = FaultyStore(MemoryStore())
    store.fail("put", AccessDenied("no more"), nth=2)
    with pytest.raises(AccessDenied):
        await create(store, INFO)
    assert await volume_settings(store) == VolumeSettings()
    await change_settings(store, tmp_path, {"trash_s": 5}, is_mounted=False)
    assert await volume_settings(store) == VolumeSettings(trash_s=5)


async def test_without_a_volume_there_is_nothing_to_set(tmp_path: Path) -> None:
    """A slip in the name of a bucket would write into it."""
    store = FaultyStore(MemoryStore())
    with pytest.raises(NotFound, match="no volume"):
        await volume_settings(store)
    with pytest.raises(NotFound, match="no volume"):
        await change_settings(store, tmp_path, {"trash_s": 5}, is_mounted=False)
    assert store.calls["put"] == 0


async def test_credentials_for_reading_change_nothing(tmp_path: Path) -> None:
    """Who may only read would be told something else than that."""
    store = FaultyStore(await volume_in(MemoryStore()))
    store.fail("put", AccessDenied("for reading"), key=volume_key(), times=None)
    with pytest.raises(ReadOnly, match="may not write"):
        await change_settings(store, tmp_path, {"trash_s": 5}, is_mounted=False)
    assert await volume_settings(store) == VolumeSettings()


class TestStoresThatKeepNoWritersApart:
    """Rule L8."""

    async def test_nobody_may_where_nobody_is_the_writer(self, tmp_path: Path) -> None:
        """Two machines would undo each other's settings."""
        store = Careless(await volume_in(MemoryStore()))
        with pytest.raises(Unsupported, match="does not refuse"):
            await change_settings(store, tmp_path, {"trash_s": 5}, is_mounted=False)

    async def test_nobody_may_where_versions_are_not_heeded(self, tmp_path: Path) -> None:
        """Likewise, on a store that passes the first of two proofs."""
        store = HeedsAbsenceAlone(await volume_in(MemoryStore()))
        with pytest.raises(Unsupported, match="whatever version"):
            await change_settings(store, tmp_path, {"trash_s": 5}, is_mounted=False)
        assert await volume_settings(store) == VolumeSettings()

    async def test_the_writer_may_while_it_is_not_mounted(self, tmp_path: Path) -> None:
        """Who has such a store could set nothing."""
        state = tmp_path / "state"
        store = await owned(Careless(MemoryStore()), state)
        with pytest.raises(InUse, match="is mounted"):
            await change_settings(store, state, {"trash_s": 5}, is_mounted=True)
        with hold_folder(state), pytest.raises(InUse):
            await change_settings(store, state, {"trash_s": 5}, is_mounted=False)
        await change_settings(store, state, {"trash_s": 5}, is_mounted=False)
        assert await volume_settings(store) == VolumeSettings(trash_s=5)

    async def test_another_may_not(self, tmp_path: Path) -> None:
        """The writer's commits would be lost to somebody else's change."""
        store = await owned(Careless(MemoryStore()), tmp_path / "state")
        with pytest.raises(InUse, match="another"):
            await change_settings(store, tmp_path / "other", {"trash_s": 5}, is_mounted=False)
        assert await volume_settings(store) == VolumeSettings()


async def test_the_owner_counts_on_a_good_store_too(tmp_path: Path) -> None:
    """The owner may reach the same bucket by a way that knows no conditions."""
    store = await volume_in(MemoryStore())
    await store.put(head_key(), encode_head(Head(owner=SOMEBODY)))
    with pytest.raises(InUse, match="another"):
        await change_settings(store, tmp_path, {"trash_s": 5}, is_mounted=False)
