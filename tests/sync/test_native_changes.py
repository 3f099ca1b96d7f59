"""What programs do to other tools' files is saved by reference, or taken over range by range."""

import errno
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from blobfs.env import Env
from blobfs.errors import Unreachable
from blobfs.formats.keys import PACKS
from blobfs.model.conflict import CONFLICT_OF
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.layers import Ask, Layer
from blobfs.stores.memory import MemoryStore
from blobfs.types import KIB, MIB
from tests.contracts.core_files import CoreFiles
from tests.contracts.files import failing
from tests.core import Core, opened_core
from tests.sync.test_every_step import require_whole, save

T = TypeVar("T")

OLD = random.Random(1).randbytes(3 * MIB + 17)
NEW = random.Random(2).randbytes(2 * MIB)


def opened(store: Store, folder: Path, *, ttl_s: float = 60) -> AbstractAsyncContextManager[Core]:
    return opened_core(store, folder, Env(), ttl_s, read_only=False, settle_s=3600)


@pytest.fixture
async def store() -> FaultyStore:
    inner = MemoryStore()
    for key, data in (("d/big", OLD), ("d/small", b"small"), ("top", b"top")):
        await inner.put(key, data)
    return FaultyStore(inner)


def inner(store: FaultyStore) -> MemoryStore:
    assert isinstance(store.inner, MemoryStore)
    return store.inner


async def conflict_copies(files: CoreFiles) -> list[bytes]:
    """Return those of our own; what another tool wrote shows beside a file until it gives way."""
    names = await files.listdir(b"d")
    return [name for name in names if b" (conflict " in name and b"conflict bucket" not in name]


async def contents(core: Core, *paths: bytes) -> list[bytes]:
    return [await CoreFiles(core).read(path) for path in paths]


async def test_names_and_attributes_are_saved_without_the_bytes(
    store: FaultyStore, quick_path: Path
) -> None:
    """A terabyte of objects is renamed by one small commit (N2, N3)."""
    async with opened(store, quick_path / "here") as core:
        files = CoreFiles(core)
        await files.rename(b"d/big", b"moved")
        await files.chmod(b"d/small", 0o600)
        await files.unlink(b"top")
        gets = store.calls["get"]
        await save(core)
        assert store.calls["get"] - gets < 10, "of the log and its like"
    assert not (await store.list(PACKS)).objects
    assert bytes((await store.get("d/big")).data) == OLD
    await require_whole(inner(store), quick_path / "here" / "state")
    async with opened(store, quick_path / "elsewhere") as core:
        files = CoreFiles(core)
        assert await files.listdir(b"") == [b"d", b"moved"]
        assert await files.listdir(b"d") == [b"small"]
        assert await contents(core, b"moved", b"d/small") == [OLD, b"small"]
        assert (await files.stat(b"d/small")).permissions == 0o600


async def test_a_directory_of_objects_is_renamed_by_one_commit(
    store: FaultyStore, quick_path: Path
) -> None:
    """A bucket would be copied, or be in two places for a while (N2)."""
    async with opened(store, quick_path / "here") as core:
        await CoreFiles(core).rename(b"d", b"e")
        gets = store.calls["get"]
        await save(core)
        assert core.engine.tree.position.seq == 1
        assert store.calls["get"] - gets < 10, "of the log and its like"
    assert not (await store.list(PACKS)).objects
    await require_whole(inner(store), quick_path / "here" / "state")
    await inner(store).put("d/new", b"new")
    await inner(store).put("d/small", b"other bytes")
    async with opened(store, quick_path / "elsewhere") as core:
        files = CoreFiles(core)
        assert await files.listdir(b"") == [b"d", b"e", b"top"]
        assert await files.listdir(b"d") == [b"new", b"small"]
        assert await files.listdir(b"e") == [b"big", b"small"]
        assert await contents(core, b"d/small", b"e/big") == [b"other bytes", OLD]
        with failing(errno.EIO):
            await files.read(b"e/small")


async def test_thousands_of_objects_are_renamed_by_one_commit(
    store: FaultyStore, quick_path: Path
) -> None:
    """A commit for each thousand would be seen by others as so many half renames (N2, L7)."""
    for number in range(1500):
        await inner(store).put(f"many/{number:04}/{number % 3}", b"x")
    async with opened(store, quick_path / "here") as core:
        await CoreFiles(core).rename(b"many", b"e")
        await save(core)
        assert core.engine.tree.position.seq == 1
    await require_whole(inner(store), quick_path / "here" / "state")
    async with opened(store, quick_path / "elsewhere") as core:
        files = CoreFiles(core)
        assert await files.listdir(b"") == [b"d", b"e", b"top"]
        assert len(await files.listdir(b"e")) == 1500
        assert await contents(core, b"e/0777/0") == [b"x"]


async def test_a_change_takes_the_whole_file_over(store: FaultyStore, quick_path: Path) -> None:
    """What is not written again must come from the object, all of it (N3)."""
    expected = bytearray(OLD)
    expected[MIB : MIB + 4] = b"here"
    async with opened(store, quick_path / "here") as core:
        handle = await CoreFiles(core).open(b"d/big", os.O_RDWR)
        await handle.write(MIB, b"here")
        await handle.close()
        assert await contents(core, b"d/big") == [expected]
        await save(core)
        assert await contents(core, b"d/big") == [expected]
    assert bytes((await store.get("d/big")).data) == OLD, "until the trash time is over"
    await require_whole(inner(store), quick_path / "here" / "state")
    await inner(store).delete_many(["d/big"])
    async with opened(store, quick_path / "elsewhere") as core:
        assert await CoreFiles(core).listdir(b"d") == [b"big", b"small"]
        assert await contents(core, b"d/big") == [expected]


