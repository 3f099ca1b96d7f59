"""Find out whether a bucket holds a volume, before anything of it is shown."""

from blobfs.errors import NotFound, Unsupported
from blobfs.stores.base import Store

VOLUME_KEY = ".blobfs/volume"
"""The immutable object that makes a prefix a volume (volume format)."""


async def refuse_volume(store: Store) -> None:
    """Make sure that there are native objects only.

    Who showed nothing but those of a bucket that is a volume would show deleted files, and
    hide written ones. It costs one HEAD, which warms up the connection for what follows.

    Raises:
        Unsupported: there is a volume.
        AccessDenied: that may not be asked; 403 is never 404 (volume format, L5).
    """
    try:
        await store.head(VOLUME_KEY)
    except NotFound:
        return
    raise Unsupported(
        f"there is a blobfs volume, which this version cannot show. key={VOLUME_KEY!r} "
        f"store={store.url}",
        hint="mount it with a newer version of blobfs",
    )
