"""Make a bucket a volume, and find out whether this client may write to one.

Everything the log promises rests on puts that have one winner, so they are proven before they
are relied on (L8).
"""

import enum
import logging

from msgspec.structs import replace

from blobfs.errors import (
    AccessDenied,
    AlreadyExists,
    BlobfsError,
    InUse,
    NotFound,
    OutcomeUnknown,
    ReadOnly,
    Unsupported,
    UsageError,
)
from blobfs.formats.head import Head, encode_head
from blobfs.formats.keys import head_key, volume_key
from blobfs.formats.volume import VolumeInfo, encode_volume
from blobfs.stores.base import Store
from blobfs.types import ClientId
from blobfs.volume.presence import Volume, look

log = logging.getLogger("blobfs.volume")

MOST_PUTS = 5

PAGES_LOOKED_THROUGH = 100
"""Pages of keys that a new volume looks through for one below it: 100,000 keys."""


class Access(enum.Enum):
    """In which way a volume may be written to."""

    SHARED = "with others"
    """Every slot of the log has exactly one winner."""
    ALONE = "alone"
    """The store does not keep writers apart: only the owner that `head` names may write."""
    NONE = "not at all"
    """The credentials are for reading."""


async def create(store: Store, info: VolumeInfo) -> Volume:
    """Make the bucket a volume, or return the one that somebody else made of it meanwhile.

    Whoever is killed on the way leaves a volume that the next call completes.

    Raises:
        AccessDenied: nothing may be written here.
        Damaged: there are the remains of a volume (L5).
        OutcomeUnknown: the store did not say, for several times, what became of it.
    """
    if await look(store) is None:
        await _put_once(store, volume_key(), encode_volume(info))
    volume = await look(store)
    if volume is None:
        raise OutcomeUnknown(
            f"the volume that was created is not there. store={store.url}", hint="try again"
        )
    return await complete(store, volume)


async def complete(store: Store, volume: Volume) -> Volume:
    """Return the volume with the `head` that it needs before the first commit.

    Raises:
        BlobfsError: it cannot be written.
    """
    if volume.head is not None:
        return volume
    await _put_once(store, head_key(), encode_head(Head()))
    completed = await look(store)
    if completed is None or completed.data != volume.data or completed.head is None:
        raise OutcomeUnknown(f"the volume changed meanwhile. store={store.url}", hint="try again")
    return completed


async def find_access(store: Store, volume: Volume) -> Access:
    """Find out how the volume may be written to, by putting it once more (L8).

    Raises:
        OutcomeUnknown: the store did not say, for several times.
        Unreachable: it cannot be asked.
    """
    for _ in range(MOST_PUTS):
        try:
            await store.put(volume_key(), volume.data, if_absent=True)
        except AlreadyExists:
            return Access.SHARED
        except (AccessDenied, ReadOnly):
            return Access.NONE
        except Unsupported:
            return Access.ALONE
        except OutcomeUnknown as error:
            unknown = error
            continue
        return Access.ALONE
    raise unknown


async def require_writable(
    store: Store, volume: Volume, me: ClientId, *, single_writer: bool
) -> Access:
    """Return how `me` may write to the volume: SHARED or ALONE.

    With `single_writer`, a store that keeps no writers apart is written to by the one client
    that `head` names, which `me` becomes if there is none yet. Where `head` names another, nobody
    else writes, whatever the store can do.

    Raises:
        ReadOnly: the credentials are for reading.
        Unsupported: the store keeps no writers apart.
        InUse: the volume belongs to another client.
    """
    access = await find_access(store, volume)
    if access is Access.NONE:
        raise ReadOnly(
            f"these credentials may not write to the volume. store={store.url}",
            hint="mount it with --read-only, or use credentials that may put objects",
        )
    if access is Access.ALONE and not single_writer:
        raise Unsupported(
            f"the store does not refuse to overwrite an object, so two clients would destroy "
            f"each other's commits. store={store.url}",
            hint="mount it with --read-only, or with --single-writer if nobody else ever writes",
        )
    owner = volume.head.owner if volume.head is not None else None
    if owner not in (None, me):
        raise InUse(
            f"the volume belongs to one writer, who is another. owner={owner.hex()}",
            hint="mount it with --read-only, or write from where it was created",
        )
    if access is Access.ALONE and owner is None:
        await _claim(store, volume, me)
    return access


async def refuse_nested(store: Store, outer: Store, prefix: str) -> None:
    """Make sure that no volume lies above or below (N7).

    `outer` shows what `store` shows at its `prefix`, which ends with `/` or is empty. What lies
    below is looked for in the first `PAGES_LOOKED_THROUGH` pages of keys.

    Raises:
        UsageError: one does.
    """
    for key in volumes_above(prefix):
        if await _exists(outer, key):
            raise _nested(f"above. key={key!r} store={outer.url}")
    token: str | None = None
    for _ in range(PAGES_LOOKED_THROUGH):
        page = await store.list(token=token)
        for found in page.objects:
            if found.key.endswith("/" + volume_key()):
                raise _nested(f"below. key={found.key!r} store={store.url}")
        token = page.next_token
        if token is None:
            return
    log.warning("not all keys were searched for volumes below the new one. store=%s", store.url)


def volumes_above(prefix: str) -> list[str]:
    """Return the keys under which volumes above `prefix` would lie, the nearest first."""
    folders = prefix.removesuffix("/").split("/")[:-1] if prefix else None
    if folders is None:
        return []
    above = ["".join(f"{name}/" for name in folders[:depth]) for depth in range(len(folders) + 1)]
    return [folder + volume_key() for folder in reversed(above)]


async def _put_once(store: Store, key: str, data: bytes) -> None:
    """Put an object unless there is one, whoever made it; look again when it is not known."""
    for _ in range(MOST_PUTS):
        try:
            await store.put(key, data, if_absent=True)
        except AlreadyExists:
            return
        except Unsupported:
            await store.put(key, data)  # a store without conditions; `find_access` judges it
            return
        except OutcomeUnknown as error:
            if await _exists(store, key):
                return
            unknown: BlobfsError = error
            continue
        return
    raise unknown


async def _claim(store: Store, volume: Volume, me: ClientId) -> None:
    """Put `me` into `head` as the one writer (L8). The store cannot make this exclusive."""
    owned = replace(volume.head or Head(), owner=me)
    await store.put(head_key(), encode_head(owned))


async def _exists(store: Store, key: str) -> bool:
    try:
        await store.head(key)
    except NotFound:
        return False
    return True


def _nested(where: str) -> UsageError:
    return UsageError(
        f"there is a volume {where}", hint="mount that one, or choose another prefix or folder"
    )
