"""Hold the S3 store to the contract, on a real server and on one that does as S3 does."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from botocore.credentials import ReadOnlyCredentials

from blobfs.env import Env
from blobfs.errors import (
    AccessDenied,
    Changed,
    Damaged,
    NotFound,
    OutcomeUnknown,
    StoreFull,
    Throttled,
    Unreachable,
    UsageError,
)
from blobfs.stores.base import Store
from blobfs.stores.s3 import S3Store, store_of
from blobfs.stores.s3_client import Credentials, Login, S3Client, connect
from blobfs.types import ByteRange
from tests.certificates import make_certificates
from tests.contracts.store_contract import (
    RARE_KEYS,
    ContainerContract,
    StoreContract,
    Tray,
    list_all,
    put_all,
)
from tests.fake_s3 import BUCKET, FakeS3, Reply, fake_s3, listing
from tests.servers import S3Server

SPOILED_BY_FOLDERS = ("double//slash", "/leading slash", "trailing slash with content/")
"""Keys that SeaweedFS stores as others, or without their content."""


@pytest.fixture(scope="module")
def fake_login() -> Iterator[tuple[FakeS3, S3Client]]:
    """Log in once: botocore reads its models anew for each client, which takes its time."""
    with fake_s3() as fake:
        yield fake, log_in(fake.endpoint_url, "a-key", "a-secret")


@pytest.fixture
def fake(fake_login: tuple[FakeS3, S3Client]) -> FakeS3:
    fake, _ = fake_login
    fake.objects.clear()
    fake.requests.clear()
    fake.replies.clear()
    return fake


@asynccontextmanager
async def opened(client: S3Client, deadline_s: float = 6) -> AsyncIterator[S3Store]:
    store = store_of(client, deadline_s)
    yield store
    await store.aclose()


@pytest.fixture
async def fake_store(fake: FakeS3, fake_login: tuple[FakeS3, S3Client]) -> AsyncIterator[S3Store]:
    async with opened(fake_login[1]) as store:
        yield store


def log_in(endpoint_url: str, access_key: str, secret_key: str) -> S3Client:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
        return connect(BUCKET, Login(endpoint_url=endpoint_url, deadline_s=6), Env())


class TestS3ToTheLetter(StoreContract, ContainerContract):
    fake: FakeS3

    @pytest.fixture
    async def store(self, fake_store: S3Store, fake: FakeS3) -> Store:
        type(self).fake = fake
        return fake_store

    @pytest.fixture
    async def homeless_store(self, fake_store: S3Store) -> AsyncIterator[Store]:
        async with opened(replace(fake_store.client, bucket="no-such-bucket")) as store:
            yield store

    async def peek(self, store: Store, key: str) -> bytes:
        return self.fake.objects[key][0]


@pytest.fixture(scope="module")
def weed_login(s3_server: S3Server) -> S3Client:
    return log_in(s3_server.endpoint_url, s3_server.access_key, s3_server.secret_key)


@pytest.mark.server
class TestS3OnSeaweedFS(StoreContract, ContainerContract):
    """SeaweedFS keeps keys in folders, and differs from S3 where that shows."""

    sorted_listing = False
    races = 2

    @pytest.fixture
    async def store(self, s3_server: S3Server, weed_login: S3Client) -> AsyncIterator[Store]:
        bucket = s3_server.make_bucket()
        async with opened(replace(weed_login, bucket=bucket), deadline_s=30) as store:
            yield store

    @pytest.fixture
    async def homeless_store(self, weed_login: S3Client) -> AsyncIterator[Store]:
        async with opened(replace(weed_login, bucket="no-such-bucket"), deadline_s=30) as store:
            yield store

    async def peek(self, store: Store, key: str) -> bytes:
        assert isinstance(store, S3Store)
        answer = store.client.boto.get_object(Bucket=store.client.bucket, Key=key)
        return bytes(answer["Body"].read())

    @property
    def ordered_keys(self) -> tuple[str, ...]:
        """Without markers: where a page ends with one, this server passes over its folder."""
        return tuple(key for key in super().ordered_keys if not key.endswith("/"))

    # It finds folders under the keys of their markers, and keeps empty ones.
    test_what_is_not_there_is_not_found = None  # type: ignore[assignment]
    test_an_emptied_prefix_is_gone = None  # type: ignore[assignment]
    # A marker's content is dropped; a page that ends with `a` passes over `a/`.
    test_a_marker_may_hold_content = None  # type: ignore[assignment]
    test_a_key_may_be_object_and_prefix = None  # type: ignore[assignment]
    # After `a/b` it gives `a/c/` where `a/` was asked for.
    test_start_after_leaves_out_what_comes_before = None  # type: ignore[assignment]

    @pytest.mark.parametrize(
        "key", [key for key in RARE_KEYS if key not in SPOILED_BY_FOLDERS and "\\" not in key]
    )
    async def test_a_rare_key_is_kept_as_it_is_or_refused(self, store: Store, key: str) -> None:
        """Or what was stored under one key would turn up under another, over another file."""
        await super().test_a_rare_key_is_kept_as_it_is_or_refused(store, key)

    async def test_start_after_within_a_folder(self, store: Store) -> None:
        """Or not even a look for one name among many files would be cheap."""
        keys = [f"folder/{number:03}" for number in range(30)]
        await put_all(store, keys)
        found = await list_all(store, "folder/", delimiter=True, start_after="folder/019")
        assert found.keys == keys[20:]


# -- answers that are none ------------------------------------------------------------

LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Wi-Fi</title></head><body>Log in</html>"
ONE_KEY = (
    "<IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>1</Size><ETag>e</ETag>"
    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
)


@pytest.mark.parametrize("delimiter", [False, True])
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(200, LOGIN_PAGE, {"Content-Type": "text/html"}), Unreachable),
        (Reply(200, b"<html><body/></html>"), Unreachable),
        (Reply(200, b"<ListAllMyBucketsResult/>"), Unreachable),
        (Reply(302, b"", {"Location": "http://127.0.0.1:1/login"}), Unreachable),
        (Reply(200, b""), Damaged),
        (Reply(200, b"  \n"), Damaged),
        (Reply(200, listing(ONE_KEY).body[:-30]), Damaged),
        (Reply(200, listing(ONE_KEY).body, cut_to=100), Damaged),
        (listing(""), Damaged),
        (listing("<IsTruncated>true</IsTruncated>"), Damaged),
        (listing("<IsTruncated>maybe</IsTruncated>"), Damaged),
        (listing(ONE_KEY.replace("<Size>1</Size>", "")), Damaged),
        (listing(ONE_KEY.replace("<Size>1", "<Size>many")), Damaged),
        (listing(ONE_KEY.replace("2026-01-01", "yesterday ")), Damaged),
        (Reply(500, b"oops"), Unreachable),
        (Reply(503, b""), Unreachable),
        (Reply(200, hang_up=True), Unreachable),
    ],
)
@pytest.mark.parametrize("max_keys", [1, 1000], ids=["lookup", "page"])
async def test_what_is_no_listing_is_an_error(
    fake: FakeS3,
    fake_store: S3Store,
    reply: Reply,
    error: type[Exception],
    delimiter: bool,
    max_keys: int,
) -> None:
    """Or a hotel's login page would look like an emptied bucket (P5)."""
    fake.replies.append(reply)
    with pytest.raises(error, match="store=s3://bucket"):
        await fake_store.list(delimiter=delimiter, max_keys=max_keys)


