"""Sign a request for S3 that has no body (AWS Signature, version 4). Pure.

botocore signs the same in 0.3 ms, where somebody waits for a lookup after 20 ms of idleness;
this takes a quarter of that (2 cores, Python 3.11). Its tests hold it to botocore's signatures.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_NO_BODY = hashlib.sha256(b"").hexdigest()


class FrozenCredentials(Protocol):
    """What boto3 knows at one moment."""

    access_key: str
    secret_key: str
    token: str | None


def signed_headers(
    method: str, url: str, credentials: FrozenCredentials, region: str, now_ns: int
) -> dict[str, str]:
    """Return the headers that let `credentials` ask for `url`, its host among them.

    Path and query are signed as they stand in `url`: encoded, and the query in order.
    """
    parts = urlsplit(url)
    when = datetime.fromtimestamp(now_ns / 10**9, UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": _NO_BODY, "x-amz-date": when}
    if credentials.token:
        headers["x-amz-security-token"] = credentials.token
    names = ";".join(headers)
    lines = [f"{name}:{text}" for name, text in headers.items()]
    asked = "\n".join([method, parts.path, parts.query, *lines, "", names, _NO_BODY])
    scope = f"{when[:8]}/{region}/s3/aws4_request"
    said = "\n".join([_ALGORITHM, when, scope, hashlib.sha256(asked.encode()).hexdigest()])
    signature = _hmac(_key(credentials.secret_key, scope), said).hex()
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return headers


def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
