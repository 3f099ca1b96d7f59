"""Whatever goes wrong between two steps of saving, and wherever: nothing is lost, nothing twice.

A story is told: programs do things, all is saved, they do more, all is saved again. It is told once
for each request to the store, with a fault at that request, and once for each crash point, with a
kill there. Each time a later mount, and one on another machine that has only the bucket,
have to show what the oracle shows.
"""

import random
import shutil
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import pytest
import trio

from blobfs.env import Env
from blobfs.errors import AccessDenied, BlobfsError, OutcomeUnknown, Unreachable
from blobfs.formats.entry import decode_entry, entry_hash
from blobfs.formats.keys import log_key, pack_key
from blobfs.formats.pack import verify_name
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.layers import Ask, Layer
from blobfs.stores.memory import MemoryStore
from blobfs.stores.metering import Kind
from blobfs.sync.check import CheckOptions, check
from blobfs.sync.checkpoint import seq_of
from blobfs.types import KIB, MIB, Seq
from tests.contracts.core_files import CoreFiles
from tests.core import Core, opened_core
from tests.oracle import EXCHANGE
from tests.sync.both import Do, Moment, OracleProgram, Program, Seen, seen
from tests.sync.place import copy_if_there
from tests.sync.small import OFTEN

T = TypeVar("T")

CHANCE = random.Random(1)
LARGE = CHANCE.randbytes(700 * KIB)
SMALL = CHANCE.randbytes(5 * KIB)
SAVE = Do("save")


def made(path: tuple[bytes, ...], *writes: tuple[int, bytes], mode: int = 0o644) -> Iterator[Do]:
    """Yield what makes a file."""
    yield Do("make", (path, stat.S_IFREG, mode))
    for offset, data in writes:
        yield Do("write", (path, offset, data))


def folder(*path: bytes) -> Do:
    return Do("make", (path, stat.S_IFDIR, 0o750))


OBJECTS = {"kept": b"kept", "gone": b"gone", "moved": SMALL, "changed": LARGE[: 280 * KIB]}
"""What another tool has put into the bucket, by key."""

FOLDER_OBJECTS = {"old/": b"", "old/inner": b"inner"}
"""What makes up a directory. Its marker is as old as the first mount, which is what the directory's
time is taken for until somebody has listed it."""

OBJECTS_NS = Moment.now_ns - 10**9


async def furnished() -> MemoryStore:
    """Return a bucket that holds no volume yet, but the objects."""
    times_ns = dict.fromkeys(OBJECTS, OBJECTS_NS) | dict.fromkeys(FOLDER_OBJECTS, Moment.now_ns)
    now_ns = iter(times_ns.values())
    store = MemoryStore(env=Env(now_ns=lambda: next(now_ns)))
    for key, data in (OBJECTS | FOLDER_OBJECTS).items():
        await store.put(key, data)
    return replace(store, env=Env(now_ns=lambda: OBJECTS_NS))


STORY = [
    Do("rename", ((b"old",), (b"renamed",))),
    Do("unlink", ((b"gone",),)),
    Do("chmod", ((b"kept",), 0o600)),
    Do("write", ((b"changed",), 1000, b"here")),
    folder(b"d"),
    folder(b"d", b"deep"),
    folder(b"empty"),
    *made((b"d", b"large"), (0, LARGE)),
    *made((b"d", b"deep", b"small"), (0, SMALL), mode=0o600),
    *made((b"tiny",), (0, b"x" * 100)),
    *made((b"gap",), (0, b"begin"), (MIB, SMALL)),
    *made((b"replaced",), (0, SMALL[:2000])),
    *made((b"linked",), (0, b"one")),
    Do("link", ((b"linked",), (b"d", b"hard"))),
    Do("make", ((b"symlink",), stat.S_IFLNK, 0o777)),
    Do("make", ((b"pipe",), stat.S_IFIFO, 0o640)),
    Do("setxattr", ((b"tiny",), b"user.a", b"value")),
    *made((b"dies",), (0, b"young")),
    Do("unlink", ((b"dies",),)),
    SAVE,
    Do("write", ((b"d", b"large"), 300 * KIB, b"y" * 4096)),
    Do("truncate", ((b"gap",), MIB + 100)),
    Do("truncate", ((b"tiny",), 5)),
    Do("truncate", ((b"tiny",), 300)),
    *made((b"new",), (0, LARGE[: 300 * KIB][::-1])),
    Do("rename", ((b"new",), (b"replaced",))),
    Do("rename", ((b"d", b"deep"), (b"empty", b"moved"))),
    Do("unlink", ((b"linked",),)),
    Do("write", ((b"d", b"hard"), 1, b"two")),
    Do("chmod", ((b"empty",), 0o700)),
    Do("setxattr", ((b"tiny",), b"user.b", b"other")),
    Do("removexattr", ((b"tiny",), b"user.a")),
    Do("unlink", ((b"pipe",),)),
    Do("rename", ((b"tiny",), (b"symlink",), EXCHANGE)),
    Do("rename", ((b"moved",), (b"d", b"moved"))),
    Do("rename", ((b"renamed",), (b"empty", b"again"))),
    Do("link", ((b"kept",), (b"d", b"kept"))),
    SAVE,
]


