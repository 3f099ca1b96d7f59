"""Commits land once or not at all, and readers take in what counts and nothing else."""

import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import pytest
import trio

from blobfs.env import Env
from blobfs.errors import (
    AccessDenied,
    BlobfsError,
    Damaged,
    InUse,
    NotFound,
    OutcomeUnknown,
    Unreachable,
    Unsupported,
)
from blobfs.formats.blocks import encode_operation_blocks, encode_pack_blocks
from blobfs.formats.chunk import chunk_id
from blobfs.formats.commit import Entry, UsedPack
from blobfs.formats.entry import encode_entry, entry_hash
from blobfs.formats.head import Head, encode_head
from blobfs.formats.keys import checkpoint_name, head_key, log_key, pack_key
from blobfs.formats.rows import Extent
from blobfs.model.chain import Landed, Position
from blobfs.model.commit_outcome import Outcome
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.layers import Ask, Layer
from blobfs.stores.memory import MemoryStore
from blobfs.types import ClientId, PackName, Seq
from blobfs.volume.log import (
    MOST_PUTS,
    PARALLEL_SLOTS,
    TIP_IS_BELIEVED_NS,
    Log,
    Overtaken,
    Tail,
)
from tests.volume.careless import Careless
from tests.volume.story import ME, ORIGIN, PACK, SOMEBODY, chunked, new_file

START = Position(Seq(0), ORIGIN)
LOST = OutcomeUnknown("the answer was lost")


@dataclass(slots=True)
class World:
    """A bucket with a volume, its clock, and a log of it for each who asks."""

    bucket: MemoryStore = field(default_factory=MemoryStore)
    now_ns: int = 10**18

    async def create(self, head: Head | None = None) -> None:
        await self.bucket.put(head_key(), encode_head(head or Head()))

    def env(self, chance: Callable[[], float] = lambda: 0.0) -> Env:
        return Env(now_ns=lambda: self.now_ns, chance=chance)

    def faulty(self) -> tuple[FaultyStore, Log]:
        store = FaultyStore(self.bucket)
        return store, Log(store, self.env())

    def log(self) -> Log:
        return Log(self.bucket, self.env())

    async def fill(self, count: int, after: Position = START) -> list[Landed]:
        """Put `count` entries of somebody into the log."""
        filled = []
        for number in range(after.seq + 1, after.seq + 1 + count):
            entry = commit(number, after.chain, client=SOMEBODY)
            landed = Landed(entry, entry_hash(encode_entry(entry)))
            await self.bucket.put(log_key(Seq(number)), encode_entry(entry))
            filled.append(landed)
            after = landed.position
        return filled

    def slot(self, seq: int) -> bytes:
        return self.bucket.peek(log_key(Seq(seq)))


def commit(
    seq: int, previous: bytes, *, client: ClientId = ME, counter: int | None = None
) -> Entry:
    return Entry(Seq(seq), previous, client, counter or seq, seq, new_file(seq + 1, b"f"))


def cut(seq: int) -> Head:
    """Return the head of a log whose entries up to `seq` stand in a checkpoint."""
    return Head(floor=Seq(seq), checkpoint=checkpoint_name(Seq(seq), bytes(32)))


MINE = encode_entry(commit(1, ORIGIN))
THEIRS = encode_entry(commit(1, ORIGIN, client=SOMEBODY))


@pytest.fixture
async def world() -> World:
    world = World()
    await world.create()
    return world


class Meanwhile(Layer):
    """A store to which something happens just before the calls that are chosen."""

    def __init__(
        self, inner: Store, chosen: Callable[[Ask], bool], happens: Callable[[], Awaitable[object]]
    ) -> None:
        super().__init__(inner)
        self._chosen = chosen
        self._happens = happens

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[object]]) -> object:  # type: ignore[override]
        if self._chosen(ask):
            await self._happens()
        return await call()


