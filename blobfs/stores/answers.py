"""Say which of our errors an answer of an object store means. Pure, and the one table of it.

What a library raises is first reduced to an `Answer` (the server spoke) or a `Fault` (it
did not), so S3 and Azure, SDK and obstore all end in the same errors and the same words.
Nothing of the original text goes into a message: it may hold a signature.
"""

import enum
from dataclasses import dataclass
from typing import Literal

from blobfs.errors import (
    AccessDenied,
    AlreadyExists,
    BlobfsError,
    Changed,
    Damaged,
    NotFound,
    OutcomeUnknown,
    StoreFull,
    Throttled,
    Unreachable,
    Unsupported,
    UsageError,
)

Kind = Literal["get", "head", "list", "put", "delete"]


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked for, of which store (its URL)."""

    kind: Kind
    where: str
    key: str | None = None
    condition: Literal["absent", "match"] | None = None

    @property
    def is_conditional_put(self) -> bool:
        return self.kind == "put" and self.condition is not None

    def __str__(self) -> str:
        key = "" if self.key is None else f" key={self.key!r}"
        return f"request={self.kind} store={self.where}{key}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said: HTTP status, its own error code if it gave one."""

    status: int
    code: str = ""
    retry_after_s: float | None = None
    region: str = ""
    """Where the bucket is, if the server told us."""

    def __str__(self) -> str:
        return f"status={self.status}" + (f" code={self.code}" if self.code else "")


class Fault(enum.Enum):
    """How it came that there is no answer."""

    NAME = "the name of the server cannot be resolved"
    CONNECT = "cannot connect to the server"
    TLS = "the server's certificate is not trusted"
    TIMEOUT = "no answer in time"
    BROKEN = "the connection broke off"
    SHORT = "the answer ended early"
    WRONG = "other bytes came than were asked for"
    NOT_A_STORE = "the answer does not come from an object store"
    CREDENTIALS = "the credentials could not be had"


