"""A copy of a state folder becomes another client, and nothing is lost on either side (L6)."""

import copy
import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path

import pytest
import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError, Unreachable
from blobfs.formats.entry import decode_entry
from blobfs.formats.keys import CLIENTS, LOG, parse_client_key
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.sync.check import CheckOptions, check
from blobfs.types import KIB, ClientId
from blobfs.volume.client import FILE
from tests.sync.place import Place, opened_place
from tests.sync.test_beginning import checkpoint, see
from tests.sync.test_every_step import CrashPoints, Killed
from tests.sync.test_meanwhile import Cut
from tests.volume.power import Disk

LARGE = random.Random(1).randbytes(700 * KIB)
OTHER = random.Random(2).randbytes(300 * KIB)


class Machines:
    """A volume, and machines that share its bucket: the first, copies of it, and a fresh one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = MemoryStore()

    def copy(self, of: str, to: str) -> None:
        """Copy a state folder as a backup does."""
        shutil.copytree(self.root / of / "state", self.root / to / "state")

    def on(
        self,
        machine: str,
        *,
        env: Env | None = None,
        read_only: bool = False,
        store: Store | None = None,
    ) -> AbstractAsyncContextManager[Place]:
        store = store or self.store
        return opened_place(store, self.root / machine, env=env, read_only=read_only)

    async def kill_at(self, point: str, name: str, content: bytes) -> None:
        """Kill the first machine there, while it saves a file; `left` is what it leaves."""
        killed = Killed(self.root / "first", self.root / "left")
        points = CrashPoints(Counter(), {(point, 1): killed.die})
        with killed.scope:
            async with self.on("first", env=Env(crash_point=points.pass_by)) as place:
                await place.write(name, content)
                await save(place)
        assert killed.is_dead

    async def tree(self) -> dict[str, bytes | None]:
        """Return what a machine sees that has nothing but the bucket."""
        shutil.rmtree(self.root / "fresh", ignore_errors=True)
        async with self.on("fresh") as place:
            return await place.tree()

    async def authors(self) -> list[ClientId]:
        """Return who made each commit."""
        keys = [found.key for found in (await self.store.list(LOG)).objects]
        return [decode_entry(self.store.peek(key), key=key).client for key in keys]

    async def require_whole(self, *machines: str) -> None:
        """See that `blobfs check` finds nothing wrong with the bucket, nor with these machines."""
        for machine in machines:
            scratch = self.root / "scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            options = CheckOptions(scratch, read_data=True, state_dir=self.root / machine / "state")
            assert (await check(self.store, options, Env())).report.damages == ()


async def save(place: Place) -> None:
    """Commit everything; who cannot, waits for ever."""
    with trio.fail_after(20):
        await place.save()


@pytest.fixture
async def machines(quick_path: Path) -> Machines:
    """One that has saved a file and a directory, and has numbers left to give."""
    machines = Machines(quick_path)
    async with machines.on("first") as place:
        await place.write("old", b"old")
        await place.mkdir("d")
        await save(place)
    return machines


OLD = {"old": b"old", "d": None}


async def test_both_sides_go_on(machines: Machines) -> None:
    """Who restores a backup could not save any more, or would destroy what was saved."""
    machines.copy("first", "copy")
    async with machines.on("first") as place:
        await place.write("d/ours", LARGE)
        await save(place)
    async with machines.on("copy") as place:
        await place.write("d/theirs", OTHER)
        await save(place)
    async with machines.on("first") as place:
        await place.write("ours too", b"1")
        await save(place)
    expected = {**OLD, "d/ours": LARGE, "d/theirs": OTHER, "ours too": b"1"}
    assert await machines.tree() == expected
    first, second, third, fourth = await machines.authors()
    assert first == second == fourth != third
    known = {parse_client_key(found.key) for found in (await machines.store.list(CLIENTS)).objects}
    assert known == {first, third}
    await machines.require_whole("first", "copy")


async def fill(place: Place) -> None:
    """Leave all kinds of unsaved changes: new ones in new directories, and of committed files."""
    await place.mkdir("new")
    await place.mkdir("new/deep")
    await place.write("new/deep/large", LARGE)
    await place.write("new/small", b"small")
    await place.write("d/inside", b"in an old directory")
    await place.write("old", b"-changed", offset=3)


FILLED = {
    **OLD,
    "old": b"old-changed",
    "new": None,
    "new/deep": None,
    "new/deep/large": LARGE,
    "new/small": b"small",
    "d/inside": b"in an old directory",
}


async def test_what_was_unsaved_when_it_was_copied(machines: Machines) -> None:
    """Files of two machines would be one: the content of the one under the name of the other."""
    async with machines.on("first") as place:
        await place.mkdir("new")
        await place.mkdir("new/deep")
        await place.write("new/deep/large", LARGE)
        await place.write("d/inside", b"in an old directory")
    machines.copy("first", "copy")
    async with machines.on("first") as place:
        await place.rename("new", "moved")
        await place.rename("d/inside", "d/elsewhere")
        await place.write("moved/deep/large", b"x" * 5000, offset=1000)
        await place.write("moved/later", b"1")
        await save(place)
    async with machines.on("copy") as place:
        await place.write("new/later", b"2")
        await place.write("new/deep/large", b"y" * 100, offset=10)
        shown = await place.tree()
    async with machines.on("copy") as place:
        assert await place.tree() == shown
        await save(place)
    ours = LARGE[:1000] + b"x" * 5000 + LARGE[6000:]
    theirs = LARGE[:10] + b"y" * 100 + LARGE[110:]
    assert await machines.tree() == {
        **OLD,
        "moved": None,
        "moved/deep": None,
        "moved/deep/large": ours,
        "moved/later": b"1",
        "d/elsewhere": b"in an old directory",
        "new": None,
        "new/deep": None,
        "new/deep/large": theirs,
        "new/later": b"2",
        "d/inside": b"in an old directory",
    }
    await machines.require_whole("first", "copy")


async def test_changes_of_committed_files_stay(machines: Machines) -> None:
    """An edit that waited in the copy would turn into a second file, or be gone."""
    machines.copy("first", "copy")
    async with machines.on("first") as place:
        await place.write("d/ours", b"1")
        await save(place)
    async with machines.on("copy") as place:
        await fill(place)
    async with machines.on("copy") as place:
        assert await place.tree() == {**FILLED, "d/ours": b"1"}
        await save(place)
    assert await machines.tree() == {**FILLED, "d/ours": b"1"}
    await machines.require_whole("first", "copy")


async def test_both_at_once(machines: Machines) -> None:
    """Two mounts at a time would overwrite each other's commits, or both stop for ever."""
    machines.copy("first", "copy")
    async with machines.on("first") as first, machines.on("copy") as copy:
        await first.write("ours", b"1")
        await save(first)
        await copy.write("theirs", b"2")
        copy.engine.hurry()
        with trio.fail_after(10):
            while copy.engine.statistics().problem is None:  # noqa: ASYNC110 - nothing says it
                await trio.sleep(0.01)
        assert "is a copy" in str(copy.engine.statistics().problem)
        assert await copy.tree() == {**OLD, "theirs": b"2"}
        await first.write("ours too", b"3")
        await save(first)
    async with machines.on("copy") as copy:
        await save(copy)
    assert await machines.tree() == {**OLD, "ours": b"1", "theirs": b"2", "ours too": b"3"}
    await machines.require_whole("first", "copy")