async def test_a_listing_of_something_else_is_an_error(fake: FakeS3, fake_store: S3Store) -> None:
    """Or a muddled proxy's answer would put one folder's files into another."""
    fake.replies.append(listing(ONE_KEY))
    with pytest.raises(Damaged):
        await fake_store.list("b/")


@pytest.mark.parametrize("key", ["plain", "odd//key"])
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(200, LOGIN_PAGE), Unreachable),
        (Reply(200, b"0123456789", {"ETag": '"e"'}, cut_to=5), Damaged),
        (Reply(206, b"01234", {"ETag": '"e"', "Content-Range": "bytes 0-9/20"}), Damaged),
        (Reply(200, b"", hang_up=True), Unreachable),
        (Reply(500, b""), Unreachable),
        (Reply(429, b""), Throttled),
        (Reply(503, b"<Error><Code>SlowDown</Code></Error>"), Throttled),
        (Reply(503, b"", {"Retry-After": "7"}), Throttled),
        (Reply(301, b""), UsageError),
    ],
)
async def test_what_is_no_object_is_an_error(
    fake: FakeS3, fake_store: S3Store, reply: Reply, error: type[Exception], key: str
) -> None:
    """Or a program would read a login page, or half of a file, as its data (P6)."""
    headers = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **reply.headers}
    fake.replies.append(Reply(reply.status, reply.body, headers, reply.cut_to, reply.hang_up))
    with pytest.raises(error, match="store=s3://bucket key="):
        await fake_store.get(key, span=ByteRange(0, 10) if reply.status == 206 else None)