_NOT_SENT = frozenset({Fault.NAME, Fault.CONNECT, Fault.TLS, Fault.CREDENTIALS})
"""Faults that strike before a request is on its way."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    error: type[BlobfsError]
    text: str
    hint: str = ""


_CHECK_NAME = "check the name, and that these credentials belong to the same account"
_CHECK_KEY = "check the access key and the secret, or choose others with --profile"
_CHECK_LOGIN = "check how you log in: keys, profile, role, or `az login`"
_LOGIN = "log in again, then repeat"
_CHECK_REGION = "give the bucket's region with --region"
_CHECK_CLOCK = "set this machine's clock"
_CHECK_RIGHTS = "ask the owner for the right to list, read and, for writing, put and delete"
_CHECK_NET = "check the network and --endpoint-url"

_NO_CONTAINER = _Meaning(NotFound, "no such bucket or container", _CHECK_NAME)
_NO_OBJECT = _Meaning(NotFound, "no such object")
_WRONG_KEY = _Meaning(AccessDenied, "the store does not know these credentials", _CHECK_KEY)
_WRONG_SECRET = _Meaning(AccessDenied, "the secret does not fit the access key", _CHECK_KEY)
_EXPIRED = _Meaning(AccessDenied, "the credentials have expired", _LOGIN)
_FORBIDDEN = _Meaning(AccessDenied, "these credentials do not allow it", _CHECK_RIGHTS)
_WRONG_REGION = _Meaning(UsageError, "the bucket is in another region", _CHECK_REGION)
_WRONG_CLOCK = _Meaning(AccessDenied, "this machine's clock is wrong", _CHECK_CLOCK)
_WRONG_SIGNATURE = _Meaning(
    AccessDenied,
    "the key or the signature is wrong, or has expired",
    "copy the key again, or make a new signature, and check this machine's clock",
)
_NOT_PUBLIC = _Meaning(
    AccessDenied,
    "the container is not public",
    "log in: AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or `az login`",
)
_NO_ROLE = _Meaning(
    AccessDenied,
    "this login does not allow it, or the account's firewall does not",
    "have the role Storage Blob Data Reader given to you, or a signature with more rights",
)
_NO_KEYS = _Meaning(
    AccessDenied, "the account takes no keys", "log in with `az login` or a service principal"
)
_BAD_KEY = _Meaning(
    UsageError, "the store cannot hold such a key", "choose a shorter, plainer name"
)
_FULL = _Meaning(
    StoreFull,
    "the store takes no more: its quota is used up, or it is full",
    "remove something from it, or have its quota raised",
)
_LEASED = _Meaning(
    AccessDenied, "somebody holds a lease on the object", "have the lease released, or let it end"
)
_ARCHIVED = _Meaning(Unsupported, "the object is in an archive", "restore it, then read it again")
_BUSY = _Meaning(Throttled, "the store asks for a pause")
_SERVER_FAULT = _Meaning(Unreachable, "the store has a fault of its own")
_CONFLICT = _Meaning(Unreachable, "the store is busy with another change of the same thing")
_REFUSED = _Meaning(Unsupported, "the store refused the request")
_CHANGED = _Meaning(Changed, "object has another version")

_BY_CODE: dict[str, _Meaning] = {
    "NoSuchBucket": _NO_CONTAINER,
    "ContainerNotFound": _NO_CONTAINER,
    "ContainerBeingDeleted": _NO_CONTAINER,
    "ContainerDisabled": _NO_CONTAINER,
    "InvalidAccessKeyId": _WRONG_KEY,
    "InvalidToken": _WRONG_KEY,
    "AuthenticationFailed": _WRONG_SIGNATURE,
    "NoAuthenticationInformation": _NOT_PUBLIC,
    "PublicAccessNotPermitted": _NOT_PUBLIC,
    "AuthorizationFailure": _NO_ROLE,
    "AuthorizationPermissionMismatch": _NO_ROLE,
    "KeyBasedAuthenticationNotPermitted": _NO_KEYS,
    "SignatureDoesNotMatch": _WRONG_SECRET,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "RequestTimeTooSkewed": _WRONG_CLOCK,
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "PermanentRedirect": _WRONG_REGION,
    "IllegalLocationConstraintException": _WRONG_REGION,
    "KeyTooLongError": _BAD_KEY,
    "InvalidURI": _BAD_KEY,
    "InvalidResourceName": _BAD_KEY,
    "QuotaExceeded": _FULL,
    "InsufficientStorage": _FULL,
    "XMinioAdminBucketQuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "InvalidObjectState": _ARCHIVED,
    "BlobArchived": _ARCHIVED,
    "LeaseIdMissing": _LEASED,
    "BlobBeingRehydrated": _ARCHIVED,
    "SlowDown": _BUSY,
    "ServerBusy": _BUSY,
    "Throttling": _BUSY,
    "ThrottlingException": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "TooManyRequests": _BUSY,
    "RequestTimeout": _Meaning(Unreachable, Fault.TIMEOUT.value, _CHECK_NET),
}

_BY_STATUS: dict[int, _Meaning] = {
    301: _WRONG_REGION,
    302: _Meaning(Unreachable, Fault.NOT_A_STORE.value, _CHECK_NET),
    307: _WRONG_REGION,
    308: _WRONG_REGION,
    401: _WRONG_KEY,
    403: _FORBIDDEN,
    404: _NO_OBJECT,
    407: _Meaning(Unreachable, "the proxy wants credentials", "check HTTPS_PROXY"),
    408: _Meaning(Unreachable, Fault.TIMEOUT.value, _CHECK_NET),
    409: _CONFLICT,
    412: _CHANGED,
    429: _BUSY,
    503: _BUSY,
    507: _FULL,
    511: _Meaning(Unreachable, Fault.NOT_A_STORE.value, "log in to this network"),
}

_BY_FAULT: dict[Fault, _Meaning] = {
    Fault.SHORT: _Meaning(Damaged, Fault.SHORT.value),
    Fault.WRONG: _Meaning(Damaged, Fault.WRONG.value),
    Fault.CREDENTIALS: _Meaning(AccessDenied, Fault.CREDENTIALS.value, _CHECK_LOGIN),
}


def error_of_answer(answer: Answer, call: Call) -> BlobfsError:
    """Return the error that `answer` to `call` means."""
    if call.is_conditional_put and (error := _condition_error(answer, call)):
        return error
    meaning = _meaning(answer, call)
    message = f"{meaning.text}. {call} {answer}"
    if meaning.error is Throttled:
        return Throttled(message, retry_after_s=answer.retry_after_s)
    hint = f"give --region {answer.region}" if meaning is _WRONG_REGION and answer.region else None
    return meaning.error(message, hint=hint or meaning.hint)


def error_of_fault(fault: Fault, call: Call) -> BlobfsError:
    """Return the error that no answer to `call` means."""
    meaning = _BY_FAULT.get(fault, _Meaning(Unreachable, fault.value, _CHECK_NET))
    if call.is_conditional_put and fault not in _NOT_SENT:
        return _unknown(fault.value, call)
    return meaning.error(f"{meaning.text}. {call}", hint=meaning.hint)


def _meaning(answer: Answer, call: Call) -> _Meaning:
    if answer.status == 404 and call.kind == "list" and answer.code not in _BY_CODE:
        return _NO_CONTAINER
    fallback = _SERVER_FAULT if answer.status >= 500 else _REFUSED
    return _BY_CODE.get(answer.code) or _BY_STATUS.get(answer.status, fallback)


def _condition_error(answer: Answer, call: Call) -> BlobfsError | None:
    """Return what the commit table of the volume format says; None where it says nothing."""
    if answer.status == 412 or answer.code == "BlobAlreadyExists":
        if call.condition == "absent":
            return AlreadyExists(f"object exists. {call}")
        return Changed(f"object has another version. {call}")
    if answer.status == 404 and call.condition == "match" and answer.code not in _BY_CODE:
        return Changed(f"object is gone. {call}")
    if _meaning(answer, call) is _FULL:
        return None  # it says itself that nothing was written
    if answer.status == 409 or answer.status >= 500 or answer.code == "RequestTimeout":
        return _unknown(str(answer), call)
    return None


def _unknown(reason: str, call: Call) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"it is not known whether the object was written: {reason}. {call}",
        hint="look at the object before writing it again",
    )
