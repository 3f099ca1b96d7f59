"""Find the command that was asked for, and turn its outcome into an exit code.

Commands are imported when they are called, so that none waits for what another one needs.
"""

import importlib
import os
import sys
import traceback
from typing import Any

import click

from blobfs import __version__
from blobfs.errors import BlobfsError

_COMMANDS = ("mount", "status", "sync", "unmount", "init", "settings", "clients", "log", "check")
_ALIASES = {"umount": "unmount"}

_INTERRUPTED = 130
_PIPE_CLOSED = 141
"""As shells count a command that a signal ended: 128 + SIGINT, 128 + SIGPIPE."""


class Commands(click.Group):
    """The group of all commands: `blobfs.cli.<name>.command` is the one called `name`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"blobfs.cli.{name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # What is still buffered must not fail once more when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_PIPE_CLOSED)

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except BaseException as error:
            code = _report(error)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="blobfs", message="%(prog)s %(version)s")
def main() -> None:
    """Use a bucket as a directory: S3, Azure Blob Storage or a folder.

    \b
    Example:
      mkdir ~/data
      blobfs mount s3://my-bucket ~/data
      cp -r photos ~/data/
      blobfs sync ~/data
      blobfs unmount ~/data

    What is written is on this machine's disk first, and in the bucket moments later: `status`
    tells whether it is, `sync` waits for it. Without a first write, no bucket is changed.

    Exit codes: 0 done, 2 wrong usage, 3 not found, 4 access denied, 5 no answer, 6 in use,
    7 changed meanwhile, 8 this machine lacks something, 9 `check` found damage, 70 a fault in
    blobfs itself.
    """


def _report(error: BaseException) -> int:
    """Tell the user of `error` in one or two lines; return the exit code that goes with it."""
    if os.environ.get("BLOBFS_DEBUG"):
        traceback.print_exception(error)
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else BlobfsError.exit_code
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message())
            return 0
        case click.ClickException():
            return _report_usage(error)
        case BlobfsError():
            return _say(str(error), error.hint, error.exit_code)
        case click.Abort() | KeyboardInterrupt():
            return _say("interrupted", "", _INTERRUPTED)
    said = f"a fault in blobfs itself: {type(error).__name__}: {error}"
    return _say(said, "set BLOBFS_DEBUG=1 to see where, and please report it", 70)


def _report_usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "blobfs"
    message = error.format_message().rstrip(".")
    return _say(message[:1].lower() + message[1:], f"see `{path} --help`", 2)


def _say(message: str, hint: str, code: int) -> int:
    click.echo("blobfs: " + " ".join(message.split()), err=True)
    if hint:
        click.echo("hint: " + " ".join(hint.split()), err=True)
    return code
