"""Show which store a URL names, and what is said when it cannot be opened."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from blobfs.env import Env
from blobfs.errors import AccessDenied, BlobfsError, NotFound, Unreachable, UsageError
from blobfs.stores.opening import OPEN_WITHIN_S, StoreOptions, open_store, parse_source
from tests.fake_s3 import BUCKET, Reply, fake_s3
from tests.servers import S3Server


@pytest.mark.parametrize(
    ("text", "scheme", "place", "prefix", "url"),
    [
        ("bucket", "s3", "bucket", "", "s3://bucket"),
        ("s3://bucket/", "s3", "bucket", "", "s3://bucket"),
        ("s3://my.bucket/a/b", "s3", "my.bucket", "a/b/", "s3://my.bucket/a/b"),
        ("s3://bucket/a b//c?/", "s3", "bucket", "a b//c?/", "s3://bucket/a b//c?"),
        ("bucket/photos", "s3", "bucket", "photos/", "s3://bucket/photos"),
        ("az://container/x", "az", "container", "x/", "az://container/x"),
        ("az://$web", "az", "$web", "", "az://$web"),
        ("file:///some folder/", "file", "/some folder", "", "file:///some folder"),
    ],
)
def test_a_url_names_a_store(text: str, scheme: str, place: str, prefix: str, url: str) -> None:
    """Or another bucket than the one that was meant would be mounted."""
    source = parse_source(text)
    assert (source.scheme, source.place, source.prefix, source.url) == (scheme, place, prefix, url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3://",
        "Bucket",
        "s3://bu",
        "s3://under_score",
        "s3://1.2.3.4",
        "s3://a..b",
        "az://two--hyphens",
        "az://dot.ted",
        "gs://bucket",
        "https://account.blob.core.windows.net/container",
        "file://relative/folder",
        "file:///a/../b",
        "./folder",
    ],
)
def test_what_names_no_store_is_refused(text: str) -> None:
    """Or a typing error would become a puzzling answer of the server."""
    with pytest.raises(UsageError) as caught:
        parse_source(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "az://container?sv=2024&sig=s3cr3t%3D",
        "az://container/prefix?SIG=s3cr3t",
        "s3://key:s3cr3t@bucket/x",
        "https://account.blob.core.windows.net/container?sv=1&sig=s3cr3t",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(text: str) -> None:
    """Or it would end in the shell's history, the process list and our logs."""
    with pytest.raises(UsageError) as caught:
        parse_source(text)
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"


def test_stores_of_one_name_on_different_servers_are_kept_apart() -> None:
    """Or one bucket's cache would be shown as the other's files."""
    ids = [
        parse_source("s3://bucket").state_id,
        parse_source("s3://bucket/prefix").state_id,
        parse_source("az://bucket").state_id,
        parse_source("s3://bucket", StoreOptions(endpoint_url="http://nas:9000")).state_id,
        parse_source("s3://bucket", None, {"AWS_ENDPOINT_URL": "http://other"}).state_id,
        parse_source("az://bucket", StoreOptions(account="one")).state_id,
        parse_source("az://bucket", None, {"AZURE_STORAGE_ACCOUNT": "two"}).state_id,
    ]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 16 for each in ids)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (parse_source("bucket"), parse_source("s3://bucket/")),
        (
            parse_source("s3://bucket", StoreOptions(endpoint_url="http://NAS:9000/")),
            parse_source("bucket", None, {"AWS_ENDPOINT_URL_S3": "http://nas:9000"}),
        ),
        (
            parse_source("az://bucket", StoreOptions(account="one")),
            parse_source(
                "az://bucket",
                None,
                {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=one;AccountKey=s3cr3t=="},
            ),
        ),
    ],
)
def test_the_same_store_has_one_state(one: object, other: object) -> None:
    """Or a remount would find an empty cache, and later its unsaved work missing."""
    assert one == other


# -- opening --------------------------------------------------------------------------


async def test_a_folder_is_opened(tmp_path: Path) -> None:
    """Or the simplest of all stores could not be mounted."""
    (tmp_path / "hello").write_bytes(b"hi")
    opened = await open_store(parse_source(f"file://{tmp_path}"), StoreOptions(), Env())
    assert bytes((await opened.store.get("hello")).data) == b"hi"
    assert opened.meter.snapshot().requests["get"] == 1