class Expected:
    """What programs should see after each operation."""

    def __init__(self, story: list[Do]) -> None:
        program = OracleProgram()
        for key, data in OBJECTS.items():
            program.oracle.add_native((key.encode(),), data, mtime_ns=OBJECTS_NS)
        program.oracle.add_native((b"old", b"inner"), b"inner", mtime_ns=Moment.now_ns)
        folder = program.oracle.find((b"old",))
        folder.mtime_ns = folder.ctime_ns = Moment.now_ns
        self.after: list[Seen] = [program.seen()]
        for number, operation in enumerate(story, 1):
            program.oracle.now_ns = now_ns(number)
            if operation != SAVE:
                program.do(operation)
            self.after.append(program.seen())


def now_ns(number: int) -> int:
    """Return the time of the n-th operation."""
    return Moment.now_ns + number * 1_000


EXPECTED = Expected(STORY)


@dataclass(eq=False)
class Telling:
    """A story that is told to one client, and how far it came."""

    store: Store
    folder: Path
    crash_point: Callable[[str], None] = lambda _name: None
    killed: "Killed | None" = None
    tries: int = 0
    """How many mounts, and how many operations of programs, may fail."""
    waits: bool = False
    """Whether each save waits for the checkpoint after it, so that all tellings are the same."""
    done: int = 0
    moment: Moment = field(default_factory=Moment)

    async def tell(self) -> None:
        """Tell it to its end, and mount again whenever a fault prevents a mount."""
        while self.done < len(STORY):
            try:
                await self._mount_and_tell()
            except* BlobfsError as group:
                self._give_another_try(group)

    async def _mount_and_tell(self) -> None:
        env = self.moment.env(self.crash_point)
        opening = opened_core(
            self.store,
            self.folder,
            env,
            60,
            read_only=False,
            settle_s=3600,
            checkpoints=OFTEN,
        )
        async with opening as core:
            program = Program(CoreFiles(core))
            for number, operation in enumerate(STORY[self.done :], self.done + 1):
                self.moment.now_ns = now_ns(number)
                await self._do(core, program, operation)
                if self.killed is not None and self.killed.is_dead:
                    await trio.sleep_forever()  # nobody was told of this one
                self.done = number
        assert core.reading.budget.busy_bytes == 0

    async def _do(self, core: Core, program: Program, operation: Do) -> None:
        if operation == SAVE:
            await save(core)
            if self.waits:
                await wait_for_checkpoint(core)
            return
        while True:
            try:
                return await program.do(operation)
            except OSError as error:  # a name could not be looked up
                self._give_another_try(error)

    def _give_another_try(self, error: Exception) -> None:
        if not self.tries:
            raise error
        self.tries -= 1


async def save(core: Core) -> None:
    """Return when all is saved; whenever saving pauses after a fault, it is told to go on."""
    with trio.fail_after(20):
        serial = core.engine.hurry()
        while not core.engine.is_saved(serial):
            with trio.move_on_after(0.002):
                await core.engine.pusher.wait_saved(serial)
            core.engine.hurry()
    assert core.engine.pusher.is_clean
    statistics = core.engine.unsaved.statistics()
    if not core.vfs.open_files:
        assert (statistics.files, statistics.names, statistics.bytes) == (0, 0, 0)
    assert core.engine.unsaved.intent is None


async def wait_for_checkpoint(core: Core) -> None:
    """Return when there is a checkpoint of what was saved."""
    tree = core.engine.tree
    with trio.fail_after(20):
        while seq_of(tree.base) < tree.position.seq:
            await trio.lowlevel.checkpoint()


