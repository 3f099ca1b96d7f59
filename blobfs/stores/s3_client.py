"""Ask S3 through boto3: who we are, where the bucket is, listings, deletes, rare keys.

This is the one module that imports boto3. All here blocks, and raises our own errors only.

boto3 is tamed: no retries of its own (a layer has them), timeouts, no `Expect: 100-continue`
(a round trip for nothing), and checksums only where S3 asks for them (other servers choke on
the rest). Listings, which happen often, go past it over its own connections (`s3_request`).
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import boto3
import boto3.session
import botocore.exceptions as boto_errors
from botocore import UNSIGNED
from botocore.config import Config
from botocore.handlers import add_expect_header
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError, NameResolutionError, ProtocolError

from blobfs.env import Env
from blobfs.errors import AccessDenied, BlobfsError, UsageError
from blobfs.stores.answers import Answer, Call, Fault, error_of_answer, error_of_fault
from blobfs.stores.base import Fetched
from blobfs.stores.hot import (
    CONNECT_TIMEOUT_S,
    checked,
    frozen,
    nothing_behind_the_end,
    plain_etag,
    put_condition,
    to_ns,
)
from blobfs.stores.s3_listing import parse_listing
from blobfs.stores.s3_request import Reply, answer_of, quoted, signed_get
from blobfs.types import ByteRange, ListPage, ObjectInfo

if TYPE_CHECKING:
    from obstore.store import S3Credential

T = TypeVar("T")

DELETE_BATCH = 1000
FALLBACK_REGION = "us-east-1"
"""What servers that know no regions expect in a signature, and where AWS is asked first."""
CREDENTIALS_TTL_S = 60
"""How long obstore may keep what boto3 gave it; boto3 itself renews long before the end."""
CONNECTIONS = 32

_CONTROL = re.compile("[\x00-\x1f\x7f]")

# At DEBUG botocore writes headers and string-to-sign of each request, which no log should hold.
logging.getLogger("botocore").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach S3, as the user said it; None leaves it to boto3's own rules."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    anonymous: bool = False
    deadline_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Hand boto3's credentials to obstore, which asks whenever the last ones are old."""

    source: Any
    env: Env

    def __call__(self) -> "S3Credential":
        current = self.source.get_frozen_credentials()
        now = datetime.fromtimestamp(self.env.now_ns() / 10**9, UTC)
        return {
            "access_key_id": current.access_key,
            "secret_access_key": current.secret_key,
            "token": current.token,
            "expires_at": now + timedelta(seconds=CREDENTIALS_TTL_S),
        }


