"""Whatever programs do, and whatever becomes of daemon, network and store: the oracle is right.

Hypothesis makes lists of operations with saves, kills, remounts, outages and lost answers among
them. They are done to the whole engine, over a bucket that another tool has put objects into, and
to a tree in memory, which have to come to the same errnos and to the same tree after each
operation; in the end another machine has to see it, too.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blobfs.errors import OutcomeUnknown, Unreachable
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import ROOT_INODE
from tests.contracts.core_files import CoreFiles
from tests.core import Core, opened_core
from tests.oracle import EXCHANGE, NOREPLACE
from tests.oracle import Path as Names
from tests.sync.both import Do, Moment, OracleProgram, Program, seen
from tests.sync.small import OFTEN
from tests.sync.test_every_step import require_seen_elsewhere, require_whole, save

T = TypeVar("T")

OUTAGE = Unreachable("unplugged, by the model")
LOST = OutcomeUnknown("the answer was lost, by the model")
MOST_FAULTS = 6
MOST_BYTES = 400_000
"""More than a chunk."""


OBJECTS = {"a": b"another tool's, ", "n": b"0123456789" * 30_000, "o": b""}
"""By their keys: in the root, because directories of objects have times that nobody knows."""


@dataclass(frozen=True)
class There:
    """A path that exists when the operation is done: which one, of all in order."""

    which: int


@dataclass(frozen=True)
class AFile(There):
    """One of a regular file."""


@dataclass(frozen=True)
class Below(There):
    """A name in a directory that exists then."""

    name: bytes


@dataclass(frozen=True)
class Bytes:
    """Content that is quickly drawn and printed."""

    seed: int
    length: int

    def data(self) -> bytes:
        return (b"%09d," % self.seed * (self.length // 10 + 1))[: self.length]


@dataclass(eq=False)
class Life:
    """A client and its disk, through all its mounts."""

    folder: Path
    store: FaultyStore = field(default_factory=lambda: FaultyStore(MemoryStore()))
    oracle: OracleProgram = field(default_factory=OracleProgram)
    clock: Moment = field(default_factory=Moment)
    mounts: AsyncExitStack = field(default_factory=AsyncExitStack)
    generation: int = 0

    async def furnish(self) -> None:
        """Let the bucket hold what another tool wrote before anybody mounted it."""
        for key, content in OBJECTS.items():
            await self.store.put(key, content)
            mtime_ns = (await self.store.head(key)).mtime_ns
            self.oracle.oracle.add_native((key.encode(),), content, mtime_ns=mtime_ns)

    async def mount(self, *, read_only: bool = False) -> None:
        """Begin, or go on after the last mount: patiently, if the store is not there."""
        self.core = await self._patiently(lambda: self._mounted(read_only))
        self.program = Program(CoreFiles(self.core))

    async def remount(self) -> None:
        await self.unmount()
        await self.mount()

    async def remount_read_only(self) -> None:
        """Somebody looks with another flag: what was left is shown, and saved."""
        await self.unmount()
        await self.mount(read_only=True)
        await self.compare()
        await save(self.core)
        await self.compare()
        await self.remount()

    async def unmount(self) -> None:
        await self.close_all()
        await self.mounts.aclose()

    async def kill(self) -> None:
        """Go on with what lies on the disk now; the old daemon has no disk any more."""
        left = self._generation(self.generation + 1)
        here = self._generation(self.generation)
        shutil.copytree(here / "state", left / "state", copy_function=_copy_if_there)
        await self.mounts.aclose()
        self.oracle.close_all()
        self.generation += 1
        await self.mount()

    async def save(self) -> None:
        await save(self.core)

    async def begin_to_save(self) -> None:
        """Let saving go on behind the operations that follow."""
        self.core.engine.hurry()

    async def outage(self, nth: int, times: int) -> None:
        self.store.fail("any", OUTAGE, nth=nth, times=times)

    async def lose_answers(self, nth: int, times: int) -> None:
        self.store.lose_reply("put", LOST, nth=nth, times=times)

    async def close_all(self) -> None:
        await self.program.close_all()
        self.oracle.close_all()

    async def do(self, operation: Do) -> None:
        """Do it to both, if there is something to do it to; they come to the same errno."""
        self.clock.now_ns += 1000
        if (own := getattr(self, operation.what, None)) is not None:
            await own(*operation.args)
        elif (args := self._resolved(operation.args)) is not None:
            await self._both(Do(operation.what, args))
        await self.compare()

    async def compare(self) -> None:
        """See that programs see what the oracle says, through open files as well."""
        assert await self._patiently(lambda: seen(self.program.files)) == self.oracle.seen()
        sizes = {
            id(thing): thing.facts()[5]
            for path, thing in self.oracle.oracle.walk()
            if not self._is_untouched(path)
        }
        assert self.core.engine.unsaved.holdings.held_bytes == sum(sizes.values())
        for handle, thing in zip(self.program.held, self.oracle.held, strict=True):
            read = await self._patiently(lambda handle=handle: handle.read(0, MOST_BYTES * 2))
            assert read == thing.content

    def _is_untouched(self, path: Names) -> bool:
        """Whether nothing was ever done here to what another tool wrote."""
        if len(path) != 1 or path[0].decode() not in OBJECTS:
            return False
        engine, name = self.core.engine, (ROOT_INODE, path[0])
        return engine.unsaved.dirent(*name) is None and engine.tree.dirent(*name) is None

    async def end(self) -> None:
        """Save, and look from a machine that has only the bucket."""
        await self.close_all()
        self.store.heal()
        await save(self.core)
        await self.compare()
        await self.unmount()
        assert isinstance(self.store.inner, MemoryStore)
        await require_whole(self.store.inner, self._generation(self.generation) / "state")
        await require_seen_elsewhere(
            self.store.inner, self.folder / "elsewhere", self.oracle.seen()
        )

    async def _both(self, operation: Do) -> None:
        self.oracle.oracle.now_ns = self.clock.now_ns
        expected = found = 0
        try:
            self.oracle.do(operation)
        except OSError as error:
            expected = error.errno or 0
        try:
            await self._patiently(lambda: self.program.do(operation))
        except OSError as error:
            found = error.errno or 0
        assert os.strerror(found) == os.strerror(expected), operation

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do again what the store did not answer; nothing has happened then."""
        for _ in range(MOST_FAULTS * 4):
            try:
                return await act()
            except* (OSError, Unreachable, OutcomeUnknown) as group:
                if not _is_outage(group):
                    raise group.exceptions[0] from None
        raise AssertionError("it never works again")

    async def _mounted(self, read_only: bool) -> Core:
        return await self.mounts.enter_async_context(
            opened_core(
                self.store,
                self._generation(self.generation),
                self.clock.env(),
                60,
                read_only=read_only,
                settle_s=3600,
                unsaved_size_bytes=64 << 20,
                checkpoints=OFTEN,
            )
        )

    def _generation(self, number: int) -> Path:
        return self.folder / str(number)

    def _resolved(self, args: tuple[object, ...]) -> tuple[object, ...] | None:
        """Return arguments as they are meant now; None: there is no such thing."""
        resolved = [self._path(arg) if isinstance(arg, There) else arg for arg in args]
        data = [each.data() if isinstance(each, Bytes) else each for each in resolved]
        return None if None in data else tuple(data)

    def _path(self, where: There) -> Names | None:
        things = list(self.oracle.oracle.walk())
        if isinstance(where, Below):
            paths = [path for path, thing in things if thing.is_folder and len(path) < 4]
            return (*paths[where.which % len(paths)], where.name)
        only_files = isinstance(where, AFile)
        paths = [path for path, thing in things if path]
        if only_files:
            paths = [path for path, thing in things if thing.type == stat.S_IFREG]
        return paths[where.which % len(paths)] if paths else None


