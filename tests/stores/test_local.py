"""Hold the folder store to the contract, and to what is particular to folders on disk."""

from pathlib import Path

import pytest

from blobfs.stores.base import Store
from blobfs.stores.local import LocalStore
from tests.contracts.store_contract import ContainerContract, StoreContract


class TestLocalStore(StoreContract, ContainerContract):
    prefix_may_be_object = False
    slash_may_hold_content = False

    @pytest.fixture
    async def store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path)

    @pytest.fixture
    async def homeless_store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "no such folder")

    async def peek(self, store: Store, key: str) -> bytes:
        assert isinstance(store, LocalStore)
        return (store.root / key).read_bytes()
