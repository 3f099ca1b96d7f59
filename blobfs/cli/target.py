"""Find the volume that a command is about, and open its store with the user's own credentials.

A volume is named by a path in a mount of it, whose daemon then says what is mounted, or by its URL.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from blobfs.cli.status import locate_mount
from blobfs.config import choose_settings
from blobfs.control.client import request_description
from blobfs.control.messages import Description
from blobfs.control.registry import Registration, registrations
from blobfs.errors import BlobfsError, UsageError
from blobfs.folders import known_runtime, state_root
from blobfs.stores.opening import Source, StoreOptions, open_store, parse_source

if TYPE_CHECKING:
    from blobfs.env import Env
    from blobfs.stores.opening import OpenedStore

T = TypeVar("T")
Flags = Mapping[str, str | bool | None]
Command = TypeVar("Command", bound=Callable[..., Any])

_FLAGS = (
    click.option("--profile", metavar="NAME", help="The AWS profile to log in with."),
    click.option("--region", metavar="NAME", help="The AWS region of the bucket."),
    click.option("--endpoint-url", metavar="URL", help="Another server: S3 or Azure Blob."),
    click.option("--account", metavar="NAME", help="The Azure storage account."),
    click.option("--anonymous", is_flag=True, default=None, help="Do not log in."),
    click.option("--state-dir", metavar="DIR", help="State is kept below this folder."),
    click.option("--deadline", metavar="TIME", help="Longest wait for the store. [30s]"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """A volume, and how to get at it."""

    source: Source
    options: StoreOptions
    state_dir: Path
    """What this machine keeps of it, if it keeps anything."""
    mounted: Description | None
    """What the daemon says that has it mounted; None: none has."""


def store_flags(command: Command) -> Command:
    """Give a command the flags that say how to reach a store, as `mount` has them."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def find_target(text: str | None, flags: Flags) -> Target:
    """Return what `text` names: a path in a mount, or a source; None: the only mount.

    Raises:
        UsageError: it names nothing, or there are several mounts.
        Unreachable: the daemon of that mount does not answer.
    """
    runtime = known_runtime(os.environ)
    if text is None:
        return _of_mount(runtime, _only_mount(runtime))
    mount = None if "://" in text else locate_mount(runtime, text)
    if mount is not None and mount.alive:
        return _of_mount(runtime, mount)
    return _of_source(runtime, text, flags)


def named_source(text: str, chosen: Mapping[str, Any]) -> Source:
    """Return the source that somebody named on the command line.

    Raises:
        UsageError: it names none, or could be two things.
    """
    if "://" not in text and Path(text).exists():
        raise UsageError(
            f"there is a folder of that name, and there may be a bucket. name={text!r}",
            hint=f"write s3://{text} or file://{Path(text).absolute()}",
        )
    return parse_source(text, _options(chosen), os.environ)


def run_on_store(target: Target, work: "Callable[[OpenedStore, Env], Awaitable[T]]") -> T:
    """Open the store and do `work` on it, to its end.

    Raises:
        BlobfsError: what went wrong, by itself.
    """
    import trio

    from blobfs.env import Env

    async def run() -> T:
        env = Env()
        opened = await open_store(target.source, target.options, env)
        try:
            return await work(opened, env)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await opened.store.aclose()

    try:
        return trio.run(run)
    except BaseExceptionGroup as group:
        raise _cause(group) or group from group


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return the first error in a group that the user is to be told of as it is."""
    for error in group.exceptions:
        inner = _cause(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(inner, BlobfsError | KeyboardInterrupt):
            return inner
    return None


def _of_mount(runtime: Path, mount: Registration) -> Target:
    told = request_description(runtime, mount)
    options = StoreOptions(
        profile=told.profile,
        region=told.region,
        endpoint_url=told.endpoint_url,
        anonymous=told.anonymous,
        account=told.account,
    )
    return Target(parse_source(told.source), options, Path(told.state_dir), told)


def _of_source(runtime: Path, text: str, flags: Flags) -> Target:
    named = {name.replace("_", "-"): flag for name, flag in flags.items()}
    chosen = choose_settings(named, os.environ)
    source = named_source(text, chosen)
    state_dir = chosen.get("state_dir", state_root(os.environ)) / source.state_id
    for mount in registrations(runtime):
        if mount.source == source.url and mount.alive:
            told = request_description(runtime, mount)
            if told.state_dir == str(state_dir):
                return Target(source, _options(chosen), state_dir, told)
    return Target(source, _options(chosen), state_dir, None)


def _only_mount(runtime: Path) -> Registration:
    mounts = [mount for mount in registrations(runtime) if mount.alive]
    if len(mounts) == 1:
        return mounts[0]
    said = "several volumes are mounted" if mounts else "nothing is mounted"
    raise UsageError(
        f"{said}, so say which volume", hint="name a mountpoint, or a source: s3://..."
    )


def _options(chosen: Mapping[str, Any]) -> StoreOptions:
    named = ("profile", "region", "endpoint_url", "account", "anonymous", "deadline_s")
    return StoreOptions(**{name: chosen[name] for name in named if name in chosen})
