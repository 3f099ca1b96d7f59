"""`blobfs log`: what was committed, when, by whom, how much."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import msgspec

from blobfs.cli.target import find_target, run_on_store, store_flags
from blobfs.cli.text import size

if TYPE_CHECKING:
    from blobfs.env import Env
    from blobfs.stores.opening import OpenedStore
    from blobfs.sync.history import Commit

_HOST_COLUMNS = 20


class LogLine(msgspec.Struct, frozen=True):
    """What `blobfs log --json` prints of each commit."""

    seq: int
    time: str
    """ISO 8601, in UTC."""
    client: str
    host: str | None
    files: int
    names_put: int
    names_dropped: int
    stored_bytes: int


@click.command(name="log", context_settings={"max_content_width": 80})
@click.argument("volume", required=False, metavar="[PATH|SOURCE]")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@store_flags
def command(volume: str | None, limit: int, as_json: bool, **flags: str | bool | None) -> None:
    """Tell what was committed to a volume: when, by whom, how much.

    With PATH, a mountpoint or anything inside, of the volume that is mounted there; with
    SOURCE, of one that need not be mounted; without, of the only mount. The newest comes first.

    `files` is how many got new content, `names` how many were put (+) and removed (-), and
    `stored` what the commit added to the bucket, compressed, besides itself.

    \b
    Example:
      blobfs log ~/data
      blobfs log s3://my-bucket/photos --limit 100 --json
    """
    target = find_target(volume, flags)

    async def work(opened: "OpenedStore", env: "Env") -> "list[Commit]":
        from blobfs.sync.history import read_history

        return await read_history(opened.store, env, limit=limit)

    commits = run_on_store(target, work)
    if as_json:
        lines = [_line(commit) for commit in commits]
        click.echo(msgspec.json.format(msgspec.json.encode(lines), indent=2))
    elif not commits:
        click.echo("nothing was committed yet")
    else:
        click.echo("\n".join(_table(commits)))


def _line(commit: "Commit") -> LogLine:
    when = datetime.fromtimestamp(commit.time_ns / 1e9, UTC)
    return LogLine(
        seq=commit.seq,
        time=when.isoformat(timespec="milliseconds"),
        client=commit.client,
        host=commit.host,
        files=commit.files,
        names_put=commit.names_put,
        names_dropped=commit.names_dropped,
        stored_bytes=commit.stored_bytes,
    )


def _table(commits: "Sequence[Commit]") -> Iterator[str]:
    hosts = [(each.host or each.client[:8])[:_HOST_COLUMNS] for each in commits]
    width = max(2, *map(len, hosts))
    yield f"commit  {'when':19}  {'by':{width}}  {'files':>5}  {'names':>11}  {'stored':>10}"
    for commit, host in zip(commits, hosts, strict=True):
        when = datetime.fromtimestamp(commit.time_ns / 1e9).astimezone()
        names = f"+{commit.names_put} -{commit.names_dropped}"
        yield (
            f"{commit.seq:>6}  {when:%Y-%m-%d %H:%M:%S}  {host:{width}}  {commit.files:>5}  "
            f"{names:>11}  {size(commit.stored_bytes):>10}"
        )
