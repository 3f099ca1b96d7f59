"""`blobfs status`: what is mounted, and how it does."""

import os
from pathlib import Path

import click
import msgspec

from blobfs.cli.text import mount_lines
from blobfs.control.client import mount_statuses
from blobfs.control.messages import StatusDocument
from blobfs.control.registry import Registration, find_registration, registrations
from blobfs.errors import NotFound
from blobfs.folders import known_runtime


@click.command(name="status", context_settings={"max_content_width": 80})
@click.argument("path", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def command(path: str | None, as_json: bool) -> None:
    """Tell what is mounted, from where, and how it does.

    With PATH, a mountpoint or anything inside, only of that mount; the exit code is 3 when
    there is none.

    \b
    Example:
      blobfs status
      blobfs status ~/data --json
    """
    runtime = known_runtime(os.environ)
    chosen = registrations(runtime) if path is None else [require_mount(runtime, path)]
    mounts = mount_statuses(runtime, chosen)
    if as_json:
        document = msgspec.json.encode(StatusDocument(mounts=mounts))
        click.echo(msgspec.json.format(document, indent=2))
    elif not mounts:
        click.echo("nothing is mounted")
    else:
        click.echo("\n\n".join("\n".join(mount_lines(mount)) for mount in mounts))


def require_mount(runtime: Path, path: str) -> Registration:
    """Return the mount that `path` is or is inside of.

    Raises:
        NotFound: there is none.
    """
    found = locate_mount(runtime, path)
    if found is None:
        raise NotFound(
            f"blobfs has mounted nothing there. path={path!r}",
            hint="`blobfs status` lists what is mounted",
        )
    return found


def locate_mount(runtime: Path, path: str) -> Registration | None:
    """As `require_mount`, None if there is none.

    The name as it was given is tried first: following links asks the mount, which may hang.
    """
    absolute = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() follows links
    return find_registration(runtime, str(absolute)) or find_registration(
        runtime, os.path.realpath(absolute)
    )
