"""Make a bucket a volume because somebody asked for it, and not because of a first write."""

from pathlib import Path

from msgspec.structs import replace

from blobfs.cache.lock import hold_folder
from blobfs.env import Env
from blobfs.errors import AlreadyExists
from blobfs.formats.volume import VolumeInfo, encode_volume
from blobfs.sync.binding import (
    Bucket,
    create_planned,
    find_volume,
    keep_plan,
    leave_other_volume,
    new_volume,
)
from blobfs.volume.client import open_identity
from blobfs.volume.presence import Volume


async def create_volume(
    bucket: Bucket, state_dir: Path, env: Env, *, compression: str, single_writer: bool
) -> VolumeInfo:
    """Make a volume; return what it is.

    Unsaved changes of this machine that wait for a first save of this bucket go into it.

    Raises:
        AlreadyExists: there is one.
        InUse: the bucket is mounted here.
        UsageError: there is one above or below (N7).
        Unsupported: the store keeps no writers apart, and `single_writer` was not asked for.
        BlobfsError: it cannot be written, or there are the remains of a volume (L5).
    """
    with hold_folder(state_dir):
        volume, exists = await find_volume(bucket.store, state_dir, env)
        if exists:
            raise _taken(bucket, volume)
        if volume.info.compression != compression:
            # Another volume than the one that was planned here: its log begins with another hash.
            await leave_other_volume(state_dir, keep_journal=True)
            info = replace(new_volume(env), compression=compression)
            volume = Volume(info, encode_volume(info), None)
        await keep_plan(volume, state_dir)
        identity = await open_identity(state_dir, volume.info.id, env)
        await create_planned(
            bucket, volume, state_dir, identity.client, single_writer=single_writer
        )
    return volume.info


def _taken(bucket: Bucket, found: Volume) -> AlreadyExists:
    return AlreadyExists(
        f"there is a volume already. store={bucket.store.url} id={found.info.id.hex()}",
        hint="mount it, or change its quota or trash time with `blobfs settings`",
    )
