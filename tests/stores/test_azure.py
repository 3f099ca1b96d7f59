"""Hold the Azure store to the contract, on Azurite, and to all the ways to log in."""

from collections.abc import AsyncIterator

import pytest
from azure.storage.blob import ContainerClient

from blobfs.stores.azure import AzureStore, open_azure
from blobfs.stores.base import Store
from tests.contracts.store_contract import ContainerContract, StoreContract
from tests.servers import AzureServer

DEADLINE_S = 10.0


def witness(server: AzureServer, container: str) -> ContainerClient:
    """Return a client that shares nothing with the store."""
    return ContainerClient.from_connection_string(server.connection_string, container)


@pytest.fixture
def no_azure_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    import os

    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def environment(
    no_azure_environment: pytest.MonkeyPatch, azure_server: AzureServer
) -> pytest.MonkeyPatch:
    """The environment of somebody who has a connection string."""
    no_azure_environment.setenv("AZURE_STORAGE_CONNECTION_STRING", azure_server.connection_string)
    return no_azure_environment


async def opened(container: str, **options: object) -> Store:
    chosen = {"account": None, "endpoint_url": None, "anonymous": False, **options}
    return await open_azure(container, deadline_s=DEADLINE_S, **chosen)  # type: ignore[arg-type]


@pytest.mark.server
class TestAzureStore(StoreContract, ContainerContract):
    @pytest.fixture
    async def store(
        self, azure_server: AzureServer, environment: pytest.MonkeyPatch
    ) -> AsyncIterator[Store]:
        store = await opened(azure_server.make_container())
        yield store
        await store.aclose()

    @pytest.fixture
    async def homeless_store(self, environment: pytest.MonkeyPatch) -> AsyncIterator[Store]:
        store = await opened("no-such-container")
        yield store
        await store.aclose()

    @pytest.fixture(autouse=True)
    def _remember(self, azure_server: AzureServer) -> None:
        self.server = azure_server

    async def peek(self, store: Store, key: str) -> bytes:
        assert isinstance(store, AzureStore)
        container = store.url.removeprefix("az://")
        with witness(self.server, container) as client:
            return client.download_blob(key).readall()
