"""A fault in a library or in the cache slows a mount down, and does not end it."""

import logging
import struct
from pathlib import Path

import pytest
import trio
import trio.testing

from blobfs.cache import index
from blobfs.cache.reading import open_reading
from blobfs.env import Env
from blobfs.stores.base import Fetched
from blobfs.stores.memory import MemoryStore
from blobfs.types import GIB, MIB, ByteRange, Content


class BrokenStore(MemoryStore):
    """Raises what no store should."""

    broken = True

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        if self.broken:
            raise ZeroDivisionError("a bug in a library")
        return await super().get(key, span=span, if_match=if_match)


async def test_fetching_ahead_survives_any_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A guess about the next file must not take the mount with it."""
    store = BrokenStore()
    content = Content("k", await store.put("k", b"x" * 100), 100)
    async with open_reading(
        store, tmp_path, limit_bytes=GIB, memory_bytes=64 * MIB, env=Env()
    ) as reading:
        reading.prefetch([content])
        with trio.fail_after(5):
            while "ahead failed" not in caplog.text:
                await trio.testing.wait_all_tasks_blocked()
        store.broken = False
        reader = reading.open(content)
        assert bytes(await reader.read(ByteRange(0, 100))) == b"x" * 100
        reader.close()
    assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_an_odd_row_of_the_index_is_damage(tmp_path: Path) -> None:
    """The cache begins anew, and reads go on from the store."""
    store = MemoryStore()
    content = Content("k", await store.put("k", b"x" * 100), 100)
    for _ in range(2):
        async with open_reading(
            store, tmp_path, limit_bytes=GIB, memory_bytes=64 * MIB, env=Env()
        ) as reading:
            reader = reading.open(content)
            assert bytes(await reader.read(ByteRange(0, 100))) == b"x" * 100
            reader.close()
            await reading._disk.wait_written()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(index, "_ROW", struct.Struct(">I"))
                assert await reading.cached_bytes(content) == 100
