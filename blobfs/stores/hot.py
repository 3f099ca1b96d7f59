"""Get, head and put objects through obstore, which costs an eighth of an SDK's CPU time.

The stores of S3 and Azure share it. Each obstore client comes without retries of its own,
because those are the layers' business, and with timeouts, because each call occupies a
thread until it ends, also when nobody waits for it any more.

obstore turns a key into a path: it drops slashes at both ends and takes no `//`, `.`, `..`
or control characters. `carries` says which keys it leaves alone; the store sends the rest
through its SDK.

Concurrency: calls block in worker threads, counted by limiters of their own, so that
uploads, which may take long, never keep reads from starting.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
import trio
from obstore import exceptions

from blobfs.errors import BlobfsError, Changed
from blobfs.stores.answers import Answer, Call, Fault, error_of_answer, error_of_fault
from blobfs.stores.base import Fetched, Inbox
from blobfs.types import MIB, ByteRange, ObjectInfo

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
SLOWEST_UPLOAD_BYTES_PER_S = MIB // 4
"""An upload that is slower than this counts as one that hangs."""
LARGEST_PUT_BYTES = 64 * MIB
CHUNK_BYTES = MIB
"""What has to arrive before it is handed over: the most that a kernel reads at once."""

_CONTROL = re.compile("[\x00-\x1f\x7f]")
_STATUS = re.compile(r"Error performing [A-Z]+ \S+ in \S+ - .*?status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")


def carries(key: str) -> bool:
    """Say whether obstore sends `key` exactly as it is."""
    if _CONTROL.search(key):
        return False
    return not any(segment in ("", ".", "..") for segment in key.split("/"))


def read_options(deadline_s: float, *, allow_http: bool) -> "ClientConfig":
    """Return obstore's client options for gets and heads.

    A third of the deadline without a byte ends an attempt: that leaves time for another,
    and gives the thread back.
    """
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=min(CONNECT_TIMEOUT_S, deadline_s)),
        "read_timeout": timedelta(seconds=max(deadline_s / 3, 1.0)),
        "timeout": timedelta(seconds=2 * deadline_s),
    }


def write_options(deadline_s: float, *, allow_http: bool) -> "ClientConfig":
    """Return obstore's client options for puts, which answer only when all is uploaded."""
    longest = timedelta(seconds=deadline_s + LARGEST_PUT_BYTES / SLOWEST_UPLOAD_BYTES_PER_S)
    options = read_options(deadline_s, allow_http=allow_http)
    options["read_timeout"] = options["timeout"] = longest
    return options


NO_RETRIES: "RetryConfig" = {"max_retries": 0}
"""The `retry_config` of each obstore client."""


@dataclass(frozen=True, slots=True)
class HotPath:
    """Get, head and put below one bucket or container. Keys must be ones that it `carries`.

    `where` is the store's URL, for messages. Errors are those of `Store`.
    """

    reader: Any
    writer: Any
    where: str
    read_threads: trio.CapacityLimiter
    write_threads: trio.CapacityLimiter

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        call = Call("get", self.where, key, "match" if if_match is not None else None)
        return await _in_thread(
            self.read_threads, partial(self._get, call, key, span=span, if_match=if_match)
        )

    async def get_into(
        self, key: str, inbox: Inbox, *, span: ByteRange, if_match: str | None
    ) -> Fetched:
        call = Call("get", self.where, key, "match" if if_match is not None else None)
        return await _in_thread(
            self.read_threads,
            partial(self._get, call, key, span=span, if_match=if_match, inbox=inbox),
        )

    async def head(self, key: str) -> ObjectInfo:
        return await _in_thread(
            self.read_threads, partial(self._head, Call("head", self.where, key), key)
        )

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        call = Call("put", self.where, key, put_condition(if_absent, if_match))
        mode: Any = "create" if if_absent else "overwrite"
        if if_match is not None:
            mode = {"e_tag": f'"{if_match}"'}
        return await _in_thread(
            self.write_threads, partial(self._put, call, key, frozen(data), mode)
        )

    def _get(
        self,
        call: Call,
        key: str,
        *,
        span: ByteRange | None,
        if_match: str | None,
        inbox: Inbox | None = None,
    ) -> Fetched:
        try:
            result = obstore.get(self.reader, key, options=_options(span, if_match))
            info = _info(call, key, result.meta)
            data = memoryview(result.bytes()) if inbox is None else _poured(result, info, inbox)
        except BlobfsError:
            raise
        except Exception as error:
            reason = _reason(error, key)
            if isinstance(reason, Answer) and reason.status == 416:
                return nothing_behind_the_end(self._head(call, key), call, if_match)
            raise _translated(reason, call) from None
        return checked(Fetched(info, data), call, span, if_match)

    def _head(self, call: Call, key: str) -> ObjectInfo:
        try:
            meta = obstore.head(self.reader, key)
        except Exception as error:
            raise _translated(_reason(error, key), call) from None
        return _info(call, key, meta)

    def _put(self, call: Call, key: str, data: bytes | memoryview, mode: Any) -> str:
        try:
            result = obstore.put(self.writer, key, data, mode=mode, use_multipart=False)
        except Exception as error:
            raise _translated(_reason(error, key), call) from None
        if not result["e_tag"]:
            raise error_of_fault(Fault.NOT_A_STORE, call)
        return plain_etag(result["e_tag"])