@pytest.mark.parametrize("is_taken", [False, True], ids=["free", "taken"])
@pytest.mark.parametrize("point", ["commit.noted", "commit.landed", "commit.replayed"])
async def test_a_commit_was_under_way(machines: Machines, point: str, is_taken: bool) -> None:
    """What the commit brought would be there twice, or be taken for saved and be lost (L2)."""
    points = CrashPoints(Counter(), {(point, 1): lambda: machines.copy("first", "copy")})
    async with machines.on("first", env=Env(crash_point=points.pass_by)) as place:
        await place.mkdir("new")
        await place.write("new/f", LARGE)
        await save(place)
        await place.write("ours", b"1")
        await place.rename("new/f", "new/renamed")
        await save(place)
    if is_taken:
        async with machines.on("third") as place:
            await place.write("third", b"3")
            await save(place)
    async with machines.on("copy") as place:
        await place.write("theirs", b"2")
        await save(place)
    expected = {**OLD, "new": None, "new/renamed": LARGE, "ours": b"1", "theirs": b"2"}
    expected |= {"third": b"3"} if is_taken else {}
    assert await machines.tree() == expected
    await machines.require_whole("first", "copy")


async def test_a_slot_that_another_took(machines: Machines) -> None:
    """A commit that never landed would be taken for one that did, since its number came up."""
    await machines.kill_at("commit.noted", "f", LARGE)
    async with machines.on("third") as place:
        await place.write("third", b"3")
        await save(place)
    machines.copy("left", "copy")
    async with machines.on("left") as place:
        await place.rename("f", "ours")
        await save(place)
    async with machines.on("copy") as place:
        await save(place)
    assert await machines.tree() == {**OLD, "third": b"3", "ours": LARGE, "f": LARGE}
    await machines.require_whole("left", "copy")


