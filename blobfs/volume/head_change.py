"""Change `head` in such a way that nobody's change of it is lost.

It is the one object of a volume that several clients rewrite, each its own part of it: so each
writes it over the version that it read, and everything else in it as it was.

Concurrency: any number of clients, and of tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass

from blobfs.errors import Changed, Damaged, InUse, NotFound, OutcomeUnknown, Unsupported
from blobfs.formats.head import Head, decode_head, encode_head
from blobfs.formats.keys import head_key
from blobfs.stores.base import Store
from blobfs.types import ClientId

MOST_PUTS = 8

Change = Callable[[Head], Head]


@dataclass(frozen=True, slots=True)
class FoundHead:
    """`head` as it lies there."""

    head: Head
    data: bytes
    etag: str


async def find_head(store: Store) -> FoundHead:
    """Return `head` as it is now.

    Raises:
        Damaged: it is gone, which is not how a log begins (L5), or is not right.
        Unsupported: a newer version of blobfs wrote it.
    """
    key = head_key()
    try:
        fetched = await store.get(key)
    except NotFound:
        raise Damaged(
            f"the volume has lost its head. key={key!r} store={store.url}",
            hint="nothing was changed; bring back what was removed below .blobfs/",
        ) from None
    data = bytes(fetched.data)
    return FoundHead(decode_head(data, key=key), data, fetched.info.etag)


async def change_head(store: Store, change: Change, *, me: ClientId | None = None) -> Head:
    """Let `head` be what `change` makes of it; return it as it is then.

    `change` is asked again where others changed it meanwhile, or where an answer was lost; what
    changes nothing any more is done. Whether the store heeds If-Match was proven before
    (`prove_if_match`, or the announcement of a client), unless `head` names `me` as the one
    writer: then nobody else writes it (L8).

    Raises:
        InUse: it names another client as the one writer.
        Damaged: it is gone, or is not right.
        Changed: others changed it each time.
        OutcomeUnknown: the store did not say, each time, what became of it.
        BlobfsError: it cannot be written.
    """
    for _ in range(MOST_PUTS):
        found = await find_head(store)
        if found.head.owner not in (None, me):
            raise InUse(
                f"the volume belongs to one writer, who is another. store={store.url}",
                hint="change it from where the volume is written",
            )
        wanted = change(found.head)
        if wanted == found.head:
            return wanted
        try:
            await _put(store, wanted, found)
        except (Changed, OutcomeUnknown) as error:
            last = error
            continue
        return wanted
    raise last


async def prove_if_match(store: Store) -> None:
    """Make sure that a put over another version of `head` than the one that is there is refused.

    What is put is what lies there, so that a store which takes it all the same has lost nothing.

    Raises:
        Unsupported: the store does not do what If-Match asks for (L8).
        BlobfsError: it cannot be asked.
    """
    for _ in range(MOST_PUTS):
        found = await find_head(store)
        try:
            await store.put(head_key(), found.data, if_match=_another(found.etag))
        except Changed:
            return
        except OutcomeUnknown as error:
            last = error
            continue
        raise Unsupported(
            f"the store overwrites an object whatever version was asked for. store={store.url}",
            hint="mount it with --read-only, or with --single-writer if nobody else ever writes",
        )
    raise last


async def _put(store: Store, wanted: Head, found: FoundHead) -> None:
    try:
        await store.put(head_key(), encode_head(wanted), if_match=found.etag)
    except Unsupported:
        if found.head.owner is None:
            raise
        await store.put(head_key(), encode_head(wanted))  # a store without conditions (L8)


def _another(etag: str) -> str:
    """Return a version that looks like `etag`, and is another."""
    return etag[:-1] + ("1" if etag.endswith("0") else "0")
