"""Call azure-storage-blob, for what obstore does not do. Blocking; called in worker threads.

Listings: the SDK takes 250 ms of CPU time to make objects of 1,000 listed blobs. What
`list_blob_names` does instead, together with the hook that the SDK has for raw responses,
costs 15 ms: its XML is parsed once, and read by `azure_listing`.

Each call is one request, but for reading an odd key of more than 64 MiB; what the SDK would
retry by itself is switched off.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    IncompleteReadError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.policies import ContentDecodePolicy
from azure.storage.blob import BlobClient, ContainerClient

from blobfs.errors import BlobfsError, Changed, NotFound
from blobfs.stores.answers import Answer, Call, Fault, Kind, error_of_answer, error_of_fault
from blobfs.stores.azure_listing import Listed, is_folder, parse_listing
from blobfs.stores.azure_login import Login
from blobfs.stores.base import Fetched
from blobfs.stores.hot import (
    CONNECT_TIMEOUT_S,
    LARGEST_PUT_BYTES,
    checked,
    nothing_behind_the_end,
    plain_etag,
    put_condition,
    to_ns,
)
from blobfs.types import ByteRange, ObjectInfo

DELETE_BATCH = 256
"""Most blobs that one batch request deletes (Azure's limit)."""

# At DEBUG, urllib3 logs each URL, and with a shared access signature a URL is a secret.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


class AzureSdk:
    """One container, through the SDK. `where` is the store's URL, for messages."""

    def __init__(self, login: Login, container: str, where: str, deadline_s: float) -> None:
        self._where = where
        self._client = ContainerClient(
            login.account_url,
            container,
            credential=login.sdk,
            retry_total=0,
            connection_timeout=min(CONNECT_TIMEOUT_S, deadline_s),
            read_timeout=max(deadline_s / 3, 1.0),
            max_single_put_size=LARGEST_PUT_BYTES,
            max_single_get_size=LARGEST_PUT_BYTES,
        )

    def close(self) -> None:
        self._client.close()

    def list(self, prefix: str, *, delimiter: bool, marker: str, max_keys: int) -> Listed:
        call = Call("list", self._where)
        responses: list[Any] = []
        with translated(call):
            pages = self._client.list_blob_names(
                name_starts_with=prefix or None,
                results_per_page=max_keys,
                include=["metadata"],  # tells which blobs stand for folders
                params={"delimiter": "/"} if delimiter else {},
                raw_response_hook=responses.append,
            ).by_page(marker or None)
            # Given something else than a listing, the SDK stumbles in ways of its own.
            with contextlib.suppress(AttributeError, TypeError, ValueError, StopIteration):
                next(pages)
        return _read_listing(responses, delimiter, call)

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of `key`; one with a final `/` may be a folder blob."""
        call = self._call("head", key)
        try:
            properties = self._properties(key, call)
        except NotFound:
            if not key.endswith("/"):
                raise
            properties = self._properties(key[:-1], call)
            if not is_folder(properties.metadata or {}):
                raise
            return _info(key, properties, 0)
        if is_folder(properties.metadata or {}) and not key.endswith("/"):
            raise error_of_answer(Answer(404), call)
        return _info(key, properties, properties.size)

    def get(self, key: str, span: ByteRange | None, if_match: str | None) -> Fetched:
        call = Call("get", self._where, key, None if if_match is None else "match")
        try:
            with translated(call):
                return self._get(call, key, span, if_match)
        except _OutOfRange:
            return nothing_behind_the_end(self.head(key), call, if_match)
        except NotFound:
            if not key.endswith("/"):
                raise
            info = self.head(key)  # a folder blob, or NotFound
            return checked(Fetched(info, memoryview(b"")), call, span, if_match)

    def _get(self, call: Call, key: str, span: ByteRange | None, if_match: str | None) -> Fetched:
        stream = self._blob(key).download_blob(
            offset=span.start if span else None,
            length=len(span) if span else None,
            **_condition(if_match),
        )
        data = memoryview(stream.readall())
        # Of a part, the SDK says how large the part is; the header knows the whole.
        _, _, total = (stream.properties.content_range or "").rpartition("/")
        size_bytes = int(total) if total.isdigit() else stream.properties.size
        return checked(
            Fetched(_info(key, stream.properties, size_bytes), data), call, span, if_match
        )

    def put(self, key: str, data: bytes | memoryview, if_absent: bool, if_match: str | None) -> str:
        with translated(Call("put", self._where, key, put_condition(if_absent, if_match))):
            answer = self._blob(key).upload_blob(
                bytes(data), overwrite=not if_absent, **_condition(if_match)
            )
        return plain_etag(str(answer["etag"]))

    def delete(self, keys: Sequence[str]) -> dict[str, BlobfsError]:
        """Delete at most `DELETE_BATCH` blobs in one request; return those that remain, and why."""
        if not keys:
            return {}
        with translated(Call("delete", self._where)):
            parts = list(self._client.delete_blobs(*keys, raise_on_any_failure=False))
        failed: dict[str, BlobfsError] = {}
        for key, part in zip(keys, parts, strict=True):
            answer = _answer(part.status_code, part.headers.get("x-ms-error-code"), part.headers)
            if answer.code == "ContainerNotFound":
                raise error_of_answer(answer, Call("delete", self._where))
            if answer.status == 404 and key.endswith("/"):
                failed |= self._delete_folder_blob(key)
            elif answer.status not in (202, 404):
                failed[key] = error_of_answer(answer, self._call("delete", key))
        return failed

    def delete_if_match(self, key: str, etag: str) -> None:
        """Delete one version of a blob, also of one that stands for a folder."""
        try:
            self._delete_exactly(key, key, etag)
        except Changed:  # what is absent is called so, too
            if not key.endswith("/"):
                raise
            self._delete_exactly(key, key[:-1], etag)

    def _delete_exactly(self, key: str, blob: str, etag: str) -> None:
        with translated(Call("delete", self._where, key, "match")):
            try:
                self._blob(blob).delete_blob(**_condition(etag))
            except ResourceNotFoundError as error:
                if getattr(error, "error_code", None) != "BlobNotFound":
                    raise

    def _delete_folder_blob(self, key: str) -> dict[str, BlobfsError]:
        try:
            with contextlib.suppress(NotFound):
                version = self.head(key).etag
                with translated(self._call("delete", key)):
                    self._blob(key[:-1]).delete_blob(**_condition(version))
        except BlobfsError as error:
            return {key: error}
        return {}

    def _properties(self, key: str, call: Call) -> Any:
        with translated(call):
            return self._blob(key).get_blob_properties()

    def _blob(self, key: str) -> BlobClient:
        return self._client.get_blob_client(key)

    def _call(self, kind: Kind, key: str) -> Call:
        return Call(kind, self._where, key)


class _OutOfRange(Exception):
    """A span starts behind the end (416)."""


def _read_listing(responses: Sequence[Any], delimiter: bool, call: Call) -> Listed:
    """Return what the last of `responses` lists, and nothing unless it is a listing."""
    if not responses:
        raise error_of_fault(Fault.BROKEN, call)
    http = responses[-1].http_response
    if http.status_code != HTTPStatus.OK:
        answer = _answer(http.status_code, http.headers.get("x-ms-error-code"), http.headers)
        raise error_of_answer(answer, call)
    listed = parse_listing(responses[-1].context.get(ContentDecodePolicy.CONTEXT_NAME), delimiter)
    if listed is None:
        raise error_of_fault(Fault.NOT_A_STORE, call)
    return listed


@contextlib.contextmanager
def translated(call: Call) -> Iterator[None]:
    """Raise what the SDK raises as one of our errors.

    The SDK's is not chained to it: its text may hold a URL, and that a signature.
    """
    try:
        yield
    except AzureError as error:
        reason = _reason(error)
    else:
        return
    if isinstance(reason, Fault):
        raise error_of_fault(reason, call)
    if reason.status == 416:
        raise _OutOfRange
    raise error_of_answer(reason, call)


def _reason(error: AzureError) -> Answer | Fault:
    """Say what an exception of the SDK stands for."""
    if isinstance(error, IncompleteReadError):
        return Fault.SHORT
    if isinstance(error, DecodeError):
        return Fault.NOT_A_STORE
    if isinstance(error, ClientAuthenticationError) and not hasattr(error, "error_code"):
        return Fault.CREDENTIALS  # not the store said so, but who should have given a token
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
        return _answer(error.status_code, getattr(error, "error_code", None), headers)
    if isinstance(error, ServiceRequestError):
        return _connect_fault(str(error))
    return Fault.TIMEOUT if isinstance(error, ServiceResponseTimeoutError) else Fault.BROKEN


def _connect_fault(text: str) -> Fault:
    if "resolve" in text or "getaddrinfo" in text:
        return Fault.NAME
    return Fault.TLS if "SSL" in text or "CERTIFICATE" in text else Fault.CONNECT


def _answer(status: int, code: Any, headers: Mapping[str, str]) -> Answer:
    # The SDK makes an enumeration of the codes that it knows.
    return Answer(status, str(getattr(code, "value", code) or ""), _retry_after_s(headers))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the pause that an answer asks for; a date, which Azure does not send, is none."""
    with contextlib.suppress(KeyError, ValueError):
        return float(headers["Retry-After"])
    return None


def _condition(if_match: str | None) -> dict[str, Any]:
    if if_match is None:
        return {}
    return {"etag": f'"{if_match}"', "match_condition": MatchConditions.IfNotModified}


def _info(key: str, properties: Any, size_bytes: int) -> ObjectInfo:
    return ObjectInfo(key, size_bytes, plain_etag(properties.etag), to_ns(properties.last_modified))