IS_PART = {"ETag": '"e"', "Content-Range": "bytes 0-9/20"}
TEN = b"0123456789"


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "proxy"])
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(200, LOGIN_PAGE), (Damaged, Unreachable)),
        (Reply(200, TEN, {"ETag": '"e"'}), Damaged),
        (Reply(206, TEN, {"Content-Range": "bytes 0-9/20"}), Unreachable),
        (Reply(206, TEN, IS_PART | {"Last-Modified": "yesterday"}), Unreachable),
        (Reply(206, TEN, {"ETag": '"e"'}), (Damaged, Unreachable)),
        (Reply(206, TEN, IS_PART | {"Content-Range": "bytes 0-8/20"}), Damaged),
        (Reply(206, TEN, IS_PART | {"Content-Range": "bytes 1-10/20"}), Damaged),
        (Reply(206, TEN, IS_PART, cut_to=5), Damaged),
        (Reply(206, TEN[:5], IS_PART), Damaged),
        (Reply(200, b"", hang_up=True), Unreachable),
        (Reply(403, b""), AccessDenied),
        (Reply(404, b""), NotFound),
        (Reply(412, b""), Changed),
        (Reply(500, b""), Unreachable),
        (Reply(429, b""), Throttled),
        (Reply(503, b"<Error><Code>SlowDown</Code></Error>"), Throttled),
        (Reply(301, b""), UsageError),
    ],
)
async def test_what_is_no_part_of_an_object_is_an_error(
    fake: FakeS3,
    fake_store: S3Store,
    reply: Reply,
    error: type[Exception] | tuple[type[Exception], ...],
    direct: bool,
) -> None:
    """Or a program would read a login page, or half of a file, as its data (P6)."""
    if not direct:
        fake_store = replace(fake_store, bodies=None)
    headers = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **reply.headers}
    fake.replies.append(Reply(reply.status, reply.body, headers, reply.cut_to, reply.hang_up))
    with pytest.raises(error, match="store=s3://bucket key="):
        await fake_store.get_into("key", Tray(10), span=ByteRange(0, 10), if_match=None)


IS_OBJECT = {"ETag": '"e"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}


@pytest.mark.parametrize("key", ["plain", "odd//key"])
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "proxy"])
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(200, LOGIN_PAGE), Unreachable),
        (Reply(200, b"x", {"Last-Modified": IS_OBJECT["Last-Modified"]}), Unreachable),
        (Reply(200, b"x", IS_OBJECT | {"Last-Modified": "yesterday"}), Unreachable),
        (Reply(200, hang_up=True), Unreachable),
        (Reply(301, b"", {"x-amz-bucket-region": "eu-north-1"}), UsageError),
        (Reply(403, b""), AccessDenied),
        (Reply(404, b""), NotFound),
        (Reply(500, b""), Unreachable),
        (Reply(429, b""), Throttled),
    ],
)
async def test_what_tells_nothing_of_an_object_is_an_error(
    fake: FakeS3,
    fake_store: S3Store,
    reply: Reply,
    error: type[Exception],
    key: str,
    direct: bool,
) -> None:
    """Or a login page would be a file, and a store that is down would have lost it (P5)."""
    fake.replies.append(reply)
    if not direct:
        fake_store.lookups = None
    with pytest.raises(error, match="store=s3://bucket key="):
        await fake_store.head(key)


@pytest.mark.parametrize("key", ["plain", "odd//key"])
@pytest.mark.parametrize("if_match", [None, "an-etag"])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>"),
        Reply(500, b""),
        Reply(503, b"<Error><Code>SlowDown</Code></Error>"),
        Reply(200, hang_up=True),
        Reply(200, LOGIN_PAGE),
    ],
    ids=["409", "500", "503", "reset", "no-etag"],
)
async def test_a_conditional_put_without_a_clear_answer_is_of_unknown_outcome(
    fake: FakeS3, fake_store: S3Store, reply: Reply, if_match: str | None, key: str
) -> None:
    """Or a commit would be repeated on top of its own success, or be given up though it landed."""
    fake.replies.append(reply)
    with pytest.raises(OutcomeUnknown):
        await fake_store.put(key, b"x", if_absent=if_match is None, if_match=if_match)


