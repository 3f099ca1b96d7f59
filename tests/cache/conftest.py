"""Give tests a store that counts what it sends, and a cache on top of it."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from blobfs.cache.reading import Reading, open_reading
from blobfs.env import Env
from blobfs.stores.base import Fetched, Inbox
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import MIB, ByteRange, Content


class RecordingStore(FaultyStore):
    """A store that goes wrong by rule, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.spans: list[ByteRange] = []

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        assert span is not None
        self.spans.append(span)
        return await super().get(key, span=span, if_match=if_match)

    async def get_into(
        self, key: str, inbox: Inbox, *, span: ByteRange, if_match: str | None
    ) -> Fetched:
        self.spans.append(span)
        return await super().get_into(key, inbox, span=span, if_match=if_match)

    async def add(self, key: str, body: bytes) -> Content:
        return Content(key, await self.inner.put(key, body), len(body))


class OpenReading(Protocol):
    def __call__(
        self, *, limit_bytes: int = 64 * MIB, memory_bytes: int = 64 * MIB
    ) -> AbstractAsyncContextManager[Reading]: ...


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def opened(store: RecordingStore, root: Path) -> OpenReading:
    """Open the cache of this test; afterwards no byte of memory may be in use."""

    @asynccontextmanager
    async def open_it(
        *, limit_bytes: int = 64 * MIB, memory_bytes: int = 64 * MIB
    ) -> AsyncIterator[Reading]:
        opening = partial(open_reading, limit_bytes=limit_bytes, memory_bytes=memory_bytes)
        async with opening(store, root, env=Env()) as reading:
            yield reading
        assert reading.statistics().memory_bytes == 0

    return open_it


@pytest.fixture
def body() -> Callable[[int], bytes]:
    """Bytes of which no two blocks are equal; a longer body begins with the shorter one."""

    def make(size_bytes: int) -> bytes:
        return hashlib.shake_128(b"body").digest(size_bytes)

    return make
