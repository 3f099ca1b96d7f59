"""Define what a store is: keys, bytes, versions, and nothing else.

A store holds objects: a key (text, at most 1,024 bytes in UTF-8), a body, and a version
that the store itself chose (the ETag). Everything above works on this interface alone.
Implementations differ only in their `traits`, which are data: nobody asks what class a
store is.

Concurrency: every method may be called from any task at any time. Cancelling a call
gives up the wait, not the request: a `put` that was cancelled may still happen.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from blobfs.errors import BlobfsError
from blobfs.types import ByteRange, ListPage, ObjectInfo

MAX_PAGE_KEYS = 1000
"""Most keys and prefixes that one `list` answers with (ListObjectsV2, `max-keys`)."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to `get`: the object's version, and the bytes asked for."""

    info: ObjectInfo
    data: memoryview


class Inbox(Protocol):
    """Takes the bytes of one `get_into` while they arrive. Called in worker threads.

    A try that failed may be followed by another, which begins at the start of the span again.
    """

    @property
    def buffer(self) -> memoryview:
        """Where to put the bytes: as many as the span has."""

    def arrived(self, info: ObjectInfo, count: int) -> None:
        """The first `count` bytes of the span, of the version `info`, are in the buffer."""


@dataclass(frozen=True, slots=True)
class StoreTraits:
    """What a store can do, as data."""

    put_if_absent: bool
    """`put(if_absent=True)` has exactly one winner."""
    put_if_match: bool
    """`put(if_match=...)` has exactly one winner."""
    delete_if_match: bool
    """`delete_if_match` leaves any other version alone. Servers are known to forget it, so who
    relies on it proves it first."""
    delete_batch: int
    """Keys that one delete request takes; 1 where every key is a request."""
    parallel: int
    """Requests under way at once that the store is known to like."""
    sorted_listing: bool = True
    """`list` gives keys in order of their UTF-8 bytes, and `start_after` skips no others.

    Where it is not known to (servers that keep keys in folders list `a/b` before `a-b`, and
    may skip all of `a/` after `a`), the keys below one folder still come together, and
    following the tokens still gives every key once.
    """
    raw_keys: bool = False
    """Keys may hold bytes that are not UTF-8, as surrogates (PEP 383); others are text."""


class Store(ABC):
    """Keys and bytes.

    Errors that every method may raise: `AccessDenied`, `Unreachable` (with its kind
    `Throttled`), `Damaged`. A key that is absent is `NotFound`, and only when the store said so.
    """

    url: str
    """Where it is, as the user would write it: `s3://bucket/prefix`. Holds no secret."""
    traits: StoreTraits

    @abstractmethod
    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        """Return the object, or the bytes `span` of it.

        A span that ends behind the object is cut to it; one that starts at or behind its
        end gives no bytes. An empty span is a caller's mistake: ValueError.

        Raises:
            NotFound: there is no such object.
            Changed: there is one, but its version is not `if_match`.
        """

    async def get_into(
        self, key: str, inbox: Inbox, *, span: ByteRange, if_match: str | None
    ) -> Fetched:
        """Do as `get` does; a store that can hands over what has arrived meanwhile.

        The answer is what counts: it may lie in the inbox's buffer, or elsewhere.
        """
        return await self.get(key, span=span, if_match=if_match)

    @abstractmethod
    async def head(self, key: str) -> ObjectInfo:
        """Return what is known of `key`.

        Raises:
            NotFound: there is no such object.
        """

    @abstractmethod
    async def list(
        self,
        prefix: str = "",
        *,
        delimiter: bool = False,
        start_after: str = "",
        max_keys: int = MAX_PAGE_KEYS,
        token: str | None = None,
    ) -> ListPage:
        """Return one page of the keys that start with `prefix`, in order of their UTF-8 bytes.

        With `delimiter`, keys that hold a `/` behind `prefix` are folded into common
        prefixes, which end with that `/` and count towards `max_keys` (1 to 1,000).
        Only entries greater than `start_after` are given: a common prefix counts by its own
        name, so `a/` does not come after `a/b`. A page may hold fewer than `max_keys`
        entries, even none, and still have a successor. Continue with the same arguments
        and `token` = the page's `next_token`.

        Raises:
            NotFound: there is no such container.
        """

    @abstractmethod
    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Store `data` under `key` in one request, whole or not at all; return its new ETag.

        Raises:
            AlreadyExists: `if_absent` was set and there is an object.
            Changed: `if_match` was given and the version is another, or the object is gone.
            OutcomeUnknown: a conditional put whose answer did not come.
        """

    @abstractmethod
    async def delete_many(self, keys: Iterable[str]) -> dict[str, BlobfsError]:
        """Delete `keys`; return those that could not be, and why. Absent counts as deleted."""

    @abstractmethod
    async def delete_if_match(self, key: str, etag: str) -> None:
        """Delete the object under `key` if its version is `etag`, and no other.

        That it is absent counts as deleted, or as changed: servers differ in what they tell.
        An answer that did not come is Unreachable: who asks again finds it deleted.

        Raises:
            Changed: there is another version, which stays, or none.
        """

    async def aclose(self) -> None:  # noqa: B027 - most stores hold nothing that needs closing
        """Let go of connections and threads. The store is not used after this."""
