"""On a store that keeps no writers apart there is one writer, or none."""

from pathlib import Path

import pytest

from blobfs.errors import BlobfsError, ReadOnly, Unsupported
from blobfs.stores.base import Store
from blobfs.stores.memory import MemoryStore
from tests.sync.place import opened_place
from tests.volume.careless import Careless


def refused(kind: type[BlobfsError], words: str) -> pytest.RaisesGroup[BlobfsError]:
    error = pytest.RaisesExc(kind, match=words)
    return pytest.RaisesGroup(error, flatten_subgroups=True, allow_unwrapped=True)


@pytest.fixture
def store() -> Store:
    return Careless(MemoryStore())


async def test_nothing_is_written_unasked(store: Store, tmp_path: Path) -> None:
    """Two clients would overwrite each other's commits (L8)."""
    with refused(Unsupported, "does not refuse"):
        async with opened_place(store, tmp_path, read_write=True):
            pass
    async with opened_place(store, tmp_path) as place:
        assert place.engine.is_read_only


async def test_the_one_writer_saves_and_comes_back(store: Store, tmp_path: Path) -> None:
    """Who asked for it can use such a store, from one machine."""
    for content in (b"first", b"second"):
        async with opened_place(store, tmp_path / "one", single_writer=True) as place:
            await place.write("f", content)
            await place.save()
    async with opened_place(store, tmp_path / "other") as other:
        assert await other.tree() == {"f": b"second"}
        assert other.engine.is_read_only


async def test_another_writer_is_kept_out(store: Store, tmp_path: Path) -> None:
    """Also when it asks in the same way."""
    async with opened_place(store, tmp_path / "one", read_write=True, single_writer=True):
        pass
    with refused(ReadOnly, "belongs to one writer"):
        async with opened_place(store, tmp_path / "other", read_write=True, single_writer=True):
            pass
