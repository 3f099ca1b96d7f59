"""Find out what lies in a volume without following its log."""

from collections.abc import AsyncIterator, Callable

from blobfs.formats.keys import LOG, parse_log_key
from blobfs.stores.base import Store
from blobfs.types import ObjectInfo, Seq


async def list_all(store: Store, prefix: str) -> AsyncIterator[ObjectInfo]:
    """Yield all objects below a prefix, but for those that only say that there is a folder."""
    token: str | None = None
    while True:
        page = await store.list(prefix, token=token)
        for found in page.objects:
            if not found.key.endswith("/"):
                yield found
        if (token := page.next_token) is None:
            return


async def last_slot(store: Store, odd: Callable[[str], None] = lambda key: None) -> Seq:
    """Return the last slot of the log that is filled, 0 if none is.

    `odd` is told of keys that no slot has.
    """
    last = Seq(0)
    async for found in list_all(store, LOG):
        seq = parse_log_key(found.key)
        if seq is None:
            odd(found.key)
        else:
            last = max(last, seq)
    return last