@dataclass(frozen=True, slots=True)
class S3Client:
    """One bucket, through boto3. `credentials` is None for an anonymous one."""

    bucket: str
    endpoint_url: str
    region: str
    path_style: bool
    credentials: Credentials | None
    boto: Any

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def host_url(self) -> str:
        """The endpoint, under the bucket's own host name where it has one."""
        if self.path_style:
            return self.endpoint_url
        return self.endpoint_url.replace("://", f"://{self.bucket}.", 1)

    def list(
        self,
        prefix: str,
        *,
        delimiter: bool,
        start_after: str,
        max_keys: int,
        token: str | None,
    ) -> ListPage:
        """Return one page, as `Store.list` does."""
        call = Call("list", self.url, prefix or None)
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        query["max-keys"] = str(max_keys)
        if delimiter:
            query["delimiter"] = "/"
        if token is not None:
            query["continuation-token"] = token
        elif start_after:
            query["start-after"] = start_after
        reply = _asked(call, lambda: self._signed_get(query))
        if reply.status != 200:
            raise error_of_answer(answer_of(reply), call)
        return parse_listing(reply.body, call, prefix)

    def get(self, key: str, *, span: ByteRange | None, if_match: str | None) -> Fetched:
        """Return what `Store.get` does."""
        call = Call("get", self.url, key, "match" if if_match is not None else None)
        wanted: dict[str, Any] = {}
        if span is not None:
            wanted["Range"] = f"bytes={span.start}-{span.stop - 1}"
        if if_match is not None:
            wanted["IfMatch"] = f'"{if_match}"'
        try:
            answer, data = _asked(call, lambda: self._get(key, wanted))
        except _BehindTheEnd:
            return nothing_behind_the_end(self.head(key), call, if_match)
        return checked(Fetched(_info(call, key, answer), data), call, span, if_match)

    def head(self, key: str) -> ObjectInfo:
        """Return what `Store.head` does."""
        call = Call("head", self.url, key)
        answer = _asked(call, lambda: self.boto.head_object(Bucket=self.bucket, Key=key))
        return _info(call, key, answer)

    def put(
        self, key: str, data: bytes | memoryview, *, if_absent: bool, if_match: str | None
    ) -> str:
        """Store `data` as `Store.put` does, and return its ETag."""
        call = Call("put", self.url, key, put_condition(if_absent, if_match))
        wanted: dict[str, Any] = {"Body": bytes(frozen(data))}
        if if_absent:
            wanted["IfNoneMatch"] = "*"
        if if_match is not None:
            wanted["IfMatch"] = f'"{if_match}"'
        answer = _asked(call, lambda: self.boto.put_object(Bucket=self.bucket, Key=key, **wanted))
        if not answer.get("ETag"):
            raise error_of_fault(Fault.NOT_A_STORE, call)
        return plain_etag(answer["ETag"])

    def delete(self, keys: Sequence[str]) -> dict[str, BlobfsError]:
        """Delete at most `DELETE_BATCH` keys; return those that could not be."""
        batch = [key for key in keys if not _CONTROL.search(key)]
        failed: dict[str, BlobfsError] = {}
        for key in keys:
            if _CONTROL.search(key):  # XML has no way to write it
                self._delete_one(key)
        if batch:
            failed |= self._delete_batch(batch)
        return failed

    def _delete_one(self, key: str) -> None:
        call = Call("delete", self.url, key)
        _asked(call, lambda: self.boto.delete_object(Bucket=self.bucket, Key=key))

    def _delete_batch(self, keys: Sequence[str]) -> dict[str, BlobfsError]:
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        call = Call("delete", self.url)
        answer = _asked(call, lambda: self.boto.delete_objects(Bucket=self.bucket, Delete=wanted))
        return {
            error["Key"]: error_of_answer(
                Answer(_STATUS_BY_CODE.get(error["Code"], 500), error["Code"]),
                Call("delete", self.url, error["Key"]),
            )
            for error in answer.get("Errors", ())
            if error["Code"] not in ("NoSuchKey", "NotFound")
        }

    def _signed_get(self, query: dict[str, str]) -> Reply:
        path = quoted(self.bucket) if self.path_style else ""
        credentials = None
        if self.credentials is not None:
            credentials = self.credentials.source.get_frozen_credentials()
        # boto3's own connections: they have its proxies, certificates and timeouts.
        http = self.boto._endpoint.http_session
        url = f"{self.host_url.rstrip('/')}/{path}"
        return signed_get(http, url, query, credentials, self.region)

    def _get(self, key: str, wanted: dict[str, Any]) -> tuple[dict[str, Any], memoryview]:
        answer = self.boto.get_object(Bucket=self.bucket, Key=key, **wanted)
        with answer["Body"] as stream:
            return answer, memoryview(stream.read())


_STATUS_BY_CODE = {"AccessDenied": 403, "InternalError": 500, "SlowDown": 503}
"""Each key of a batch delete has a code of its own, but no status."""


class _BehindTheEnd(Exception):
    """A range was asked for that starts behind the object: 416."""


def connect(bucket: str, login: Login, env: Env) -> S3Client:
    """Find credentials, endpoint and region, and return a client that uses them.

    Raises:
        AccessDenied: no credentials could be found, or had.
        NotFound: there is no such bucket.
        UsageError: the profile does not exist.
        Unreachable: AWS could not be asked for the region.
    """
    call = Call("list", f"s3://{bucket}")
    session = _asked(call, lambda: _session(login))
    credentials = _asked(call, lambda: _credentials(session, login, env))
    region: str = session.region_name or FALLBACK_REGION
    boto = _asked(call, lambda: _boto(session, login, region, login.endpoint_url))
    endpoint_url: str = boto.meta.endpoint_url
    if not is_aws(endpoint_url):
        if login.endpoint_url is None:  # it stands in the environment or in the profile
            boto = _boto(session, login, region, endpoint_url)
        return S3Client(bucket, endpoint_url, region, True, credentials, boto)
    found = login.region or _asked(call, lambda: _region_of(boto, bucket)) or region
    if found != region:
        boto = _boto(session, login, found, None)
    path_style = "." in bucket  # the certificate covers one label
    return S3Client(bucket, boto.meta.endpoint_url, found, path_style, credentials, boto)