async def test_a_first_change_waits_for_nothing(store: FaultyStore, quick_path: Path) -> None:
    """A 4 KiB change of a large object must not wait until all of it was fetched."""
    async with opened(store, quick_path / "here") as core:
        files = CoreFiles(core)
        handle = await files.open(b"d/big", os.O_RDWR)
        store.fail("any", Unreachable("unplugged"), times=None)
        await handle.write(MIB, b"x" * 4 * KIB)
        assert await handle.read(MIB, 4 * KIB) == b"x" * 4 * KIB
        store.heal()
        await handle.close()


async def test_what_is_cut_off_is_never_fetched(store: FaultyStore, quick_path: Path) -> None:
    """`> file` on a terabyte would read it first."""
    async with opened(store, quick_path / "here") as core:
        handle = await CoreFiles(core).open(b"d/big", os.O_WRONLY | os.O_TRUNC)
        await handle.write(0, b"anew")
        await handle.close()
        store.fail("get", Unreachable("unplugged"), times=None, key="d/big")
        await save(core)
        assert await contents(core, b"d/big") == [b"anew"]


async def test_an_object_replaced_while_it_is_taken_over(
    store: FaultyStore, quick_path: Path
) -> None:
    """Neither version is lost, and no file is half of each (P4, P6)."""
    async with opened(store, quick_path / "here") as core:
        files = CoreFiles(core)
        handle = await files.open(b"d/big", os.O_RDWR)
        await handle.write(10, b"mine")
        await handle.close()
        await files.write(b"other", b"other")
        await inner(store).put("d/big", NEW)
        core.engine.hurry()
        with trio.fail_after(30):
            while not (copies := await conflict_copies(files)):
                with trio.move_on_after(0.01):
                    await core.engine.unsaved.wait_change(core.engine.unsaved.serial)
        (copy,) = copies
        assert await files.listdir(b"d") == [b"big", copy, b"small"]
        assert await contents(core, b"d/big", b"other") == [NEW, b"other"]
        assert await files.getxattr(b"d/" + copy, CONFLICT_OF.decode()) == b"big"
        mine = await files.open(b"d/" + copy, os.O_RDWR)
        assert await mine.read(10, 4) == b"mine"
        with failing(errno.EIO):
            await mine.read(0, 100)
        assert not core.engine.pusher.is_clean
        # What is written over what is lost needs it no more.
        await mine.truncate(0)
        await mine.write(0, b"all mine")
        await mine.close()
        await save(core)
    async with opened(store, quick_path / "elsewhere") as core:
        assert await CoreFiles(core).listdir(b"") == [b"d", b"other", b"top"]
        assert await contents(core, b"d/big", b"d/" + copy) == [NEW, b"all mine"]


class Overtaking(Layer):
    """A store in which another tool replaces `d/big` once the first part of it was read."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.is_due = False

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        found = await call()
        if self.is_due and ask.kind == "get" and "d/big" in ask.keys:
            self.is_due = False
            await self.inner.put("d/big", NEW)
        return found


async def test_an_object_replaced_between_two_ranges(quick_path: Path) -> None:
    """Half of one version and half of another would be saved as one file (P6)."""
    store = Overtaking(inner := MemoryStore())
    big = random.Random(3).randbytes(40 * MIB)
    await inner.put("d/big", big)
    async with opened(store, quick_path / "here", ttl_s=0) as core:
        files = CoreFiles(core)
        handle = await files.open(b"d/big", os.O_RDWR)
        await handle.write(10, b"mine")
        await handle.close()
        store.is_due = True
        core.engine.hurry()
        with trio.fail_after(30):
            while not (copies := await conflict_copies(files)):
                with trio.move_on_after(0.01):
                    await core.engine.unsaved.wait_change(core.engine.unsaved.serial)
        assert not store.is_due
        assert await files.read(b"d/big") == NEW
        expected = big[:10] + b"mine" + big[14:]
        mine = await files.open(b"d/" + copies[0])
        for offset in range(0, len(big), MIB):
            try:
                assert await mine.read(offset, MIB) == expected[offset : offset + MIB]
            except OSError as error:
                assert error.errno == errno.EIO  # noqa: PT017 - what was read before may be here
        await mine.close()
        assert core.engine.tree.counters().content_bytes == 0, "no commit has any of it"


@pytest.mark.parametrize("committed", [False, True])
async def test_a_moved_file_whose_object_is_gone_is_an_error(
    store: FaultyStore, quick_path: Path, committed: bool
) -> None:
    """Other bytes, or none, would be taken for the file (N2, P6)."""
    async with opened(store, quick_path / "here") as core:
        files = CoreFiles(core)
        await files.rename(b"d/small", b"moved")
        if committed:
            await save(core)
        await inner(store).put("d/small", b"other")
        with failing(errno.EIO):
            await files.read(b"moved")
        await inner(store).delete_many(["d/small"])
        with failing(errno.EIO):
            await files.read(b"moved")
        assert await files.listdir(b"") == [b"d", b"moved", b"top"]
