"""Name a bucket of its own for a test, on each kind of store, and what a user says to get at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers import AzureServer, S3Server

KINDS = ("folder", "s3", "azure")


@dataclass(frozen=True)
class Bucket:
    """Where a volume lies."""

    source: str
    options: tuple[str, ...] = ()
    """Of `blobfs mount`."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment: credentials."""


def make_bucket(kind: str, folder: Path, request: pytest.FixtureRequest) -> Bucket:
    """Make a bucket; only a server that is asked for is started."""
    match kind:
        case "s3":
            return s3_bucket(request.getfixturevalue("s3_server"))
        case "azure":
            return azure_bucket(request.getfixturevalue("azure_server"))
        case _:
            (folder / "bucket").mkdir()
            return Bucket(f"file://{folder}/bucket")


def s3_bucket(server: S3Server) -> Bucket:
    source = f"s3://{server.make_bucket()}/volume"
    return Bucket(source, ("--endpoint-url", server.endpoint_url), server.environment())


def azure_bucket(server: AzureServer) -> Bucket:
    variables = {"AZURE_STORAGE_CONNECTION_STRING": server.connection_string}
    return Bucket(f"az://{server.make_container()}/volume", (), variables)