def is_aws(endpoint_url: str) -> bool:
    """Say whether this is S3 itself, and not another server that speaks its protocol."""
    host = urlsplit(endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"))


def _session(login: Login) -> Any:
    try:
        return boto3.session.Session(profile_name=login.profile, region_name=login.region)
    except boto_errors.ProfileNotFound:
        raise UsageError(
            f"there is no such profile in the AWS configuration. profile={login.profile!r}",
            hint="`aws configure list-profiles` shows those that there are",
        ) from None


def _credentials(session: Any, login: Login, env: Env) -> Credentials | None:
    if login.anonymous:
        return None
    found = session.get_credentials()
    if found is None:
        raise AccessDenied(
            "no credentials found for S3",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose --profile, "
            "or use --anonymous for a public bucket",
        )
    credentials = Credentials(found, env)
    credentials()  # a broken credential process or an expired login shows now, not later
    return credentials


def _boto(session: Any, login: Login, region: str, endpoint_url: str | None) -> Any:
    config = Config(
        signature_version=UNSIGNED if login.anonymous else None,
        connect_timeout=min(CONNECT_TIMEOUT_S, login.deadline_s),
        read_timeout=max(login.deadline_s / 3, 1.0),
        retries={"total_max_attempts": 1},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if endpoint_url else "auto"},
    )
    client = session.client("s3", region_name=region, endpoint_url=endpoint_url, config=config)
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


def _region_of(boto: Any, bucket: str) -> str:
    """Return the region that the bucket is in; AWS tells it even to those it refuses."""
    try:
        answer = boto.head_bucket(Bucket=bucket)
    except boto_errors.ClientError as error:
        region = _headers(error.response).get("x-amz-bucket-region", "")
        if not region:
            raise
        return str(region)
    return str(_headers(answer).get("x-amz-bucket-region", ""))


def _info(call: Call, key: str, answer: dict[str, Any]) -> ObjectInfo:
    if not answer.get("ETag"):
        raise error_of_fault(Fault.NOT_A_STORE, call)
    size_bytes = answer["ContentLength"]
    if content_range := answer.get("ContentRange"):
        size_bytes = int(content_range.rpartition("/")[2])
    return ObjectInfo(key, size_bytes, plain_etag(answer["ETag"]), to_ns(answer["LastModified"]))


def _headers(response: dict[str, Any]) -> dict[str, Any]:
    headers: dict[str, Any] = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def _asked(call: Call, ask: Callable[[], T]) -> T:
    """Do `ask`; what boto3 raises comes out as our own error."""
    try:
        return ask()
    except boto_errors.ClientError as error:
        answer = _answer(error.response)
        if answer.status == 416:
            raise _BehindTheEnd from None
        raise error_of_answer(answer, call) from None
    except boto_errors.BotoCoreError as error:
        raise error_of_fault(_fault(error), call) from None
    except ResponseParserError:
        raise error_of_fault(Fault.NOT_A_STORE, call) from None
    except HTTPError as error:  # while reading a body; botocore lets some of them through
        fault = Fault.SHORT if isinstance(error, ProtocolError) else Fault.BROKEN
        raise error_of_fault(fault, call) from None


def _fault(error: Exception) -> Fault:
    if isinstance(getattr(error, "kwargs", {}).get("error"), NameResolutionError):
        return Fault.NAME
    return next(fault for kind, fault in _FAULTS if isinstance(error, kind))


def _answer(response: dict[str, Any]) -> Answer:
    code = str(response.get("Error", {}).get("Code", ""))
    headers = _headers(response)
    pause = str(headers.get("retry-after", ""))
    return Answer(
        status=response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500),
        code="" if code.isdigit() else code,  # a HEAD has no body, and botocore makes one up
        retry_after_s=float(pause) if pause.isdigit() else None,
        region=str(headers.get("x-amz-bucket-region", "")),
    )


_FAULTS: tuple[tuple[type[Exception], Fault], ...] = (
    # The first that fits decides, so the narrower come first.
    (boto_errors.ConnectTimeoutError, Fault.CONNECT),
    (boto_errors.ReadTimeoutError, Fault.TIMEOUT),
    (boto_errors.SSLError, Fault.TLS),
    (boto_errors.EndpointConnectionError, Fault.CONNECT),
    (boto_errors.ProxyConnectionError, Fault.CONNECT),
    (boto_errors.IncompleteReadError, Fault.SHORT),
    (boto_errors.ResponseStreamingError, Fault.SHORT),
    (boto_errors.HTTPClientError, Fault.BROKEN),
    (boto_errors.ConnectionError, Fault.CONNECT),
    (boto_errors.BotoCoreError, Fault.CREDENTIALS),
)
