"""Find out whether a bucket holds a volume, before anything of it is shown."""

import hashlib
from dataclasses import dataclass

from blobfs.errors import Damaged, NotFound
from blobfs.formats.head import Head, decode_head
from blobfs.formats.keys import CHECKPOINTS, LOG, RESERVED, head_key, volume_key
from blobfs.formats.volume import VolumeInfo, decode_volume
from blobfs.model.chain import Position
from blobfs.stores.base import Store
from blobfs.types import Seq


@dataclass(frozen=True, slots=True)
class Volume:
    """What makes a bucket a volume."""

    info: VolumeInfo
    data: bytes
    """The exact bytes of the object `volume`, which never change."""
    head: Head | None
    """None: whoever created the volume was killed before it was done."""

    @property
    def origin(self) -> Position:
        """The place in the log before its first entry."""
        return Position(Seq(0), hashlib.sha256(self.data).digest())


async def look(store: Store) -> Volume | None:
    """Return the volume that the bucket holds, None if it never held one. Two requests.

    Lost marks are not emptiness (L5): a volume whose description or head is gone is never
    shown as a bucket without one, for then deleted files would come back, written ones be gone,
    and a new log be begun on top of the old one.

    Raises:
        Damaged: something of a volume is there, and something that belongs to it is not.
        Unsupported: a newer version of blobfs made it.
        AccessDenied: that may not be asked; 403 is never 404.
    """
    data = await _find(store, volume_key(), without=(RESERVED,))
    if data is None:
        return None
    info = decode_volume(data, key=volume_key())
    head = await _find(store, head_key(), without=(LOG, CHECKPOINTS))
    return Volume(info, data, None if head is None else decode_head(head, key=head_key()))


async def _find(store: Store, key: str, *, without: tuple[str, ...]) -> bytes | None:
    """Return the object, None where it is absent and so is all below the folders `without`.

    Raises:
        Damaged: it is absent, and something below them is not.
    """
    data = await _get(store, key)
    if data is not None or not (left := await _first_below(store, without)):
        return data
    # Somebody who was just creating the volume may have been between the two looks.
    data = await _get(store, key)
    if data is None:
        raise Damaged(
            f"a volume has lost one of its marks. lost={key!r} left={left!r} store={store.url}",
            hint="nothing was changed; bring back what was removed, from versions or a copy",
        )
    return data


async def _get(store: Store, key: str) -> bytes | None:
    try:
        return bytes((await store.get(key)).data)
    except NotFound:
        return None


async def _first_below(store: Store, folders: tuple[str, ...]) -> str | None:
    """Return the key of an object below one of the folders; an empty folder is no object here."""
    for folder in folders:
        token: str | None = None
        while True:
            page = await store.list(folder, start_after=folder, max_keys=1, token=token)
            if page.objects:
                return page.objects[0].key
            if (token := page.next_token) is None:
                break
    return None