class TestReading:
    async def test_entries_come_in_order_until_the_tip(self, world: World) -> None:
        """What others committed has to appear, all of it."""
        filled = await world.fill(40)
        tail = await world.log().newer(START)
        assert tail == Tail(tuple(filled), is_tip=True)
        assert await world.log().newer(filled[-1].position) == Tail((), is_tip=True)

    async def test_a_long_log_comes_in_batches(self, world: World) -> None:
        """A client that was away for months must not hold the whole log in memory."""
        filled = await world.fill(40)
        log, position, sizes = world.log(), START, []
        while not (tail := await log.newer(position, at_most=18)).is_tip:
            sizes.append(len(tail.landed))
            position = tail.landed[-1].position
        assert (sizes, tail.landed[-1]) == ([18, 18], filled[-1])

    async def test_slots_are_fetched_side_by_side(self, world: World) -> None:
        """A thousand entries one after the other, at 20 ms each, are a mount of 20 s (L9)."""
        await world.fill(PARALLEL_SLOTS + 1)
        under_way, most = 0, 0

        class Counting(Layer):
            async def _through(self, ask: Ask, call: Callable[[], Awaitable[object]]) -> object:  # type: ignore[override]
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                try:
                    return await call()
                finally:
                    under_way -= 1

        await Log(Counting(world.bucket), world.env()).newer(START)
        assert most == PARALLEL_SLOTS

    async def test_an_idle_look_is_one_request(self, world: World) -> None:
        """Looking for news every few seconds must stay cheap."""
        store, log = world.faulty()
        await log.newer(START)
        store.calls.clear()
        await log.newer(START)
        assert store.calls == {"get": 1}

    @pytest.mark.parametrize(("news", "requests"), [(1, 3), (2, 3), (3, 7)])
    async def test_few_new_entries_cost_few_requests(
        self, world: World, news: int, requests: int
    ) -> None:
        """Who works with others would pay for fifteen looks in vain with each of their commits."""
        store, log = world.faulty()
        await log.newer(START)
        await world.fill(news)
        store.calls.clear()
        tail = await log.newer(START)
        assert len(tail.landed) == news
        assert store.calls["get"] <= requests + 1  # and `head`

    async def test_entries_behind_a_hole_do_not_count(self, world: World) -> None:
        """A put that is still on its way belongs between them."""
        store, log = world.faulty()
        assert (await log.newer(START)).is_tip
        filled = await world.fill(5)
        store.fail("get", NotFound("not yet"), key=log_key(Seq(4)))
        assert await log.newer(START) == Tail(tuple(filled[:3]), is_tip=True)
        assert await log.newer(filled[2].position) == Tail(tuple(filled[3:]), is_tip=True)

    async def test_a_hole_is_not_the_tip(self, world: World) -> None:
        """Who took it for the tip would show an older tree, and commit into the hole (L5)."""
        filled = await world.fill(3)
        await world.bucket.delete_many([log_key(Seq(2))])
        with pytest.raises(Damaged, match=log_key(Seq(2))):
            await world.log().newer(START)
        assert (await world.log().newer(filled[-1].position)).is_tip

    @pytest.mark.parametrize("gone", [3, 4])
    @pytest.mark.parametrize("is_cut", [False, True])
    async def test_what_was_listed_and_is_gone_is_not_the_tip(
        self, world: World, gone: int, is_cut: bool
    ) -> None:
        """What was removed between the listing and the look at it would be committed over (L5);
        what was cut away meanwhile would be missing, in silence (L4)."""
        filled = await world.fill(4)
        key = log_key(Seq(gone))

        async def goes() -> None:
            if is_cut:
                await world.create(cut(gone))
            await world.bucket.delete_many([key])

        def is_slot(ask: Ask) -> bool:
            return ask.kind == "get" and ask.keys[0] == key

        log = Log(Meanwhile(world.bucket, is_slot, goes), world.env())
        assert not (await log.newer(START, at_most=2)).is_tip
        with pytest.raises(Overtaken if is_cut else Damaged, match="cut" if is_cut else key):
            await log.newer(filled[1].position)

    async def test_silence_is_not_the_tip(self, world: World) -> None:
        """Who took a failed request for the end of the log would commit onto an old tree (P5)."""
        filled = await world.fill(20)
        for number in range(1, 21):
            store, log = world.faulty()
            store.fail("get", Unreachable("gone"), key=log_key(Seq(number)))
            with pytest.raises(Unreachable):
                await log.newer(START)
        store, log = world.faulty()
        store.fail("list", Unreachable("gone"))
        with pytest.raises(Unreachable):
            await log.newer(START)
        assert (await log.newer(START)).is_tip
        store.fail("get", Unreachable("gone"), key=log_key(Seq(21)))
        with pytest.raises(Unreachable):
            await log.newer(filled[-1].position)

    async def test_the_first_look_asks_for_no_empty_slot(self, world: World) -> None:
        """Opening a volume over a slow line would take requests that find nothing (P9)."""
        await world.fill(3)
        store, log = world.faulty()
        assert len((await log.newer(START)).landed) == 3
        assert store.calls == {"list": 1, "get": 4}  # the slots and `head`

    async def test_a_chain_that_does_not_fit_is_refused(self, world: World) -> None:
        """A fork would be replayed into a tree that nobody has (L4)."""
        filled = await world.fill(2)
        stray = commit(3, b"x" * 32, client=SOMEBODY)
        await world.bucket.put(log_key(Seq(3)), encode_entry(stray))
        with pytest.raises(Damaged, match="does not continue"):
            await world.log().newer(START)
        with pytest.raises(Damaged, match="does not continue"):
            await world.log().newer(Position(Seq(1), b"y" * 32))
        assert (await world.log().newer(START, at_most=2)).landed == tuple(filled)

    async def test_a_damaged_slot_is_named(self, world: World) -> None:
        """The user learns which object is broken."""
        await world.fill(2)
        await world.bucket.put(log_key(Seq(2)), b"rubbish")
        with pytest.raises(Damaged, match=log_key(Seq(2))):
            await world.log().newer(START)

    async def test_a_newer_entry_stops_reading(self, world: World) -> None:
        """An operation that is passed over would make this client's tree another one."""
        data = bytearray(THEIRS)
        data[9] += 1
        data[-32:] = hashlib.sha256(data[:-32]).digest()
        await world.bucket.put(log_key(Seq(1)), bytes(data))
        with pytest.raises(Unsupported, match="newer"):
            await world.log().newer(START)


