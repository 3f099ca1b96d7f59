"""Bytes of removed objects go when the volume says so, of the version that is meant (N5)."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from blobfs.env import Env
from blobfs.errors import AccessDenied, BlobfsError, NotFound, Unreachable
from blobfs.formats.keys import PROBES, RESERVED
from blobfs.formats.tables import Kept
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.layers import Ask, Layer
from blobfs.stores.memory import MemoryStore
from blobfs.sync.binding import Bucket
from blobfs.sync.creating import create_volume
from blobfs.sync.delete_probe import FAILED, DeleteProbe, known_verdict
from blobfs.sync.settings import change_settings
from blobfs.sync.trash import TrashRules
from blobfs.types import ClientId
from tests.contracts.core_files import CoreFiles
from tests.core import Core, opened_core
from tests.sync.both import Moment
from tests.sync.test_every_step import Doomed, Halting, Killed, require_whole

T = TypeVar("T")

QUICK = TrashRules(open_look_s=0.001, note_after_s=0.001, first_pause_s=0.001)
OBJECTS = {"d/cat": b"cat", "d/dog": b"doggy", "top": b"top"}
ME = ClientId(b"m" * 16)


class Forgetful(Layer):
    """A store that deletes whatever version it finds."""

    async def delete_if_match(self, key: str, etag: str) -> None:
        await self.inner.delete_many([key])

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        return await call()


async def bucket(folder: Path, trash_s: int | None = 0) -> MemoryStore:
    """Return a bucket with the objects, and a volume that keeps removed ones for so long."""
    await furnish(store := MemoryStore(), folder, trash_s)
    return store


async def furnish(store: MemoryStore, folder: Path, trash_s: int | None = 0) -> None:
    for key, data in OBJECTS.items():
        await store.put(key, data)
    elsewhere = folder / "maker"
    await create_volume(
        Bucket(store, store, ""), elsewhere, Env(), compression="zstd", single_writer=False
    )
    await change_settings(store, elsewhere, {"trash_s": trash_s}, is_mounted=False)


@asynccontextmanager
async def mounted(
    store: Store, folder: Path, rules: TrashRules = QUICK, env: Env | None = None
) -> AsyncIterator[Core]:
    opening = opened_core(
        store, folder, env or Env(), 60, read_only=False, settle_s=3600, trash=rules
    )
    async with opening as core:
        yield core


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():
            with trio.move_on_after(0.002):  # a look costs more than the threads can spare
                await trio.sleep_forever()


async def save(core: Core) -> None:
    """Return when all is saved; whenever saving pauses after a fault, it is told to go on."""
    serial = core.engine.hurry()
    await until(lambda: bool(core.engine.is_saved(serial) or not core.engine.hurry()))
    assert core.engine.statistics().is_safe


async def until_noted(core: Core) -> None:
    """Return when a commit said that all is gone."""
    await until(lambda: bool(core.engine.tree.kept() == Kept() or not core.engine.hurry()))


def objects(store: MemoryStore) -> set[str]:
    """Return the keys of other tools' objects."""
    return {key for key in store._objects if not key.startswith(RESERVED)}


async def test_n5_what_was_removed_goes_after_the_commit(quick_path: Path) -> None:
    """Whoever keeps no trash would pay for removed files for ever, or lose one that is not."""
    store = await bucket(quick_path)
    async with mounted(store, quick_path / "here") as core:
        files = CoreFiles(core)
        await files.unlink(b"d/cat")
        await files.rename(b"top", b"d/dog")
        assert objects(store) == set(OBJECTS), "nothing landed yet"
        await save(core)
        await until_noted(core)
        assert objects(store) == {"top"}, "which has another name now"
        assert await files.read(b"d/dog") == b"top"
        assert await files.listdir(b"d") == [b"dog"]
        assert core.engine.trash.problem is None
    await require_whole(store, quick_path / "here" / "state")


async def test_n5_what_was_taken_over_goes_too(quick_path: Path) -> None:
    """Each changed file would be there, and be paid for, twice."""
    store = await bucket(quick_path)
    async with mounted(store, quick_path / "here") as core:
        files = CoreFiles(core)
        handle = await files.open(b"d/dog", os.O_RDWR)
        await handle.write(1, b"ig")
        await save(core)
        await until_noted(core)
        assert objects(store) == {"d/cat", "top"}
        assert await handle.read(0, 9) == b"diggy"
        await handle.close()
    async with mounted(store, quick_path / "elsewhere") as core:
        assert await CoreFiles(core).read(b"d/dog") == b"diggy"


