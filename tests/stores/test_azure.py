"""Hold the Azure store to the contract, on Azurite, and to all the ways to log in."""

import base64
import logging
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import pytest
from azure.storage.blob import ContainerClient, ContainerSasPermissions, generate_container_sas

from blobfs.errors import (
    AccessDenied,
    Damaged,
    NotFound,
    OutcomeUnknown,
    Throttled,
    Unreachable,
    Unsupported,
)
from blobfs.stores.azure import AzureStore, open_azure
from blobfs.stores.base import Store
from blobfs.types import ListPage
from tests.certificates import make_certificates
from tests.contracts.store_contract import ContainerContract, StoreContract
from tests.servers import AzureServer
from tests.stores.azure_fakes import (
    EMPTY_LISTING,
    Fake,
    Reply,
    blob_service,
    entra_service,
    identity_service,
    serving,
    write_fake_az,
)

DEADLINE_S = 10.0


def witness(server: AzureServer, container: str) -> ContainerClient:
    """Return a client that shares nothing with the store."""
    return ContainerClient.from_connection_string(server.connection_string, container)


@pytest.fixture
def no_azure_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
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


def sas(server: AzureServer, container: str) -> str:
    """Return a signature that allows everything in one container for an hour."""
    return generate_container_sas(
        server.account,
        container,
        account_key=server.account_key,
        permission=ContainerSasPermissions(read=True, list=True, write=True, delete=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )


async def use(store: Store) -> None:
    """Do one of each, through SDK and obstore."""
    etag = await store.put("folder/file", b"content", if_absent=True)
    assert bytes((await store.get("folder/file", if_match=etag)).data) == b"content"
    assert (await store.list("folder/")).objects == (await store.head("folder/file"),)
    assert await store.delete_many(["folder/file"]) == {}
    await store.aclose()


@pytest.mark.server
@pytest.mark.parametrize("variable", ["AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"])
async def test_log_in_by_account_key(
    azure_server: AzureServer, no_azure_environment: pytest.MonkeyPatch, variable: str
) -> None:
    """Or whoever has a key could not use it."""
    no_azure_environment.setenv(variable, azure_server.account_key)
    no_azure_environment.setenv("AZURE_STORAGE_ACCOUNT", azure_server.account)
    container = azure_server.make_container()
    await use(await opened(container, endpoint_url=azure_server.endpoint_url))


@pytest.mark.server
async def test_log_in_by_signature(
    azure_server: AzureServer,
    no_azure_environment: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Or a container that was shared with us could not be used; or its secret would be logged."""
    container = azure_server.make_container()
    token = sas(azure_server, container)
    no_azure_environment.setenv("AZURE_STORAGE_SAS_TOKEN", "?" + token)
    no_azure_environment.setenv("AZURE_SKIP_SIGNATURE", "true")  # read by obstore itself
    with caplog.at_level(logging.DEBUG):
        store = await opened(
            container, account=azure_server.account, endpoint_url=azure_server.endpoint_url
        )
        await use(store)
    signature = token.partition("sig=")[2].partition("&")[0]
    assert signature not in caplog.text
    assert unquote(signature) not in caplog.text


@pytest.mark.server
async def test_a_wrong_key_is_said_to_be_wrong(
    azure_server: AzureServer, no_azure_environment: pytest.MonkeyPatch
) -> None:
    """Or a typing error would look like an empty container, or an outage."""
    wrong = base64.b64encode(b"wrong key").decode()
    no_azure_environment.setenv("AZURE_STORAGE_KEY", wrong)
    container = azure_server.make_container()
    store = await opened(
        container, account=azure_server.account, endpoint_url=azure_server.endpoint_url
    )
    for call in (store.list(), store.get("key"), store.head("key"), store.put("key", b"x")):
        with pytest.raises(AccessDenied) as caught:
            await call
        assert wrong not in str(caught.value)
    await store.aclose()


@pytest.fixture
def certificate(no_azure_environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The certificate of a server that all clients trust."""
    made = make_certificates(tmp_path)
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        no_azure_environment.setenv(variable, str(made.authority))
    return made.server


@pytest.fixture
def blobs(certificate: Path) -> Iterator[Fake]:
    """A blob endpoint."""
    with serving(blob_service, certificate=certificate) as fake:
        yield fake


@pytest.fixture
def authority(certificate: Path, no_azure_environment: pytest.MonkeyPatch) -> Iterator[Fake]:
    """An authority of one's own, in the environment of somebody in its tenant."""
    with serving(entra_service("token-of-the-authority"), certificate=certificate) as fake:
        no_azure_environment.setenv("AZURE_AUTHORITY_HOST", fake.url)
        no_azure_environment.setenv("AZURE_TENANT_ID", "tenant")
        no_azure_environment.setenv("AZURE_CLIENT_ID", "client")
        yield fake


def token_request(authority: Fake) -> dict[str, str]:
    """Return what the one request for a token said."""
    (request,) = (found for found in authority.requests if found.method == "POST")
    assert request.path == "/tenant/oauth2/v2.0/token"
    return dict(parse_qsl(request.body.decode()))


async def test_log_in_by_service_principal(
    blobs: Fake, authority: Fake, no_azure_environment: pytest.MonkeyPatch
) -> None:
    """Or a program with a login of its own would need the account's key."""
    no_azure_environment.setenv("AZURE_CLIENT_SECRET", "a-secret")
    assert await ask_both_libraries(blobs) == {"Bearer token-of-the-authority"}
    said = token_request(authority)
    assert said["grant_type"] == "client_credentials"
    assert (said["client_id"], said["client_secret"]) == ("client", "a-secret")
    assert said["scope"] == "https://storage.azure.com/.default"


async def test_log_in_by_workload_identity(
    blobs: Fake, authority: Fake, no_azure_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or a pod in Kubernetes would need a secret that it could do without."""
    assertion = tmp_path / "token"
    assertion.write_text("a-token-of-kubernetes")
    no_azure_environment.setenv("AZURE_FEDERATED_TOKEN_FILE", str(assertion))
    assert await ask_both_libraries(blobs) == {"Bearer token-of-the-authority"}
    said = token_request(authority)
    assert (said["client_id"], said["client_assertion"]) == ("client", "a-token-of-kubernetes")
    assert said["scope"] == "https://storage.azure.com/.default"


async def ask_both_libraries(blobs: Fake, **options: object) -> set[str | None]:
    """Ask through SDK and obstore; return the Authorization headers that came."""
    store = await opened("container", account="account", endpoint_url=blobs.url, **options)
    assert await store.list() == ListPage((), (), None)
    assert bytes((await store.get("key")).data) == b"content"
    await store.aclose()
    assert len(blobs.requests) == 2
    return {request.headers.get("authorization") for request in blobs.requests}


async def test_log_in_by_managed_identity(
    blobs: Fake, no_azure_environment: pytest.MonkeyPatch
) -> None:
    """Or a machine in Azure would need a secret that it could do without."""
    with serving(identity_service("token-of-the-identity")) as identity:
        no_azure_environment.setenv("IDENTITY_ENDPOINT", f"{identity.url}/msi/token")
        no_azure_environment.setenv("IDENTITY_HEADER", "header")
        assert await ask_both_libraries(blobs) == {"Bearer token-of-the-identity"}
    assert "resource=https" in identity.requests[0].path


async def test_log_in_by_azure_cli(
    blobs: Fake, no_azure_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or whoever is logged in with `az` would have to look for a key."""
    write_fake_az(tmp_path, "token-of-az")
    no_azure_environment.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert await ask_both_libraries(blobs) == {"Bearer token-of-az"}


async def test_anonymous_sends_nothing(
    blobs: Fake, no_azure_environment: pytest.MonkeyPatch
) -> None:
    """Or a public container could not be read, or would learn our key's signature."""
    no_azure_environment.setenv("AZURE_STORAGE_KEY", base64.b64encode(b"key").decode())
    no_azure_environment.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=secret")
    assert await ask_both_libraries(blobs, anonymous=True) == {None}
    assert not any("secret" in request.path for request in blobs.requests)


async def test_without_any_login_it_says_so(
    blobs: Fake, no_azure_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or a user without a login would wait, or get a page of library text."""
    (tmp_path / "az").write_text("#!/bin/sh\necho 'Please run: az login' >&2\nexit 1\n")
    (tmp_path / "az").chmod(0o755)
    no_azure_environment.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    store = await opened("container", account="account", endpoint_url=blobs.url)
    for call in (store.list(), store.get("key")):
        with pytest.raises(AccessDenied) as caught:
            await call
        assert caught.value.hint
    await store.aclose()
    assert not blobs.requests


async def faked(url: str) -> Store:
    return await opened("container", account="account", endpoint_url=url, anonymous=True)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>log in</html>", {"Content-Type": "text/html"}),
        Reply(200, b"<html>log in</html>", {"Content-Type": "application/xml"}),
        Reply(200, EMPTY_LISTING[:-20], {"Content-Type": "application/xml"}),
        Reply(200, EMPTY_LISTING, {"Content-Type": "application/xml"}, cut=100),
        Reply(200, b"", {"Content-Type": "application/xml"}),
        Reply(500, b"", {}),
        Reply(503, EMPTY_LISTING, {"Content-Type": "application/xml"}),
    ],
)
async def test_what_is_no_listing_is_no_empty_folder(
    no_azure_environment: pytest.MonkeyPatch, reply: Reply
) -> None:
    """Or a hotel's login page, or a broken line, would empty every folder."""
    with serving(lambda request: reply) as fake:
        store = await faked(fake.url)
        with pytest.raises((Unreachable, Damaged)):
            await store.list()
        await store.aclose()
    assert len(fake.requests) == 1, "retries are the layers' business"


async def test_a_pause_that_is_asked_for_is_passed_on(
    no_azure_environment: pytest.MonkeyPatch,
) -> None:
    """Or we would hammer on an account that asked us to stop."""
    with serving(lambda request: Reply(503, b"", {"Retry-After": "7"})) as fake:
        store = await faked(fake.url)
        with pytest.raises(Throttled) as caught:
            await store.list()
        with pytest.raises(Unreachable):
            await store.get("key")
        await store.aclose()
    assert caught.value.retry_after_s == 7
    assert len(fake.requests) == 2


@pytest.mark.parametrize("key", ["log/1", "log//1"], ids=["obstore", "sdk"])
@pytest.mark.parametrize("reply", [Reply(500), Reply(201, b"x" * 10, cut=1)])
async def test_a_conditional_put_without_answer_is_unknown(
    no_azure_environment: pytest.MonkeyPatch, reply: Reply, key: str
) -> None:
    """Or a commit that landed would be done again, or one that did not be believed."""
    with serving(lambda request: reply) as fake:
        store = await faked(fake.url)
        with pytest.raises((OutcomeUnknown, Unreachable)) as caught:
            await store.put(key, b"x", if_absent=True)
        await store.aclose()
    assert isinstance(caught.value, OutcomeUnknown)
    assert len(fake.requests) == 1
    assert fake.requests[0].headers["if-none-match"] == "*"


@pytest.mark.server
async def test_folder_blobs_are_markers(
    azure_server: AzureServer, environment: pytest.MonkeyPatch
) -> None:
    """Or a folder of a hierarchical account would be an empty file, and hide what is in it."""
    container = azure_server.make_container()
    with witness(azure_server, container) as client:
        for name, metadata in (("dir", {"hdi_isfolder": "true"}), ("empty", {})):
            client.upload_blob(name, b"", metadata=metadata)
    store = await opened(container)
    page = await store.list(delimiter=True)
    assert ([found.key for found in page.objects], page.prefixes) == (["empty"], ("dir/",))
    listed = (await store.list()).objects
    assert [found.key for found in listed] == ["dir/", "empty"]
    assert await store.head("dir/") == listed[0]
    assert bytes((await store.get("dir/")).data) == b""
    assert (await store.head("empty")).size_bytes == 0
    for call in (store.head("dir"), store.get("dir"), store.head("empty/"), store.get("empty/")):
        with pytest.raises(NotFound):
            await call
    assert await store.delete_many(["dir/", "empty/"]) == {}
    assert [found.key for found in (await store.list()).objects] == ["empty"]
    await store.aclose()


async def test_a_backslash_finds_nothing(no_azure_environment: pytest.MonkeyPatch) -> None:
    """Or `a\\b` would read and overwrite `a/b`, which Azure takes it for."""
    with serving(blob_service) as fake:
        store = await faked(fake.url)
        with pytest.raises(NotFound, match="a"):
            await store.get("a\\b")
        with pytest.raises(Unsupported, match="key"):
            await store.put("a\\b", b"x")
        assert await store.delete_many(["a\\b"]) == {}
        await store.aclose()
    assert not fake.requests