class TestHead:
    async def test_entries_count_only_above_the_floor(self, world: World) -> None:
        """Below it a slot may hold a late duplicate that nobody else ever read (L4)."""
        log = world.log()
        assert (await log.newer(START)).is_tip
        await world.fill(3)
        await world.create(cut(1))
        with pytest.raises(Overtaken, match="floor=1"):
            await log.newer(START)

    async def test_head_is_read_after_the_slots(self, world: World) -> None:
        """Read before, it would not know of a cut that happened in between (L4)."""
        filled = await world.fill(3)

        def is_slot(ask: Ask) -> bool:
            return ask.keys[0] == log_key(Seq(3))

        store = Meanwhile(world.bucket, is_slot, lambda: world.create(cut(2)))
        log = Log(store, world.env())
        with pytest.raises(Overtaken):
            await log.newer(filled[0].position)

    async def test_an_empty_slot_is_confirmed_at_first_and_every_hour(self, world: World) -> None:
        """A laptop that slept for a month would take a log that was cut for one without news."""
        filled = await world.fill(2)
        log = world.log()
        await log.newer(filled[-1].position)
        await world.create(cut(9))
        assert (await log.newer(filled[-1].position)).is_tip
        world.now_ns += TIP_IS_BELIEVED_NS
        with pytest.raises(Overtaken):
            await log.newer(filled[-1].position)
        with pytest.raises(Overtaken):
            await world.log().newer(filled[-1].position)

    async def test_a_lost_head_is_not_an_empty_log(self, world: World) -> None:
        """Who began a new one would write over what is there (L5)."""
        await world.fill(1)
        await world.bucket.delete_many([head_key()])
        with pytest.raises(Damaged, match="lost its head"):
            await world.log().newer(START)
        with pytest.raises(Damaged, match="lost its head"):
            await world.log().put(Seq(2), encode_entry(commit(2, b"h" * 32)))