async def test_both_tried_the_same_slot(machines: Machines) -> None:
    """What the other put there would be taken for what was under way here, which is then lost."""
    machines.copy("first", "other")
    await machines.kill_at("commit.noted", "theirs", LARGE)
    async with machines.on("other") as place:
        await place.write("ours", OTHER)
        await save(place)
    async with machines.on("left") as place:
        await save(place)
    assert await machines.tree() == {**OLD, "ours": OTHER, "theirs": LARGE}
    await machines.require_whole("left", "other")


async def test_the_log_was_cut_meanwhile(machines: Machines) -> None:
    """Whoever comes back when the other's commits are in a checkpoint alone would be stuck (L4)."""
    async with machines.on("first") as place:
        await place.mkdir("new")
        await place.write("new/f", LARGE)
    machines.copy("first", "copy")
    async with machines.on("first") as place:
        await place.rename("new", "ours")
        await save(place)
        await checkpoint(machines.store, place, cut=True)
    async with machines.on("copy") as place:
        await save(place)
    seen = await see(machines.store, machines.root / "fresh")
    assert seen == {**OLD, "ours": None, "ours/f": LARGE, "new": None, "new/f": LARGE}
    await machines.require_whole("copy")


async def test_an_identity_older_than_its_tree(machines: Machines) -> None:
    """A backup that was made file by file would go on under an id that is used elsewhere."""
    before = (machines.root / "first" / "state" / FILE).read_bytes()
    async with machines.on("first") as place:
        await place.write("f", b"1")
        await save(place)
        await place.write("unsaved", b"2")
    (machines.root / "first" / "state" / FILE).write_bytes(before)
    async with machines.on("first") as place:
        await save(place)
    assert await machines.tree() == {**OLD, "f": b"1", "unsaved": b"2"}
    _, second, third = await machines.authors()
    assert second != third
    await machines.require_whole("first")


async def test_a_copy_that_only_reads(machines: Machines) -> None:
    """Who looks at a backup could not even mount it."""
    machines.copy("first", "copy")
    async with machines.on("first") as place:
        await place.write("f", b"1")
        await save(place)
    async with machines.on("copy", read_only=True) as place:
        assert await place.tree() == {**OLD, "f": b"1"}
    await machines.require_whole("first", "copy")


async def test_what_both_saved_under_one_name(machines: Machines) -> None:
    """Who saves second keeps its work beside the other's, under a name of its own (P4, C1)."""
    async with machines.on("first") as place:
        await place.write("f", b"both")
    machines.copy("first", "copy")
    async with machines.on("first") as place:
        await place.write("f", b"ours")
        await save(place)
    async with machines.on("copy") as place:
        await save(place)
    tree = await machines.tree()
    assert tree.pop("f") == b"ours"
    (beside,) = tree.keys() - OLD.keys()
    assert beside.startswith("f (conflict ")
    assert tree[beside] == b"both"
    await machines.require_whole("first", "copy")


