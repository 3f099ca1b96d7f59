"""Tell which machines write to a volume, by what each of them says of itself."""

from dataclasses import dataclass, replace
from pathlib import Path

import trio

from blobfs.errors import BlobfsError, NotFound
from blobfs.formats.client import ClientRecord, decode_client
from blobfs.formats.keys import CLIENTS, parse_client_key
from blobfs.stores.base import Store
from blobfs.sync.slots import list_all
from blobfs.types import ObjectInfo
from blobfs.volume.client import bound_client
from blobfs.volume.presence import look

AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class KnownClient:
    """A client of a volume."""

    id: str
    """In hex."""
    heard_ns: int
    """When its record was written last, on the store's clock."""
    record: ClientRecord | None
    problem: str | None
    """Why its record cannot be read."""
    is_this: bool = False
    """Whether it is the one of the state folder that was asked for."""


async def read_clients(store: Store, state_dir: Path) -> list[KnownClient]:
    """Return all clients that ever saved anything, those heard of last first.

    `state_dir` is what this machine keeps of the volume, whether it is there or not.

    Raises:
        NotFound: there is no volume.
        BlobfsError: the store failed us.
    """
    if await look(store) is None:
        raise NotFound(f"there is no volume. store={store.url}", hint="`blobfs init` makes one")
    found: list[KnownClient] = []
    limit = trio.CapacityLimiter(AT_ONCE)

    async def read(info: ObjectInfo) -> None:
        async with limit:
            if (client := await _read(store, info)) is not None:
                found.append(client)

    async with trio.open_nursery() as nursery:
        async for info in list_all(store, CLIENTS):
            if parse_client_key(info.key) is not None:
                nursery.start_soon(read, info)
    own = await bound_client(state_dir)
    found = [replace(each, is_this=own is not None and each.id == own.hex()) for each in found]
    return sorted(found, key=lambda client: (-client.heard_ns, client.id))


async def _read(store: Store, info: ObjectInfo) -> KnownClient | None:
    """Return what a client says of itself; None where it is gone by now."""
    client = parse_client_key(info.key)
    assert client is not None
    try:
        data = bytes((await store.get(info.key)).data)
    except NotFound:
        return None
    try:
        return KnownClient(client.hex(), info.mtime_ns, decode_client(data, key=info.key), None)
    except BlobfsError as error:
        return KnownClient(client.hex(), info.mtime_ns, None, str(error))
