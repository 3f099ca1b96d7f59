"""Tell a way through a small world to real mounts, and see that they do the same at each step.

A gate holds every request about slots of the log until the way comes to it. Then the request has to
be the one that the explored client makes there, and to be answered as it was.

Concurrency: one task a mount, and the one that tells.
"""

import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import trio
from msgspec.structs import replace

from blobfs.env import Env
from blobfs.errors import AlreadyExists, NotFound, OutcomeUnknown, Unreachable
from blobfs.formats.commit import PutDirent
from blobfs.formats.entry import decode_entry
from blobfs.formats.keys import LOG, log_key
from blobfs.stores.base import Store
from blobfs.stores.layers import Ask, Layer
from blobfs.stores.memory import MemoryStore
from blobfs.types import Seq
from blobfs.volume.head_change import change_head
from blobfs.volume.log import TIP_IS_BELIEVED_NS
from tests.protocol.history import History
from tests.protocol.search import Move
from tests.protocol.surroundings import following
from tests.protocol.values import ORIGIN, At, Client, World
from tests.protocol.worlds import Setting
from tests.sync.place import Place, opened_place
from tests.sync.test_beginning import checkpoint

T = TypeVar("T")

HELD = frozenset((At.SLOT, At.LIST, At.PUT, At.PEEK))
"""Steps at which a mount is held until the way comes to it."""

AT_REST = frozenset((At.IDLE, At.MOUNT))

UNANSWERED = ("no answer", "on its way, no answer")


@dataclass(frozen=True)
class Way:
    """Moves, and the worlds around them: one more than there are moves."""

    history: History
    moves: tuple[Move, ...]
    worlds: tuple[World, ...]


def random_way(setting: Setting, seed: int) -> Way:
    """Return a way from the beginning to an end, of moves that a mount can be made to do.

    Between two held steps a mount goes on by itself, so nothing happens to it there.
    """
    chance, history = random.Random(seed), History()
    rules = setting.protocol(history)
    worlds, moves = [setting.begin(history)], list[Move]()
    while choices := [each for each in following(rules, worlds[-1]) if _is_tellable(each, worlds)]:
        move, world = chance.choice(choices)
        moves.append(move)
        worlds.append(world)
    return Way(history, tuple(moves), tuple(worlds))


def _is_tellable(choice: tuple[Move, World], worlds: list[World]) -> bool:
    move, _ = choice
    client = _named(worlds[-1], move.who)
    if move.who == "keeper":
        return all(each.at in HELD | AT_REST for each in worlds[-1].clients)
    if client is not None and move.what == "is copied":
        return client.at in HELD | AT_REST and _is_under_way(client)
    if client is None or client.at in HELD:
        return True
    if move.what in ("is killed", "takes a write"):
        return client.at is At.IDLE
    return move.answer not in UNANSWERED


def _is_under_way(client: Client) -> bool:
    """Whether all that is unsaved is in the commit under way.

    What is in two folders and in no commit would be done by both, under one name.
    """
    ops = frozenset[str]() if client.intent is None else client.intent.ops
    return all(each.op in ops for each in client.journal)


def _named(world: World, machine: str) -> Client | None:
    return next((each for each in world.clients if each.machine == machine), None)


@dataclass(eq=False)
class Asked:
    """A request that is held."""

    ask: Ask
    goes_through: bool = True
    saw: str = ""
    released: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)


