"""`blobfs check` names the files whose objects other tools took away (N2, N4)."""

from pathlib import Path

import pytest

from blobfs.env import Env
from blobfs.errors import Unreachable
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.sync.check import CheckOptions, check
from blobfs.sync.check_report import CheckReport
from tests.contracts.core_files import CoreFiles
from tests.core import opened_core
from tests.sync.test_every_step import save

OBJECTS = {f"d/{number:02}": b"object %d" % number for number in range(40)}


@pytest.fixture
async def store(quick_path: Path) -> MemoryStore:
    """A volume that refers to three objects: one under its own name, two under others."""
    store = MemoryStore()
    for key, data in OBJECTS.items():
        await store.put(key, data)
    async with opened_core(
        store, quick_path / "here", Env(), 60, read_only=False, settle_s=3600
    ) as core:
        files = CoreFiles(core)
        await files.chmod(b"d/00", 0o600)
        await files.rename(b"d/01", b"moved")
        await files.rename(b"d/02", b"d/renamed")
        await files.unlink(b"d/03")
        await save(core)
    return store


async def report_of(store: Store, quick_path: Path) -> CheckReport:
    (scratch := quick_path / "scratch").mkdir()
    return (await check(store, CheckOptions(scratch), Env())).report


async def test_objects_that_are_there_are_counted(store: MemoryStore, quick_path: Path) -> None:
    """Nobody would know that they were looked at."""
    report = await report_of(store, quick_path)
    assert (report.damages, report.objects) == ((), 3)


async def test_what_is_gone_is_named(store: MemoryStore, quick_path: Path) -> None:
    """A file would turn out unreadable when it is needed."""
    version = f"8 {(await store.head('d/01')).mtime_ns // 10**9}"
    await store.delete_many(["d/00", "d/01", "d/03"])
    report = await report_of(store, quick_path)
    named = {damage.name: damage for damage in report.damages}
    assert named.keys() == {"d/00", "moved"}
    assert {damage.kind for damage in report.damages} == {"native"}
    assert "is gone" in named["moved"].problem
    assert f"key='d/01' version='{version} " in named["moved"].problem
    assert not report.is_bucket_whole
    assert report.objects == 3


async def test_what_was_replaced_is_named(store: MemoryStore, quick_path: Path) -> None:
    """A moved file needs its version; one under its own name shows the new one (N4)."""
    for key in ("d/00", "d/01", "d/02"):
        await store.put(key, b"another")
    report = await report_of(store, quick_path)
    assert sorted(damage.name for damage in report.damages) == ["d/renamed", "moved"]
    assert all("another tool replaced" in damage.problem for damage in report.damages)


async def test_silence_is_no_finding(store: MemoryStore, quick_path: Path) -> None:
    """An outage would be told as a loss (P5)."""
    faulty = FaultyStore(store)
    faulty.fail("head", Unreachable("unplugged"), key="d/02", times=None)
    with pytest.raises(Unreachable):
        await report_of(faulty, quick_path)