async def require_whole(store: MemoryStore, state: Path) -> None:
    """Check bucket and local state: with the formats alone, and as `blobfs check` does."""
    keys = [found.key for found in (await store.list(".blobfs/log/")).objects]
    previous = None
    for seq, key in enumerate(keys, 1):
        assert key == log_key(Seq(seq))
        entry = decode_entry(store.peek(key), key=key)
        assert previous in (None, entry.previous)
        previous = entry_hash(store.peek(key))
        for pack in entry.packs:
            key = pack_key(pack.name)
            verify_name(pack.name, store.peek(key), key=key)
    if keys:
        (scratch := state / "scratch").mkdir()
        options = CheckOptions(scratch=scratch, read_data=True, state_dir=state)
        assert (await check(store, options, Env())).report.damages == ()
        shutil.rmtree(scratch)


async def require_seen_elsewhere(store: MemoryStore, folder: Path, expected: Seen) -> None:
    """See what a machine sees that has nothing but the bucket; leave nothing behind."""
    shutil.rmtree(folder, ignore_errors=True)
    async with opened_core(store, folder, Moment().env(), 60, settle_s=3600) as core:
        assert await seen(CoreFiles(core)) == expected
        assert core.engine.statistics().is_safe
    assert core.reading.budget.busy_bytes == 0
    shutil.rmtree(folder)


POINTS = {
    "journal.appended",
    "journal.synced",
    "pack.sealed",
    "pack.sent",
    "pack.noted",
    "push.uploaded",
    "commit.noted",
    "commit.landed",
    "commit.replayed",
    "unsaved.cleaned",
    "checkpoint.packed",
    "checkpoint.made",
    "checkpoint.stored",
    "checkpoint.named",
    "checkpoint.taken_up",
}
"""Those that every story passes."""

UNREACHABLE = Unreachable("unplugged, by a rule")
LOST = OutcomeUnknown("the answer was lost, by a rule")


def fail_once(store: FaultyStore, nth: int) -> None:
    store.fail("any", UNREACHABLE, nth=nth)


def fail_for_a_while(store: FaultyStore, nth: int) -> None:
    store.fail("any", UNREACHABLE, nth=nth, times=4)


def throttle(store: FaultyStore, nth: int) -> None:
    store.throttle("any", retry_after_s=0.001, nth=nth)


def expire(store: FaultyStore, nth: int) -> None:
    """The credentials are not good any more, until somebody logs in again."""
    store.fail("put", AccessDenied("expired, by a rule"), nth=nth, times=2)


def never_arrive(store: FaultyStore, nth: int) -> None:
    """The put did not happen, and the caller cannot know."""
    store.fail("put", LOST, nth=nth)


def lose_the_answer(store: FaultyStore, nth: int) -> None:
    """The put happened, and the caller cannot know."""
    store.lose_reply("put", LOST, nth=nth)


def lose_two_answers(store: FaultyStore, nth: int) -> None:
    store.lose_reply("put", LOST, nth=nth, times=2)


def arrive_twice(store: FaultyStore, nth: int) -> None:
    store.repeat_late(nth=nth, behind=3)


FAULTS = [fail_once, fail_for_a_while, throttle]
FAULTS_OF_PUTS = [expire, never_arrive, lose_the_answer, lose_two_answers, arrive_twice]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS + FAULTS_OF_PUTS, ids=lambda fault: fault.__name__)
async def test_each_request_goes_wrong_once(
    quick_path: Path, fault: Callable[[FaultyStore, int], None]
) -> None:
    """A bad moment of the network would lose a file, or save it as it never was (P1, P3)."""
    for nth in count(1):
        inner = await furnished()
        store = FaultyStore(inner)
        fault(store, nth)
        where = quick_path / str(nth)
        await Telling(store, where / "here", tries=5).tell()
        await require_whole(inner, where / "here" / "state")
        await require_seen_elsewhere(inner, where / "elsewhere", EXPECTED.after[-1])
        shutil.rmtree(where)
        of_puts = fault in FAULTS_OF_PUTS
        if nth > (store.calls["put"] if of_puts else store.calls.total()):
            break


