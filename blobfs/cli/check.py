"""`blobfs check`: find out whether all that was saved is still there, and right."""

import sys
from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING

import click
import msgspec

from blobfs.cli.target import Target, find_target, run_on_store, store_flags
from blobfs.cli.text import count, duration, entries, size
from blobfs.errors import Damaged, UsageError

if TYPE_CHECKING:
    from blobfs.env import Env
    from blobfs.stores.opening import OpenedStore
    from blobfs.sync.check_here import Here, Outcome, Repair
    from blobfs.sync.check_report import CheckReport, Damage, UnsavedReport

DAMAGE_FOUND = 9
"""Exit code: not that of a store that cannot be asked (5), which says nothing of the volume."""

_NAMED = 5
_COLUMNS = 76
_DEEPER = " " * 4


@click.command(name="check", context_settings={"max_content_width": 80})
@click.argument("volume", required=False, metavar="[PATH|SOURCE]")
@click.option("--read-data", is_flag=True, help="Read and verify every stored byte: all of it.")
@click.option("--repair", is_flag=True, help="Make damaged state of this machine anew.")
@click.option("--rebuild", is_flag=True, help="Make state of this machine anew in any case.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@store_flags
@click.pass_context
def command(
    context: click.Context,
    /,
    volume: str | None,
    read_data: bool,
    repair: bool,
    rebuild: bool,
    as_json: bool,
    **flags: str | bool | None,
) -> None:
    """Find out whether all that was saved is there, and right.

    With PATH, a mountpoint or anything inside, the volume that is mounted there; with SOURCE,
    one that need not be mounted; without, the only mount.

    Reads the whole log, compares packs and their sizes with it, looks where each file's
    contents lie, and compares what this machine keeps, or the mount shows. Where it is not
    mounted, what is not saved yet is read and verified, and named. With --read-data all
    contents are fetched and verified. What is damaged is named with the files it affects,
    and the rest is checked all the same.

    Nothing is ever changed in the bucket. --repair makes what this machine keeps of the log anew,
    if it is damaged, --rebuild in any case, also where there is nothing; what is not saved yet
    is kept.

    \b
    Example:
      blobfs check ~/data
      blobfs check s3://my-bucket/photos --read-data

    Exit codes: 0 all is well, 9 something is damaged; 5 when the store does not answer.
    """
    if repair and rebuild:
        raise UsageError("--rebuild does all that --repair does", hint="leave one of them away")
    target = find_target(volume, flags)
    when: Repair = "always" if rebuild else "damaged" if repair else "never"
    try:
        outcome = _check(target, when, read_data=read_data, quiet=as_json)
    except Damaged as error:
        error.exit_code = DAMAGE_FOUND
        raise
    if as_json:
        click.echo(msgspec.json.format(_encode(outcome), indent=2))
    else:
        click.echo("\n".join(_lines(outcome, target, read_data=read_data)))
    is_well = outcome.report.is_well(repaired=outcome.repaired_to is not None)
    context.exit(0 if is_well else DAMAGE_FOUND)


def _check(target: Target, when: "Repair", *, read_data: bool, quiet: bool) -> "Outcome":
    with click.progressbar(
        length=1,
        label="reading packs",
        show_percent=True,
        hidden=quiet or not read_data or not sys.stdout.isatty(),
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = max(1, total)
            bar.update(max(0, done - bar.pos))

        async def work(opened: "OpenedStore", env: "Env") -> "Outcome":
            from blobfs.sync.check_here import check_here

            here = _here(target)
            return await check_here(
                opened.store, here, env, read_data=read_data, when=when, progress=progress
            )

        return run_on_store(target, work)


def _here(target: Target) -> "Here":
    from blobfs.formats.commit import Counters
    from blobfs.sync.check_here import Here
    from blobfs.sync.check_local import Shown
    from blobfs.types import Seq

    if target.mounted is None:
        return Here(target.state_dir, None)
    tree = target.mounted.tree
    counters = Counters(tree.inodes, tree.content_bytes, bytes.fromhex(tree.dirents_digest))
    return Here(target.state_dir, Shown(Seq(tree.seq), bytes.fromhex(tree.chain), counters))


def _encode(outcome: "Outcome") -> bytes:
    document = msgspec.to_builtins(outcome.report)
    repaired = {"repaired_to": outcome.repaired_to, "repaired_from": outcome.repaired_from}
    return msgspec.json.encode({**document, **repaired})


def _lines(outcome: "Outcome", target: Target, *, read_data: bool) -> Iterator[str]:
    report = outcome.report
    found = count(len(report.damages), "damage") if report.damages else "all is well"
    yield f"{target.source.url}: {found}"
    yield from _looked_at(report, read_data=read_data)
    if target.mounted is not None:
        yield "  compared with what the mount shows"
    elif target.state_dir.exists():
        yield "  compared with what this machine keeps"
    if report.unsaved is not None:
        yield from _unsaved(report.unsaved)
    for damage in report.damages:
        yield from _damage(damage)
    for note in report.notes:
        yield from wrap(f"note: {note}", _COLUMNS, initial_indent="  ", subsequent_indent="    ")
    if outcome.repaired_to is not None:
        yield f"  this machine's tree was made anew: it is at commit {outcome.repaired_to}"
        if outcome.repaired_from is not None:
            yield f"  it began from the checkpoint of commit {outcome.repaired_from}"


def _looked_at(report: "CheckReport", *, read_data: bool) -> Iterator[str]:
    packs = f"{count(report.packs, 'pack')} of {size(report.stored_bytes)}"
    files = f"{count(report.files, 'file')} of {size(report.content_bytes)}"
    yield f"  {count(report.commits, 'commit')}, {packs}, {files}"
    if report.objects:
        yield f"  {count(report.objects, 'object')} of other tools that files refer to"
    if report.checkpoints:
        yield f"  {count(report.checkpoints, 'checkpoint')} to begin reading from"
    if read_data:
        yield f"  every byte of the packs was read: {size(report.read_bytes)}"
    else:
        yield "  the bytes in the packs were not read: --read-data does that, too"


def _unsaved(unsaved: "UnsavedReport") -> Iterator[str]:
    changed = max(unsaved.files, unsaved.names)
    if not changed and unsaved.commit is None:
        yield "  all that was done on this machine is saved"
        return
    age = f", the oldest for {duration(unsaved.oldest_s)}" if unsaved.oldest_s >= 1 else ""
    verb = "is" if changed == 1 else "are"
    yield f"  {entries(changed)}, {size(unsaved.bytes)}, {verb} on this machine alone{age}:"
    named = ", ".join(unsaved.paths[:_NAMED])
    more = f" and {changed - _NAMED:,} more" if changed > _NAMED else ""
    yield from wrap(f"{named}{more}", _COLUMNS, initial_indent=_DEEPER, subsequent_indent=_DEEPER)
    yield f"{_DEEPER}mounting the volume saves what can be read of it"


def _damage(damage: "Damage") -> Iterator[str]:
    yield f"  damaged: {damage.name}"
    indent = " " * 11
    # A key in the text is longer than a line; it stays in one piece, to be copied.
    yield from wrap(
        damage.problem,
        _COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if damage.file_count:
        named = ", ".join(damage.files[:_NAMED])
        more = f" and {damage.file_count - _NAMED:,} more" if damage.file_count > _NAMED else ""
        need = "needs" if damage.file_count == 1 else "need"
        text = f"{count(damage.file_count, 'file')} {need} it: {named}{more}"
        yield from wrap(text, _COLUMNS, initial_indent=indent, subsequent_indent=indent)