class TestLongLists:
    """Operations that do not fit into an entry lie in packs (L7)."""

    async def write(self, world: World) -> Entry:
        other = PackName(b"q" * 40)
        packs = (UsedPack(PACK), UsedPack(other))
        content = chunked(2)
        whole = Entry(Seq(1), ORIGIN, ME, 1, 1, (*new_file(2, b"f"), content), packs)
        names = [pack.name for pack in packs]
        blocks = encode_operation_blocks(whole.operations, names) + encode_pack_blocks(packs[1:])
        body, parts = b"", []
        for block in blocks:
            parts.append(Extent(len(block), chunk_id(block), PACK, len(body), len(block)))
            body += block
        await world.bucket.put(pack_key(PACK), body)
        short = msgspec.structs.replace(
            whole,
            operations=(),
            packs=packs[:1],
            operation_parts=tuple(parts[:-1]),
            pack_parts=tuple(parts[-1:]),
        )
        await world.bucket.put(log_key(Seq(1)), encode_entry(short))
        return whole

    async def test_they_are_fetched(self, world: World) -> None:
        """A commit of a hundred thousand files is one entry like any other."""
        whole = await self.write(world)
        tail = await world.log().newer(START)
        assert tail.landed == (Landed(whole, entry_hash(world.slot(1))),)

    async def test_a_pack_that_is_gone_is_named(self, world: World) -> None:
        """An entry without its operations must not be replayed as if it did nothing."""
        await self.write(world)
        await world.bucket.delete_many([pack_key(PACK)])
        with pytest.raises(Damaged, match="packs/"):
            await world.log().newer(START)

    async def test_broken_bytes_are_noticed(self, world: World) -> None:
        """Every chunk is verified, also those of the log (P6)."""
        await self.write(world)
        store, log = world.faulty()
        store.flip_bit(bit=3, key=pack_key(PACK))
        with pytest.raises(Damaged):
            await log.newer(START)


class TestPutting:
    async def test_it_lands(self, world: World) -> None:
        """The usual case: a put, and a look at `head`."""
        store, log = world.faulty()
        await log.newer(START)
        store.calls.clear()
        assert await log.put(Seq(1), MINE) is Outcome.LANDED
        assert store.calls == {"put": 1, "get": 1}
        assert world.slot(1) == MINE

    async def test_a_lost_reply_is_recognised(self, world: World) -> None:
        """Otherwise everything would be committed a second time, as a conflict with oneself."""
        store, log = world.faulty()
        store.lose_reply("put", LOST)
        assert await log.put(Seq(1), MINE) is Outcome.LANDED
        assert store.calls["put"] == 1

    async def test_a_put_of_an_earlier_run_is_recognised(self, world: World) -> None:
        """A daemon that was killed after the put finds its own entry in the slot (L2)."""
        await world.log().put(Seq(1), MINE)
        assert await world.log().put(Seq(1), MINE) is Outcome.LANDED

    async def test_a_put_that_never_arrived_is_repeated(self, world: World) -> None:
        """The same bytes to the same slot, so that both may arrive."""
        store, log = world.faulty()
        store.fail("put", LOST, times=2)
        assert await log.put(Seq(1), MINE) is Outcome.LANDED
        assert store.calls["put"] == 3

    async def test_a_slot_that_is_taken_stays_so(self, world: World) -> None:
        """Somebody's commit is never overwritten."""
        await world.bucket.put(log_key(Seq(1)), THEIRS)
        store, log = world.faulty()
        assert await log.put(Seq(1), MINE) is Outcome.TAKEN
        store.fail("put", LOST)
        assert await log.put(Seq(1), MINE) is Outcome.TAKEN
        assert world.slot(1) == THEIRS

    async def test_a_late_duplicate_changes_nothing(self, world: World) -> None:
        """A put that the network delivers twice meets what it wrote itself."""
        store, log = world.faulty()
        store.repeat_late(behind=1)
        assert await log.put(Seq(1), MINE) is Outcome.LANDED
        again = encode_entry(commit(2, entry_hash(MINE)))
        assert await log.put(Seq(2), again) is Outcome.LANDED
        tail = await world.log().newer(START)
        assert [each.entry.seq for each in tail.landed] == [1, 2]

    @pytest.mark.parametrize("applied", [True, False])
    async def test_one_that_stays_unknown_is_called_so(self, world: World, applied: bool) -> None:
        """Nothing else may go to that slot, and later the same bytes find out (L2)."""
        store, log = world.faulty()
        lose = store.lose_reply if applied else store.fail
        lose("put", LOST, times=None)
        store.fail("get", Unreachable("gone"), times=None, key=log_key(Seq(1)))
        with pytest.raises(Unreachable):
            await log.put(Seq(1), MINE)
        store.heal()
        assert await log.put(Seq(1), MINE) is Outcome.LANDED

    async def test_it_gives_up_after_some_puts(self, world: World) -> None:
        """A store that never answers must not be asked for ever (P8)."""
        store, log = world.faulty()
        store.fail("put", LOST, times=None)
        assert await log.put(Seq(1), MINE) is Outcome.UNKNOWN
        assert store.calls["put"] == MOST_PUTS

    async def test_broken_bytes_are_not_somebody_else_s(self, world: World) -> None:
        """My own entry, garbled on its way back, must not be committed a second time (P6)."""
        await world.log().put(Seq(1), MINE)
        store, log = world.faulty()
        store.flip_bit(bit=800, key=log_key(Seq(1)))
        with pytest.raises(Damaged):
            await log.put(Seq(1), MINE)
        assert await log.put(Seq(1), MINE) is Outcome.LANDED

    async def test_no_permission_is_said(self, world: World) -> None:
        """The user learns why nothing is saved."""
        store, log = world.faulty()
        store.fail("put", AccessDenied("no"))
        with pytest.raises(AccessDenied):
            await log.put(Seq(1), MINE)

    @pytest.mark.parametrize("in_the_slot", [None, MINE, THEIRS])
    async def test_below_the_floor_nothing_is_proven(
        self, world: World, in_the_slot: bytes | None
    ) -> None:
        """The slot was emptied by a checkpoint, and what lies there now came late (L3).

        Called landed, work would be lost; called taken, it would be committed twice.
        """
        if in_the_slot is not None:
            await world.bucket.put(log_key(Seq(1)), in_the_slot)
        await world.create(cut(1))
        assert await world.log().put(Seq(1), MINE) is Outcome.OVERTAKEN

    async def test_who_was_overtaken_believes_no_empty_slot(self, world: World) -> None:
        """What landed before it was cut away would be taken for void, and done twice (L3)."""
        log = world.log()
        assert (await log.newer(START)).is_tip
        await world.create(cut(1))
        assert await log.put(Seq(1), MINE) is Outcome.OVERTAKEN
        await world.bucket.delete_many([log_key(Seq(1))])
        with pytest.raises(Overtaken):
            await log.newer(START)

    async def test_head_is_read_after_the_put(self, world: World) -> None:
        """A floor that rose just before the put has to be seen (L3)."""

        def is_put(ask: Ask) -> bool:
            return ask.kind == "put"

        store = Meanwhile(world.bucket, is_put, lambda: world.create(cut(1)))
        assert await Log(store, world.env()).put(Seq(1), MINE) is Outcome.OVERTAKEN


