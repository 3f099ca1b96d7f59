"""Put a mount's status into words for people, on lines of 80 columns."""

from collections.abc import Iterator
from itertools import chain, repeat
from textwrap import wrap

from blobfs.control.messages import (
    CacheStatus,
    CommitStatus,
    MountStatus,
    StoreStatus,
    TrashStatus,
    UnsavedStatus,
)
from blobfs.types import KIB

COLUMNS = 68
"""Left for what is said behind a name."""


def size(count_bytes: int) -> str:
    """Write a size with at most one digit behind the point: `1.5 GiB`."""
    value, unit = float(count_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < KIB:
            break
        value, unit = value / KIB, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def count(number: int, thing: str) -> str:
    """Write a number of things: `1 file`, `1,200 files`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def duration(seconds: float) -> str:
    """Write a duration by its two largest units: `2 h 5 min`."""
    minutes, whole_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (whole_s, "s")]
    first = next((index for index, (value, _) in enumerate(units) if value), 3)
    return " ".join(f"{value} {unit}" for value, unit in units[first : first + 2])


def entries(number: int) -> str:
    """Write a number of what directories hold, directories included: what saving counts."""
    return "1 file or folder" if number == 1 else f"{number:,} files and folders"


def unsaved_words(unsaved: UnsavedStatus) -> str:
    """Say how much is on this machine alone: `2 files and folders, 1.5 MiB`."""
    return f"{entries(unsaved.files)}, {size(unsaved.bytes)}"


def mount_lines(mount: MountStatus) -> Iterator[str]:
    """Yield a line for the mount, and indented ones for what is worth knowing of it."""
    mode = " (read-only)" if mount.read_only else ""
    yield f"{mount.mountpoint}  {mount.source}{mode}"
    yield from (f"  {name:<9} {said}" for name, said in _details(mount))


def _details(mount: MountStatus) -> Iterator[tuple[str, str]]:
    yield from _saving(mount)
    yield "state", _state(mount)
    if mount.state == "unresponsive":
        yield "", f"end it with: blobfs unmount --force {mount.mountpoint}"
    if mount.seq:
        yield from _wrapped("volume", _volume(mount.seq, mount.last_commit))
    if mount.quota is not None and mount.quota.limit_bytes is not None:
        yield "quota", _use(mount.quota.used_bytes, mount.quota.limit_bytes)
    if mount.trash is not None and mount.trash.objects:
        yield from _wrapped("trash", _trash(mount.trash))
    if mount.cache is not None:
        yield "cache", _cache(mount.cache)
    if mount.store is not None:
        yield from _store(mount.store)
    if mount.memory_bytes is not None:
        yield "memory", f"{size(mount.memory_bytes)}, open files: {mount.open_files}"
    yield from _oddities(mount)


def _saving(mount: MountStatus) -> Iterator[tuple[str, str]]:
    """Yield the one sentence that people look for: is everything saved, or what is not."""
    if mount.read_only_reason is not None:
        yield from _wrapped("read-only", f"because {mount.read_only_reason}")
    if mount.unsaved is None:
        return
    if not mount.safe:
        yield from _unsaved(mount.unsaved)
    elif not mount.read_only:
        yield "saved", "everything is saved"
    for lost in mount.unsaved.damaged:
        yield from _wrapped("lost", f"this machine's disk lost unsaved data: {lost}")


def _unsaved(unsaved: UnsavedStatus) -> Iterator[tuple[str, str]]:
    waiting = ""
    if unsaved.oldest_s >= 1:
        waiting = ", the oldest " + _unbroken(f"for {duration(unsaved.oldest_s)}")
    verb = "is" if unsaved.files == 1 else "are"
    yield from _wrapped("unsaved", f"{unsaved_words(unsaved)} {verb} not saved yet{waiting}")
    if unsaved.uploading_files:
        yield "", f"{entries(unsaved.uploading_files)} under way"
    if unsaved.problem is not None:
        yield from _wrapped("", f"saving does not get on: {unsaved.problem}")


def _volume(seq: int, last: CommitStatus | None) -> str:
    if last is None:
        return f"commit {seq}"
    ago = f"{duration(last.age_s)} ago"
    brought = f"{count(last.files, 'file')}, {size(last.bytes)} stored"
    return f"commit {seq}; the last from here: commit {last.seq}, {ago} ({brought})"


def _state(mount: MountStatus) -> str:
    if mount.state == "mounted" and mount.uptime_s is not None:
        return f"mounted for {duration(mount.uptime_s)}, pid {mount.pid}"
    said = "not answering" if mount.state == "unresponsive" else mount.state
    return f"{said}, pid {mount.pid}" + (f": {mount.problem}" if mount.problem else "")


def _cache(cache: CacheStatus) -> str:
    used = _use(cache.bytes, cache.limit_bytes)
    return f"{used}, {cache.hits} hits, {cache.misses} misses"


def _trash(trash: TrashStatus) -> str:
    number = (
        "1 removed object is" if trash.objects == 1 else f"{trash.objects:,} removed objects are"
    )
    said = f"{number} kept in the bucket ({size(trash.bytes)})"
    return f"{said}, because {trash.problem}" if trash.problem else said


def _use(used_bytes: int, limit_bytes: int) -> str:
    percent = 100 * used_bytes / limit_bytes if limit_bytes else 0
    return f"{size(used_bytes)} of {size(limit_bytes)} ({percent:.0f} %)"


def _store(store: StoreStatus) -> Iterator[tuple[str, str]]:
    asked = ", ".join(f"{name} {count}" for name, count in store.requests.items() if count)
    yield "requests", asked or "none"
    yield from _latency(store)
    moved = f"{size(store.bytes_received)} fetched"
    if store.bytes_sent:
        moved += f", {size(store.bytes_sent)} sent"
    if store.errors or store.retries:
        moved += f", {store.errors} errors, {store.retries} retries"
    yield "traffic", moved


def _latency(store: StoreStatus) -> Iterator[tuple[str, str]]:
    """Yield what half of the requests and what 99 of 100 took at most, class by class."""
    took = [
        _unbroken(f"{kind} {1000 * found.p50_s:.0f}/{1000 * found.p99_s:.0f}")
        for kind, found in store.latency.items()
    ]
    if took:
        yield from _wrapped("latency", f"p50/p99 in ms: {', '.join(took)}")


def _unbroken(text: str) -> str:
    """Return the text in such a way that `_wrapped` keeps it on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _wrapped(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield a text of any length on lines of its own."""
    for each, line in zip(chain([name], repeat("")), wrap(text, COLUMNS), strict=False):
        yield each, line.replace("\N{NO-BREAK SPACE}", " ")


def _oddities(mount: MountStatus) -> Iterator[tuple[str, str]]:
    if mount.incomplete is not None:
        yield from _wrapped("damaged", mount.incomplete)
    if mount.behind is not None:
        yield from _wrapped("behind", f"what others save cannot be seen: {mount.behind}")
    if mount.listings is not None and mount.listings.stale:
        why = f": {mount.listings.last_error}" if mount.listings.last_error else ""
        yield "stale", f"{mount.listings.stale} of {mount.listings.known} listings{why}"
    if mount.odd_keys is not None and mount.odd_keys.count:
        yield "odd keys", f"{mount.odd_keys.count} cannot be shown as files; --json names them"