def _copy_if_there(source: str, target: str) -> None:
    """Copy a file, unless a thread of the living has just renamed it."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)


def _is_outage(group: BaseExceptionGroup[Exception]) -> bool:
    """Whether the store is to blame: a mount says so itself, a program gets EIO."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return isinstance(error, Unreachable | OutcomeUnknown) or OUTAGE.args[0] in str(error)


def do(what: str, *args: st.SearchStrategy[object]) -> st.SearchStrategy[Do]:
    return st.builds(Do, st.just(what), st.tuples(*args))


WHICH = st.integers(0, 30)
ANY = st.builds(There, WHICH)
FILE = st.builds(AFile, WHICH)
BELOW = st.builds(Below, WHICH, st.sampled_from([b"a", b"b", b"c", b"x" * 255]))
TYPES = st.sampled_from([stat.S_IFREG] * 4 + [stat.S_IFDIR] * 3 + [stat.S_IFLNK, stat.S_IFIFO])
OFFSETS = st.sampled_from([0, 1, 1000, 4096, 262_144]) | st.integers(0, MOST_BYTES)
DATA = st.builds(Bytes, st.integers(0, 10**8), st.sampled_from([1, 100, 5000, 300_000]))
XATTRS = st.sampled_from([b"user.a", b"user.b"])
NTH = st.integers(1, 12)
TIMES = st.integers(1, MOST_FAULTS)