async def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    """Or a folder on a disk that is not plugged in would mount as empty."""
    with pytest.raises(NotFound):
        await open_store(parse_source(f"file://{tmp_path}/absent"), StoreOptions(), Env())


async def test_a_prefix_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a mount of one folder of a bucket would show the whole of it."""
    with fake_s3() as fake:
        fake.objects["photos/a"] = (b"x", 0.0)
        fake.objects["photos2/b"] = (b"y", 0.0)
        options = StoreOptions(endpoint_url=fake.endpoint_url, anonymous=True)
        opened = await open_store(parse_source(f"{BUCKET}/photos"), options, Env())
        page = await opened.store.list()
        assert [found.key for found in page.objects] == ["a"]
        await opened.store.aclose()


async def test_a_hiccup_while_opening_is_forgiven() -> None:
    """Or a mount at boot would fail because the network was half a second late."""
    with fake_s3() as fake:
        fake.replies.append(Reply(503))
        options = StoreOptions(endpoint_url=fake.endpoint_url, anonymous=True)
        opened = await open_store(parse_source(BUCKET), options, Env())
        await opened.store.aclose()


@pytest.mark.parametrize("endpoint_url", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
async def test_a_dead_endpoint_is_told_within_seconds(endpoint_url: str) -> None:
    """Or `blobfs mount` would hang without a network."""
    options = StoreOptions(endpoint_url=endpoint_url, anonymous=True)
    with trio.fail_after(OPEN_WITHIN_S), pytest.raises(Unreachable) as caught:
        await open_store(parse_source(BUCKET), options, Env())
    assert "no answer" not in str(caught.value)
    assert "cannot" in str(caught.value)
    assert "--endpoint-url" in caught.value.hint


# -- logging in -----------------------------------------------------------------------


def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave no way to log in but the one that a test makes."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


async def _use(server: S3Server, bucket: str, **options: object) -> bytes:
    """Write and read through both ways that requests take; return what was read."""
    chosen = StoreOptions(endpoint_url=server.endpoint_url, **options)  # type: ignore[arg-type]
    opened = await open_store(parse_source(bucket), chosen, Env())
    await opened.store.put("hot", b"hot")
    await opened.store.put("control\x01", b"cold")
    read = (await opened.store.get("hot"), await opened.store.get("control\x01"))
    await opened.store.aclose()
    return b" ".join(bytes(each.data) for each in read)


@pytest.mark.server
@pytest.mark.parametrize("way", ["environment", "profile", "process"])
async def test_the_ways_to_log_in(
    s3_server: S3Server, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or a user whose other tools are logged in could not mount."""
    _clean(monkeypatch, tmp_path)
    key, secret = s3_server.access_key, s3_server.secret_key
    options: dict[str, object] = {}
    if way == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    elif way == "profile":
        lines = f"[work]\naws_access_key_id={key}\naws_secret_access_key={secret}\n"
        (tmp_path / "credentials").write_text(lines)
        options["profile"] = "work"
    else:
        script = tmp_path / "process.py"
        answer = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": secret}
        script.write_text(f"import json\nprint(json.dumps({answer!r}))\n")
        line = f"credential_process={sys.executable} {script}"
        (tmp_path / "config").write_text(f"[profile work]\n{line}\n")
        options["profile"] = "work"
    assert await _use(s3_server, s3_server.make_bucket(), **options) == b"hot cold"