async def test_n5_by_default_all_is_kept_and_counted(quick_path: Path) -> None:
    """What was removed by mistake could not be brought back with any tool."""
    store = FaultyStore(inner := await bucket(quick_path, None))
    async with mounted(store, quick_path / "here") as core:
        await CoreFiles(core).unlink(b"d/cat")
        await CoreFiles(core).unlink(b"d/dog")
        await save(core)
        assert core.engine.tree.kept() == Kept(2, 8)
        assert core.engine.trash.problem is None
    async with mounted(store, quick_path / "here") as core:
        await save(core)
        assert core.engine.tree.kept() == Kept(2, 8)
    assert store.calls["delete"] == 0
    assert objects(inner) == set(OBJECTS)


async def test_n5_what_was_kept_goes_once_nothing_is_to_be(quick_path: Path) -> None:
    """`blobfs settings --trash-time 0` would leave everything behind that was kept before."""
    store = await bucket(quick_path, None)
    async with mounted(store, quick_path / "here") as core:
        await CoreFiles(core).unlink(b"d/cat")
        await save(core)
        await change_settings(store, quick_path / "maker", {"trash_s": 0}, is_mounted=False)
        await core.engine.look_at_settings()
        await until_noted(core)
    assert objects(store) == {"d/dog", "top"}


async def test_n5_another_version_is_kept(quick_path: Path) -> None:
    """What another tool has just written would be deleted in place of what was removed."""
    store = await bucket(quick_path)
    etag = (await store.head("d/cat")).etag

    class Overtaking(Forgetful):
        """Another tool puts a new version, between the last look and the delete."""

        async def delete_if_match(self, key: str, etag: str) -> None:
            if key == "d/cat":
                await store.put("d/cat", b"another")
            await store.delete_if_match(key, etag)

    async with mounted(Overtaking(store), quick_path / "here") as core:
        await CoreFiles(core).unlink(b"d/cat")
        await CoreFiles(core).unlink(b"top")
        await store.put("top", b"put again before")
        await save(core)
        await until_noted(core)
    assert store.peek("d/cat") == b"another"
    assert store.peek("top") == b"put again before"
    assert (await store.head("d/cat")).etag != etag


class ByContent(MemoryStore):
    """A store that calls equal bytes by equal ETags, as S3 does."""

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        etag = await super().put(key, data, if_absent=if_absent, if_match=if_match)
        etag, _, _ = etag.partition("-")
        found = self._objects[key]
        self._objects[key] = replace(found, info=replace(found.info, etag=etag))
        return etag


async def test_n5_the_same_bytes_put_again_are_another_version(quick_path: Path) -> None:
    """A file that another tool has brought back would go as soon as it is there (N1)."""
    moment = Moment()
    store = ByContent(env=moment.env())
    await furnish(store, quick_path)
    faulty = FaultyStore(store)
    faulty.fail("delete", Unreachable("unplugged"), times=None)
    async with mounted(faulty, quick_path / "here") as core:
        await CoreFiles(core).unlink(b"top")
        await save(core)
        await until(lambda: core.engine.trash.problem is not None)
    moment.now_ns += 10**10
    await store.put("top", OBJECTS["top"])
    async with mounted(store, quick_path / "here") as core:
        await until_noted(core)
        assert await CoreFiles(core).read(b"top") == OBJECTS["top"]
    assert objects(store) == set(OBJECTS)


async def test_n5_the_last_reference_decides(quick_path: Path) -> None:
    """The bytes of a file with two names would go with the first (N2)."""
    store = await bucket(quick_path)
    async with mounted(store, quick_path / "here") as core:
        files = CoreFiles(core)
        await files.link(b"d/cat", b"hard")
        await save(core)
        await files.unlink(b"d/cat")
        await files.unlink(b"top")
        await save(core)
        await until_noted(core)
        assert objects(store) == {"d/cat", "d/dog"}
        assert await files.read(b"hard") == b"cat"
        await files.unlink(b"hard")
        await save(core)
        await until_noted(core)
        assert objects(store) == {"d/dog"}


