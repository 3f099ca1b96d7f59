"""`blobfs unmount`: end a mount, also a dead one or one that hangs."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import click

from blobfs.cli.status import locate_mount, require_mount
from blobfs.cli.text import unsaved_words
from blobfs.control.client import mount_statuses, request_unmount
from blobfs.control.mounts import FILE_SYSTEM_TYPE, detach, find_mount
from blobfs.control.processes import Holder, holders, seen_elsewhere, wait_ended
from blobfs.control.registry import Registration, forget
from blobfs.errors import BlobfsError, InUse, Unreachable
from blobfs.folders import known_runtime

_ENDS_SOON_S = 2.0
"""Usually; then it is time to ask what keeps it."""
_ENDS_WITHIN_S = 15.0
_POLITE_S = 3.0
_KILLED_WITHIN_S = 2.0
_TELLS_WITHIN_S = 0.5
_MOST_NAMED = 5


@click.command(name="unmount", context_settings={"max_content_width": 80})
@click.argument("mountpoint")
@click.option("--force", is_flag=True, help="Also when files are open, or the daemon hangs.")
def command(mountpoint: str, force: bool) -> None:
    """End a mount.

    MOUNTPOINT is where it is mounted, or any path inside. Waits until the daemon has ended,
    not until everything is saved: what is not stays safe on this machine, and the next mount
    goes on. `blobfs sync` before it waits. With --force, programs that still have files open
    there get errors.

    \b
    Example:
      blobfs unmount ~/data
    """
    runtime = known_runtime(os.environ)
    place = os.path.abspath(Path(mountpoint).expanduser())  # noqa: PTH100 - resolve() follows links
    if locate_mount(runtime, mountpoint) is None and _is_ours(place):
        detach(place, lazy=force)  # its record is lost, for example with a wiped runtime folder
        click.echo(f"unmounted {place}")
        return
    mount = require_mount(runtime, mountpoint)
    # Asked for now, because the end of the mount is the end of who knows.
    (before,) = mount_statuses(runtime, [mount], _TELLS_WITHIN_S)
    if not mount.alive:
        _clear_dead(runtime, mount)
    elif force:
        _end_by_force(runtime, mount)
    else:
        _end_politely(runtime, mount)
    click.echo(f"unmounted {mount.mountpoint}")
    if before.unsaved is not None and not before.safe:
        said = unsaved_words(before.unsaved)
        click.echo(f"unsaved: {said}; safe here, saved by the next mount")


def _end_politely(runtime: Path, mount: Registration) -> None:
    found = find_mount(mount.mountpoint)
    try:
        request_unmount(runtime, mount)
    except Unreachable as error:
        error.hint = f"end it with: blobfs unmount --force {mount.mountpoint}"
        raise
    except BlobfsError as error:
        if error.exit_code == InUse.exit_code:
            error.hint = _who_holds(mount.mountpoint)
        elif not _is_ours(mount.mountpoint):  # gone already, but somebody still has it in sight
            error.hint = f"end it with: blobfs unmount --force {mount.mountpoint}"
        raise
    if not wait_ended(mount.pid, mount.process_started, _ENDS_SOON_S):
        others = seen_elsewhere(found.device) if found is not None else []
        if others:
            raise InUse(
                f"the mount is gone here, and others still see it: {_named(others)}",
                hint=f"it ends with the last of them, or with: blobfs unmount --force "
                f"{mount.mountpoint}",
            )
        if not wait_ended(mount.pid, mount.process_started, _ENDS_WITHIN_S):
            raise Unreachable(
                f"the mount is gone, but its daemon has not ended. pid={mount.pid}",
                hint=f"end it with: blobfs unmount --force {mount.mountpoint}",
            )
    _clear_dead(runtime, mount)


def _end_by_force(runtime: Path, mount: Registration) -> None:
    """Ask the daemon to end by a signal, kill it if it does not, and take its mount away."""
    for number, within_s in ((signal.SIGTERM, _POLITE_S), (signal.SIGKILL, _KILLED_WITHIN_S)):
        if wait_ended(mount.pid, mount.process_started, within_s, send=number):
            break
    _clear_dead(runtime, mount)


def _clear_dead(runtime: Path, mount: Registration) -> None:
    """Remove what is left of a mount whose daemon has ended."""
    if _is_ours(mount.mountpoint):
        detach(mount.mountpoint, lazy=True)  # nothing can be saved by waiting for its users
    forget(runtime, mount)


def _is_ours(mountpoint: str) -> bool:
    found = find_mount(mountpoint)
    return found is not None and found.kind == FILE_SYSTEM_TYPE


def _who_holds(mountpoint: str) -> str:
    found = holders(mountpoint)
    if not found:
        return "a program of another user holds it; --force unmounts all the same"
    return f"held by {_named(found)}; close them, or use --force"


def _named(found: Sequence[Holder]) -> str:
    named = ", ".join(f"{holder.name} ({holder.pid})" for holder in found[:_MOST_NAMED])
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return named + more
