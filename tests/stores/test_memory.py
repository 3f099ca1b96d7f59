"""Hold the memory store to the contract, because every other test relies on it."""

import pytest

from blobfs.stores.base import Store
from blobfs.stores.memory import MemoryStore
from tests.contracts.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryStore()

    async def peek(self, store: Store, key: str) -> bytes:
        assert isinstance(store, MemoryStore)
        return store.peek(key)