async def test_n5_a_file_that_is_open_keeps_its_bytes(quick_path: Path) -> None:
    """Removing a file would be felt by the programs that read it, unlike on any disk."""
    store = await bucket(quick_path)
    async with mounted(store, quick_path / "here") as core:
        files = CoreFiles(core)
        native = await files.open(b"d/cat", os.O_RDONLY)
        await files.chmod(b"top", 0o600)
        await save(core)
        bound = await files.open(b"top", os.O_RDONLY)
        for path in (b"d/cat", b"top", b"d/dog"):
            await files.unlink(path)
        await save(core)
        await until(lambda: objects(store) == {"d/cat", "top"})
        assert (await native.read(0, 9), await bound.read(0, 9)) == (b"cat", b"top")
        await native.close()
        await until(lambda: objects(store) == {"top"})
        await bound.close()
        await until_noted(core)
    assert objects(store) == set()


async def test_n5_a_store_that_passes_over_the_condition_deletes_nothing(
    quick_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would delete what another tool has just written, at some moment or other."""
    store = Forgetful(inner := await bucket(quick_path))
    for path in (b"d/cat", b"top"):
        async with mounted(store, quick_path / "here") as core:
            await CoreFiles(core).unlink(path)
            await save(core)
            await until(lambda core=core: core.engine.trash.problem is not None)  # type: ignore[misc]
            assert core.engine.trash.problem == FAILED
    assert objects(inner) == set(OBJECTS)
    assert not (await inner.list(PROBES)).objects
    assert known_verdict(quick_path / "here" / "state") is False
    assert caplog.text.count("are kept whatever the trash time") == 2, "once each mount"


async def test_n5_others_leave_it_to_who_gave_it_up(quick_path: Path) -> None:
    """A program on the machine where it was removed may have it open."""
    store = await bucket(quick_path)
    faulty = FaultyStore(store)
    faulty.fail("delete", AccessDenied("may not delete"), times=None)
    async with mounted(faulty, quick_path / "here") as core:
        await CoreFiles(core).unlink(b"d/cat")
        await save(core)
        await until(lambda: core.engine.trash.problem is not None)
    async with mounted(store, quick_path / "other") as core:
        await CoreFiles(core).unlink(b"top")
        await save(core)
        await until(lambda: "top" not in objects(store))
        assert objects(store) == {"d/cat", "d/dog"}
        assert core.engine.tree.kept().objects
    later = TrashRules(others_after_s=0, note_after_s=0.001)
    async with mounted(store, quick_path / "other", later) as core:
        await until_noted(core)
    assert objects(store) == {"d/dog"}


async def test_n5_who_may_only_read_removes_nothing(quick_path: Path) -> None:
    """`--read-only` would change the bucket."""
    store = FaultyStore(await bucket(quick_path))
    store.fail("delete", AccessDenied("not now"), times=None)
    async with mounted(store, quick_path / "here") as core:
        await CoreFiles(core).unlink(b"d/cat")
        await save(core)
        await until(lambda: core.engine.trash.problem is not None)
    store.heal()
    calls = store.calls["delete"]
    async with opened_core(store, quick_path / "here", Env(), 60, trash=QUICK) as core:
        assert core.engine.tree.kept().objects == 1
        await CoreFiles(core).listdir(b"")
    assert store.calls["delete"] == calls


async def remove_all(core: Core) -> None:
    """Remove an object, change another, and see it through to the end."""
    files = CoreFiles(core)
    await files.unlink(b"d/cat")
    await files.write(b"d/dog", b"anew")
    await save(core)
    await until_noted(core)


async def require_removed(store: MemoryStore, folder: Path) -> None:
    """Mount once more: in the end all is as if nothing had gone wrong."""
    async with mounted(store, folder) as core:
        files = CoreFiles(core)
        if b"cat" in await files.listdir(b"d"):
            await files.unlink(b"d/cat")
        await save(core)
        await until_noted(core)
        assert await files.listdir(b"d") == [b"dog"]
        assert await files.read(b"d/dog") in (b"doggy", b"", b"anew"), "or in between"
    assert objects(store) <= {"d/dog", "top"}
    await require_whole(store, folder / "state")


@pytest.mark.slow
async def test_n5_each_request_goes_wrong_once(quick_path: Path) -> None:
    """A bad moment of the network would leave bytes behind, or remove others (N5)."""
    for nth in count(1):
        where = quick_path / str(nth)
        store = FaultyStore(inner := await bucket(where))
        store.fail("any", Unreachable("unplugged, by a rule"), nth=nth)
        try:
            async with mounted(store, where / "here") as core:
                await remove_all(core)
        except* (BlobfsError, OSError):
            assert nth < 30, "while it was mounted, or looked up a name"
        await require_removed(inner, where / "here")
        if sum(store.calls.values()) < nth:
            break
        shutil.rmtree(where)
    assert nth > 20


@pytest.mark.slow
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
async def test_n5_a_kill_at_each_request(quick_path: Path, happens: bool) -> None:
    """A kill between commit and delete would leave the bytes for ever (N5)."""
    for nth in count(1):
        where = quick_path / str(nth)
        inner = await bucket(where)
        killed = Killed(where / "here", where / "left")
        (where / "here" / "state").mkdir(parents=True)
        with killed.scope:
            async with mounted(
                Doomed(inner, killed.die, nth, happens=happens), where / "here"
            ) as core:
                await remove_all(core)
        if not killed.is_dead:
            break
        await require_removed(inner, where / "left")
        shutil.rmtree(where)
    assert nth > 20


async def test_n5_a_kill_between_the_delete_and_its_note(quick_path: Path) -> None:
    """What is gone would be counted, and asked for, for ever."""
    inner = await bucket(quick_path)
    killed = Killed(quick_path / "here", quick_path / "left")
    env = Env(crash_point=lambda name: killed.die() if name == "trash.removed" else None)
    with killed.scope:
        async with mounted(Halting(inner, killed), quick_path / "here", env=env) as core:
            await remove_all(core)
    assert killed.is_dead
    await require_removed(inner, quick_path / "left")


class TestProbe:
    """A store shows what it does before it is relied on."""

    async def test_a_good_store_is_asked_once(self, tmp_path: Path) -> None:
        """Each mount would cost six requests."""
        store = FaultyStore(MemoryStore())
        assert await DeleteProbe(store, tmp_path, ME).passes()
        assert not (await store.list(PROBES)).objects
        asked = store.calls.copy()
        assert await DeleteProbe(store, tmp_path, ME).passes()
        assert store.calls == asked

    async def test_another_endpoint_is_asked_anew(self, tmp_path: Path) -> None:
        """One that keeps to conditions would vouch for one that does not."""
        (tmp_path / "one").mkdir()
        (tmp_path / "other").mkdir()
        assert await DeleteProbe(MemoryStore(), tmp_path / "one", ME).passes()
        assert not await DeleteProbe(Forgetful(MemoryStore()), tmp_path / "other", ME).passes()

    async def test_a_bad_one_is_asked_again_by_the_next_mount(self, tmp_path: Path) -> None:
        """A server that was repaired would be mistrusted for ever."""
        probe = DeleteProbe(Forgetful(MemoryStore()), tmp_path, ME)
        assert not await probe.passes()
        assert probe.problem == FAILED
        assert await DeleteProbe(MemoryStore(), tmp_path, ME).passes()
        assert known_verdict(tmp_path) is True

    async def test_one_that_does_not_delete_at_all_fails(self, tmp_path: Path) -> None:
        """Objects would be called gone that are there."""

        class Deaf(Forgetful):
            async def delete_if_match(self, key: str, etag: str) -> None:
                return

        assert not await DeleteProbe(Deaf(MemoryStore()), tmp_path, ME).passes()

    @pytest.mark.parametrize("kind", ["put", "delete", "head"])
    async def test_silence_is_no_answer(self, tmp_path: Path, kind: str) -> None:
        """An outage would be taken for a bad store."""
        store = FaultyStore(MemoryStore())
        store.fail(kind, Unreachable("unplugged"))  # type: ignore[arg-type]
        probe = DeleteProbe(store, tmp_path, ME)
        with pytest.raises(Unreachable):
            await probe.passes()
        assert probe.problem is None
        assert await probe.passes()


async def test_the_probe_leaves_nothing_that_is_looked_at(quick_path: Path) -> None:
    """`blobfs check` would call a volume damaged in which somebody was killed while probing."""
    store = await bucket(quick_path)
    await store.put(PROBES + ME.hex(), b"left behind")
    async with mounted(store, quick_path / "here") as core:
        await remove_all(core)
    await require_whole(store, quick_path / "here" / "state")
    with pytest.raises(NotFound):
        await store.head("d/cat")
