"""`blobfs init`: make a bucket a volume."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from blobfs.cli.settings import run_settings
from blobfs.cli.target import Target, find_target, run_on_store, store_flags
from blobfs.config import choose_volume_settings
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
@click.option("--quota", metavar="SIZE", help="What all contents together may come to. [none]")
@click.option(
    "--trash-time", metavar="TIME", help="How long removed native objects are kept. [30d]"
)
@click.option("--single-writer", is_flag=True, help="Only you ever write: see docs.")
@store_flags
def command(
    source: str,
    compression: str,
    quota: str | None,
    trash_time: str | None,
    single_writer: bool,
    **flags: str | bool | None,
) -> None:
    """Make a bucket a volume.

    SOURCE is as for `blobfs mount`. There is no need to: the first file that is saved through a
    mount makes a volume with the defaults. How contents are stored is chosen here for good; quota
    and trash time can be changed at any time, with `blobfs settings`. What lies in the bucket
    already is left as it is, and shown by mounts.

    \b
    Example:
      blobfs init s3://my-bucket/photos --compression none
      blobfs mount s3://my-bucket/photos ~/photos
    """
    fields = choose_volume_settings({"quota": quota, "trash-time": trash_time})
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

    made = run_on_store(target, work)
    if fields:
        run_settings(target, fields)
    _say(target, made, {"quota": quota, "trash time": trash_time})


def _say(target: Target, made: "VolumeInfo", chosen: Mapping[str, str | None]) -> None:
    click.echo(f"made a volume of {target.source.url}")
    click.echo(f"  id           {made.id.hex()}")
    click.echo(f"  compression  {made.compression}")
    for name, text in chosen.items():
        if text is not None:
            click.echo(f"  {name:<11}  {text}")
    click.echo(f"mount it with: blobfs mount {target.source.url} MOUNTPOINT")
