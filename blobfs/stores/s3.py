"""Keep objects in a bucket of S3, or of a server that speaks its protocol.

obstore does what happens often: get and put. Large parts of objects are received straight into
the memory that they are meant for (`s3_body`). What lookups wait for, heads and short listings,
goes from the event loop over connections of its own (`s3_lookup`). boto3 does the rest: it
knows all ways to log in, finds the bucket's region, lists, deletes, and carries the keys that
obstore would change (`hot.carries`). Objects are written by one PUT each, never in parts.

Concurrency: all other requests block in worker threads. A call that is cancelled gives up its
thread, which ends by the timeouts of its request.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from obstore.store import S3Store as ObstoreS3

from blobfs.env import Env
from blobfs.errors import BlobfsError, UsageError
from blobfs.stores.base import MAX_PAGE_KEYS, Fetched, Inbox, Store, StoreTraits
from blobfs.stores.hot import NO_RETRIES, HotPath, carries, read_options, write_options
from blobfs.stores.http import Connections
from blobfs.stores.s3_body import Bodies, bodies_of
from blobfs.stores.s3_client import (
    CONNECTIONS,
    DELETE_BATCH,
    Login,
    S3Client,
    connect,
    is_aws,
)
from blobfs.stores.s3_lookup import FEW_KEYS, Lookups, endpoint_of
from blobfs.stores.trust import read_certificates
from blobfs.types import ByteRange, ListPage, ObjectInfo

if TYPE_CHECKING:
    from obstore.store import ClientConfig

T = TypeVar("T")

LONGEST_KEY_BYTES = 1024
PARALLEL = 64
CONNECTIONS_OF_A_LOOKUP = 2
"""It asks for the key and for what lies below it at the same time."""


@dataclass(slots=True)
class S3Store(Store):
    """One bucket. Made by `open_s3`."""

    url: str
    traits: StoreTraits
    hot: HotPath
    client: S3Client
    lookups: Lookups | None
    """None where listings can only go through the client."""
    bodies: Bodies | None
    """None where large parts of objects can only be had through obstore."""
    _threads: trio.CapacityLimiter = field(
        default_factory=lambda: trio.CapacityLimiter(CONNECTIONS)
    )

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        if span is not None and not span:
            raise ValueError(f"empty span. key={key!r}")
        self._check(key)
        if carries(key):
            return await self.hot.get(key, span=span, if_match=if_match)
        return await self._call(partial(self.client.get, key, span=span, if_match=if_match))

    async def get_into(
        self, key: str, inbox: Inbox, *, span: ByteRange, if_match: str | None
    ) -> Fetched:
        self._check(key)
        if self.bodies is not None and span:
            return await self.bodies.get_into(key, inbox, span=span, if_match=if_match)
        if carries(key) and span:
            return await self.hot.get_into(key, inbox, span=span, if_match=if_match)
        return await self.get(key, span=span, if_match=if_match)

    async def head(self, key: str) -> ObjectInfo:
        self._check(key)
        if self.lookups is not None:
            return await self.lookups.head(key)
        if carries(key):
            return await self.hot.head(key)
        return await self._call(partial(self.client.head, key))

    async def list(
        self,
        prefix: str = "",
        *,
        delimiter: bool = False,
        start_after: str = "",
        max_keys: int = MAX_PAGE_KEYS,
        token: str | None = None,
    ) -> ListPage:
        wanted: dict[str, Any] = {"delimiter": delimiter, "start_after": start_after}
        wanted |= {"max_keys": max_keys, "token": token}
        if self.lookups is not None and max_keys <= FEW_KEYS:
            page = await self.lookups.list(prefix, **wanted)
        else:
            page = await self._call(partial(self.client.list, prefix, **wanted))
        return _after(page, start_after)

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        self._check(key)
        if carries(key):
            return await self.hot.put(key, data, if_absent=if_absent, if_match=if_match)
        return await self._call(
            partial(self.client.put, key, data, if_absent=if_absent, if_match=if_match)
        )

    async def delete_many(self, keys: Iterable[str]) -> dict[str, BlobfsError]:
        failed: dict[str, BlobfsError] = {}
        for batch in _batches(keys):
            failed |= await self._call(partial(self.client.delete, batch))
        return failed

    async def delete_if_match(self, key: str, etag: str) -> None:
        self._check(key)
        await self._call(partial(self.client.delete_if_match, key, etag))

    async def aclose(self) -> None:
        if self.lookups is not None:
            self.lookups.connections.close()
        if self.bodies is not None:
            self.bodies.connections.close()
        await self._call(self.client.boto.close)

    async def _call(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)

    def _check(self, key: str) -> None:
        """Refuse a key that no S3 can hold.

        Raises:
            UsageError: it is empty, too long, or no text.
        """
        try:
            size_bytes = len(key.encode())
        except UnicodeEncodeError:
            size_bytes = 0
        if not 0 < size_bytes <= LONGEST_KEY_BYTES:
            raise UsageError(
                f"a key is 1 to {LONGEST_KEY_BYTES} bytes of UTF-8. store={self.url} key={key!r}"
            )


async def open_s3(
    bucket: str,
    *,
    profile: str | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    anonymous: bool = False,
    deadline_s: float = 30.0,
    env: Env | None = None,
) -> Store:
    """Find credentials, endpoint and region of `bucket`, and return its store.

    Options that are None are left to boto3: its environment variables and files.

    Raises:
        AccessDenied: no credentials could be found, or had.
        NotFound: there is no such bucket.
        UsageError: the profile does not exist, or the file of trusted certificates.
        Unreachable: nobody answered when asked for the bucket's region.
    """
    login = Login(profile, region, endpoint_url, anonymous, deadline_s)
    client = await trio.to_thread.run_sync(
        connect, bucket, login, env or Env(), abandon_on_cancel=True
    )
    store = store_of(client, deadline_s)
    if store.lookups is not None:
        await store.lookups.connections.warm_up(CONNECTIONS_OF_A_LOOKUP)
    return store


def store_of(client: S3Client, deadline_s: float) -> S3Store:
    """Return the store of the bucket that `client` is logged in to."""
    hot = HotPath(
        reader=_obstore(client, read_options(deadline_s, allow_http=client.is_plain)),
        writer=_obstore(client, write_options(deadline_s, allow_http=client.is_plain)),
        where=client.url,
        # Twice what is asked for at once: threads of abandoned calls end by their timeouts.
        read_threads=trio.CapacityLimiter(2 * PARALLEL),
        write_threads=trio.CapacityLimiter(2 * PARALLEL),
    )
    traits = StoreTraits(
        put_if_absent=True,
        put_if_match=True,
        delete_if_match=True,
        delete_batch=DELETE_BATCH,
        parallel=PARALLEL,
        sorted_listing=is_aws(client.endpoint_url),
    )
    endpoint = endpoint_of(client, deadline_s)
    if endpoint is None:
        return S3Store(client.url, traits, hot, client, None, None)
    lookups = Lookups(client, Connections(endpoint))
    bodies = bodies_of(client, endpoint, hot.read_threads)
    return S3Store(client.url, traits, hot, client, lookups, bodies)


def _obstore(client: S3Client, options: "ClientConfig") -> ObstoreS3:
    """Return an obstore client that takes nothing from the environment but what boto3 took."""
    if client.has_own_ca_file and not client.is_plain:
        options["root_certificate"] = read_certificates(client.ca_file)
    return ObstoreS3(
        client.bucket,
        endpoint=client.host_url,
        region=client.region,
        virtual_hosted_style_request=not client.path_style,
        skip_signature=client.credentials is None,
        credential_provider=client.credentials,
        client_options=options,
        retry_config=NO_RETRIES,
    )


def _after(page: ListPage, start_after: str) -> ListPage:
    """Leave out what does not come after `start_after`: servers differ on common prefixes."""
    if not start_after:
        return page
    return ListPage(
        tuple(found for found in page.objects if found.key > start_after),
        tuple(found for found in page.prefixes if found > start_after),
        page.next_token,
    )


def _batches(keys: Iterable[str]) -> Iterator[tuple[str, ...]]:
    remaining = iter(keys)
    while batch := tuple(islice(remaining, DELETE_BATCH)):
        yield batch