class TestAlone:
    """Where the store keeps no writers apart (L8)."""

    async def test_the_owner_lands_and_recognises_itself(self, world: World) -> None:
        """--single-writer works, through lost replies too."""
        await world.create(Head(owner=ME))
        store = FaultyStore(Careless(world.bucket))
        log = Log(store, world.env(), ME)
        store.lose_reply("put", Unreachable("lost"))
        with pytest.raises(Unreachable):
            await log.put(Seq(1), MINE)
        assert await log.put(Seq(1), MINE) is Outcome.LANDED

    async def test_a_filled_slot_is_not_overwritten(self, world: World) -> None:
        """The store would not stop it."""
        await world.create(Head(owner=ME))
        await world.bucket.put(log_key(Seq(1)), THEIRS)
        log = Log(Careless(world.bucket), world.env(), ME)
        assert await log.put(Seq(1), MINE) is Outcome.TAKEN
        assert world.slot(1) == THEIRS

    @pytest.mark.parametrize("me", [None, ME])
    async def test_nobody_else_writes(self, world: World, me: ClientId | None) -> None:
        """Two writers on such a store destroy each other's commits."""
        await world.create(Head(owner=SOMEBODY))
        log = Log(Careless(world.bucket), world.env(), me)
        with pytest.raises(InUse):
            await log.put(Seq(1), MINE)
        assert log_key(Seq(1)) not in world.bucket._objects


