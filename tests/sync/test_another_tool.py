"""Another tool works in the bucket, whatever becomes of daemon, network and store: no edit
disappears, and no file is made of two.

Files are rows of cells. Each cell that a program writes, and each of an object that the tool puts,
holds a word of its own, so that it can be told at any time where every word ever written is. One
that nobody wrote over, cut off or removed is in some file in the end (P4), on every machine,
or on this one in a file that is held back, which `status` says. What was lost with an object that
the tool replaced is an error to who reads it, and never other bytes (P6, N2).
"""

import contextlib
import errno
import os
import random
import re
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from blobfs.env import Env
from blobfs.errors import OutcomeUnknown, Unreachable
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import ROOT_INODE
from tests.contracts.core_files import CoreFiles
from tests.contracts.files import Handle, Stat
from tests.core import Core, opened_core
from tests.sync.place import copy_if_there
from tests.sync.small import OFTEN

T = TypeVar("T")

KEYS = ("a", "b", "d/a", "d/e/c")
CELL_BYTES = 600
MOST_CELLS = 5
STEPS = 40
LIVES = int(os.environ.get("BLOBFS_MODEL_EXAMPLES", "8"))

OUTAGE = Unreachable("unplugged, by the test")
LOST = OutcomeUnknown("the answer was lost, by the test")
MOST_FAULTS = 5

SAYS_SO = "a changed file cannot be saved"
"""What `status` says of a file that is held back."""

Cells = list[bytes | None]
"""The words of a file; empty where nothing was written, None where it cannot be read."""

WORD = re.compile(rb"(?:tool|ours)-\d+-(\d+)\.")


def cell(author: str, nth: int, index: int) -> bytes:
    return b"%s-%d-%d." % (author.encode(), nth, index)


def filled(word: bytes) -> bytes:
    return word.ljust(CELL_BYTES, b" ")


@dataclass(eq=False)
class Bucket:
    """The bucket, and another tool that works in it."""

    store: MemoryStore
    chance: random.Random
    puts: int = 0
    objects: dict[str, set[bytes]] = field(default_factory=dict)
    """The words that each object holds now."""

    async def put(self) -> set[bytes]:
        """Put an object; return the words that are nowhere else now."""
        self.puts += 1
        key = self.chance.choice(KEYS)
        words = [cell("tool", self.puts, n) for n in range(self.chance.randint(1, MOST_CELLS))]
        await self.store.put(key, b"".join(map(filled, words)))
        before, self.objects[key] = self.objects.get(key, set()), set(words)
        return before

    async def delete(self) -> set[bytes]:
        key = self.chance.choice(KEYS)
        await self.store.delete_many([key])
        return self.objects.pop(key, set())


