"""Start real object stores on this machine, and stop them, for tests and benchmarks.

Each is a context manager that yields where the server is and how to log in. It listens on
127.0.0.1 alone, on free ports, keeps its data in a temporary folder, and is stopped by its
process id, also when it failed to start.
"""

import contextlib
import functools
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_WITHIN_S = 60
PROJECT = Path(__file__).resolve().parent.parent


class ServerMissing(Exception):
    """A server that the tests need is not installed."""


@dataclass(frozen=True)
class S3Server:
    """A running S3 server; `reader_*` may only read and list."""

    endpoint_url: str
    pid: int
    access_key: str = "blobfs-tests"
    secret_key: str = "blobfs-tests-secret"
    reader_access_key: str = "blobfs-reader"
    reader_secret_key: str = "blobfs-reader-secret"
    region: str = "us-east-1"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def client(self) -> Any:
        """Return a plain boto3 client, as a witness that shares nothing with the store."""
        return _boto3_client(self.endpoint_url, self.access_key, self.secret_key, self.region)

    def make_bucket(self) -> str:
        """Create a bucket that nobody else uses; return its name."""
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def environment(self) -> dict[str, str]:
        """Return the variables that log in a program which is given the endpoint."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
        }


@dataclass(frozen=True)
class AzureServer:
    """A running Azure Blob server. Account and key are the emulator's published ones."""

    endpoint_url: str
    pid: int
    account: str = "devstoreaccount1"
    account_key: str = (
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    )
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};"
            f"AccountKey={self.account_key};BlobEndpoint={self.endpoint_url};"
        )

    def make_container(self) -> str:
        """Create a container that nobody else uses; return its name."""
        from azure.storage.blob import BlobServiceClient

        name = f"container-{os.getpid()}-{next(self._numbers)}"
        with BlobServiceClient.from_connection_string(self.connection_string) as client:
            client.create_container(name).close()
        return name


@contextlib.contextmanager
def seaweedfs() -> Iterator[S3Server]:
    """Run SeaweedFS with its S3 gateway.

    Raises:
        ServerMissing: `weed` is not installed.
    """
    weed = _find_tool("weed", os.environ.get("WEED"), Path(sys.executable).parent / "weed")
    with tempfile.TemporaryDirectory(prefix="blobfs-seaweedfs-") as folder:
        ports = _free_ports(8)
        server = S3Server(f"http://127.0.0.1:{ports[0]}", pid=0)
        (Path(folder) / "s3.json").write_text(json.dumps(_identities(server)))
        # One volume for a new bucket instead of seven: less to create, less disk.
        env = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1", "HOME": folder}
        command = [weed, *_weed_arguments(Path(folder), ports)]
        with _process(command, env, Path(folder) / "log", lambda: _s3_answers(server)) as pid:
            yield S3Server(server.endpoint_url, pid)


@contextlib.contextmanager
def azurite() -> Iterator[AzureServer]:
    """Run Azurite's blob service.

    Raises:
        ServerMissing: `azurite-blob` is not installed.
    """
    tool = _find_tool(
        "azurite-blob",
        os.environ.get("AZURITE_BLOB"),
        PROJECT / ".tools/node_modules/.bin/azurite-blob",
    )
    with tempfile.TemporaryDirectory(prefix="blobfs-azurite-") as folder:
        (port,) = _free_ports(1)
        command = [tool, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        command += ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder]
        with _process(command, {}, Path(folder) / "log", lambda: _listens(port)) as pid:
            yield AzureServer(f"http://127.0.0.1:{port}/devstoreaccount1", pid)


@functools.cache
def _boto3_client(endpoint_url: str, access_key: str, secret_key: str, region: str) -> Any:
    """Return the client, made once: botocore takes its time to read its models."""
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def _find_tool(name: str, chosen: str | None, usual: Path) -> str:
    if chosen:
        return chosen
    if usual.exists():
        return str(usual)
    found = shutil.which(name)
    if found is None:
        raise ServerMissing(f"{name} is not installed: run `make setup`")
    return found


def _free_ports(count: int) -> list[int]:
    """Return ports that were free just now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _identities(server: S3Server) -> dict[str, Any]:
    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    return {
        "identities": [
            _identity("owner", server.access_key, server.secret_key, everything),
            _identity(
                "reader", server.reader_access_key, server.reader_secret_key, ["Read", "List"]
            ),
        ]
    }


def _identity(name: str, access_key: str, secret_key: str, actions: list[str]) -> dict[str, Any]:
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    return {"name": name, "credentials": credentials, "actions": actions}


def _weed_arguments(folder: Path, ports: list[int]) -> list[str]:
    names = ("s3", "s3", "master", "master", "volume", "volume", "filer", "filer")
    flags = [
        f"-{name}.port{'.grpc' if number % 2 else ''}={port}"
        for number, (name, port) in enumerate(zip(names, ports, strict=True))
    ]
    return [
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.config={folder / 's3.json'}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.max=5000",
        "-volume.minFreeSpace=1",
        "-master.volumeSizeLimitMB=256",
        "-master.telemetry=false",
        *flags,
    ]


def _s3_answers(server: S3Server) -> bool:
    """Say whether a bucket can be made and filled, which needs all of its parts up."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = server.client()
    try:
        client.create_bucket(Bucket="is-it-up")
        client.put_object(Bucket="is-it-up", Key="key", Body=b"x")
    except (BotoCoreError, ClientError):
        return False
    client.delete_object(Bucket="is-it-up", Key="key")
    client.delete_bucket(Bucket="is-it-up")
    return True


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def _process(
    command: list[str], env: Mapping[str, str], log: Path, ready: Callable[[], bool]
) -> Iterator[int]:
    """Run `command` until the block ends; the block begins once it is `ready`."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, env={**os.environ, **env}
        )
    try:
        _await_ready(process, command[0], log, ready)
        yield process.pid
    finally:
        # Killed outright: its data is thrown away, and an orderly end takes seconds.
        process.kill()
        process.wait()


def _await_ready(
    process: "subprocess.Popen[bytes]", name: str, log: Path, ready: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        if ready():
            return
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{name} did not start. exit={process.poll()} log={tail}")