def _options(span: ByteRange | None, if_match: str | None) -> "GetOptions":
    options: GetOptions = {}
    if span is not None:
        options["range"] = (span.start, span.stop)
    if if_match is not None:
        options["if_match"] = f'"{if_match}"'
    return options


def _poured(result: "GetResult", info: ObjectInfo, inbox: Inbox) -> memoryview:
    """Put a body into the inbox while it arrives; more than fits is an error like any other."""
    buffer, count = inbox.buffer, 0
    for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
        stop = count + len(chunk)
        buffer[count:stop] = chunk
        inbox.arrived(info, stop)
        count = stop
    return buffer[:count]


def put_condition(if_absent: bool, if_match: str | None) -> Any:
    """Return the `condition` of a put's `Call`."""
    return "absent" if if_absent else "match" if if_match is not None else None


def plain_etag(etag: str) -> str:
    """Return `etag` without its quotes."""
    return etag.removeprefix('"').removesuffix('"')


def frozen(data: bytes | memoryview) -> bytes | memoryview:
    """Return `data` such that nobody changes it while an abandoned thread still sends it."""
    if isinstance(data, memoryview) and not (data.readonly and data.contiguous):
        return bytes(data)
    return data


def checked(fetched: Fetched, call: Call, span: ByteRange | None, if_match: str | None) -> Fetched:
    """Return `fetched` if it is what was asked for.

    Raises:
        Changed: it is of another version than `if_match`; not every server looks at that.
        Damaged: it has another length.
    """
    size_bytes = fetched.info.size_bytes
    wanted = (span or ByteRange(0, size_bytes)).clamp(size_bytes)
    if if_match is not None and fetched.info.etag != if_match:
        raise Changed(f"object has another version. {call} expected={if_match!r}")
    if fetched.data.nbytes != len(wanted):
        raise error_of_fault(Fault.SHORT, call)
    return fetched


def nothing_behind_the_end(info: ObjectInfo, call: Call, if_match: str | None) -> Fetched:
    """Return the answer to a span that starts behind the object: 416 does not tell its version."""
    if if_match is not None and info.etag != if_match:
        raise Changed(f"object has another version. {call} expected={if_match!r}")
    return Fetched(info, memoryview(b""))


def to_ns(when: datetime) -> int:
    """Return `when` in ns since the epoch, in whole seconds: a HEAD knows no more than that."""
    return int(when.astimezone(UTC).timestamp()) * 10**9


async def _in_thread(threads: trio.CapacityLimiter, work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=threads)


def _info(call: Call, key: str, meta: Any) -> ObjectInfo:
    if not meta["e_tag"]:
        # An access point's login page, for example: 200, but no object.
        raise error_of_fault(Fault.NOT_A_STORE, call)
    etag = plain_etag(meta["e_tag"])
    return ObjectInfo(key, meta["size"], etag, to_ns(meta["last_modified"]))


def _translated(reason: Answer | Fault, call: Call) -> BlobfsError:
    if isinstance(reason, Fault):
        return error_of_fault(reason, call)
    return error_of_answer(reason, call)


_STATUS_BY_TYPE: tuple[tuple[type[Exception], int], ...] = (
    (FileNotFoundError, 404),
    (exceptions.PermissionDeniedError, 403),
    (exceptions.PreconditionError, 412),
)

_WORDS_BEFORE = (
    "Object at location {} already exists: ",
    "Object at location {} not found: ",
    "Request precondition failure for path {}: ",
    "The operation lacked the necessary privileges to complete for path {}: ",
)

_FAULT_BY_WORDS: tuple[tuple[str, Fault], ...] = (
    # The first that occurs in obstore's description decides, so the narrower come first.
    ("dns error", Fault.NAME),
    ("ertificate", Fault.TLS),
    ("IncompleteBody", Fault.SHORT),
    ("NotPartial", Fault.WRONG),
    ("UnexpectedRange", Fault.WRONG),
    ("ETag Header missing", Fault.NOT_A_STORE),
    ("MissingEtag", Fault.NOT_A_STORE),
    ("Connect,", Fault.CONNECT),
    ("TimedOut", Fault.TIMEOUT),
    ("Timeout", Fault.TIMEOUT),
)


def _reason(error: Exception, key: str) -> Answer | Fault:
    """Say what an exception of obstore stands for: it tells status and cause in its text only."""
    text = str(error)
    for words in _WORDS_BEFORE:  # they quote the key, which may hold any words at all
        text = text.removeprefix(words.format(key))
    said, _, description = text.partition("Debug source:")
    code = found.group(1) if (found := _CODE.search(said)) else ""
    for kind, status in _STATUS_BY_TYPE:
        if isinstance(error, kind):
            return Answer(status, code)
    if found := _STATUS.search(said):
        return Answer(int(found.group(1)), code)
    if "BareRedirect" in description:
        return Answer(301)
    if "StartTooLarge" in description:  # some answer a span at the very end with no bytes
        return Answer(416)
    if isinstance(error, exceptions.UnauthenticatedError):
        return Fault.CREDENTIALS
    return next((fault for words, fault in _FAULT_BY_WORDS if words in description), Fault.BROKEN)