@dataclass(eq=False)
class Life:
    """A machine beside the tool, through all its mounts."""

    folder: Path
    chance: random.Random
    ttl_s: float
    store: FaultyStore = field(default_factory=lambda: FaultyStore(MemoryStore()))
    mounts: AsyncExitStack = field(default_factory=AsyncExitStack)
    generation: int = 0
    written: int = 0
    words: set[bytes] = field(default_factory=set)
    """All that were ever written, by whom ever."""
    expected: set[bytes] = field(default_factory=set)
    """Those that have to be somewhere."""

    def __post_init__(self) -> None:
        assert isinstance(self.store.inner, MemoryStore)
        self.bucket = Bucket(self.store.inner, self.chance)

    # --- what happens ----------------------------------------------------------------

    async def step(self) -> None:
        doings = [
            *(self.tool_puts, self.tool_puts, self.tool_deletes),
            *(self.write, self.write, self.write, self.make, self.cut),
            *(self.rename, self.rename, self.chmod, self.unlink),
            *(self.begin_to_save, self.save, self.kill, self.remount, self.fail, self.fail),
        ]
        await self.chance.choice(doings)()

    async def tool_puts(self) -> None:
        self.expected -= await self.bucket.put()
        put = set().union(*self.bucket.objects.values())
        self.expected |= put - self.words
        self.words |= put

    async def tool_deletes(self) -> None:
        self.expected -= await self.bucket.delete()

    async def make(self) -> None:
        """Write a new file."""
        self.written += 1
        words = [cell("ours", self.written, n) for n in range(self.chance.randint(1, MOST_CELLS))]
        self.words |= set(words)
        folders = [path for path, about in await self._walk() if about.is_folder]
        path = self.chance.choice([b"", *(folder + b"/" for folder in folders)])
        path += b"own%d" % self.written
        data = b"".join(map(filled, words))
        if await self._tried(lambda: self.files.write(path, data)):
            self.expected |= set(words)

    async def write(self) -> None:
        """Write over one cell of a file, or behind its end."""
        if (found := await self._any_file()) is None:
            return
        path, cells = found
        index = self.chance.randint(0, min(len(cells), MOST_CELLS - 1))
        self.written += 1
        word = cell("ours", self.written, index)
        self.words.add(word)
        if await self._tried(lambda: self._write(path, index, word)):
            self.expected -= {*cells[index : index + 1]}
            self.expected.add(word)

    async def cut(self) -> None:
        if (found := await self._any_file()) is None:
            return
        path, cells = found
        length = self.chance.randint(0, len(cells))
        if await self._tried(lambda: self.files.truncate(path, length * CELL_BYTES)):
            self._give_up(cells[length:])

    async def unlink(self) -> None:
        if (found := await self._any_file()) is None:
            return
        path, cells = found
        if await self._tried(lambda: self.files.unlink(path)):
            self._give_up(cells)

    async def rename(self) -> None:
        """Move a file, over another one or not."""
        old, new = await self._any_file(), await self._any_file()
        if old is None or new is None or old[0] == new[0]:
            return
        target, replaced = new
        if self.chance.random() < 0.5:
            target, replaced = b"moved%d" % self.written, []
            self.written += 1
        if await self._tried(lambda: self.files.rename(old[0], target)):
            self._give_up(replaced)

    async def chmod(self) -> None:
        if (found := await self._any_file()) is not None:
            await self._tried(lambda: self.files.chmod(found[0], 0o600))

    async def begin_to_save(self) -> None:
        self.core.engine.hurry()

    async def fail(self) -> None:
        """Let requests fail that come soon, or lose the answers to puts."""
        nth, times = self.chance.randint(1, 12), self.chance.randint(1, MOST_FAULTS)
        if self.chance.random() < 0.5:
            self.store.fail("any", OUTAGE, nth=nth, times=times)
        else:
            self.store.lose_reply("put", LOST, nth=nth, times=times)

    async def save(self) -> None:
        """Save what can be; the volume has the whole content of what it changed by then."""
        engine = self.core.engine
        with trio.fail_after(60):
            while not (engine.pusher.is_clean or await self._is_only_held()):
                engine.hurry()
                with trio.move_on_after(0.002):
                    await engine.unsaved.wait_change(engine.unsaved.serial)

    async def remount(self) -> None:
        await self.mounts.aclose()
        await self.mount()

    async def kill(self) -> None:
        """Go on with what lies on the disk now; the old daemon has no disk any more."""
        left, here = self._generation(self.generation + 1), self._generation(self.generation)
        shutil.copytree(here / "state", left / "state", copy_function=copy_if_there)
        self.generation += 1
        await self.mounts.aclose()
        await self.mount()

    # --- what is there ---------------------------------------------------------------

    async def mount(self) -> None:
        async def enter() -> Core:
            where = self._generation(self.generation)
            return await self.mounts.enter_async_context(self._opened(where))

        self.core = await self.patiently(enter)
        self.files = CoreFiles(self.core)

    async def look(self) -> dict[bytes, Cells]:
        """Return what is in every file, and see that each is one that was ever written."""
        found = await self.patiently(lambda: contents(self.files), though_it_moves=True)
        for path, cells in found.items():
            self._require_one_version(path, cells)
        return found

    async def require_kept(self) -> None:
        """See that all that is expected is there: here, and elsewhere if it is not held back."""
        found = await self.look()
        assert not self.expected - _words(found), "an edit is nowhere on this machine"
        unreadable = {path for path, cells in found.items() if None in cells}
        held = {path for path in unreadable if await self._is_unsaved(path)}
        assert not held or SAYS_SO in (self.core.engine.pusher.problem or ""), "nobody is told"
        saved = _words({path: found[path] for path in found.keys() - held})
        await self.mounts.aclose()
        async with self._opened(self.folder / "elsewhere") as core:
            there = await contents(CoreFiles(core))
        assert not (self.expected & saved) - _words(there), "another machine does not find it"

    def _require_one_version(self, path: bytes, cells: Cells) -> None:
        versions = set()
        for index, word in enumerate(cells):
            if word:
                assert word in self.words, f"{path!r} has what nobody wrote: {word!r}"
                assert (match := WORD.fullmatch(word)) is not None
                assert int(match[1]) == index, f"{path!r} has a part of another place"
                if word.startswith(b"tool"):
                    versions.add(word.split(b"-")[1])
        assert len(versions) <= 1, f"{path!r} is made of several versions of an object"

    # --- inside ----------------------------------------------------------------------

    def _opened(self, where: Path) -> contextlib.AbstractAsyncContextManager[Core]:
        store = self.store.inner if where.name == "elsewhere" else self.store
        return opened_core(
            store,
            where,
            Env(),
            self.ttl_s,
            read_only=False,
            settle_s=3600,
            checkpoints=OFTEN,
        )

    async def _any_file(self) -> tuple[bytes, Cells] | None:
        """Return a file that can be read as a whole, and what is in it."""
        found = {path: cells for path, cells in (await self.look()).items() if None not in cells}
        path = self.chance.choice(sorted(found)) if found else None
        return None if path is None else (path, found[path])

    async def _walk(self) -> list[tuple[bytes, Stat]]:
        return await self.patiently(lambda: walk(self.files), though_it_moves=True)

    async def _write(self, path: bytes, index: int, word: bytes) -> None:
        handle = await self.files.open(path, os.O_RDWR)
        try:
            await handle.write(index * CELL_BYTES, filled(word))
        finally:
            await handle.close()

    async def _is_only_held(self) -> bool:
        """Return whether nothing is unsaved but files of which parts are lost, as is said."""
        if SAYS_SO not in (self.core.engine.pusher.problem or ""):
            return False
        found = await self.look()
        try:
            held = {await self._inode(path) for path, cells in found.items() if None in cells}
        except FileNotFoundError:
            return False  # an old listing named it
        return held >= self.core.engine.unsaved.inode_states.keys() - {ROOT_INODE}

    async def _is_unsaved(self, path: bytes) -> bool:
        return await self._inode(path) in self.core.engine.unsaved.inode_states

    async def _inode(self, path: bytes) -> int:
        return (await self.patiently(lambda: self.files.stat(path))).inode

    def _give_up(self, cells: Cells) -> None:
        self.expected -= {word for word in cells if word}

    async def _tried(self, act: Callable[[], Awaitable[object]]) -> bool:
        """Do it; return whether it was done, and not refused for what the tool did meanwhile."""
        try:
            await self.patiently(act)
        except OSError as error:
            if error.errno not in (errno.ESTALE, errno.ENOENT, errno.EIO):
                raise
            return False
        return True

    async def patiently(
        self, act: Callable[[], Awaitable[T]], *, though_it_moves: bool = False
    ) -> T:
        """Do again what the store did not answer; nothing has happened then.

        A look, `though_it_moves`, begins anew where a listing turns out to be an old one.
        """
        for _ in range(MOST_FAULTS * 8):
            try:
                return await act()
            except* (OSError, Unreachable, OutcomeUnknown) as group:
                if not (_is_outage(group) or (though_it_moves and _is_old(group))):
                    raise group.exceptions[0] from None
        raise AssertionError("it never works again")

    def _generation(self, number: int) -> Path:
        return self.folder / str(number)


