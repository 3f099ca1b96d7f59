"""`blobfs sync`: wait until everything is in the bucket."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from blobfs.cli.status import require_mount
from blobfs.cli.text import entries, size, unsaved_words
from blobfs.control.client import request_sync
from blobfs.control.messages import SyncReply
from blobfs.control.registry import Registration, registrations
from blobfs.errors import NotFound, Unreachable
from blobfs.folders import known_runtime

_ASK_EVERY_S = 0.1
_NO_PROGRESS_S = 60.0
"""As long as something gets saved there is no limit; when nothing does, this long."""


class SyncDocument(msgspec.Struct, frozen=True):
    """What `blobfs sync --json` prints, one for each mount."""

    mountpoint: str
    seq: int
    saved_files: int
    saved_bytes: int
    took_s: float


@click.command(name="sync", context_settings={"max_content_width": 80})
@click.argument("path", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def command(path: str | None, as_json: bool) -> None:
    """Wait until everything written so far is committed in the bucket.

    With PATH, a mountpoint or anything inside, only of that mount; without, of all. What is
    written meanwhile is not waited for. The exit code is 5 when nothing could be saved for a
    minute: what is unsaved stays safe on this machine, and is tried again.

    \b
    Example:
      cp -r photos ~/data/
      blobfs sync ~/data
    """
    runtime = known_runtime(os.environ)
    if path is None:
        chosen = [mount for mount in registrations(runtime) if not mount.read_only]
    else:
        chosen = [require_mount(runtime, path)]
    done = [_sync(runtime, mount, quiet=as_json) for mount in chosen]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(done), indent=2))
        return
    for each in done:
        click.echo(f"{each.mountpoint}: {_said(each)}")
    if not done:
        click.echo("nothing is mounted for writing")


def _sync(runtime: Path, mount: Registration, *, quiet: bool) -> SyncDocument:
    begun_s = time.monotonic()  # noqa: TID251 - a command has no Env, and no test of it a clock
    first = request_sync(runtime, mount)
    with click.progressbar(
        length=max(1, first.unsaved.bytes),
        label=f"saving {entries(first.unsaved.files)}",
        show_percent=True,
        hidden=quiet or first.done or not sys.stdout.isatty(),
    ) as bar:
        for reply in _until_done(runtime, mount, first):
            bar.update(max(0, first.unsaved.bytes - reply.unsaved.bytes - bar.pos))
            last = reply
    return SyncDocument(
        mountpoint=mount.mountpoint,
        seq=last.seq,
        saved_files=max(0, first.unsaved.files - last.unsaved.files),
        saved_bytes=max(0, first.unsaved.bytes - last.unsaved.bytes),
        took_s=round(time.monotonic() - begun_s, 3),  # noqa: TID251 - as above
    )


def _until_done(runtime: Path, mount: Registration, first: SyncReply) -> Iterator[SyncReply]:
    """Ask again and again until all is saved.

    Raises:
        Unreachable: nothing was saved for a minute.
        NotFound: the daemon has ended meanwhile.
    """
    reply, idle_s = first, 0.0
    while True:
        yield reply
        if reply.done:
            return
        if idle_s >= _NO_PROGRESS_S:
            raise _stuck(mount, reply)
        time.sleep(_ASK_EVERY_S)
        before = reply
        try:
            reply = request_sync(runtime, mount, first.upto)
        except NotFound:
            raise NotFound(
                f"the daemon has ended before all was saved. mountpoint={mount.mountpoint!r}",
                hint="what is unsaved is kept on this machine: mount again to save it",
            ) from None
        idle_s = 0.0 if _progress(reply) != _progress(before) else idle_s + _ASK_EVERY_S


def _progress(reply: SyncReply) -> tuple[int, int, int]:
    return reply.seq, reply.unsaved.bytes, reply.unsaved.uploaded_bytes


def _stuck(mount: Registration, reply: SyncReply) -> Unreachable:
    why = f": {reply.unsaved.problem}" if reply.unsaved.problem else ""
    left = unsaved_words(reply.unsaved)
    return Unreachable(
        f"saving does not get on{why}. mountpoint={mount.mountpoint!r} unsaved={left!r}",
        hint="nothing is lost: it stays on this machine, and is saved when the bucket answers",
    )


def _said(done: SyncDocument) -> str:
    if not done.saved_files:
        return f"everything is saved (commit {done.seq})"
    saved = f"saved {entries(done.saved_files)}, {size(done.saved_bytes)}"
    return f"{saved} in {done.took_s:.1f} s (commit {done.seq})"
