"""Translate what boto3 raises into our own errors."""

from collections.abc import Callable
from typing import Any, TypeVar

import botocore.exceptions as boto_errors
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError, NameResolutionError, ProtocolError

from blobfs.stores.answers import Answer, Call, Fault, error_of_answer, error_of_fault

T = TypeVar("T")


class BehindTheEnd(Exception):
    """A range was asked for that starts behind the object: 416."""


def headers_of(response: dict[str, Any]) -> dict[str, Any]:
    """Return the HTTP headers of what boto3 answered, their names in lower case."""
    headers: dict[str, Any] = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def asked(call: Call, ask: Callable[[], T]) -> T:
    """Do `ask`; what boto3 raises comes out as our own error.

    Raises:
        BehindTheEnd: a range starts behind the object, which is no error to everybody.
        BlobfsError: all else.
    """
    try:
        return ask()
    except boto_errors.ClientError as error:
        answer = _answer(error.response)
        if answer.status == 416:
            raise BehindTheEnd from None
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
    headers = headers_of(response)
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
