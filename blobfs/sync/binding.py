"""Find out which volume a mount shows, and make one where there is none when the first write comes.

A bucket without a volume is not touched before something is saved, so what makes it one, a
random id among others, waits on the local disk until then: unsaved changes already count on it.

Concurrency: one task at a time creates.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from blobfs.env import Env
from blobfs.errors import Changed, Damaged, InUse, LocalFault, ReadOnly, Unsupported
from blobfs.folders import replace_file
from blobfs.formats.keys import volume_key
from blobfs.formats.volume import VolumeInfo, decode_volume, encode_volume
from blobfs.stores.base import Store
from blobfs.types import ClientId
from blobfs.volume.client import bound_volume, set_aside
from blobfs.volume.creation import complete, create, refuse_nested, require_writable
from blobfs.volume.presence import Volume, look

PLANNED = "planned-volume.json"
TREE = "tree.lmdb"
JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A store, and what lies around it: `outer` shows at `prefix` what `store` shows."""

    store: Store
    outer: Store
    prefix: str


def new_volume(env: Env) -> VolumeInfo:
    """Return what a new volume is, with the defaults."""
    identity = bytes(int(env.chance() * 256) for _ in range(16))
    return VolumeInfo(id=identity, created_ns=env.now_ns())


async def find_volume(store: Store, state_dir: Path, env: Env) -> tuple[Volume, bool]:
    """Return the volume that the bucket holds, or the one it would become; and whether it is one.

    Raises:
        Changed: the bucket holds another volume than the one whose changes are unsaved here.
        Damaged: the volume that this state belongs to is gone, or parts of it are (L5).
        Unsupported: a newer version of blobfs made it.
    """
    found = await look(store)
    planned = await _load_plan(state_dir)
    bound = await bound_volume(state_dir)
    if found is not None:
        if bound not in (None, found.info.id):
            was_only_planned = planned is not None and planned.info.id == bound
            await leave_other_volume(state_dir, keep_journal=was_only_planned)
        elif planned is not None:
            await forget_plan(state_dir)
        return found, True
    if bound is not None and (planned is None or planned.info.id != bound):
        raise Damaged(
            f"the volume that this state belongs to is gone. volume={bound.hex()} "
            f"store={store.url}",
            hint="nothing was changed; bring back .blobfs/, or choose another --state-dir",
        )
    if planned is None:
        planned = Volume(info := new_volume(env), encode_volume(info), None)
    return planned, False


async def keep_plan(volume: Volume, state_dir: Path) -> None:
    """Write down the volume that is to be created, before anything unsaved counts on it.

    Raises:
        LocalFault: it cannot be written.
    """
    await trio.to_thread.run_sync(_write, state_dir / PLANNED, volume.data)


async def forget_plan(state_dir: Path) -> None:
    """Forget it: it was created. From now on a bucket without it has lost it.

    Raises:
        LocalFault: it cannot be removed.
    """
    path = state_dir / PLANNED
    try:
        await trio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
    except OSError as error:
        raise LocalFault(f"cannot remove: {error.strerror}. path={str(path)!r}") from error


async def create_planned(
    bucket: Bucket, volume: Volume, state_dir: Path, me: ClientId, *, single_writer: bool
) -> None:
    """Make the bucket the volume that was planned; whoever was killed doing it does it again.

    Puts are proven to have one winner before the first commit relies on it (L8).

    Raises:
        Changed: somebody else made it a volume meanwhile.
        Unsupported: the store keeps no writers apart.
        UsageError: there is a volume above or below (N7).
        BlobfsError: it cannot be written.
    """
    store = bucket.store
    if await look(store) is None:
        await refuse_nested(store, bucket.outer, bucket.prefix)
    created = await create(store, volume.info)
    if created.data != volume.data:
        raise Changed(
            f"another client made this bucket a volume meanwhile. store={store.url}",
            hint="unmount and mount again: what is unsaved here is kept, and goes into that one",
        )
    await require_writable(store, created, me, single_writer=single_writer)
    await forget_plan(state_dir)


async def why_read_only(
    store: Store, volume: Volume, me: ClientId, *, single_writer: bool
) -> str | None:
    """Return why nothing can be written to an existing volume; None: it can.

    Raises:
        BlobfsError: the store cannot be asked.
    """
    try:
        await require_writable(store, volume, me, single_writer=single_writer)
    except (InUse, ReadOnly, Unsupported) as error:
        return str(error)
    await complete(store, volume)
    return None


async def leave_other_volume(state_dir: Path, *, keep_journal: bool) -> None:
    """Set the state of another volume aside, unless something of it is unsaved (S1)."""
    names = [TREE, PLANNED]
    if not keep_journal:
        if await trio.to_thread.run_sync(has_segments, state_dir / JOURNAL):
            raise Changed(
                f"the bucket holds another volume than the one whose changes are unsaved here. "
                f"path={str(state_dir)!r}",
                hint="mount the bucket that they belong to, or choose another --state-dir",
            )
        names.append(JOURNAL)
    await set_aside(state_dir, names)


def has_segments(journal: Path) -> bool:
    """Return whether something is unsaved in a journal that nobody has open."""
    try:
        return any(path.name.isdecimal() for path in journal.iterdir())
    except FileNotFoundError:
        return False


async def _load_plan(state_dir: Path) -> Volume | None:
    path = state_dir / PLANNED
    try:
        data = await trio.to_thread.run_sync(path.read_bytes)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LocalFault(f"cannot read: {error.strerror}. path={str(path)!r}") from error
    return Volume(decode_volume(data, key=volume_key()), data, None)


def _write(path: Path, data: bytes) -> None:
    try:
        replace_file(path, data)
    except OSError as error:
        raise LocalFault(f"cannot write: {error.strerror}. path={str(path)!r}") from error
