"""Find a checkpoint of a volume to begin from: the newest one that can be read.

A checkpoint counts only together with its log: where the slot of the entry that it was made after
lies above the floor, it has to hold that entry. One that is missing or damaged makes way for the
one before it, as long as the log still reaches down to that (L5: never a tree with less in it).
"""

import logging
from collections.abc import Container

from blobfs.errors import Damaged, NotFound, Unsupported
from blobfs.formats.checkpoint import Checkpoint, decode_checkpoint
from blobfs.formats.entry import decode_entry, entry_hash
from blobfs.formats.head import Head
from blobfs.formats.keys import (
    CHECKPOINTS,
    checkpoint_key,
    log_key,
    parse_checkpoint_name,
)
from blobfs.stores.base import Store
from blobfs.types import Seq
from blobfs.volume.head_change import find_head

log = logging.getLogger("blobfs.checkpoint")


async def find_checkpoint(
    store: Store, head: Head, refused: Container[str] = ()
) -> tuple[str, Checkpoint] | None:
    """Return the newest checkpoint, by name, that reading can begin from; None: there is none.

    Those whose names are `refused` are passed over.

    Raises:
        BlobfsError: the store failed us.
    """
    name = head.checkpoint
    while name is not None and (parse_checkpoint_name(name) or 0) >= head.floor:
        checkpoint = None
        try:
            checkpoint = await fetch_checkpoint(store, name)
            if name not in refused:
                if checkpoint.seq > head.floor:  # else its entry may be gone, and proves nothing
                    await _require_same_log(store, name, checkpoint)
                return name, checkpoint
        except (Damaged, Unsupported) as error:
            log.error("a checkpoint cannot be used: %s", error)
        name = checkpoint.previous if checkpoint is not None else await _name_before(store, name)
    return None


async def fetch_checkpoint(store: Store, name: str) -> Checkpoint:
    """Return the manifest of a checkpoint.

    Raises:
        Damaged: it is gone, or not the one that the name stands for.
        Unsupported: a newer version of blobfs wrote it.
        BlobfsError: the store failed us.
    """
    key = checkpoint_key(name)
    try:
        fetched = await store.get(key)
    except NotFound:
        raise Damaged(
            f"a checkpoint is gone. key={key!r} store={store.url}", hint="run `blobfs check`"
        ) from None
    return decode_checkpoint(fetched.data, name=name)


async def _require_same_log(store: Store, name: str, checkpoint: Checkpoint) -> None:
    """Make sure that the checkpoint is of the log that lies beside it.

    Raises:
        Damaged: it is of another one.
    """
    key = log_key(checkpoint.seq)
    try:
        data = bytes((await store.get(key)).data)
    except NotFound:
        return  # it was cut off
    if entry_hash(data) == checkpoint.chain:
        return
    try:
        decode_entry(data, key=key)
    except Damaged as error:
        log.error("an entry of the log is damaged, which a checkpoint makes up for: %s", error)
        return
    if (await find_head(store)).head.floor >= checkpoint.seq:
        return  # it was cut off, and filled again by a put that came too late to count (L4)
    raise Damaged(
        f"a checkpoint was made after another entry than lies in the log. "
        f"key={checkpoint_key(name)!r} slot={key!r} store={store.url}",
        hint="the bucket was put together from copies: run `blobfs check`",
    )


async def _name_before(store: Store, name: str) -> str | None:
    """Return the name of the newest checkpoint that is older than `name`, by what lies there."""
    newest: str | None = None
    made_at = parse_checkpoint_name(name) or Seq(0)
    token: str | None = None
    while True:
        page = await store.list(CHECKPOINTS, token=token)
        for found in page.objects:
            other = found.key.removeprefix(CHECKPOINTS)
            seq = parse_checkpoint_name(other)
            if seq is not None and seq < made_at and other > (newest or ""):
                newest = other
        if (token := page.next_token) is None:
            return newest
