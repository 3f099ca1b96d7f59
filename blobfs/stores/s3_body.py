"""Get large parts of S3's objects, straight into the memory that they are meant for.

There is no way here through a proxy: who has one is served by obstore (`hot`).
"""

from dataclasses import dataclass
from functools import partial

import trio

from blobfs.stores.answers import Call, error_of_answer
from blobfs.stores.base import Fetched, Inbox
from blobfs.stores.hot import CHUNK_BYTES, checked, nothing_behind_the_end
from blobfs.stores.http import Endpoint
from blobfs.stores.http_body import BodyConnections, Download
from blobfs.stores.s3_client import S3Client
from blobfs.stores.s3_request import answer_of, part_of, wanted_part
from blobfs.types import ByteRange, ObjectInfo


@dataclass(frozen=True, slots=True)
class Bodies:
    """Ranged GETs of one bucket, each in a worker thread.

    Concurrency: a call that is given up hangs up, so that its thread ends at once.
    """

    client: S3Client
    connections: BodyConnections
    threads: trio.CapacityLimiter

    async def get_into(
        self, key: str, inbox: Inbox, *, span: ByteRange, if_match: str | None
    ) -> Fetched:
        """Do what `Store.get_into` does; `span` is not empty."""
        call = Call("get", self.client.url, key, "match" if if_match is not None else None)
        download = Download(self.connections, call, self.client.env.monotonic_s())
        work = partial(self._get, download, call, inbox, span, if_match)
        try:
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self.threads)
        except trio.Cancelled:
            download.give_up()
            raise

    def _get(
        self, download: Download, call: Call, inbox: Inbox, span: ByteRange, if_match: str | None
    ) -> Fetched:
        assert call.key is not None
        url = self.client.url_of(call.key)
        headers = self.client.headers("GET", url, self.client.frozen_credentials(call))
        with download.asked(url, headers | wanted_part(span, if_match)) as reply:
            if reply.status not in (200, 206, 416):
                raise error_of_answer(answer_of(reply), call)
            if reply.status != 416:
                info = part_of(reply, call, span)
                data = _poured(download, info, inbox, len(span.clamp(info.size_bytes)))
                return checked(Fetched(info, data), call, span, if_match)
        return nothing_behind_the_end(self.client.head(call.key), call, if_match)


def bodies_of(client: S3Client, endpoint: Endpoint, threads: trio.CapacityLimiter) -> Bodies:
    """Return the ranged GETs of the bucket that `client` is logged in to."""
    return Bodies(client, BodyConnections(endpoint), threads)


def _poured(download: Download, info: ObjectInfo, inbox: Inbox, length: int) -> memoryview:
    """Put a body into the inbox while it arrives; more than fits is an error like any other."""
    buffer = inbox.buffer[:length]
    for start in range(0, length, CHUNK_BYTES):
        stop = min(start + CHUNK_BYTES, length)
        download.fill(buffer[start:stop])
        inbox.arrived(info, stop)
    download.end()
    return buffer
