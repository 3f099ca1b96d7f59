"""Tell what was committed to a volume: when, by whom, how much."""

import msgspec
import trio

from blobfs.env import Env
from blobfs.errors import Damaged, NotFound
from blobfs.formats.client import decode_client
from blobfs.formats.commit import DropDirent, Entry, PutDirent, SetContent
from blobfs.formats.entry import decode_entry
from blobfs.formats.keys import client_key, log_key
from blobfs.model.chain import Position
from blobfs.stores.base import Store
from blobfs.sync.slots import last_slot
from blobfs.types import ClientId, Seq
from blobfs.volume.log import MOST_ENTRIES_AT_ONCE, Log
from blobfs.volume.presence import look


class Commit(msgspec.Struct, frozen=True):
    """One commit, in numbers."""

    seq: int
    time_ns: int
    """When, by its author's clock; since the epoch."""
    client: str
    """Its author's id, in hex."""
    host: str | None
    """Name of the author's machine; None: it left no record of itself."""
    files: int
    """Whose content it set."""
    names_put: int
    names_dropped: int
    stored_bytes: int
    """Of the packs that it brought."""


async def read_history(store: Store, env: Env, *, limit: int) -> list[Commit]:
    """Return the last `limit` commits, the newest first.

    Raises:
        NotFound: there is no volume.
        Damaged: one of them, or its place in the chain, is not right.
        Unsupported: a newer version of blobfs wrote one.
    """
    if await look(store) is None:
        raise NotFound(f"there is no volume. store={store.url}", hint="`blobfs init` makes one")
    tip = await last_slot(store)
    entries = await _entries(store, env, Seq(max(1, tip - limit + 1)), tip)
    hosts = await _hosts(store, {entry.client for entry in entries})
    return [_commit(entry, hosts[entry.client]) for entry in reversed(entries)]


async def _entries(store: Store, env: Env, first: Seq, last: Seq) -> list[Entry]:
    """Return the entries from `first` to `last`, in order."""
    if last < first:
        return []
    log = Log(store, env)
    position = await _before(store, first)
    entries: list[Entry] = []
    while position.seq < last:
        tail = await log.newer(position, at_most=min(last - position.seq, MOST_ENTRIES_AT_ONCE))
        if not tail.landed:
            raise _missing(Seq(position.seq + 1))
        entries += [each.entry for each in tail.landed]
        position = tail.landed[-1].position
    return entries


async def _before(store: Store, seq: Seq) -> Position:
    """Return the place in the log before slot `seq`, as its entry says that it is."""
    key = log_key(seq)
    try:
        data = bytes((await store.get(key)).data)
    except NotFound:
        raise _missing(seq) from None
    return Position(Seq(seq - 1), decode_entry(data, key=key).previous)


def _missing(seq: Seq) -> Damaged:
    return Damaged(
        f"a commit is missing. key={log_key(seq)!r}", hint="`blobfs check` tells what is affected"
    )


async def _hosts(store: Store, clients: set[ClientId]) -> dict[ClientId, str | None]:
    hosts: dict[ClientId, str | None] = {}

    async def ask(client: ClientId) -> None:
        key = client_key(client)
        try:
            hosts[client] = decode_client(bytes((await store.get(key)).data), key=key).host
        except (NotFound, Damaged):
            hosts[client] = None

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(ask, client)
    return hosts


def _commit(entry: Entry, host: str | None) -> Commit:
    operations = entry.operations
    return Commit(
        seq=entry.seq,
        time_ns=entry.time_ns,
        client=entry.client.hex(),
        host=host,
        files=sum(isinstance(each, SetContent) for each in operations),
        names_put=sum(isinstance(each, PutDirent) for each in operations),
        names_dropped=sum(isinstance(each, DropDirent) for each in operations),
        stored_bytes=entry.stored_bytes,
    )
