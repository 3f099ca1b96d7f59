"""The contracts of writing on the machine's own file system: what they ask is what Linux does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.contracts.kernel_files import KernelFiles
from tests.contracts.vfs_attributes_contract import AttributesContract
from tests.contracts.vfs_content_contract import ContentContract
from tests.contracts.vfs_kernel_contract import KernelContract
from tests.contracts.vfs_names_contract import NamesContract


class TestPlainFolder(ContentContract, NamesContract, AttributesContract, KernelContract):
    @asynccontextmanager
    async def writable(self, folder: Path) -> AsyncIterator[KernelFiles]:
        root = folder / "plain"
        root.mkdir()
        yield KernelFiles(root)
