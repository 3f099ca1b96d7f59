"""A large file that is written while parts of it are uploaded already ends up as it was written."""

import os
import random
import shutil
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from blobfs.cache.memory import MemoryBudget
from blobfs.env import Env
from blobfs.formats.rows import Extent
from blobfs.model.chunking import Placed
from blobfs.model.spans import SpanMap, Written
from blobfs.stores.memory import MemoryStore
from blobfs.sync import ahead
from blobfs.sync.ahead import Ahead
from blobfs.sync.stage import Stager
from blobfs.types import KIB, MIB, ChunkId, InodeNo, Serial
from tests.contracts.core_files import CoreFiles
from tests.contracts.files import Handle
from tests.core import Core, opened_core
from tests.sync.both import Moment
from tests.sync.place import opened_place
from tests.sync.test_every_step import require_whole, save

CREATE = os.O_RDWR | os.O_CREAT
MOST_BYTES = 3 * MIB
LEAST_BYTES = 16 * MIB
"""Of `--memory`."""


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upload ahead what fills a chunk, at once."""
    monkeypatch.setattr(ahead, "WORTH_IT_BYTES", 256 * KIB)
    monkeypatch.setattr(ahead, "LOOK_AGAIN_S", 0.001)


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_written_over_what_was_sent(quick_path: Path, seed: int) -> None:
    """A film that is rendered into the mount would have older pictures in its middle (P6)."""
    chance, store, content = random.Random(seed), MemoryStore(), bytearray()
    folder, sent = quick_path / "0", Sent()
    for generation in range(3):
        async with opened(store, folder, sent) as core:
            handle = await CoreFiles(core).open(b"f", CREATE)
            assert await handle.read(0, 2 * MOST_BYTES) == content
            for _ in range(12):
                await change(handle, content, chance)
                match chance.randrange(4):
                    case 0:
                        await sent.wait()
                    case 1:
                        await core.engine.save()
                assert await handle.read(0, 2 * MOST_BYTES) == content
            folder = quick_path / str(generation + 1)
            # Killed: what follows is lost on the machine that goes on.
            shutil.copytree(quick_path / str(generation) / "state", folder / "state")
    async with opened(store, folder) as core:
        assert await CoreFiles(core).read(b"f") == content
        await save(core)
    assert (await store.list(".blobfs/packs/")).objects
    await require_whole(store, folder / "state")
    async with opened(store, quick_path / "elsewhere") as core:
        assert await CoreFiles(core).read(b"f") == content


async def change(handle: Handle, content: bytearray, chance: random.Random) -> None:
    """Write or cut."""
    if chance.random() < 0.8:
        offset = min(len(content), chance.randrange(MOST_BYTES))
        data = chance.randbytes(chance.choice([100, 5000, 300 * KIB, MIB]))
        await handle.write(offset, data)
        content[offset : offset + len(data)] = data
    else:
        size = chance.randrange(len(content) + 1)
        await handle.truncate(size)
        del content[size:]


class Sent:
    """Knows when a pack was sent."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def pass_by(self, point: str) -> None:
        if point == "pack.noted":
            self._event.set()

    async def wait(self) -> None:
        """Return when the next one is; soon, if there is too little for one."""
        self._event = trio.Event()
        with trio.move_on_after(0.05):
            await self._event.wait()


def opened(
    store: MemoryStore, folder: Path, sent: Sent | None = None
) -> AbstractAsyncContextManager[Core]:
    env = Moment().env((sent or Sent()).pass_by)
    return opened_core(store, folder, env, 60, read_only=False, settle_s=3600)


async def test_the_least_memory(quick_path: Path) -> None:
    """Nothing would be saved any more: a round that reads what a file was changed from would wait
    for memory that it holds itself, or that other uploads wait for before it."""
    store, data = MemoryStore(), random.Random(7).randbytes(12 * MIB)
    async with opened_place(store, quick_path, memory_bytes=LEAST_BYTES) as place:
        await place.write("changed", data)
        await place.save()
    async with opened_place(store, quick_path, memory_bytes=LEAST_BYTES, cache="no") as place:
        for start in range(0, len(data), 256 * KIB):
            await place.write("changed", b"new", start)
        large = await place.write("large", data[::-1] + data)
        place.engine.settling.opened(large)  # it is still being written
        with trio.fail_after(60):
            await place.save()


def test_what_was_staged_later_is_of_another_moment() -> None:
    """A database copied by a commit would hold pages from behind the moment of the copy."""
    stager = Stager(MemoryStore(), Env(), MemoryBudget(64 * MIB, lambda _: None), None)  # type: ignore[arg-type]
    staging = Ahead(None, None, None, stager, None, None)  # type: ignore[arg-type]
    inode, placed = InodeNo(7), Placed(0, Extent(256 * KIB, ChunkId(bytes(32))))
    staging._files[inode] = ahead._File(placed=[(placed, Serial(9))])
    spans = SpanMap()
    list(spans.write_over(Written(0, 256 * KIB, 1, 0, Serial(5), b"sum")))
    assert staging.staged(inode, spans, Serial(9)) == [placed]
    assert staging.staged(inode, spans, Serial(8)) == []
