"""Announce this client to the others, under `clients/<id>`, which it alone writes.

There others see what it still needs, so that nothing of it is removed before the lease is over.
If-Match is proven on it before anything relies on it (L8), and a second writer of it shows that a
state folder was copied (L6).

Concurrency: one task at a time announces.
"""

from blobfs.errors import AlreadyExists, BlobfsError, Changed, NotFound, OutcomeUnknown, Unsupported
from blobfs.formats.client import ClientRecord, encode_client
from blobfs.formats.keys import client_key
from blobfs.stores.base import Store
from blobfs.types import Seq

MOST_PUTS = 5


class Copied(Changed):
    """Somebody else writes under this client's id: one of two state folders is a copy (L6)."""

    hint = "unmount and mount again: the copy goes on as another client, with all that is unsaved"


def copied_at(seq: Seq) -> Copied:
    """Return what to raise for a commit under this client's id that is not its own."""
    return Copied(
        f"somebody else commits under this client's id: one of two state folders is a copy, "
        f"which the next mount makes a client of its own. seq={seq}"
    )


class Registration:
    """The record of one client in one volume, during one run of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._etag: str | None = None
        self._data = b""
        self._is_proven = False

    async def announce(self, record: ClientRecord) -> None:
        """Write the record, over the one that this client wrote before.

        The first change of a run is followed by a put that has to be refused (L8).

        Raises:
            Copied: it is not the one that this client wrote last.
            Unsupported: the store does not do what If-Match asks for.
            OutcomeUnknown: it did not say, for several times, what became of it.
        """
        key, data = client_key(record.id), encode_client(record)
        if self._etag is None:
            await self._find(key)
        if self._etag is None:
            await self._put(key, encode_client(ClientRecord(id=record.id, host=record.host)))
        stale, before = self._etag, self._data
        if data == before:
            return
        await self._put(key, data)
        if not self._is_proven:
            await self._prove(key, before, stale)

    async def _find(self, key: str) -> None:
        """Take up the record as it lies there: of an earlier run, or with an answer lost."""
        try:
            fetched = await self._store.get(key)
        except NotFound:
            return
        self._etag, self._data = fetched.info.etag, bytes(fetched.data)

    async def _put(self, key: str, data: bytes) -> None:
        """Write `data` over the record that is known, or where none is, and know it then."""
        unknown: BlobfsError | None = None
        for _ in range(MOST_PUTS):
            etag = self._etag
            try:
                self._etag = await self._store.put(key, data, if_absent=etag is None, if_match=etag)
            except (AlreadyExists, Changed, OutcomeUnknown) as error:
                if await self._recognise(key, data):
                    return
                unknown = error
                continue
            self._data = data
            return
        assert unknown is not None
        raise unknown

    async def _recognise(self, key: str, data: bytes) -> bool:
        """Return whether the record is `data` by now, the answer being lost, or as it was.

        Raises:
            Copied: it is neither.
        """
        before = self._data
        await self._find(key)
        if self._data not in (data, before):
            raise Copied(
                f"somebody else writes under this client's id: one of two state folders is a copy. "
                f"key={key!r}"
            )
        return self._data == data

    async def _prove(self, key: str, before: bytes, stale: str | None) -> None:
        """Make sure that a put over a version that is gone is refused (L8)."""
        try:
            await self._store.put(key, before, if_match=stale)
        except Changed:
            self._is_proven = True
            return
        raise Unsupported(
            f"the store overwrites an object whatever version was asked for. "
            f"store={self._store.url}",
            hint="mount it with --read-only, or with --single-writer if nobody else ever writes",
        )
