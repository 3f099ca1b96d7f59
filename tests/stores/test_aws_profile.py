"""The endpoint that names the state folder is the one that boto3 talks to."""

import os
from pathlib import Path

import botocore.loaders
import botocore.session
import pytest

from blobfs.stores.aws_profile import configured_endpoint

MODELS = botocore.loaders.create_loader()
"""Read once: they are what makes a client slow to build."""

CONFIG = """\
[default]
region = us-east-1
endpoint_url = http://default.example

[profile plain]
region = us-east-1

[profile own]
endpoint_url = http://own.example:9000/

[profile "with space"]
endpoint_url = http://space.example

[profile served]
endpoint_url = http://own.example
services = mine

[profile ignoring]
endpoint_url = http://own.example
ignore_configured_endpoint_urls = true

[services mine]
ec2 =
  endpoint_url = http://ec2.example
s3 =
  endpoint_url = http://mine.example
  max_attempts = 3
"""
CREDENTIALS = """\
[plain]
aws_access_key_id = key
aws_secret_access_key = secret

[secret]
aws_access_key_id = key
aws_secret_access_key = secret
endpoint_url = http://secret.example
"""
IGNORE = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with AWS's files, in an environment that knows nothing else."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(CONFIG)
    (tmp_path / ".aws/credentials").write_text(CREDENTIALS)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("profile", "environ", "expected"),
    [
        (None, {}, "http://default.example"),
        ("plain", {}, ""),
        ("own", {}, "http://own.example:9000/"),
        ("with space", {}, "http://space.example"),
        ("served", {}, "http://mine.example"),
        ("secret", {}, "http://secret.example"),
        ("ignoring", {}, ""),
        ("ignoring", {"AWS_ENDPOINT_URL": "http://all.example"}, ""),
        ("own", {IGNORE: "true"}, ""),
        ("ignoring", {IGNORE: "false"}, "http://own.example"),
        (None, {"AWS_PROFILE": "own"}, "http://own.example:9000/"),
        (None, {"AWS_PROFILE": "own", "AWS_DEFAULT_PROFILE": "served"}, "http://mine.example"),
        ("served", {"AWS_PROFILE": "own"}, "http://mine.example"),
        ("served", {"AWS_ENDPOINT_URL": "http://all.example"}, "http://all.example"),
        (
            "served",
            {"AWS_ENDPOINT_URL": "http://all.example", "AWS_ENDPOINT_URL_S3": "http://s3.example"},
            "http://s3.example",
        ),
        (None, {"AWS_CONFIG_FILE": "~/elsewhere"}, "http://elsewhere.example"),
        (None, {"AWS_CONFIG_FILE": "/no/such/file"}, ""),
    ],
)
def test_the_endpoint_is_the_one_that_boto3_uses(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    profile: str | None,
    environ: dict[str, str],
    expected: str,
) -> None:
    """Or buckets of one name on two servers would share a state folder, and their files."""
    (home / "elsewhere").write_text("[default]\nendpoint_url = http://elsewhere.example\n")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert configured_endpoint({"HOME": str(home), **environ}, profile) == expected
    used = endpoint_of_boto(profile)
    assert used == expected if expected else used.endswith(".amazonaws.com")


def endpoint_of_boto(profile: str | None) -> str:
    session = botocore.session.Session(profile=profile)
    session.register_component("data_loader", MODELS)
    client = session.create_client("s3", region_name="us-east-1")
    return str(client.meta.endpoint_url)


@pytest.mark.parametrize(
    "content", ["[broken", "endpoint_url = x", '[profile "x]\na = b', "\udcff"]
)
def test_a_broken_file_is_left_to_boto3(home: Path, content: str) -> None:
    """Or the user would get a traceback in place of boto3's word on his file."""
    (home / ".aws/config").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert configured_endpoint({"HOME": str(home)}, None) == ""


def test_no_file_is_looked_for_where_there_is_no_home() -> None:
    """Or a service without a home would read a file of the root folder."""
    assert configured_endpoint({}, None) == ""
