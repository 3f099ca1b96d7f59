"""Status for people."""

import msgspec
import pytest

from blobfs.cli.text import duration, mount_lines, size
from blobfs.control.messages import (
    CacheStatus,
    CommitStatus,
    Latency,
    ListingsStatus,
    MountStatus,
    OddKey,
    OddKeys,
    QuotaStatus,
    StoreStatus,
    TrashStatus,
    UnsavedStatus,
)

MOUNT = MountStatus(
    mountpoint="/home/u/data",
    source="s3://bucket",
    pid=4711,
    read_only=True,
    uptime_s=7512.3,
    state="mounted",
    cache=CacheStatus(bytes=5 * 2**30, limit_bytes=20 * 2**30, hits=12, misses=3),
    store=StoreStatus({"get": 3, "list": 2, "put": 0}, 3 * 2**20, 0, 0, 0),
    memory_bytes=80 * 2**20,
    fuse={"read": 3},
    listings=ListingsStatus(known=4, stale=0),
    odd_keys=OddKeys(),
    open_files=2,
)


def shown(**changes: object) -> str:
    return "\n".join(mount_lines(msgspec.structs.replace(MOUNT, **changes)))


def test_all_is_well() -> None:
    """The figures that people look for first would be missing."""
    assert shown().splitlines() == [
        "/home/u/data  s3://bucket (read-only)",
        "  state     mounted for 2 h 5 min, pid 4711",
        "  cache     5.0 GiB of 20.0 GiB (25 %), 12 hits, 3 misses",
        "  requests  get 3, list 2",
        "  traffic   3.0 MiB fetched",
        "  memory    80.0 MiB, open files: 2",
    ]


def test_a_quota_is_shown_where_there_is_one() -> None:
    """Users would meet it before they hear of it."""
    assert "quota" not in shown(quota=QuotaStatus(used_bytes=5))
    assert "  quota     1.5 GiB of 10.0 GiB (15 %)" in shown(
        quota=QuotaStatus(used_bytes=3 * 2**29, limit_bytes=10 * 2**30)
    )
    assert "  quota     5 B of 0 B (0 %)" in shown(quota=QuotaStatus(5, 0))


def test_what_is_kept_of_removed_objects_is_said() -> None:
    """Who removes files to save money would not see that it does not."""
    assert "trash" not in shown(trash=TrashStatus())
    assert "  trash     1 removed object is kept in the bucket (5 B)" in shown(
        trash=TrashStatus(1, 5)
    )
    text = shown(trash=TrashStatus(2000, 3 * 2**20, "the store does not answer"))
    assert "  trash     2,000 removed objects are kept in the bucket (3.0 MiB), because" in text
    assert "the store does not answer" in " ".join(text.split())


def test_what_is_not_well_is_said() -> None:
    """Stale listings and hidden keys would go unnoticed."""
    text = shown(
        store=StoreStatus({"get": 10**7, "list": 10**6, "head": 10**6}, 2**40, 2**31, 12, 34),
        listings=ListingsStatus(known=4, stale=1, last_error="no answer in time"),
        odd_keys=OddKeys(2, (OddKey("a//b", "empty name"),)),
        incomplete="a part of the checkpoint 00000000000000000042-0123456789abcdef is gone",
        behind="no answer in time",
    )
    assert "  traffic   1.0 TiB fetched, 2.0 GiB sent, 12 errors, 34 retries" in text
    assert "  stale     1 of 4 listings: no answer in time" in text
    assert "  odd keys  2 cannot be shown as files; --json names them" in text
    assert "  damaged   a part of the checkpoint 000" in text
    assert "  behind    what others save cannot be seen: no answer in time" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def written(**changes: object) -> list[str]:
    """Return what is said of a mount for writing, between its name and the cache."""
    lines = shown(read_only=False, unsaved=UnsavedStatus(), safe=True, seq=42, **changes)
    return lines.splitlines()[1:-4]


def test_all_is_saved() -> None:
    """Nobody would know whether the machine may be switched off: what people look for first."""
    assert written() == [
        "  saved     everything is saved",
        "  state     mounted for 2 h 5 min, pid 4711",
        "  volume    commit 42",
    ]
    assert written(last_commit=CommitStatus(41, 185.2, 12, 3 * 2**20))[-2:] == [
        "  volume    commit 42; the last from here: commit 41, 3 min 5 s ago (12 files,",
        "            3.0 MiB stored)",
    ]


def test_what_is_not_saved_is_said_and_why() -> None:
    """Work would be lost with a machine that looked idle."""
    unsaved = UnsavedStatus(
        files=3,
        bytes=12 * 2**20,
        oldest_s=125,
        uploading_files=2,
        uploaded_bytes=2**20,
        problem="no answer within 30 s. " + "store=s3://bucket/prefix " * 4,
        damaged=("inode=7 start=0",),
    )
    lines = shown(read_only=False, unsaved=unsaved, safe=False, seq=0).splitlines()
    assert lines[1:4] == [
        "  unsaved   3 files and folders, 12.0 MiB are not saved yet, the oldest",
        "            for 2 min 5 s",
        "            2 files and folders under way",
    ]
    assert lines[4].startswith("            saving does not get on: no answer within 30 s.")
    assert "  lost      this machine's disk lost unsaved data: inode=7 start=0" in lines
    assert all(len(line) <= 80 for line in lines)
    assert not any("volume" in line for line in lines)


def test_how_long_requests_take_is_said_by_class() -> None:
    """Or whoever waits could not tell a slow store from a slow mount."""
    took = {"get": Latency(0.032, 0.128, (1,)), "head": Latency(0.001, 0.001, (1,))}
    store = StoreStatus({"get": 3, "head": 1}, 0, 0, 0, 0, took)
    assert "  latency   p50/p99 in ms: get 32/128, head 1/1" in shown(store=store).splitlines()


def test_the_slowest_store_fits_on_the_screen() -> None:
    """Or the lines of a store that needs looking at would break in the middle."""
    took = {
        kind: Latency(32.768, 32.768, (1,)) for kind in ("get", "head", "list", "put", "delete")
    }
    text = shown(store=StoreStatus({"get": 3}, 0, 0, 0, 0, took))
    assert "delete 32768/32768" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_daemon_that_does_not_answer() -> None:
    """The user would not know which process hangs, nor how to get rid of it."""
    silent = MountStatus(
        mountpoint="/m",
        source="s3://b",
        pid=7,
        read_only=True,
        state="unresponsive",
        problem="late",
    )
    assert list(mount_lines(silent)) == [
        "/m  s3://b (read-only)",
        "  state     not answering, pid 7: late",
        "            end it with: blobfs unmount --force /m",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2**50, "1024.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    """A full cache would look empty."""
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3600, "1 h 0 min"), (90061, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    """A mount of yesterday would look new."""
    assert duration(seconds) == text