class Doomed(Layer):
    """A store whose client dies at the n-th request, before it or when it was carried out."""

    def __init__(
        self,
        inner: Store,
        die: Callable[[], None],
        nth: int,
        *,
        happens: bool,
        kind: Kind | None = None,
    ) -> None:
        """Of a certain `kind`, or of any."""
        super().__init__(inner)
        self._kind = kind
        self._die = die
        self._nth = nth
        self._happens = happens
        self.calls = 0

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        is_it = self._kind in (None, ask.kind)
        self.calls += is_it
        if self.calls < self._nth or (self.calls == self._nth and not is_it):
            return await call()
        if self.calls == self._nth:
            if self._happens:
                await _let_it_happen(call)
            self._die()
        return await trio.sleep_forever()


async def _let_it_happen(call: Callable[[], Awaitable[object]]) -> None:
    try:
        await call()
    except BlobfsError:
        return  # nobody is there to hear of it


class CrashPoints:
    """Counts the crash points that a client passes, and stops it at one."""

    def __init__(
        self,
        passed: "Counter[str]",
        stops: Mapping[tuple[str, int], Callable[[], None]] = MappingProxyType({}),
    ) -> None:
        self._passed = passed
        self._stops = stops

    def pass_by(self, name: str) -> None:
        self._passed[name] += 1
        if (stop := self._stops.get((name, self._passed[name]))) is not None:
            stop()


class Killed:
    """Kills the client of a story: what lies on its disk at that moment is all that stays."""

    def __init__(self, here: Path, left: Path) -> None:
        self._here = here
        self._left = left
        self.scope = trio.CancelScope()
        self.is_dead = False

    def die(self) -> None:
        if not self.is_dead:
            self.is_dead = True
            self.keep(self._here / "state", self._left / "state")
            self.scope.cancel()

    def keep(self, here: Path, left: Path) -> None:
        """Make a copy of the state folder as it is."""
        shutil.copytree(here, left, copy_function=copy_if_there)


class Halting(Layer):
    """A store that the dead do not reach."""

    def __init__(self, inner: Store, killed: Killed) -> None:
        super().__init__(inner)
        self._killed = killed

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        if self._killed.is_dead:
            return await trio.sleep_forever()
        return await call()


async def require_kept(store: MemoryStore, left: Path, done: int) -> None:
    """Mount what a killed client left: all that was acknowledged is there, and can be saved."""
    env = Moment().env()
    opening = opened_core(store, left, env, 60, read_only=False, settle_s=3600, checkpoints=OFTEN)
    async with opening as core:
        shown = await seen(CoreFiles(core))
        # What was under way may have happened, though nobody was told.
        assert shown in EXPECTED.after[done : done + 2]
        await save(core)
        assert await seen(CoreFiles(core)) == shown
    assert core.reading.budget.busy_bytes == 0
    await require_whole(store, left / "state")
    await require_seen_elsewhere(store, left / "elsewhere", shown)


@pytest.mark.slow
@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
async def test_a_kill_at_each_request(quick_path: Path, happens: bool) -> None:
    """Whoever is killed while a request is under way would lose it, or do it twice (P1, L2)."""
    for nth in count(1):
        inner, where = await furnished(), quick_path / str(nth)
        killed = Killed(where / "here", where / "left")
        store = Doomed(inner, killed.die, nth, happens=happens)
        telling = Telling(store, where / "here", killed=killed)
        with killed.scope:
            await telling.tell()
        if not killed.is_dead:
            break
        await require_kept(inner, where / "left", telling.done)
        shutil.rmtree(where)


@pytest.mark.slow
async def test_a_kill_at_each_crash_point(quick_path: Path) -> None:
    """Whoever is killed between two steps would lose what these steps are about (P1, L2, L6)."""
    passed: Counter[str] = Counter()
    points = CrashPoints(passed)
    await Telling(await furnished(), quick_path / "whole", points.pass_by, waits=True).tell()
    assert passed.keys() >= POINTS
    for point, times in passed.items():
        for nth in sorted({1, times} | set(CHANCE.sample(range(1, times + 1), min(times, 4)))):
            inner, where = await furnished(), quick_path / f"{point}-{nth}"
            killed = Killed(where / "here", where / "left")
            points = CrashPoints(Counter(), {(point, nth): killed.die})
            store = Halting(inner, killed)
            telling = Telling(store, where / "here", points.pass_by, killed, waits=True)
            with killed.scope:
                await telling.tell()
            assert killed.is_dead
            await require_kept(inner, where / "left", telling.done)
            shutil.rmtree(where)