CONTENTS = st.one_of(
    do("write", FILE, OFFSETS, DATA),
    do("write_held", WHICH, OFFSETS, DATA),
    do("truncate", FILE, OFFSETS),
    do("hold", FILE),
)
NAMES = st.one_of(
    do("make", BELOW, TYPES, st.sampled_from([0o644, 0o4755, 0o2750])),
    do("rename", ANY, BELOW),
    do("rename", ANY, ANY, st.sampled_from([0, 0, NOREPLACE, EXCHANGE])),
    do("link", FILE, BELOW),
    do("unlink", ANY),
    do("rmdir", ANY),
)
ATTRIBUTES = st.one_of(
    do("chmod", ANY, st.sampled_from([0o600, 0o755])),
    do("utime", ANY, st.integers(0, 2 * 10**18)),
    do("setxattr", ANY, XATTRS, st.binary(min_size=1, max_size=20)),
    do("removexattr", ANY, XATTRS),
)
EVENTS = st.one_of(
    st.sampled_from([Do("save"), Do("begin_to_save"), Do("kill"), Do("kill")]),
    st.sampled_from([Do("remount"), Do("remount_read_only"), Do("close_all")]),
    do("outage", NTH, TIMES),
    do("lose_answers", NTH, TIMES),
)
MAKING = do("make", BELOW, TYPES, st.just(0o644))


def as_one(strategy: st.SearchStrategy[Do]) -> st.SearchStrategy[Do]:
    """Let several strategies count as one where one of many is chosen."""
    return strategy.map(lambda operation: operation)


OPERATIONS = st.one_of(
    *map(as_one, (MAKING, CONTENTS, CONTENTS, NAMES, NAMES, ATTRIBUTES, EVENTS, EVENTS))
)


async def live(operations: list[Do], folder: Path) -> None:
    life = Life(folder)
    await life.furnish()
    await life.mount()
    try:
        for operation in operations:
            await life.do(operation)
        await life.end()
    finally:
        await life.mounts.aclose()


@pytest.mark.slow
@settings(
    max_examples=int(os.environ.get("BLOBFS_MODEL_EXAMPLES", "15")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(OPERATIONS, min_size=15, max_size=50))
def test_any_life_of_a_client(operations: list[Do]) -> None:
    """A tree that differs from what programs made of it is lost work (P1, P3)."""
    with tempfile.TemporaryDirectory() as folder:
        trio.run(live, operations, Path(folder))