@dataclass(slots=True)
class Writer:
    """A client that makes commits, and keeps to the rules as the push does (L2, L3).

    Whatever goes wrong, it tries again; it counts what it believes to have landed.
    """

    client: ClientId
    log: Log
    position: Position = START
    landed: list[int] = field(default_factory=list)
    refused: int = 0

    async def commit(self, counter: int) -> None:
        while True:
            await self._catch_up()
            entry = commit(
                self.position.seq + 1, self.position.chain, client=self.client, counter=counter
            )
            if await self._settle(entry.seq, encode_entry(entry)) is Outcome.LANDED:
                self.landed.append(counter)
                return
            self.refused += 1

    async def _settle(self, seq: Seq, data: bytes) -> Outcome:
        """Put the same bytes until it is known what became of them (L2)."""
        while True:
            await trio.lowlevel.checkpoint()
            try:
                outcome = await self.log.put(seq, data)
            except BlobfsError:
                continue
            if outcome is not Outcome.UNKNOWN:
                return outcome

    async def _catch_up(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            try:
                tail = await self.log.newer(self.position)
            except BlobfsError:
                continue
            if tail.landed:
                self.position = tail.landed[-1].position
            if tail.is_tip:
                return


async def authors(world: World) -> list[tuple[ClientId, int]]:
    """Return who wrote the entries of the log, which fit together."""
    tail = await world.log().newer(START)
    return [(each.entry.client, each.entry.counter) for each in tail.landed]


class TestEveryCallFailsOnce:
    @pytest.mark.parametrize("effect", ["fail", "lose_reply", "flip_bit", "repeat_late"])
    async def test_each_commit_lands_exactly_once(self, effect: str) -> None:
        """Whichever request goes wrong, nothing is lost and nothing is saved twice (P3)."""
        nth = 0
        while True:
            nth += 1
            world = World()
            await world.create()
            store, log = world.faulty()
            match effect:
                case "fail":
                    store.fail("any", LOST, nth=nth)
                case "lose_reply":
                    store.lose_reply("any", LOST, nth=nth)
                case "flip_bit":
                    store.flip_bit(bit=100, nth=nth)
                case "repeat_late":
                    store.repeat_late(behind=2, nth=nth)
            writer = Writer(ME, log)
            for counter in (1, 2, 3):
                await writer.commit(counter)
            assert await authors(world) == [(ME, 1), (ME, 2), (ME, 3)]
            assert writer.landed == [1, 2, 3]
            kinds = {"flip_bit": "get", "repeat_late": "put"}
            calls = store.calls[kinds[effect]] if effect in kinds else store.calls.total()
            if calls < nth:
                return


class TestRaces:
    @pytest.mark.parametrize("seed", range(20))
    async def test_two_clients_share_a_log(self, seed: int) -> None:
        """Each slot has one winner, each loser tries the next, each commit lands once."""
        chance = random.Random(seed)
        world = World()
        await world.create()
        writers = []
        for client in (ME, SOMEBODY):
            store = FaultyStore(Shuffled(world.bucket, chance))
            for kind in ("put", "get"):
                for nth in chance.sample(range(1, 40), 6):
                    choice = chance.choice(("fail", "lose_reply"))
                    getattr(store, choice)(kind, LOST, nth=nth)
            store.repeat_late(behind=chance.randrange(1, 5), nth=chance.randrange(1, 5))
            writers.append(Writer(client, Log(store, world.env())))

        async def work(writer: Writer) -> None:
            for counter in range(1, 7):
                await writer.commit(counter)

        async with trio.open_nursery() as nursery:
            for writer in writers:
                nursery.start_soon(work, writer)
        wrote = await authors(world)
        assert len(wrote) == 12
        for writer in writers:
            assert [count for client, count in wrote if client == writer.client] == writer.landed
            assert writer.landed == [1, 2, 3, 4, 5, 6]

    async def test_exactly_one_of_eight_wins_a_slot(self, world: World) -> None:
        """Two winners would be two histories."""
        clients = [ClientId(bytes([65 + number]) * 16) for number in range(8)]
        outcomes: list[Outcome] = []

        async def race(client: ClientId) -> None:
            log = Log(Shuffled(world.bucket, random.Random(client)), world.env())
            data = encode_entry(commit(1, ORIGIN, client=client))
            outcomes.append(await log.put(Seq(1), data))

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(race, client)
        assert sorted(outcome.name for outcome in outcomes) == ["LANDED"] + ["TAKEN"] * 7


class Shuffled(Layer):
    """A store whose calls take turns as chance will have it."""

    def __init__(self, inner: Store, chance: random.Random) -> None:
        super().__init__(inner)
        self._chance = chance

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[object]]) -> object:  # type: ignore[override]
        for _ in range(self._chance.randrange(4)):
            await trio.lowlevel.checkpoint()
        answer = await call()
        for _ in range(self._chance.randrange(4)):
            await trio.lowlevel.checkpoint()
        return answer
