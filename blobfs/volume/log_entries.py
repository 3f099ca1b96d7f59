"""Turn what lies in a slot of the log into an entry with all its operations (L7)."""

from functools import partial

import trio
from msgspec.structs import replace

from blobfs.errors import Damaged, NotFound
from blobfs.formats.blocks import decode_operation_block, decode_pack_block
from blobfs.formats.chunk import Buffer, decode_frame
from blobfs.formats.commit import Entry, Operation, UsedPack
from blobfs.formats.entry import decode_entry, entry_hash
from blobfs.formats.keys import log_key, pack_key
from blobfs.formats.rows import Extent
from blobfs.model.chain import Landed
from blobfs.stores.base import Store
from blobfs.types import KIB, ByteRange, Seq

DECODED_IN_PLACE_BYTES = 8 * KIB
"""A longer entry takes a thread: its thousands of operations would hold up the event loop."""


async def open_entry(store: Store, seq: Seq, data: bytes) -> Landed:
    """Return the entry whose bytes lie in slot `seq`; lists that lie in chunks are fetched.

    Raises:
        Damaged: the entry, or a pack with its operations, is not right.
        Unsupported: a newer version of blobfs wrote it.
    """
    key = log_key(seq)
    decode = partial(decode_entry, data, key=key)
    is_short = len(data) <= DECODED_IN_PLACE_BYTES
    entry = decode() if is_short else await trio.to_thread.run_sync(decode)
    if entry.operation_parts or entry.pack_parts:
        entry = await _gather(store, entry, key)
    return Landed(entry, entry_hash(data))


async def fetch_chunk(store: Store, extent: Extent) -> Buffer:
    """Return the plain bytes of a chunk, verified, straight from its pack.

    Raises:
        Damaged: the pack is gone, or its bytes are not right.
    """
    key = pack_key(extent.pack)
    span = ByteRange(extent.offset, extent.offset + extent.stored_bytes)
    try:
        fetched = await store.get(key, span=span)
    except NotFound:
        raise Damaged(
            f"a pack that the log needs is gone. key={key!r}", hint="run `blobfs check`"
        ) from None
    return decode_frame(fetched.data, chunk=extent.chunk, length_bytes=extent.length_bytes)


async def _gather(store: Store, entry: Entry, key: str) -> Entry:
    packs: list[UsedPack] = list(entry.packs)
    for part in entry.pack_parts:
        packs += decode_pack_block(await fetch_chunk(store, part), key=key)
    names = [pack.name for pack in packs]
    operations: list[Operation] = []
    for part in entry.operation_parts:
        data = await fetch_chunk(store, part)
        decode = partial(decode_operation_block, data, packs=names, key=key)
        operations += await trio.to_thread.run_sync(decode)
    return replace(
        entry,
        operations=tuple(operations),
        packs=tuple(packs),
        operation_parts=(),
        pack_parts=(),
    )
