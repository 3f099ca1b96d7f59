"""Our signatures are those of botocore."""

import datetime

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from blobfs.stores.s3_sign import signed_headers

NOW = datetime.datetime(2026, 11, 21, 15, 30, 59, tzinfo=datetime.UTC)


@pytest.mark.parametrize("token", [None, "a-session-token=="])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "url",
    [
        "https://bucket.s3.eu-north-1.amazonaws.com/",
        "https://bucket.s3.eu-north-1.amazonaws.com/a%20key/%C3%A9%2B~.txt",
        "http://127.0.0.1:8333/bucket/dot/../double//slash/",
        "http://127.0.0.1:8333/bucket?encoding-type=url&list-type=2&max-keys=1&prefix=a%2F",
        "http://[::1]:8333/bucket?prefix=",
    ],
)
def test_a_signature_is_the_one_that_botocore_makes(
    monkeypatch: pytest.MonkeyPatch, method: str, url: str, token: str | None
) -> None:
    """Or every lookup would be refused: the server computes it as well."""
    credentials = ReadOnlyCredentials("AKIDEXAMPLE", "a/secret+key", token)
    headers = signed_headers(
        method, url, credentials, "eu-north-1", int(NOW.timestamp()) * 10**9 + 5
    )
    monkeypatch.setattr(auth, "get_current_datetime", lambda: NOW.replace(tzinfo=None))
    request = AWSRequest(method, url, {"host": headers["host"]})
    auth.S3SigV4Auth(credentials, "s3", "eu-north-1").add_auth(request)
    assert headers == {name.lower(): text for name, text in request.headers.items()}
