"""Give tests the real servers: each started once, when the first test asks for it."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.contracts")

from tests.servers import AzureServer, S3Server, ServerMissing, azurite, seaweedfs  # noqa: E402


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    try:
        with seaweedfs() as server:
            yield server
    except ServerMissing as missing:
        pytest.fail(str(missing))


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    try:
        with azurite() as server:
            yield server
    except ServerMissing as missing:
        pytest.fail(str(missing))