@pytest.mark.parametrize("key", ["plain", "odd//key"])
@pytest.mark.parametrize("condition", [{}, {"if_absent": True}, {"if_match": "an-etag"}], ids=repr)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "QuotaExceeded"),
        (400, "XMinioAdminBucketQuotaExceeded"),
        (507, "XMinioStorageFull"),
        (507, ""),
    ],
)
async def test_a_store_that_takes_no_more_says_so(
    fake: FakeS3,
    fake_store: S3Store,
    status: int,
    code: str,
    condition: dict[str, Any],
    key: str,
) -> None:
    """Or users would look for what is wrong with their credentials, or with the network."""
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    fake.replies.append(Reply(status, body))
    with pytest.raises(StoreFull, match=r"quota is used up, or it is full.*status=") as caught:
        await fake_store.put(key, b"x", **condition)
    assert "have its quota raised" in caught.value.hint


@pytest.mark.parametrize("kind", ["page", "lookup", "head"])
async def test_a_pause_asked_for_is_passed_on(fake: FakeS3, fake_store: S3Store, kind: str) -> None:
    """Or we would hammer a server that asked us to wait."""
    ask: dict[str, Callable[[], Awaitable[object]]] = {
        "page": fake_store.list,
        "lookup": partial(fake_store.list, max_keys=1),
        "head": partial(fake_store.head, "key"),
    }
    fake.replies.append(Reply(503, b"<Error><Code>SlowDown</Code></Error>", {"Retry-After": "7"}))
    with pytest.raises(Throttled) as caught:
        await ask[kind]()
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    "reply",
    [
        Reply(301, b"<Error><Code>PermanentRedirect</Code></Error>"),
        Reply(400, b"<Error><Code>AuthorizationHeaderMalformed</Code></Error>"),
    ],
    ids=["301", "400"],
)
async def test_a_listing_in_the_wrong_region_says_the_right_one(
    fake: FakeS3, fake_store: S3Store, reply: Reply
) -> None:
    """Or the user would be left to guess among thirty regions."""
    fake.replies.append(replace(reply, headers={"x-amz-bucket-region": "eu-north-1"}))
    with pytest.raises(UsageError) as caught:
        await fake_store.list()
    assert caught.value.hint == "give --region eu-north-1"
    assert len(fake.requests) == 1


# -- how it asks ----------------------------------------------------------------------


@pytest.mark.parametrize("key", ["plain", "odd//key"])
async def test_a_put_is_one_request_without_ceremony(
    fake: FakeS3, fake_store: S3Store, key: str
) -> None:
    """Or each saved file would cost a round trip more, and large ones come in parts."""
    await fake_store.put(key, bytes(6 * 1024 * 1024))
    (request,) = fake.requests
    assert (request.method, request.key) == ("PUT", key)
    assert "expect" not in request.headers
    assert request.headers.get("content-encoding", "") == ""


async def test_each_call_is_one_request(fake: FakeS3, fake_store: S3Store) -> None:
    """Or retries below the retry layer would outlive every deadline."""
    calls = (
        lambda: fake_store.get("key"),
        lambda: fake_store.get("odd//key"),
        lambda: part_of(fake_store),
        lambda: fake_store.head("key"),
        lambda: fake_store.list(),
        lambda: fake_store.list(max_keys=1),
        lambda: fake_store.put("key", b"x"),
        lambda: fake_store.delete_many(["key"]),
        lambda: fake_store.delete_if_match("key", "e"),
    )
    for call in calls:
        fake.requests.clear()
        fake.replies.append(Reply(500, b""))
        with pytest.raises(Unreachable):
            await call()
        assert len(fake.requests) == 1


async def part_of(store: S3Store, key: str = "key") -> bytes:
    """Return the first bytes of an object, had the way that large parts are had."""
    fetched = await store.get_into(key, Tray(5), span=ByteRange(0, 5), if_match=None)
    return bytes(fetched.data)


async def test_an_anonymous_question_is_not_signed(fake: FakeS3, fake_store: S3Store) -> None:
    """Or a public bucket would be refused to those who have no account, or a wrong one."""
    await fake_store.put("key", b"content")
    fake.requests.clear()
    async with opened(replace(fake_store.client, credentials=None)) as anonymous:
        await anonymous.list()
        await anonymous.list(max_keys=1)
        await part_of(anonymous)
    await fake_store.list()
    await part_of(fake_store)
    *unsigned, signed, signed_too = fake.requests
    assert not any("authorization" in request.headers for request in unsigned)
    assert len(unsigned) == 3
    assert "authorization" in signed.headers
    assert "authorization" in signed_too.headers


