"""A real tree, the Python library's own source, reads the same through every kind of mount."""

import hashlib
import os
import shutil
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.cli import Home
from tests.servers import AzureServer, S3Server

pytestmark = [pytest.mark.mount, pytest.mark.slow]

SKIPPED = shutil.ignore_patterns("__pycache__", "site-packages", "test", "tests", "idlelib", "*.so")


def digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `root`, by relative path."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    tree = tmp_path_factory.mktemp("library") / "python"
    shutil.copytree(sysconfig.get_path("stdlib"), tree, ignore=SKIPPED)
    yield tree
    shutil.rmtree(tree)


def assert_same(home: Home, library: Path, source: str, *options: str) -> None:
    expected = digests(library)
    assert len(expected) > 400
    with home.mounted(source, *options) as mountpoint:
        assert digests(mountpoint) == expected
    with home.mounted(source, *options) as mountpoint:  # and from the disk cache
        assert digests(mountpoint) == expected
        # The one asked whether the bucket holds a volume.
        asked = home.status()["store"]
        assert asked["requests"]["get"] == 1
        assert sum(asked["latency"]["get"]["counts"]) == 1


def test_folder(tmp_path: Path, library: Path) -> None:
    """A folder store is what people try first."""
    assert_same(Home(tmp_path, {}), library, f"file://{library}")


@pytest.mark.server
def test_s3(tmp_path: Path, library: Path, s3_server: S3Server) -> None:
    """Below a prefix, as in a bucket that others use too."""
    bucket, client = s3_server.make_bucket(), s3_server.client()

    def upload(path: Path) -> None:
        key = f"some/prefix/{path.relative_to(library)}"
        client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, filter(Path.is_file, library.rglob("*"))))
    home = Home(tmp_path, s3_server.environment())
    source = f"s3://{bucket}/some/prefix"
    assert_same(home, library, source, "--endpoint-url", s3_server.endpoint_url)


@pytest.mark.server
def test_azure(tmp_path: Path, library: Path, azure_server: AzureServer) -> None:
    """The same tree from the other cloud."""
    from azure.storage.blob import ContainerClient

    container = azure_server.make_container()
    variables = {"AZURE_STORAGE_CONNECTION_STRING": azure_server.connection_string}
    with ContainerClient.from_connection_string(
        azure_server.connection_string, container
    ) as client:
        for path in filter(Path.is_file, library.rglob("*")):
            client.upload_blob(str(path.relative_to(library)), path.read_bytes())
    assert_same(Home(tmp_path, variables), library, f"az://{container}")
