"""Ask S3 through boto3: who we are, where the bucket is, listings, deletes, rare keys.

This is the one module that imports boto3. All here blocks, and raises our own errors only.

boto3 is tamed: no retries of its own (a layer has them), timeouts, no `Expect: 100-continue`
(a round trip for nothing), and checksums only where S3 asks for them (other servers choke on
the rest). Listings, which happen often, go past it over its own connections (`s3_request`),
and those that a lookup waits for go past those, too (`s3_lookup`).
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import boto3
import boto3.session
import botocore.exceptions as boto_errors
from botocore import UNSIGNED
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.handlers import add_expect_header
from botocore.httpsession import get_cert_path

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
from blobfs.stores.http import Reply
from blobfs.stores.s3_errors import BehindTheEnd, asked, headers_of
from blobfs.stores.s3_request import (
    Method,
    encoded,
    info_of,
    listing_query,
    page_of,
    quoted,
    request_headers,
)
from blobfs.stores.s3_sign import FrozenCredentials
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
    env: Env

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def host_url(self) -> str:
        """The endpoint, under the bucket's own host name where it has one."""
        if self.path_style:
            return self.endpoint_url
        return self.endpoint_url.replace("://", f"://{self.bucket}.", 1)

    @property
    def bucket_url(self) -> str:
        """Where the bucket's own requests go, listings for example."""
        path = quoted(self.bucket) if self.path_style else ""
        return f"{self.host_url.rstrip('/')}/{path}"

    def url_of(self, key: str) -> str:
        """Return where the object `key` is."""
        return f"{self.bucket_url.rstrip('/')}/{quoted(key, keep='/')}"

    @property
    def ca_file(self) -> str:
        """The file of certificates that boto3 trusts: its own, or what AWS_CA_BUNDLE says."""
        return str(get_cert_path(self._http._verify))

    @property
    def has_own_ca_file(self) -> bool:
        """Whether the user chose it."""
        return self._http._verify is not True

    @property
    def is_plain(self) -> bool:
        """Whether the endpoint is spoken to without TLS."""
        return self.endpoint_url.startswith("http://")

    @property
    def has_proxy(self) -> bool:
        return self._http._proxy_config.proxy_url_for(self.host_url) is not None

    @property
    def _http(self) -> Any:
        return self.boto._endpoint.http_session

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
        query = listing_query(
            prefix, delimiter=delimiter, start_after=start_after, max_keys=max_keys, token=token
        )
        url = f"{self.bucket_url}?{encoded(query)}"
        return page_of(asked(call, lambda: self._send("GET", url, call)), call, prefix)

    def get(self, key: str, *, span: ByteRange | None, if_match: str | None) -> Fetched:
        """Return what `Store.get` does."""
        call = Call("get", self.url, key, "match" if if_match is not None else None)
        wanted: dict[str, Any] = {}
        if span is not None:
            wanted["Range"] = f"bytes={span.start}-{span.stop - 1}"
        if if_match is not None:
            wanted["IfMatch"] = f'"{if_match}"'
        try:
            answer, data = asked(call, lambda: self._get(key, wanted))
        except BehindTheEnd:
            return nothing_behind_the_end(self.head(key), call, if_match)
        return checked(Fetched(_info(call, key, answer), data), call, span, if_match)

    def headers(
        self, method: Method, url: str, credentials: FrozenCredentials | None
    ) -> dict[str, str]:
        """Return the headers of a request for `url`, signed with `credentials`, if any."""
        return request_headers(method, url, credentials, self.region, self.env.now_ns())

    def frozen_credentials(self, call: Call) -> FrozenCredentials | None:
        """Return what a signature takes. Blocks where they have to be renewed first."""
        if self.credentials is None:
            return None
        frozen: FrozenCredentials = asked(call, self.credentials.source.get_frozen_credentials)
        return frozen

    def head(self, key: str) -> ObjectInfo:
        """Return what `Store.head` does."""
        call = Call("head", self.url, key)
        url = self.url_of(key)
        return info_of(asked(call, lambda: self._send("HEAD", url, call)), call, key)

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
        answer = asked(call, lambda: self.boto.put_object(Bucket=self.bucket, Key=key, **wanted))
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

    def delete_if_match(self, key: str, etag: str) -> None:
        """Delete one version of an object, as `Store.delete_if_match` does.

        The ETag is all that S3 compares: the same bytes, stored again, have the same one.
        """
        call = Call("delete", self.url, key, "match")
        asked(call, lambda: self._delete_exactly(key, f'"{etag}"'))

    def _delete_exactly(self, key: str, quoted_etag: str) -> None:
        try:
            self.boto.delete_object(Bucket=self.bucket, Key=key, IfMatch=quoted_etag)
        except boto_errors.ClientError as error:
            if error.response.get("Error", {}).get("Code") != "NoSuchKey":
                raise

    def _delete_one(self, key: str) -> None:
        call = Call("delete", self.url, key)
        asked(call, lambda: self.boto.delete_object(Bucket=self.bucket, Key=key))

    def _delete_batch(self, keys: Sequence[str]) -> dict[str, BlobfsError]:
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        call = Call("delete", self.url)
        answer = asked(call, lambda: self.boto.delete_objects(Bucket=self.bucket, Delete=wanted))
        return {
            error["Key"]: error_of_answer(
                Answer(_STATUS_BY_CODE.get(error["Code"], 500), error["Code"]),
                Call("delete", self.url, error["Key"]),
            )
            for error in answer.get("Errors", ())
            if error["Code"] not in ("NoSuchKey", "NotFound")
        }

    def _send(self, method: Method, url: str, call: Call) -> Reply:
        headers = self.headers(method, url, self.frozen_credentials(call))
        # boto3's own connections: they have its proxies, certificates and timeouts.
        response = self._http.send(AWSRequest(method, url, headers).prepare())
        return Reply(response.status_code, response.headers, response.content)

    def _get(self, key: str, wanted: dict[str, Any]) -> tuple[dict[str, Any], memoryview]:
        answer = self.boto.get_object(Bucket=self.bucket, Key=key, **wanted)
        with answer["Body"] as stream:
            return answer, memoryview(stream.read())


