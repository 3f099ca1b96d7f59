"""`blobfs init`: make a bucket a volume."""

from typing import TYPE_CHECKING

import click

from blobfs.cli.target import Target, find_target, run_on_store, store_flags
from blobfs.errors import InUse

if TYPE_CHECKING:
    from blobfs.env import Env
    from blobfs.formats.volume import VolumeInfo
    from blobfs.stores.opening import OpenedStore


@click.command(name="init", context_settings={"max_content_width": 80})
@click.argument("source")
@click.option(
    "--compression",
    type=click.Choice(["zstd", "none"]),
    default="zstd",
    show_default=True,
    help="What contents are stored with.",
)
@click.option("--single-writer", is_flag=True, help="Only you ever write: see docs.")
@store_flags
def command(source: str, compression: str, single_writer: bool, **flags: str | bool | None) -> None:
    """Make a bucket a volume.

    SOURCE is as for `blobfs mount`. There is no need to: the first file that is saved through a
    mount makes a volume with the defaults. Here its settings can be chosen, which stay for
    good. What lies in the bucket already is left as it is, and shown by mounts.

    \b
    Example:
      blobfs init s3://my-bucket/photos --compression none
      blobfs mount s3://my-bucket/photos ~/photos
    """
    target = find_target(source, flags)
    if target.mounted is not None:
        raise InUse(
            f"it is mounted here. source={target.source.url}",
            hint="the first file that is saved makes a volume of it; or unmount it first",
        )

    async def work(opened: "OpenedStore", env: "Env") -> "VolumeInfo":
        from blobfs.sync.binding import Bucket
        from blobfs.sync.creating import create_volume

        bucket = Bucket(opened.store, opened.outer, opened.prefix)
        return await create_volume(
            bucket, target.state_dir, env, compression=compression, single_writer=single_writer
        )

    _say(target, run_on_store(target, work))


def _say(target: Target, made: "VolumeInfo") -> None:
    click.echo(f"made a volume of {target.source.url}")
    click.echo(f"  id           {made.id.hex()}")
    click.echo(f"  compression  {made.compression}")
    click.echo(f"mount it with: blobfs mount {target.source.url} MOUNTPOINT")