class Gate(Layer):
    """Holds requests about slots, from when it is shut; it lets all others through."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.is_shut = False
        self._send, self._receive = trio.open_memory_channel[Asked](1)

    async def next(self) -> Asked:
        """Return the next request that is held."""
        return await self._receive.receive()

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        if not self.is_shut or not ask.keys[0].startswith(LOG):
            return await call()
        asked = Asked(ask)
        await self._send.send(asked)
        await asked.released.wait()
        try:
            if not asked.goes_through:
                raise OutcomeUnknown("lost") if ask.kind == "put" else Unreachable("gone")
            answer = await call()
            asked.saw = "stored" if ask.kind == "put" else "an entry"
            return answer
        except NotFound:
            asked.saw = "absent"
            raise
        except AlreadyExists:
            asked.saw = "refused"
            raise
        finally:
            asked.done.set()


@dataclass(eq=False)
class Clock:
    """The wall clock of one machine."""

    now_ns: int = 10**18

    def note_sleep(self, did_sleep: bool) -> None:
        self.now_ns += 2 * TIP_IS_BELIEVED_NS * did_sleep


@dataclass(eq=False)
class Mount:
    """One client of a world, as a real mount on a state folder of its own."""

    gate: Gate
    folder: Path
    clock: Clock
    env: Env
    nursery: trio.Nursery
    place: Place | None = None
    held: Asked | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    served: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)

    def start(self) -> None:
        self.scope, self.served, self.ended = trio.CancelScope(), trio.Event(), trio.Event()
        self.nursery.start_soon(self._run)

    async def start_again(self, seq: int) -> None:
        """Start when the run before, killed or without an answer, holds nothing any more.

        One that found out while it is in use that its folder was copied is killed only now, when
        it has replayed what comes before: entries up to `seq`.
        """
        if self.place is not None:
            await self.wait_replayed(seq)
            self.kill()
        await self.ended.wait()
        self.start()

    async def wait_replayed(self, seq: int) -> None:
        """Return when the tree is at `seq`, or behind it: others' entries follow own ones."""
        assert self.place is not None
        while self.place.engine.tree.position.seq < seq:
            with trio.move_on_after(0.001):  # a thread writes it
                await self.ended.wait()

    def kill(self) -> None:
        """Leave what is on the disk now to the next run."""
        left = self.folder.with_name(self.folder.name + "+")
        shutil.copytree(self.folder, left)
        self.scope.cancel()
        self.folder, self.place, self.held = left, None, None
        self.gate = Gate(self.gate.inner)
        self.gate.is_shut = True

    def copied(self, machine: str) -> "Mount":
        """Return another machine, on which nothing runs yet, with what is on this disk now."""
        copy = new_mount(self.gate.inner, self.folder.with_name(machine), self.nursery)
        shutil.copytree(self.folder, copy.folder)
        copy.gate.is_shut = True
        copy.ended.set()
        return copy

    async def write(self, name: str) -> None:
        assert self.place is not None
        await self.place.write(name, name.encode())
        self.place.engine.hurry()

    async def _run(self) -> None:
        try:
            with self.scope:
                async with opened_place(self.gate, self.folder, env=self.env) as place:
                    self.place = place
                    place.engine.hurry()
                    self.served.set()
                    await trio.sleep_forever()
        except* Unreachable:
            pass  # the way says when it is tried again
        finally:
            self.ended.set()


def new_mount(bucket: Store, folder: Path, nursery: trio.Nursery) -> Mount:
    """Return a machine with clock and chance of its own, and its state in `folder`."""
    clock, chance = Clock(), random.Random(folder.name)
    env = Env(now_ns=lambda: clock.now_ns, chance=chance.random)
    return Mount(Gate(bucket), folder, clock, env, nursery)