async def go_separate_ways(machines: Machines) -> dict[str, bytes | None]:
    """Leave a `backup` that is a copy with something unsaved; return what there is in all."""
    async with machines.on("first") as place:
        await place.write("new", LARGE)
        await place.mkdir("dir")
        await place.write("dir/f", b"1")
    machines.copy("first", "backup")
    async with machines.on("first") as place:
        await place.rename("new", "ours")
        await place.rename("dir", "our dir")
        await save(place)
    return await machines.tree() | {"new": LARGE, "dir": None, "dir/f": b"1"}


@pytest.mark.slow
async def test_each_request_fails_once(machines: Machines) -> None:
    """A bad moment of the network, and the copy would be neither one client nor the other."""
    expected = await go_separate_ways(machines)
    for nth in count(1):
        shutil.rmtree(machines.root / "copy", ignore_errors=True)
        machines.copy("backup", "copy")
        store = FaultyStore(machines.store)
        store.fail("any", Unreachable("unplugged, by a rule"), nth=nth)
        try:
            async with machines.on("copy", store=store):
                pass
        except* BlobfsError:
            pass
        async with machines.on("copy") as place:
            assert await place.tree() == expected
        if nth > store.calls.total():
            break
    async with machines.on("copy") as place:
        await save(place)
    assert await machines.tree() == expected
    await machines.require_whole("first", "copy")


async def _renewed(machines: Machines, crash_point: Callable[[str], None]) -> None:
    """Mount the copy, which notices, and leave it again."""
    async with machines.on("copy", env=Env(crash_point=crash_point)):
        pass


@pytest.mark.slow
async def test_a_kill_at_each_step(machines: Machines) -> None:
    """Half a renewal would leave files with the numbers of another machine, never to be saved."""
    expected = await go_separate_ways(machines)
    machines.copy("backup", "copy")
    passed: Counter[str] = Counter()
    await _renewed(machines, CrashPoints(passed).pass_by)
    assert passed.keys() >= {"renewal.renumbered", "renewal.renewed", "journal.synced"}
    store = copy.deepcopy(machines.store)
    for point, times in passed.items():
        for nth in range(1, times + 1):
            for machine in ("copy", "left"):
                shutil.rmtree(machines.root / machine, ignore_errors=True)
            machines.store = copy.deepcopy(store)
            machines.copy("backup", "copy")
            killed = Killed(machines.root / "copy", machines.root / "left")
            points = CrashPoints(Counter(), {(point, nth): killed.die})
            with killed.scope:
                await _renewed(machines, points.pass_by)
            assert killed.is_dead
            async with machines.on("left") as place:
                assert await place.tree() == expected
                await save(place)
            assert await machines.tree() == expected
            await machines.require_whole("left")


@pytest.mark.slow
@pytest.mark.parametrize("point", ["renewal.renumbered", "renewal.renewed"])
async def test_a_power_cut_between_the_steps(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The new id would be left, with numbers of the old one: nothing could be saved (P2)."""
    expected = await go_separate_ways(machines)
    store = copy.deepcopy(machines.store)
    for seed in range(3):
        for machine in ("copy", "left"):
            shutil.rmtree(machines.root / machine, ignore_errors=True)
        machines.store = copy.deepcopy(store)
        machines.copy("backup", "copy")
        here = machines.root / "copy"
        with monkeypatch.context() as patched:
            disk = Disk(here / "state" / "journal", patched)
            cut = Cut(here, machines.root / "left", disk, random.Random(seed))
            points = CrashPoints(Counter(), {(point, 1): cut.die})
            with cut.scope:
                await _renewed(machines, points.pass_by)
        assert cut.is_dead
        with monkeypatch.context() as patched:
            patched.setattr("blobfs.volume.journal.boot_id", lambda: "another run")
            async with machines.on("left") as place:
                assert await place.tree() == expected
                await save(place)
        assert await machines.tree() == expected
