"""Show and change the settings of a volume, mounted or not.

They lie in `head`, which several clients rewrite, so they are changed where a store keeps those
apart; elsewhere by the one writer, while nothing of its own writes (L8).
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from blobfs.cache.lock import hold_folder
from blobfs.errors import InUse, NotFound
from blobfs.formats.head import Head, VolumeSettings
from blobfs.stores.base import Store
from blobfs.types import ClientId
from blobfs.volume.client import bound_client
from blobfs.volume.creation import Access, complete, require_writable
from blobfs.volume.head_change import change_head, prove_if_match
from blobfs.volume.presence import Volume, look

_NOBODY = ClientId(bytes(16))
"""Stands for a client that never wrote to the volume: owner of none."""


async def volume_settings(store: Store) -> VolumeSettings:
    """Return the settings of the volume.

    Raises:
        NotFound: there is no volume.
        BlobfsError: it cannot be read.
    """
    head = (await _volume(store)).head
    return VolumeSettings() if head is None else head.settings


async def change_settings(
    store: Store, state_dir: Path, fields: Mapping[str, int | None], *, is_mounted: bool
) -> VolumeSettings:
    """Set fields of `VolumeSettings`, leave the others; return all as they are then.

    `state_dir` is what this machine keeps of the volume, whose client it is if it has one;
    `is_mounted` tells whether a daemon holds it.

    Raises:
        NotFound: there is no volume.
        ReadOnly: the credentials are for reading.
        InUse: the volume has one writer, who is another, or who has it mounted.
        Unsupported: the store keeps no writers apart, and nobody is the one writer.
        BlobfsError: it cannot be changed.
    """
    volume = await _volume(store)
    owner = None if volume.head is None else volume.head.owner
    me = await bound_client(state_dir) or _NOBODY
    access = await require_writable(store, volume, me, single_writer=owner is not None)
    await complete(store, volume)

    def change(head: Head) -> Head:
        return replace(head, settings=replace(head.settings, **fields))

    if access is Access.SHARED:
        await prove_if_match(store)
        return (await change_head(store, change, me=me)).settings
    with _nobody_else(store, state_dir, is_mounted=is_mounted):
        return (await change_head(store, change, me=me)).settings


def _nobody_else(
    store: Store, state_dir: Path, *, is_mounted: bool
) -> contextlib.AbstractContextManager[object]:
    """Keep the daemon of the one writer from writing `head` at the same time.

    Raises:
        InUse: it is there.
    """
    if is_mounted:
        raise InUse(
            f"the store keeps no writers apart, and the volume is mounted. store={store.url}",
            hint="unmount it, change its settings, and mount it again",
        )
    return hold_folder(state_dir)


async def _volume(store: Store) -> Volume:
    volume = await look(store)
    if volume is None:
        raise NotFound(
            f"there is no volume. store={store.url}",
            hint="`blobfs init` makes one, and so does the first file that is saved",
        )
    return volume
