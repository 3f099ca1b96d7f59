"""What other tools have put into a bucket is an ordinary directory, on each kind of store."""

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.e2e.cli import PATIENCE_S, Home
from tests.servers import AzureServer, S3Server

pytestmark = [pytest.mark.mount, pytest.mark.slow]

BIG = random.Random(1).randbytes(700_000)


class Tool(Protocol):
    """Another tool, and what `blobfs mount` is told to get at the same bucket."""

    source: str
    options: tuple[str, ...]
    variables: dict[str, str]

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def keys(self) -> set[str]: ...


class FolderTool:
    """`cp` into a folder."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.root = root
        self.source, self.options, self.variables = f"file://{root}", (), dict[str, str]()

    def put(self, key: str, data: bytes) -> None:
        (path := self.root / key).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def keys(self) -> set[str]:
        files = (path for path in self.root.rglob("*") if path.is_file())
        return foreign(str(path.relative_to(self.root)) for path in files)


class S3Tool:
    """boto3."""

    def __init__(self, server: S3Server) -> None:
        self.bucket, self.client = server.make_bucket(), server.client()
        self.source, self.variables = f"s3://{self.bucket}", dict(server.environment())
        self.options = ("--endpoint-url", server.endpoint_url)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        found: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return found

    def keys(self) -> set[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", ())
        return foreign(each["Key"] for each in found)


class AzureTool:
    """The SDK of Azure."""

    def __init__(self, server: AzureServer) -> None:
        from azure.storage.blob import ContainerClient

        container = server.make_container()
        self.client = ContainerClient.from_connection_string(server.connection_string, container)
        self.source, self.options = f"az://{container}", ()
        self.variables = {"AZURE_STORAGE_CONNECTION_STRING": server.connection_string}

    def put(self, key: str, data: bytes) -> None:
        self.client.upload_blob(key, data, overwrite=True)

    def get(self, key: str) -> bytes:
        return self.client.download_blob(key).readall()

    def keys(self) -> set[str]:
        return foreign(self.client.list_blob_names())


def foreign(keys: Iterable[str]) -> set[str]:
    """Leave out what blobfs keeps for itself."""
    return {key for key in keys if not key.startswith(".blobfs")}


@pytest.fixture(
    params=[
        "folder",
        pytest.param("s3", marks=pytest.mark.server),
        pytest.param("azure", marks=pytest.mark.server),
    ]
)
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tool]:
    match request.param:
        case "s3":
            yield S3Tool(request.getfixturevalue("s3_server"))
        case "azure":
            yield (made := AzureTool(request.getfixturevalue("azure_server")))
            made.client.close()
        case _:
            yield FolderTool(tmp_path / "bucket")


def home(folder: Path, tool: Tool) -> Home:
    folder.mkdir()
    return Home(folder, tool.variables)


def work(root: Path) -> None:
    """Do a bit of everything to what lies there; nothing is listed before it is touched."""
    (root / "d/sub/c").unlink()
    (root / "d/sub").rmdir()
    (root / "d/a.txt").chmod(0o600)
    (root / "d/b.bin").rename(root / "moved.bin")
    (root / "d/hard").hardlink_to(root / "top")
    with (root / "d/e.txt").open("r+b") as file:
        file.seek(2)
        file.write(b"--")
    assert (root / "d/e.txt").read_bytes() == b"ec--"


def shown(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_bucket_of_objects_is_a_directory(tmp_path: Path, tool: Tool) -> None:
    """Who mounts the bucket that is there wants to work in it, and other tools go on doing so."""
    objects = {"d/a.txt": b"a", "d/b.bin": BIG, "d/e.txt": b"echo", "d/sub/c": b"c", "top": b"t"}
    for key, data in objects.items():
        tool.put(key, data)
    expected = {"d/a.txt": b"a", "d/e.txt": b"ec--", "d/hard": b"t", "moved.bin": BIG, "top": b"t"}
    here, elsewhere = home(tmp_path / "here", tool), home(tmp_path / "elsewhere", tool)
    with here.mounted(tool.source, *tool.options, mode="--read-write") as root:
        work(root)
        assert shown(root) == expected
        here.run("sync", root)
        assert shown(root) == expected
    assert {key: tool.get(key) for key in objects} == objects, "no object was touched"
    with elsewhere.mounted(tool.source, *tool.options) as root:
        assert shown(root) == expected
        assert (root / "d/a.txt").stat().st_mode & 0o777 == 0o600
        assert (root / "top").stat().st_nlink == 2


def test_a_directory_of_objects_is_renamed(tmp_path: Path, tool: Tool) -> None:
    """`mv photos pictures` on a bucket; what other tools write there later has the old name."""
    objects = {f"photos/{n // 9}/{n}.jpg": b"%d" % n for n in range(30)} | {"photos/all": BIG}
    for key, data in objects.items():
        tool.put(key, data)
    pictures = {key.replace("photos", "pictures"): data for key, data in objects.items()}
    here, elsewhere = home(tmp_path / "here", tool), home(tmp_path / "elsewhere", tool)
    with here.mounted(tool.source, *tool.options, "--native-ttl", "0", mode="--read-write") as root:
        reader = (root / "photos/all").open("rb")
        subprocess.run(["mv", root / "photos", root / "pictures"], check=True)
        assert reader.read() == BIG
        reader.close()
        assert shown(root) == pictures
        assert [path.name for path in root.iterdir()] == ["pictures"]
        tool.put("photos/0/new.jpg", b"new")
        assert shown(root) == pictures | {"photos/0/new.jpg": b"new"}
        here.run("sync", root)
        assert here.status()["seq"] <= 2
    assert {key: tool.get(key) for key in objects} == objects, "no object was touched"
    tool.put("photos/0/1.jpg", b"other bytes")
    with elsewhere.mounted(tool.source, *tool.options, mode="--read-write") as root:
        assert sorted(path.name for path in root.iterdir()) == ["photos", "pictures"]
        assert shown(root / "photos") == {"0/new.jpg": b"new", "0/1.jpg": b"other bytes"}
        with pytest.raises(OSError, match="Input/output error"):
            (root / "pictures/0/1.jpg").read_bytes()
        (root / "pictures/0/1.jpg").unlink()
        del pictures["pictures/0/1.jpg"]
        assert shown(root / "pictures").keys() == {key[9:] for key in pictures}
        shutil.rmtree(root / "pictures")
        elsewhere.run("sync", root)
        assert [path.name for path in root.iterdir()] == ["photos"]


def test_other_tools_go_on_writing(tmp_path: Path, tool: Tool) -> None:
    """What they write shows, whatever was done to the files of that name before."""
    for key in ("d/a.txt", "d/b.bin", "d/e.txt", "d/sub/c", "top"):
        tool.put(key, b"echo")
    here = home(tmp_path / "here", tool)
    with here.mounted(tool.source, *tool.options, mode="--read-write") as root:
        work(root)
        here.run("sync", root)
    for key in ("d/a.txt", "d/b.bin", "d/e.txt", "d/sub/c"):
        tool.put(key, b"theirs")
    with here.mounted(tool.source, *tool.options, "--native-ttl", "0", mode="--read-write") as root:
        assert (root / "d/a.txt").read_bytes() == b"theirs"
        assert (root / "d/a.txt").stat().st_mode & 0o777 == 0o600
        assert (root / "d/sub/c").read_bytes() == b"theirs"
        assert (root / "d/b.bin").read_bytes() == b"theirs"
        assert (root / "d/e.txt").read_bytes() == b"ec--"
        with pytest.raises(OSError, match="Input/output error"):
            (root / "moved.bin").read_bytes()
        (beside,) = [path for path in (root / "d").iterdir() if "conflict bucket" in path.name]
        assert beside.read_bytes() == b"theirs"
        beside.rename(root / "d/e.txt")
        here.run("sync", root)
        assert (root / "d/e.txt").read_bytes() == b"theirs"
        assert sorted(path.name for path in (root / "d").iterdir()) == [
            *("a.txt", "b.bin", "e.txt", "hard", "sub"),
        ]


def wait_until(condition: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends_s
        time.sleep(0.05)


def test_removed_objects_go_where_no_trash_is_kept(tmp_path: Path, tool: Tool) -> None:
    """Whoever removes files through a mount would go on paying for them (N5)."""
    for key in ("d/a.txt", "d/b.bin", "d/c.txt", "top"):
        tool.put(key, key.encode())
    here = home(tmp_path / "here", tool)
    here.run("init", tool.source, "--trash-time", "0", *tool.options)
    with here.mounted(tool.source, *tool.options) as root:
        (root / "top").read_bytes()
    assert tool.keys() == {"d/a.txt", "d/b.bin", "d/c.txt", "top"}
    with here.mounted(tool.source, *tool.options, mode="--read-write") as root:
        with (root / "d/a.txt").open("rb") as held:
            (root / "d/a.txt").unlink()
            (root / "d/b.bin").unlink()
            (root / "top").rename(root / "moved")
            here.run("sync", root)
            wait_until(lambda: tool.keys() == {"d/a.txt", "d/c.txt", "top"})
            assert held.read() == b"d/a.txt"
        wait_until(lambda: tool.keys() == {"d/c.txt", "top"})
        assert shown(root) == {"d/c.txt": b"d/c.txt", "moved": b"top"}
        assert here.status()["trash"] == {"objects": 0, "bytes": 0, "problem": None}
    checked = here.run("check", tool.source, *tool.options)
    assert "1 object of other tools that files refer to" in checked.stdout


def test_removed_objects_are_kept_and_counted(tmp_path: Path, tool: Tool) -> None:
    """What was removed by mistake could not be brought back, or nobody would know of it (N5)."""
    objects = {"d/a.txt": b"abc", "d/b.bin": BIG, "top": b"t"}
    for key, data in objects.items():
        tool.put(key, data)
    here = home(tmp_path / "here", tool)
    with here.mounted(tool.source, *tool.options, mode="--read-write") as root:
        (root / "d/a.txt").unlink()
        (root / "d/b.bin").unlink()
        here.run("sync", root)
        kept = {"objects": 2, "bytes": 3 + len(BIG), "problem": None}
        assert here.status()["trash"] == kept
        assert "2 removed objects are kept in the bucket (683.6 KiB)" in here.run("status").stdout
    assert {key: tool.get(key) for key in objects} == objects
    with here.mounted(tool.source, *tool.options, mode="--read-write") as root:
        assert here.status()["trash"] == kept
        here.run("settings", root, "--trash-time", "0")
        wait_until(lambda: tool.keys() == {"top"})
        wait_until(lambda: here.status()["trash"]["objects"] == 0)
