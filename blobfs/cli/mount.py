"""`blobfs mount`: show a bucket as a directory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from blobfs.cli import daemon, preflight
from blobfs.cli.target import named_source
from blobfs.config import MountSettings, choose_settings, settings_for
from blobfs.errors import UsageError


@click.command(name="mount", context_settings={"max_content_width": 80})
@click.argument("source")
@click.argument("mountpoint")
@click.option("--read-only", is_flag=True, default=None, help="Let programs change nothing.")
@click.option("--read-write", is_flag=True, default=None, help="Fail where writing is impossible.")
@click.option("--foreground", is_flag=True, help="Stay in the foreground, log to the terminal.")
@click.option("--profile", metavar="NAME", help="The AWS profile to log in with.")
@click.option("--region", metavar="NAME", help="The AWS region of the bucket.")
@click.option("--endpoint-url", metavar="URL", help="Another server that speaks S3 or Azure Blob.")
@click.option("--account", metavar="NAME", help="The Azure storage account.")
@click.option("--anonymous", is_flag=True, default=None, help="Do not log in: for public buckets.")
@click.option("--durability", metavar="WORD", help="What fsync waits for: local or remote. [local]")
@click.option("--unsaved-size", metavar="SIZE", help="Most room for what is not saved yet.")
@click.option("--settle", metavar="TIME", help="How long after its last close a file waits. [0.5s]")
@click.option("--single-writer", is_flag=True, default=None, help="Only you ever write: see docs.")
@click.option("--native-ttl", metavar="TIME", help="How long a listing counts as fresh. [60s]")
@click.option("--cache-size", metavar="SIZE", help="Most room for the disk cache. [20GiB]")
@click.option("--cache-dir", metavar="DIR", help="Keep caches below this folder.")
@click.option("--state-dir", metavar="DIR", help="Keep state and logs below this folder.")
@click.option("--memory", metavar="SIZE", help="Memory for all buffers together. [256MiB]")
@click.option("--deadline", metavar="TIME", help="Longest wait for the store. [30s]")
@click.option("--allow-other", is_flag=True, default=None, help="Let other users in.")
@click.option("--uid", metavar="NUMBER", help="The user who owns all files. [you]")
@click.option("--gid", metavar="NUMBER", help="The group of all files. [yours]")
@click.option("--umask", metavar="OCTAL", help="Permissions that files do not have. [022]")
@click.option("--log-level", metavar="WORD", help="debug, info, warning or error. [info]")
@click.option("--log-format", metavar="WORD", help="text or json. [text]")
@click.option("--log-file", metavar="FILE", help="Write the log there.")
def command(source: str, mountpoint: str, foreground: bool, **flags: str | bool | None) -> None:
    """Show a bucket as a directory.

    SOURCE is s3://bucket, az://container or file:///folder, each with an optional /prefix;
    a bare name is an S3 bucket. MOUNTPOINT is an empty folder. Nothing is downloaded until a
    program reads it; what is written is saved moments later, see `blobfs sync`. A bucket is
    changed by the first write, not by mounting it.

    \b
    Example:
      mkdir ~/data
      blobfs mount s3://my-bucket/photos ~/data

    Logging in works as with the tools of AWS and Azure: environment variables, their
    configuration files, roles. Secrets are never flags. Each flag can be given as a variable
    too: --cache-size as BLOBFS_CACHE_SIZE.

    Sizes: 20GiB, 500M, 4096. Times: 60, 60s, 5m, 1h.
    """
    settings = _settings(source, mountpoint, foreground, flags)
    if foreground:
        daemon.become(settings)
    click.echo(settings.describe_mounted(daemon.start(settings)))


def _settings(
    source: str, mountpoint: str, foreground: bool, flags: Mapping[str, str | bool | None]
) -> MountSettings:
    """Check all that can be checked here, in the order in which users would fix it."""
    named = {name.replace("_", "-"): value for name, value in flags.items()}
    chosen = choose_settings(named, os.environ)
    parsed = named_source(source, chosen)
    _refuse_contradiction(chosen)
    place = preflight.usable_mountpoint(mountpoint)
    settings = settings_for(
        parsed.url, parsed.state_id, place, chosen, os.environ, foreground=foreground
    )
    preflight.check_fuse(allow_other=settings.allow_other)
    needed = [settings.state_dir, settings.cache_dir, settings.runtime_dir, settings.log_path]
    preflight.check_apart(place, [folder for folder in needed if folder is not None])
    if parsed.scheme == "file":
        preflight.check_outside(place, Path(parsed.place).resolve())
    return settings


def _refuse_contradiction(chosen: Mapping[str, Any]) -> None:
    if chosen.get("read_only") and chosen.get("read_write"):
        raise UsageError(
            "--read-only and --read-write are opposites", hint="leave one of them away"
        )
