"""`blobfs settings`: show and change what every client of a volume heeds."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click
import msgspec

from blobfs.cli.target import Target, find_target, run_on_store, store_flags
from blobfs.cli.text import duration, size
from blobfs.config import choose_volume_settings
from blobfs.control.client import request_heed_settings
from blobfs.control.registry import registrations
from blobfs.errors import BlobfsError
from blobfs.folders import known_runtime

if TYPE_CHECKING:
    from blobfs.env import Env
    from blobfs.formats.head import VolumeSettings
    from blobfs.stores.opening import OpenedStore


class SettingsDocument(msgspec.Struct, frozen=True):
    """What `blobfs settings --json` prints."""

    source: str
    quota_bytes: int | None
    """None: there is no limit."""
    trash_s: int
    trash_problem: str | None
    """Why this machine removes nothing all the same, if that is known."""


@click.command(name="settings", context_settings={"max_content_width": 80})
@click.argument("volume", required=False, metavar="[PATH|SOURCE]")
@click.option("--quota", metavar="SIZE|none", help="What all contents together may come to.")
@click.option("--trash-time", metavar="TIME", help="How long removed native objects are kept.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@store_flags
def command(
    volume: str | None,
    quota: str | None,
    trash_time: str | None,
    as_json: bool,
    **flags: str | bool | None,
) -> None:
    """Show the settings of a volume, and change those that are given.

    With PATH, a mountpoint or anything inside, of the volume that is mounted there; with
    SOURCE, of one that need not be mounted; without, of the only mount.

    All machines heed them: mounts of this one at once, others with their next commit, or
    within an hour. What was written before a quota was lowered is saved all the same.

    \b
    Example:
      blobfs settings ~/data
      blobfs settings s3://my-bucket/photos --quota 500GiB --trash-time 7d
    """
    fields = choose_volume_settings({"quota": quota, "trash-time": trash_time})
    target = find_target(volume, flags)
    settings = run_settings(target, fields)
    if fields:
        _tell_mounts(target)
    _show(target, settings, as_json=as_json)


def run_settings(target: Target, fields: Mapping[str, int | None]) -> "VolumeSettings":
    """Change the settings of a volume that `fields` names, if any; return all of them.

    Raises:
        BlobfsError: what went wrong, by itself.
    """

    async def work(opened: "OpenedStore", env: "Env") -> "VolumeSettings":
        from blobfs.sync.settings import change_settings, volume_settings

        if not fields:
            return await volume_settings(opened.store)
        return await change_settings(
            opened.store, target.state_dir, fields, is_mounted=target.mounted is not None
        )

    return run_on_store(target, work)


def _tell_mounts(target: Target) -> None:
    """Let this user's mounts of the volume heed its settings at once."""
    runtime = known_runtime(os.environ)
    for mount in registrations(runtime):
        if mount.source != target.source.url or not mount.alive:
            continue
        try:
            request_heed_settings(runtime, mount)
        except BlobfsError as error:
            why = " ".join(str(error).split())
            click.echo(
                f"blobfs: {mount.mountpoint} will heed it with its next commit, or within an "
                f"hour: {why}",
                err=True,
            )


def _show(target: Target, settings: "VolumeSettings", *, as_json: bool) -> None:
    from blobfs.sync.delete_probe import FAILED, known_verdict

    quota_bytes, trash_s = settings.quota_bytes, settings.trash_time_s
    problem = FAILED if known_verdict(target.state_dir) is False else None
    if as_json:
        document = SettingsDocument(target.source.url, quota_bytes, trash_s, problem)
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    else:
        click.echo(f"quota       {'none' if quota_bytes is None else size(quota_bytes)}")
        click.echo(f"trash time  {duration(trash_s)}")
        if problem is not None:
            click.echo(f"            nothing is removed from here, because {problem}")