class Teller:
    """Leads mounts along a way."""

    def __init__(
        self, bucket: MemoryStore, folder: Path, way: Way, mounts: dict[str, Mount]
    ) -> None:
        """`folder` is for the one that writes checkpoints."""
        self._bucket = bucket
        self._folder = folder
        self._way = way
        self._mounts = mounts
        self._late: list[bytes] = []

    async def tell(self) -> None:
        """Make each move, and compare what the mounts do with it."""
        steps = zip(self._way.moves, self._way.worlds, self._way.worlds[1:], strict=False)
        for move, before, after in steps:
            await self._do(move, before)
            await self._compare(after, move)

    async def _do(self, move: Move, before: World) -> None:
        client = _named(before, move.who)
        if move.who == "keeper":
            await self._keep(move, before)
        elif client is None:
            assert move.what == "a put arrives"
            await self._deliver(before, move)
        elif move.what == "takes a write":
            await self._mounts[move.who].write(move.about)
        elif move.what == "is killed":
            self._mounts[move.who].kill()
        elif move.what == "is copied":
            copy = f"{move.who}'"
            self._mounts[copy] = self._mounts[move.who].copied(copy)
        elif client.at is At.MOUNT:
            await self._mounts[move.who].start_again(client.seq)
        elif client.at in HELD:
            await self._answer(client, move)

    async def _keep(self, move: Move, before: World) -> None:
        """Write a checkpoint, raise the floor to it, or remove what is below."""
        match move.what:
            case "writes a checkpoint":
                async with opened_place(self._bucket, self._folder) as place:
                    await checkpoint(self._bucket, place)
            case "raises the floor":
                seq = Seq(before.bucket.checkpoint)
                await change_head(self._bucket, lambda head: replace(head, floor=seq))
                for client in before.clients:
                    self._mounts[client.machine].clock.note_sleep(client.seq < seq)
            case "removes slots":
                slots = range(1, before.bucket.floor + 1)
                await self._bucket.delete_many([log_key(Seq(seq)) for seq in slots])

    async def _deliver(self, before: World, move: Move) -> None:
        (hash,) = before.bucket.late
        key = log_key(Seq(self._way.history.entry(hash).seq))
        try:
            await self._bucket.put(key, self._late.pop(), if_absent=True)
        except AlreadyExists:
            assert move.answer == "refused"
        else:
            assert move.answer == "stored"

    async def _answer(self, client: Client, move: Move) -> None:
        mount = self._mounts[client.machine]
        held = mount.held
        assert held is not None
        mount.held = None
        held.goes_through = move.answer not in UNANSWERED
        if move.answer in (UNANSWERED[1], "stored, and again later"):
            assert mount.place is not None
            intent = mount.place.engine.unsaved.intent
            assert intent is not None
            self._late.append(intent.entry)
        held.released.set()
        await held.done.wait()
        if held.goes_through:
            assert held.saw == SEEN.get(move.answer, move.answer), str(move)

    async def _compare(self, world: World, move: Move) -> None:
        """See that each mount is where its client is, and the log what it should be."""
        for client in world.clients:
            mount = self._mounts[client.machine]
            if client.at in HELD and mount.held is None:
                mount.held = await mount.gate.next()
                found = (mount.held.ask.kind, mount.held.ask.keys[0])
                assert found == _expected(client), f"{client.machine} after {move}: {found}"
            if client.at is At.IDLE:
                await self._require_saved(client, mount)
        assert await self._names() == self._expected_names(world), str(move)

    async def _require_saved(self, client: Client, mount: Mount) -> None:
        await mount.served.wait()
        assert mount.place is not None
        engine = mount.place.engine
        await engine.save()
        assert engine.pusher.is_clean
        assert engine.unsaved.intent is None
        await mount.wait_replayed(client.seq)
        assert engine.tree.position.seq == client.seq

    async def _names(self) -> list[set[str]]:
        """Return what each entry of the log names."""
        keys = [found.key for found in (await self._bucket.list(LOG)).objects]
        entries = [decode_entry(self._bucket.peek(key), key=key) for key in keys]
        return [
            {op.name.decode() for op in entry.operations if isinstance(op, PutDirent)}
            for entry in entries
        ]

    def _expected_names(self, world: World) -> list[set[str]]:
        entry = self._way.history.entry
        return [set(entry(hash).ops) for hash in world.bucket.slots if hash != ORIGIN]


SEEN = {
    "absent, though listed": "absent",
    "mine": "an entry",
    "other": "an entry",
    "nothing": "an entry",
    "entries": "an entry",
    "stored, and again later": "stored",
}


def _expected(client: Client) -> tuple[str, str]:
    """Return the request that a client makes at this step."""
    if client.at is At.SLOT:
        return "get", log_key(Seq(client.tip + 1))
    if client.at is At.LIST:
        return "list", LOG
    assert client.draft is not None
    return "put" if client.at is At.PUT else "get", log_key(Seq(client.draft.seq))
