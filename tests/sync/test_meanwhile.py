"""While all is being saved programs go on, and the power may fail: saving takes nothing back.

A *moment* is a crash point on the way of a save: between the snapshot of what is unsaved and the
end of the cleaning behind it.
"""

import random
import shutil
import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from blobfs.errors import Unreachable
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import KIB
from tests.contracts.core_files import CoreFiles
from tests.core import opened_core
from tests.sync.both import Do, Moment, OracleProgram, Program, seen
from tests.sync.test_every_step import (
    EXPECTED,
    SAVE,
    STORY,
    Doomed,
    Killed,
    Telling,
    furnished,
    require_seen_elsewhere,
    require_whole,
    save,
)
from tests.volume.power import Disk

MOMENTS = [
    "pack.sealed",
    "pack.noted",
    "push.uploaded",
    "commit.noted",
    "commit.landed",
    "commit.replayed",
    "unsaved.cleaned",
]
BODY = random.Random(1).randbytes(600 * KIB)


def new(name: bytes, content: bytes) -> list[Do]:
    return [Do("make", ((name,), stat.S_IFREG, 0o644)), Do("write", ((name,), 0, content))]


BEFORE = [
    *new(b"written", BODY),
    *new(b"cut", BODY),
    *new(b"stretched", BODY[:1000]),
    *new(b"renamed", BODY[:5000]),
    *new(b"removed", BODY[:3000]),
    *new(b"replaced", BODY[:100]),
    *new(b"marked", BODY[:100]),
]
MEANWHILE = [
    Do("write", ((b"written",), 250 * KIB, b"z" * 20_000)),
    Do("truncate", ((b"cut",), 1000)),
    Do("truncate", ((b"cut",), 2000)),
    Do("write", ((b"stretched",), 9000, b"end")),
    Do("rename", ((b"renamed",), (b"other",))),
    Do("unlink", ((b"removed",),)),
    *new(b"removed", b"again"),
    Do("rename", ((b"marked",), (b"replaced",))),
    Do("setxattr", ((b"replaced",), b"user.a", b"b")),
    Do("chmod", ((b"replaced",), 0o600)),
]


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "committed"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_changes_while_saving_are_kept(quick_path: Path, moment: str, is_new: bool) -> None:
    """Whoever writes just while blobfs saves would find the older content later."""
    clock, oracle, store = Moment(), OracleProgram(), MemoryStore()
    to_do: list[Do] = []

    async def do(operations: list[Do]) -> None:
        while operations:
            clock.now_ns += 1000
            oracle.oracle.now_ns = clock.now_ns
            oracle.do(operations[0])
            await program.do(operations.pop(0))

    def meanwhile(point: str) -> None:
        if point == moment:
            nursery.start_soon(do, to_do)

    env = clock.env(meanwhile)
    opening = opened_core(store, quick_path / "here", env, 60, read_only=False, settle_s=3600)
    async with opening as core, trio.open_nursery() as nursery:
        program = Program(CoreFiles(core))
        await do([*BEFORE])
        if not is_new:
            await save(core)
            await do([Do("write", ((name,), 1, b"!")) for name in _names(oracle)])
        to_do += MEANWHILE
        await core.engine.save()
        while to_do:
            await trio.testing.wait_all_tasks_blocked()
        assert await seen(program.files) == oracle.seen()
        await save(core)
        assert await seen(program.files) == oracle.seen()
    await require_whole(store, quick_path / "here" / "state")
    await require_seen_elsewhere(store, quick_path / "elsewhere", oracle.seen())


async def test_what_dies_in_a_commit_that_fails_leaves_nothing(quick_path: Path) -> None:
    """Rows of files that never were anywhere would stay unsaved for ever."""
    store = FaultyStore(MemoryStore())

    def fail(point: str) -> None:
        if point == "push.uploaded" and not store.calls["fails"]:
            store.calls["fails"] += 1
            store.fail("any", Unreachable("gone, by a rule"))
            nursery.start_soon(program.unlink, (b"dies",))

    env = Moment().env(fail)
    opening = opened_core(store, quick_path, env, 60, read_only=False, settle_s=3600)
    async with opening as core, trio.open_nursery() as nursery:
        program = Program(CoreFiles(core))
        await program.make((b"dies",), stat.S_IFREG, 0o644)
        await save(core)
        assert core.engine.unsaved.statistics().files == 0
        assert await seen(program.files) == {}


def _names(oracle: OracleProgram) -> list[bytes]:
    return [path[0] for path in oracle.seen()]


class Cut(Killed):
    """Takes the power from a client: of its journal only that is sure which was synced."""

    def __init__(self, here: Path, left: Path, disk: Disk, chance: random.Random) -> None:
        super().__init__(here, left)
        self._disk = disk
        self._chance = chance

    def keep(self, here: Path, left: Path) -> None:
        shutil.copytree(here, left, ignore=shutil.ignore_patterns("journal"))
        self._disk.cut(left / "journal", self._chance)


@pytest.mark.slow
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
async def test_a_power_cut_at_each_put(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch, happens: bool
) -> None:
    """What others see in the bucket would be taken back here, or turn into zeros (P2, S2)."""
    chance = random.Random(2)
    nth = 0
    while True:
        nth += 1
        inner, where = await furnished(), quick_path / str(nth)
        (journal := where / "here" / "state" / "journal").mkdir(parents=True)
        with monkeypatch.context() as patched:
            cut = Cut(where / "here", where / "left", Disk(journal, patched), chance)
            store = Doomed(inner, cut.die, nth, happens=happens, kind="put")
            telling = Telling(store, where / "here", killed=cut)
            with cut.scope:
                await telling.tell()
        if not cut.is_dead:
            break
        with monkeypatch.context() as patched:
            patched.setattr("blobfs.volume.journal.boot_id", lambda: "another run")
            await _require_kept(inner, where / "left", telling.done)
        shutil.rmtree(where)


async def _require_kept(store: MemoryStore, left: Path, done: int) -> None:
    """Nothing is sent before it is on the disk, so at a put all that was done is there."""
    opening = opened_core(store, left, Moment().env(), 60, read_only=False, settle_s=3600)
    async with opening as core:
        assert core.engine.unsaved.statistics().damages == ()
        assert STORY[done] == SAVE
        assert await seen(CoreFiles(core)) == EXPECTED.after[done]
        await save(core)
    await require_whole(store, left / "state")
    await require_seen_elsewhere(store, left / "elsewhere", EXPECTED.after[done])