async def walk(files: CoreFiles, folder: bytes = b"") -> list[tuple[bytes, Stat]]:
    """Return all paths, directories before what is in them."""
    found = []
    for name in await files.listdir(folder):
        path = b"/".join(filter(None, (folder, name)))
        found.append((path, await files.stat(path)))
        if found[-1][1].is_folder:
            found += await walk(files, path)
    return found


async def contents(files: CoreFiles) -> dict[bytes, Cells]:
    """Return what is in every file, cell by cell."""
    found: dict[bytes, Cells] = {}
    for path, about in await walk(files):
        if about.is_folder:
            continue
        handle = await files.open(path)
        try:
            offsets = range(0, about.size_bytes, CELL_BYTES)
            found[path] = [await _cell(handle, offset) for offset in offsets]
        finally:
            await handle.close()
    return found


async def _cell(handle: Handle, offset: int) -> bytes | None:
    try:
        return bytes(await handle.read(offset, CELL_BYTES)).rstrip(b" \0")
    except OSError as error:
        if OUTAGE.args[0] in str(error):
            raise
        return None


def _words(found: dict[bytes, Cells]) -> set[bytes]:
    return {word for cells in found.values() for word in cells if word}


def _is_outage(group: BaseExceptionGroup[Exception]) -> bool:
    error = _only(group)
    return isinstance(error, Unreachable | OutcomeUnknown) or OUTAGE.args[0] in str(error)


def _is_old(group: BaseExceptionGroup[Exception]) -> bool:
    error = _only(group)
    return isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ESTALE)


def _only(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@pytest.mark.slow
@pytest.mark.parametrize("ttl_s", [0, 3600])
@pytest.mark.parametrize("seed", range(LIVES))
async def test_no_edit_disappears(quick_path: Path, seed: int, ttl_s: float) -> None:
    """Two tools in one bucket would silently undo each other's work, when it matters most."""
    life = Life(quick_path, random.Random(seed), ttl_s)
    for _ in range(4):
        await life.tool_puts()
    await life.mount()
    try:
        for _ in range(STEPS):
            await life.step()
        life.store.heal()
        await life.save()
        life.ttl_s = 0  # what the tool did last has to show now
        await life.remount()
        await life.save()
        await life.require_kept()
    finally:
        await life.mounts.aclose()