@pytest.mark.parametrize("key", ["odd//key", "with space+and%", "\N{SNOWMAN}"])
async def test_a_part_of_any_key_can_be_had(fake_store: S3Store, key: str) -> None:
    """Or files of some names could be listed, and not read."""
    await fake_store.put(key, b"content")
    assert await part_of(fake_store, key) == b"conte"


async def test_a_part_that_is_given_up_hangs_up(fake: FakeS3, fake_store: S3Store) -> None:
    """Or reads that programs gave up would keep their threads, until nobody could read (P8)."""
    await fake_store.put("key", b"content")
    threads = fake_store.hot.read_threads
    with fake.lock, trio.fail_after(5):  # it answers nobody
        async with trio.open_nursery() as nursery:
            nursery.start_soon(part_of, fake_store)
            await trio.testing.wait_all_tasks_blocked()
            assert threads.borrowed_tokens == 1
            nursery.cancel_scope.cancel()
        threads.total_tokens = 1
        await trio.to_thread.run_sync(int, limiter=threads)  # it has the one thread to itself


async def test_credentials_are_asked_for_once_a_minute(
    fake: FakeS3, fake_login: tuple[FakeS3, S3Client]
) -> None:
    """Or each lookup would cost a thread, or temporary credentials would never be renewed."""
    times_s = iter((0.0, 59.0, 60.0))
    env = Env(monotonic_s=lambda: next(times_s))
    source = CountedCredentials()
    client = replace(fake_login[1], credentials=Credentials(source, env), env=env)
    async with opened(client) as store:
        for asked in (1, 1, 2):
            await store.list(max_keys=1)
            assert source.asked == asked


@dataclass
class CountedCredentials:
    asked: int = 0

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        self.asked += 1
        return ReadOnlyCredentials("key", "secret", None)


# -- who it trusts and through whom it asks --------------------------------------------


async def every_way(store: S3Store) -> None:
    """Ask over each of the connections: obstore's two, our own two, and boto3's."""
    await store.put("key", b"content")
    assert bytes((await store.get("key")).data) == b"content"
    assert await part_of(store) == b"conte"
    assert (await store.head("key")).size_bytes == 7
    for max_keys in (1, 1000):
        assert [found.key for found in (await store.list(max_keys=max_keys)).objects] == ["key"]
    assert await store.delete_many(["key"]) == {}


async def test_the_authority_that_the_user_trusts_is_trusted_on_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a server with a company's own certificate could be listed, and not read."""
    made = make_certificates(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(made.authority))
    with fake_s3(made.server) as fake:
        async with opened(log_in(fake.endpoint_url, "a-key", "a-secret")) as store:
            await every_way(store)


async def test_nobody_else_is_trusted_on_any_way(tmp_path: Path) -> None:
    """Or somebody on the way could show us files of his own, and learn our token."""
    made = make_certificates(tmp_path)
    with fake_s3(made.server) as fake:
        async with opened(log_in(fake.endpoint_url, "a-key", "a-secret")) as store:
            for ask in (
                partial(store.list, max_keys=1),
                partial(store.list, max_keys=1000),
                partial(store.head, "key"),
                partial(store.get, "key"),
                partial(part_of, store),
                partial(store.put, "key", b""),
            ):
                with pytest.raises(Unreachable, match="certificate is not trusted"):
                    await ask()
    assert not fake.requests


async def test_a_proxy_is_used_on_every_way(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a bucket could not be mounted where the only way out is a proxy."""
    monkeypatch.setenv("HTTP_PROXY", fake.endpoint_url)
    monkeypatch.setenv("http_proxy", fake.endpoint_url)
    async with opened(log_in("http://s3.nowhere.invalid", "a-key", "a-secret")) as store:
        await every_way(store)
    assert {request.headers["host"] for request in fake.requests} == {"s3.nowhere.invalid"}


@pytest.mark.parametrize("key", ["", "x" * 1025, "\ud800"])
async def test_keys_that_no_bucket_holds_are_refused(fake_store: S3Store, key: str) -> None:
    """Or such a name would end as a fault in blobfs, or as a request for the bucket itself."""
    with pytest.raises(UsageError):
        await fake_store.get(key)
    with pytest.raises(UsageError):
        await fake_store.put(key, b"x")
