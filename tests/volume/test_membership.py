"""Clients know of each other, and none of them loses every race."""

import pytest
import trio
import trio.testing

from blobfs.env import Env
from blobfs.errors import NotFound
from blobfs.formats.client import ClientRecord, decode_client, encode_client
from blobfs.formats.keys import CLIENTS, client_key
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import ClientId, Seq
from blobfs.volume.membership import DAY_NS, LEASE_NS, OTHERS_ARE_ACTIVE_NS, Membership
from blobfs.volume.registration import Copied
from tests.volume.story import ME, SOMEBODY

S = 10**9


def virtual_env() -> Env:
    return Env(now_ns=lambda: 10**18 + int(trio.current_time() * S))


class World:
    """A bucket, and clients of the volume in it, on one virtual clock."""

    def __init__(self) -> None:
        self.bucket = MemoryStore(env=virtual_env())
        self.store = FaultyStore(self.bucket)

    def member(self, client: ClientId = ME) -> Membership:
        return Membership(self.store, client, virtual_env(), host="here", program="1")

    def said(self, client: ClientId = ME) -> ClientRecord:
        key = client_key(client)
        return decode_client(self.bucket.peek(key), key=key)

    async def lose(self, member: Membership, times: int) -> None:
        for _ in range(times):
            await member.note_lost()


@pytest.fixture
def world() -> World:
    return World()


async def waited_s(member: Membership) -> float:
    began = trio.current_time()
    await member.wait_turn()
    return trio.current_time() - began


async def test_a_member_has_a_lease(world: World, autojump_clock: trio.testing.MockClock) -> None:
    """What it still reads must not be removed while it is away for a month."""
    await world.member().register(Seq(7))
    said = world.said()
    assert (said.host, said.program, said.seq, said.needs_from) == ("here", "1", 7, 7)
    assert said.lease_until_ns == virtual_env().now_ns() + LEASE_NS


async def test_the_lease_is_renewed_once_a_day(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """A request for each commit would cost money, and a lease that ends would cost files."""
    member = world.member()
    await member.register(Seq(1))
    world.store.calls.clear()
    await trio.sleep(DAY_NS / S - 1)
    await member.register(Seq(2))
    assert world.store.calls.total() == 0
    await trio.sleep(1)
    await member.register(Seq(3))
    assert world.said().seq == 3
    assert world.store.calls.total() == 1


async def test_a_copy_is_noticed_before_it_commits(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Two machines under one id would take each other's commits for their own (L6)."""
    member, copy = world.member(), world.member()
    await member.register(Seq(1))
    await trio.sleep(DAY_NS / S)
    await copy.register(Seq(2))
    with pytest.raises(Copied):
        await member.register(Seq(3))


async def test_nobody_waits_where_nobody_else_writes(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """The usual case: no request, no pause."""
    member = world.member()
    assert await waited_s(member) == 0
    member.note_other()
    await trio.sleep(OTHERS_ARE_ACTIVE_NS / S + 1)
    assert await waited_s(member) == 0
    assert world.store.calls.total() == 0


async def test_others_hold_back_for_who_lost_five_times(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """A client behind a slow line would never get a slot, and its push never end (L7)."""
    fast, slow = world.member(), world.member(SOMEBODY)
    for member in (fast, slow):
        await member.register(Seq(1))
        member.note_other()
    await world.lose(slow, 4)
    assert await waited_s(fast) == 0
    await trio.sleep(5)
    await world.lose(slow, 1)
    await trio.sleep(2)
    assert await waited_s(fast) == 8
    assert await waited_s(slow) == 0


async def test_a_success_ends_a_losing_streak(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Who loses now and then must not hold everybody up (L7)."""
    member = world.member()
    await member.register(Seq(1))
    await world.lose(member, 4)
    member.note_landed()
    await world.lose(member, 4)
    assert world.said().waiting_until_ns == 0
    await world.lose(member, 1)
    assert world.said().waiting_until_ns > 0


async def test_who_loses_looks_for_others(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """A lost slot shows that somebody else commits, as a replayed entry does."""
    member = world.member()
    await world.lose(member, 1)
    await member.wait_turn()
    assert world.store.calls["list"] == 1


async def test_a_look_costs_little(world: World, autojump_clock: trio.testing.MockClock) -> None:
    """Thousands of clients that are long gone must not be read before each commit."""
    for number in range(20):
        client = ClientId(bytes([number]) * 16)
        record = ClientRecord(id=client, host="gone", waiting_until_ns=(1 << 63) - 1)
        await world.bucket.put(client_key(client), encode_client(record))
    await trio.sleep(3600)
    await world.bucket.put(CLIENTS + "not-a-client", b"")
    member = world.member()
    await member.register(Seq(1))
    world.store.calls.clear()
    member.note_other()
    assert await waited_s(member) == 0
    assert world.store.calls == {"list": 1, "get": 1}
    assert await waited_s(member) == 0
    assert world.store.calls.total() == 2


async def test_a_record_that_vanishes_stops_nobody(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Clients are removed when their lease is over, at any moment."""
    member = world.member()
    await member.register(Seq(1))
    member.note_other()
    world.store.fail("get", NotFound("just removed"))
    assert await waited_s(member) == 0
