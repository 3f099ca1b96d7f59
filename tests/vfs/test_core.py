"""The vfs contracts on the core alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from blobfs.env import Env
from blobfs.stores.base import Store
from blobfs.stores.memory import MemoryStore
from tests.contracts.core_files import CoreFiles
from tests.contracts.files import Files
from tests.contracts.vfs_attributes_contract import AttributesContract
from tests.contracts.vfs_content_contract import ContentContract
from tests.contracts.vfs_mixed_contract import MixedContract
from tests.contracts.vfs_names_contract import NamesContract
from tests.contracts.vfs_saved_contract import SavedContract
from tests.core import opened_core


class TestCore(MixedContract, SavedContract, ContentContract, NamesContract, AttributesContract):
    @asynccontextmanager
    async def opened(
        self, store: Store, folder: Path, *, ttl_s: float = 60, read_only: bool = True
    ) -> AsyncIterator[Files]:
        async with opened_core(store, folder, Env(), ttl_s, read_only=read_only) as core:
            yield CoreFiles(core)
            assert core.vfs.open_files == 0

    @asynccontextmanager
    async def writable(self, folder: Path) -> AsyncIterator[Files]:
        async with self.opened(MemoryStore(), folder, read_only=False) as files:
            yield files