_STATUS_BY_CODE = {"AccessDenied": 403, "InternalError": 500, "SlowDown": 503}
"""Each key of a batch delete has a code of its own, but no status."""


def connect(bucket: str, login: Login, env: Env) -> S3Client:
    """Find credentials, endpoint and region, and return a client that uses them.

    Raises:
        AccessDenied: no credentials could be found, or had.
        NotFound: there is no such bucket.
        UsageError: the profile does not exist.
        Unreachable: AWS could not be asked for the region.
    """
    call = Call("list", f"s3://{bucket}")
    session = asked(call, lambda: _session(login))
    credentials = asked(call, lambda: _credentials(session, login, env))
    region: str = session.region_name or FALLBACK_REGION
    boto = asked(call, lambda: _boto(session, login, region, login.endpoint_url))
    endpoint_url: str = boto.meta.endpoint_url
    if not is_aws(endpoint_url):
        if login.endpoint_url is None:  # it stands in the environment or in the profile
            boto = _boto(session, login, region, endpoint_url)
        return S3Client(bucket, endpoint_url, region, True, credentials, boto, env)
    found = login.region or asked(call, lambda: _region_of(boto, bucket)) or region
    if found != region:
        boto = _boto(session, login, found, None)
    path_style = "." in bucket  # the certificate covers one label
    return S3Client(bucket, boto.meta.endpoint_url, found, path_style, credentials, boto, env)


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
        region = headers_of(error.response).get("x-amz-bucket-region", "")
        if not region:
            raise
        return str(region)
    return str(headers_of(answer).get("x-amz-bucket-region", ""))


def _info(call: Call, key: str, answer: dict[str, Any]) -> ObjectInfo:
    if not answer.get("ETag"):
        raise error_of_fault(Fault.NOT_A_STORE, call)
    size_bytes = answer["ContentLength"]
    if content_range := answer.get("ContentRange"):
        size_bytes = int(content_range.rpartition("/")[2])
    return ObjectInfo(key, size_bytes, plain_etag(answer["ETag"]), to_ns(answer["LastModified"]))
