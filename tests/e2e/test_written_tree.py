"""A real tree, written through every kind of mount, is whole for somebody who never saw it."""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import Home
from tests.e2e.test_real_tree import SKIPPED, digests
from tests.servers import AzureServer, S3Server

pytestmark = [pytest.mark.mount, pytest.mark.slow]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Some of the Python library, a file of several packs' chunks, and what is no plain file."""
    tree = tmp_path_factory.mktemp("written") / "tree"
    for package in ("json", "email", "asyncio", "unittest"):
        shutil.copytree(
            Path(sysconfig.get_path("stdlib")) / package, tree / package, ignore=SKIPPED
        )
    (tree / "large").write_bytes(os.urandom(20 * 1024 * 1024))
    (tree / "empty").touch()
    (tree / "link").symlink_to("json/decoder.py")
    (tree / "hard").hardlink_to(tree / "json/encoder.py")
    yield tree
    shutil.rmtree(tree)


def assert_written(root: Path, variables: dict[str, str], library: Path, *source: str) -> None:
    expected = digests(library)
    for name in ("writer", "reader"):
        (root / name).mkdir()
    writer = Home(root / "writer", variables)
    with writer.mounted(*source, mode="--read-write") as mountpoint:
        shutil.copytree(library, mountpoint / "tree", symlinks=True)
        (mountpoint / "tree/hard").unlink()
        (mountpoint / "tree/hard").hardlink_to(mountpoint / "tree/json/encoder.py")
        writer.run("sync", mountpoint)
        assert writer.status()["safe"] is True
        assert writer.status()["unsaved"]["files"] == 0
    reader = Home(root / "reader", variables)
    with reader.mounted(*source) as mountpoint:
        tree = mountpoint / "tree"
        assert digests(tree) == expected
        assert (tree / "link").readlink() == Path("json/decoder.py")
        assert (tree / "hard").samefile(tree / "json/encoder.py")
        assert (tree / "hard").stat().st_nlink == 2
        assert (tree / "large").stat().st_mtime_ns == (library / "large").stat().st_mtime_ns


def test_folder(tmp_path: Path, library: Path) -> None:
    """A folder store is what people try first."""
    store = tmp_path / "store"
    store.mkdir()
    assert_written(tmp_path, {}, library, f"file://{store}")


@pytest.mark.server
def test_s3(tmp_path: Path, library: Path, s3_server: S3Server) -> None:
    """Below a prefix, as in a bucket that others use too."""
    source = f"s3://{s3_server.make_bucket()}/some/prefix"
    options = ("--endpoint-url", s3_server.endpoint_url)
    assert_written(tmp_path, dict(s3_server.environment()), library, source, *options)


@pytest.mark.server
def test_azure(tmp_path: Path, library: Path, azure_server: AzureServer) -> None:
    """The same tree in the other cloud."""
    variables = {"AZURE_STORAGE_CONNECTION_STRING": azure_server.connection_string}
    assert_written(tmp_path, variables, library, f"az://{azure_server.make_container()}")
