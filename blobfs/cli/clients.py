"""`blobfs clients`: which machines write to a volume."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import msgspec

from blobfs.cli.target import find_target, run_on_store, store_flags

if TYPE_CHECKING:
    from blobfs.env import Env
    from blobfs.stores.opening import OpenedStore
    from blobfs.sync.clients import KnownClient

_HOST_COLUMNS = 20
_ID_DIGITS = 8


class ClientLine(msgspec.Struct, frozen=True):
    """What `blobfs clients --json` prints of each client. Times are ISO 8601, in UTC."""

    client: str
    host: str | None
    """None: its record cannot be read, and `problem` says why."""
    version: str | None
    seq: int | None
    """The commit up to which it knew the volume when it wrote that."""
    heard: str
    lease_until: str | None
    is_this: bool
    problem: str | None


@click.command(name="clients", context_settings={"max_content_width": 80})
@click.argument("volume", required=False, metavar="[PATH|SOURCE]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@store_flags
def command(volume: str | None, as_json: bool, **flags: str | bool | None) -> None:
    """Tell which machines write to a volume.

    With PATH, a mountpoint or anything inside, of the volume that is mounted there; with
    SOURCE, of one that need not be mounted; without, of the only mount. A machine is known
    from its first save on, and is heard of once a day while it saves.

    \b
    Example:
      blobfs clients ~/data
      blobfs clients s3://my-bucket/photos --json
    """
    target = find_target(volume, flags)

    async def work(opened: "OpenedStore", _: "Env") -> list[ClientLine]:
        from blobfs.sync.clients import read_clients

        return [_line(each) for each in await read_clients(opened.store, target.state_dir)]

    lines = run_on_store(target, work)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(lines), indent=2))
    elif not lines:
        click.echo("no machine has saved anything yet")
    else:
        click.echo("\n".join(_table(lines)))


def _line(client: "KnownClient") -> ClientLine:
    record = client.record
    return ClientLine(
        client=client.id,
        host=None if record is None else record.host,
        version=None if record is None else record.program,
        seq=None if record is None else record.seq,
        heard=_iso(client.heard_ns),
        lease_until=None if record is None else _iso(record.lease_until_ns),
        is_this=client.is_this,
        problem=client.problem,
    )


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="seconds")


def _table(lines: Sequence[ClientLine]) -> Iterator[str]:
    hosts = [(line.host or "?")[:_HOST_COLUMNS] for line in lines]
    width = max(7, *map(len, hosts))
    yield f"client    {'machine':{width}}  {'version':8}  heard of last"
    for line, host in zip(lines, hosts, strict=True):
        heard = datetime.fromisoformat(line.heard).astimezone()
        note = "  (this machine)" if line.is_this else ""
        yield (
            f"{line.client[:_ID_DIGITS]}  {host:{width}}  {line.version or '?':8}  "
            f"{heard:%Y-%m-%d %H:%M}{note}"
        )
        if line.problem is not None:
            yield f"          {line.problem}"
