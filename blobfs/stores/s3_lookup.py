"""Ask S3 for one key and for the first keys below a prefix, from the event loop.

Each level of a cold path waits for both questions. Two threads, and a library's way through
each, would add 2 ms to them (2 cores, Python 3.11). There is no way here through a proxy: who
has one is served by obstore and `s3_client`.
"""

import math
from dataclasses import dataclass
from functools import partial

import trio

from blobfs.stores.answers import Call
from blobfs.stores.hot import CONNECT_TIMEOUT_S
from blobfs.stores.http import Connections, Endpoint, Reply
from blobfs.stores.s3_client import CREDENTIALS_TTL_S, S3Client
from blobfs.stores.s3_request import Method, encoded, info_of, listing_query, page_of
from blobfs.stores.s3_sign import FrozenCredentials
from blobfs.stores.trust import tls_context
from blobfs.types import ListPage, ObjectInfo

FEW_KEYS = 32
"""A page of so many keys is read in 0.15 ms, which holds nobody up."""


@dataclass(slots=True)
class Lookups:
    """Heads and short listings of one bucket.

    Concurrency: credentials are had in a thread, because they may have to be renewed first,
    and then used for a minute; several tasks may do that at once, which does no harm.
    """

    client: S3Client
    connections: Connections
    _frozen: FrozenCredentials | None = None
    _frozen_until_s: float = -math.inf

    async def head(self, key: str) -> ObjectInfo:
        """Return what `Store.head` does."""
        call = Call("head", self.client.url, key)
        return info_of(await self._ask("HEAD", self.client.url_of(key), call), call, key)

    async def list(
        self,
        prefix: str,
        *,
        delimiter: bool,
        start_after: str,
        max_keys: int,
        token: str | None,
    ) -> ListPage:
        """Return one page, as `Store.list` does."""
        call = Call("list", self.client.url, prefix or None)
        query = listing_query(
            prefix, delimiter=delimiter, start_after=start_after, max_keys=max_keys, token=token
        )
        reply = await self._ask("GET", f"{self.client.bucket_url}?{encoded(query)}", call)
        return page_of(reply, call, prefix)

    async def _ask(self, method: Method, url: str, call: Call) -> Reply:
        headers = self.client.headers(method, url, await self._credentials(call))
        return await self.connections.ask(method, url, headers, call)

    async def _credentials(self, call: Call) -> FrozenCredentials | None:
        now_s = self.client.env.monotonic_s()
        if now_s >= self._frozen_until_s:
            self._frozen = await trio.to_thread.run_sync(
                partial(self.client.frozen_credentials, call), abandon_on_cancel=True
            )
            self._frozen_until_s = now_s + CREDENTIALS_TTL_S
        return self._frozen


def endpoint_of(client: S3Client, deadline_s: float) -> Endpoint | None:
    """Return where to reach the bucket that `client` is logged in to; None behind a proxy.

    Raises:
        UsageError: the file of trusted certificates cannot be used.
    """
    if client.has_proxy:
        return None
    return Endpoint(
        client.host_url,
        tls=None if client.is_plain else tls_context(client.ca_file),
        connect_within_s=min(CONNECT_TIMEOUT_S, deadline_s),
        answer_within_s=max(deadline_s / 3, 1.0),
    )