@pytest.mark.server
@pytest.mark.parametrize(
    ("key", "secret", "bucket", "error", "words"),
    [
        ("", "", "", AccessDenied, "no credentials found"),
        ("right", "wr0ng-s3cret", "", AccessDenied, "secret does not fit"),
        ("unkn0wn", "wr0ng-s3cret", "", AccessDenied, "does not know"),
        ("right", "right", "no-such-bucket", NotFound, "no such bucket"),
    ],
)
async def test_what_is_wrong_is_said(
    s3_server: S3Server,
    key: str,
    secret: str,
    bucket: str,
    error: type[BlobfsError],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Or nobody would know whether to mend the key, the name or the network."""
    _clean(monkeypatch, tmp_path)
    caplog.set_level(0)
    if key:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key if key == "right" else key)
        right = secret == "right"
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key if right else secret)
    with pytest.raises(error, match=words) as caught:
        await _use(s3_server, bucket or s3_server.make_bucket())
    assert caught.value.hint
    told = f"{caught.value} {caught.value.hint} {caplog.text}"
    assert "wr0ng-s3cret" not in told
    assert s3_server.secret_key not in told
    assert "Signature=" not in told


async def test_an_unknown_profile_is_said_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or a typing error in --profile would log in as somebody else."""
    _clean(monkeypatch, tmp_path)
    options = StoreOptions(profile="wrok", endpoint_url="http://127.0.0.1:1")
    with pytest.raises(UsageError, match="wrok"):
        await open_store(parse_source(BUCKET), options, Env())


@pytest.mark.slow
async def test_a_silent_server_is_told_within_seconds() -> None:
    """Or `blobfs mount` would hang on a network that swallows everything."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = StoreOptions(endpoint_url=url, anonymous=True)
        with trio.fail_after(8), pytest.raises(Unreachable, match="no answer within 6 s"):
            await open_store(parse_source(BUCKET), options, Env())


async def test_a_broken_credential_process_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or an expired single sign-on would look like a fault of the network."""
    _clean(monkeypatch, tmp_path)
    (tmp_path / "config").write_text("[profile work]\ncredential_process=false\n")
    options = StoreOptions(profile="work", endpoint_url="http://127.0.0.1:1")
    with pytest.raises(AccessDenied, match="credentials could not be had"):
        await open_store(parse_source(BUCKET), options, Env())


async def test_an_anonymous_store_signs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or a public bucket could be read by those only who have an account."""
    _clean(monkeypatch, tmp_path)
    with fake_s3() as fake:
        options = StoreOptions(endpoint_url=fake.endpoint_url, anonymous=True)
        opened = await open_store(parse_source(BUCKET), options, Env())
        for key in ("hot", "co//ld"):
            await opened.store.put(key, b"x")
        await opened.store.aclose()
        assert len(fake.requests) == 3
        assert not any("authorization" in request.headers for request in fake.requests)


async def test_the_wrong_region_is_told_with_the_right_one() -> None:
    """Or the user would have to look for the region of somebody else's bucket."""
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code></Error>"
    with fake_s3() as fake:
        fake.replies += [Reply(400, body, {"x-amz-bucket-region": "eu-west-1"})] * 3
        options = StoreOptions(endpoint_url=fake.endpoint_url, anonymous=True)
        with pytest.raises(UsageError, match="another region") as caught:
            await open_store(parse_source(BUCKET), options, Env())
    assert caught.value.hint == "give --region eu-west-1"


@pytest.mark.parametrize(
    ("reply", "region"),
    [
        (Reply(200, b"", {"x-amz-bucket-region": "eu-west-1"}), "eu-west-1"),
        (Reply(403, b"", {"x-amz-bucket-region": "ap-south-1"}), "ap-south-1"),
    ],
)
async def test_the_region_of_a_bucket_is_found(
    reply: Reply, region: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or buckets outside of the default region would need --region each time."""
    from blobfs.stores import s3_client

    _clean(monkeypatch, tmp_path)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setattr(s3_client, "is_aws", lambda url: True)
    with fake_s3() as fake:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.endpoint_url)
        fake.replies.append(reply)
        login = s3_client.Login(anonymous=True)
        client = await trio.to_thread.run_sync(s3_client.connect, BUCKET, login, Env())
        assert client.region == region
        assert not client.path_style
        assert [request.method for request in fake.requests] == ["HEAD"]


def test_no_sdk_is_imported_for_a_folder(tmp_path: Path) -> None:
    """Or each mount of a folder would cost 50 MiB of memory for nothing."""
    program = (
        "import sys, trio\n"
        "from blobfs.env import Env\n"
        "from blobfs.stores.opening import StoreOptions, open_store, parse_source\n"
        f"source = parse_source('file://{tmp_path}')\n"
        "trio.run(open_store, source, StoreOptions(), Env())\n"
        "found = {'boto3', 'botocore', 'azure', 'obstore'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
