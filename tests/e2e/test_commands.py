"""A volume's life on a real S3 server, by the commands alone: made, written, looked at, damaged."""

import json
from pathlib import Path

import pytest

from tests.e2e.cli import Home
from tests.servers import S3Server

pytestmark = [pytest.mark.mount, pytest.mark.server, pytest.mark.slow]

FILE_BYTES = 300 * 1024


def test_a_volume_from_init_to_repair(tmp_path: Path, s3_server: S3Server) -> None:
    """Each command would work alone, and not one after the other on the same bucket."""
    bucket = s3_server.make_bucket()
    home = Home(tmp_path, {**s3_server.environment(), "AWS_ENDPOINT_URL": s3_server.endpoint_url})
    source = f"s3://{bucket}/photos"
    assert f"made a volume of {source}" in home.run("init", source).stdout

    mountpoint = tmp_path / "data"
    mountpoint.mkdir()
    home.run("mount", source, mountpoint)
    (mountpoint / "film").write_bytes(bytes(range(256)) * (FILE_BYTES // 256))
    (mountpoint / "note").write_text("small")
    home.run("sync", mountpoint)
    told = home.status()
    assert (told["safe"], told["unsaved"]["files"], told["unsaved"]["bytes"]) == (True, 0, 0)
    assert told["seq"] == told["last_commit"]["seq"] == 1
    assert "everything is saved" in home.run("status", mountpoint).stdout
    # With the volume mounted: the daemon says which bucket it is, and what it shows.
    (commit,) = json.loads(home.run("log", mountpoint, "--json").stdout)
    assert (commit["seq"], commit["files"], commit["host"] is not None) == (1, 2, True)
    checked = home.run("check", mountpoint / "film", "--read-data").stdout
    assert f"{source}: all is well" in checked
    assert "compared with what the mount shows" in checked
    home.run("unmount", mountpoint)

    client = s3_server.client()
    prefix = "photos/.blobfs/packs/"
    (pack,) = client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    body = client.get_object(Bucket=bucket, Key=pack["Key"])["Body"].read()
    client.put_object(Bucket=bucket, Key=pack["Key"], Body=b"\xff" + body[1:])
    assert home.run("check", source).returncode == 0
    damaged = home.run("check", source, "--read-data", check=False)
    assert damaged.returncode == 9
    assert "1 file needs it: film" in damaged.stdout
    client.put_object(Bucket=bucket, Key=pack["Key"], Body=body)

    (tree,) = (tmp_path / "state").rglob("tree.lmdb/data.mdb")
    tree.write_bytes(b"not a database" * 1000)
    assert home.run("check", source, check=False).returncode == 9
    repaired = home.run("check", source, "--repair").stdout
    assert "this machine's tree was made anew: it is at commit 1" in repaired
    assert "all is well" in home.run("check", source).stdout
    home.run("mount", source, mountpoint)
    assert (mountpoint / "note").read_text() == "small"
    home.run("unmount", mountpoint)


def test_what_stays_unsaved_is_said_at_unmount(tmp_path: Path) -> None:
    """A machine would be given away with the only copy of what was on it."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    mountpoint = tmp_path / "data"
    mountpoint.mkdir()
    home = Home(tmp_path, {})
    home.run("mount", f"file://{folder}", mountpoint, "--settle", "1h")
    (mountpoint / "film").write_bytes(bytes(FILE_BYTES))
    assert "not saved yet" in home.run("status").stdout
    ended = home.run("unmount", mountpoint).stdout
    assert "300.0 KiB; safe here, saved by the next mount" in ended
    assert list(folder.iterdir()) == []
    home.run("mount", f"file://{folder}", mountpoint)
    home.run("sync", mountpoint)
    assert "unsaved: " not in home.run("unmount", mountpoint).stdout


def test_credentials_for_reading_are_said_at_the_mount(tmp_path: Path, s3_server: S3Server) -> None:
    """Somebody would work for a day on what nobody saves."""
    bucket = s3_server.make_bucket()
    mountpoint = tmp_path / "data"
    mountpoint.mkdir()
    owner = {**s3_server.environment(), "AWS_ENDPOINT_URL": s3_server.endpoint_url}
    Home(tmp_path / "owner", owner).run("init", f"s3://{bucket}")
    reader = {
        **owner,
        "AWS_ACCESS_KEY_ID": s3_server.reader_access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.reader_secret_key,
    }
    home = Home(tmp_path / "reader", reader)
    refused = home.run("mount", f"s3://{bucket}", mountpoint, "--read-write", check=False)
    assert refused.returncode == 4
    said = home.run("mount", f"s3://{bucket}", mountpoint).stdout.splitlines()
    assert said[0] == f"mounted s3://{bucket} on {mountpoint} (read-only)"
    assert said[1].startswith("read-only because these credentials may not write to the volume.")
    assert "  read-only because these credentials may not" in home.run("status").stdout
    assert home.status()["read_only_reason"].startswith("these credentials")
    assert "all is well" in home.run("check", mountpoint).stdout
    home.run("unmount", mountpoint)
