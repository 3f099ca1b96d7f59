"""Keep objects as blobs of an Azure container.

obstore gets, heads and puts; the SDK lists, deletes, and carries the keys that obstore would
change. Every put is one Put Blob request, whole or not at all.

Keys that Azure would change or refuse are refused here with `Unsupported`, and no object is
found under them: those with a backslash, which Azure takes for a slash, with `.` and `..`
segments, with control characters, and those of more than 1,024 characters.

Folder blobs (`hdi_isfolder`) of accounts with a hierarchical namespace are shown as markers
with a final `/`; to tell them from empty files costs a second request for an empty object.
`start_after` has no equal on the server: a listing reads over what lies before it, and
the pages of that part are empty.
"""

import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import trio
from obstore.store import AzureStore as ObstoreAzure

from blobfs.errors import BlobfsError, Changed, Unsupported
from blobfs.stores.answers import Answer, Call, error_of_answer
from blobfs.stores.azure_listing import NOTHING_LEFT, decode_position, next_page
from blobfs.stores.azure_login import Login, find_login
from blobfs.stores.azure_sdk import DELETE_BATCH, AzureSdk
from blobfs.stores.base import MAX_PAGE_KEYS, Fetched, Inbox, Store, StoreTraits
from blobfs.stores.hot import NO_RETRIES, HotPath, carries, read_options, write_options
from blobfs.types import ByteRange, ListPage, ObjectInfo

READ_THREADS = 64
WRITE_THREADS = 16
SDK_THREADS = 8
"""Fewer than the SDK keeps connections open (10): more would be opened and thrown away."""

MAX_KEY_CHARACTERS = 1024

_CHANGED_BY_AZURE = re.compile(r"[\x00-\x1f\x7f\\]|(^|/)\.{1,2}(/|$)")

T = TypeVar("T")


async def open_azure(
    container: str,
    *,
    account: str | None,
    endpoint_url: str | None,
    anonymous: bool,
    deadline_s: float,
) -> Store:
    """Return the store of `container`, without a request; `azure_login` tells the ways in.

    Raises:
        UsageError: no account is named, or the login makes no sense.
    """
    # In a thread, because azure-identity takes most of a second to import.
    login = await trio.to_thread.run_sync(
        partial(
            find_login,
            os.environ,
            account=account,
            endpoint_url=endpoint_url,
            anonymous=anonymous,
        )
    )
    return AzureStore(login, container, deadline_s)


class AzureStore(Store):
    """The blobs of one container."""

    def __init__(self, login: Login, container: str, deadline_s: float) -> None:
        self.url = f"az://{container}"
        self.traits = StoreTraits(
            put_if_absent=True,
            put_if_match=True,
            delete_if_match=True,
            delete_batch=DELETE_BATCH,
            parallel=READ_THREADS,
        )
        self._sdk = AzureSdk(login, container, self.url, deadline_s)
        self._sdk_threads = trio.CapacityLimiter(SDK_THREADS)
        allow_http = login.account_url.startswith("http://")
        self._hot = HotPath(
            reader=_obstore(login, container, read_options(deadline_s, allow_http=allow_http)),
            writer=_obstore(login, container, write_options(deadline_s, allow_http=allow_http)),
            where=self.url,
            read_threads=trio.CapacityLimiter(READ_THREADS),
            write_threads=trio.CapacityLimiter(WRITE_THREADS),
        )

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        if span is not None and not span:
            raise ValueError(f"empty span. key={key!r}")
        self._require_object(Call("get", self.url, key))
        if not carries(key):
            return await self._in_thread(partial(self._sdk.get, key, span, if_match))
        try:
            fetched = await self._hot.get(key, span=span, if_match=if_match)
        except Changed:
            await self.head(key)  # an object that is gone may be called changed, too
            raise
        if not fetched.info.size_bytes:
            await self._in_thread(partial(self._sdk.head, key))  # NotFound for a folder blob
        return fetched

    async def get_into(
        self, key: str, inbox: Inbox, *, span: ByteRange, if_match: str | None
    ) -> Fetched:
        if not (span and carries(key)):
            return await self.get(key, span=span, if_match=if_match)
        self._require_object(Call("get", self.url, key))
        try:
            return await self._hot.get_into(key, inbox, span=span, if_match=if_match)
        except Changed:
            await self.head(key)  # an object that is gone may be called changed, too
            raise

    async def head(self, key: str) -> ObjectInfo:
        self._require_object(Call("head", self.url, key))
        if carries(key):
            info = await self._hot.head(key)
            if info.size_bytes:
                return info
        return await self._in_thread(partial(self._sdk.head, key))

    async def list(
        self,
        prefix: str = "",
        *,
        delimiter: bool = False,
        start_after: str = "",
        max_keys: int = MAX_PAGE_KEYS,
        token: str | None = None,
    ) -> ListPage:
        await trio.lowlevel.checkpoint()
        position = decode_position(token)
        listed = NOTHING_LEFT
        if position.marker is not None:
            ask = partial(self._sdk.list, prefix, delimiter=delimiter, max_keys=max_keys)
            listed = await self._in_thread(partial(ask, marker=position.marker))
        return next_page(position, listed, start_after, max_keys)

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        if not _can_hold(key):
            raise Unsupported(f"Azure cannot hold this key. key={key!r} store={self.url}")
        if carries(key):
            return await self._hot.put(key, data, if_absent=if_absent, if_match=if_match)
        # A copy, because a cancelled put goes on when the caller may use its buffer again.
        return await self._in_thread(partial(self._sdk.put, key, bytes(data), if_absent, if_match))

    async def delete_many(self, keys: Iterable[str]) -> dict[str, BlobfsError]:
        await trio.lowlevel.checkpoint()
        wanted = [key for key in dict.fromkeys(keys) if _can_hold(key)]
        failed: dict[str, BlobfsError] = {}
        for start in range(0, len(wanted), DELETE_BATCH):
            batch = wanted[start : start + DELETE_BATCH]
            failed |= await self._in_thread(partial(self._sdk.delete, batch))
        return failed

    async def delete_if_match(self, key: str, etag: str) -> None:
        await trio.lowlevel.checkpoint()
        if _can_hold(key):
            await self._in_thread(partial(self._sdk.delete_if_match, key, etag))

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self._sdk.close()

    def _require_object(self, call: Call) -> None:
        """Raise NotFound where no object can be."""
        if not _can_hold(call.key or ""):
            raise error_of_answer(Answer(404), call)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(
            work, abandon_on_cancel=True, limiter=self._sdk_threads
        )


def _can_hold(key: str) -> bool:
    return 0 < len(key) <= MAX_KEY_CHARACTERS and not _CHANGED_BY_AZURE.search(key)


def _obstore(login: Login, container: str, client_options: Any) -> ObstoreAzure:
    """Return an obstore client that logs in as the SDK does.

    What is given here goes before the AZURE_* variables, which obstore reads by itself.
    """
    credentials: Any = login.obstore
    retries: Any = NO_RETRIES
    return ObstoreAzure(
        container,
        account_name=login.account,
        endpoint=login.account_url,
        use_emulator=False,
        skip_signature=credentials is None,
        credential_provider=credentials,
        client_options=client_options,
        retry_config=retries,
    )
