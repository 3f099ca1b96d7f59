"""Others see what this client needs, and two under one id are noticed."""

from dataclasses import dataclass, field

import msgspec
import pytest

from blobfs.errors import AccessDenied, NotFound, OutcomeUnknown, Unsupported
from blobfs.formats.client import ClientRecord, decode_client, encode_client
from blobfs.formats.keys import client_key
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import Seq
from blobfs.volume.registration import MOST_PUTS, Copied, Registration
from tests.volume.careless import Careless
from tests.volume.story import ME

KEY = client_key(ME)
LOST = OutcomeUnknown("the answer was lost")


def record(seq: int) -> ClientRecord:
    return ClientRecord(id=ME, host="here", seq=Seq(seq), needs_from=Seq(1), lease_until_ns=seq)


@dataclass(slots=True)
class World:
    bucket: MemoryStore = field(default_factory=MemoryStore)

    def said(self) -> ClientRecord:
        return decode_client(self.bucket.peek(KEY), key=KEY)

    def faulty(self) -> tuple[FaultyStore, Registration]:
        store = FaultyStore(self.bucket)
        return store, Registration(store)


@pytest.fixture
def world() -> World:
    return World()


class TestAnnounce:
    async def test_others_can_read_it(self, world: World) -> None:
        """What a client still needs must not be collected."""
        store, registration = world.faulty()
        for seq in (1, 2, 3):
            await registration.announce(record(seq))
            assert world.said() == record(seq)
        assert store.calls["put"] == 5  # a first record, and one proof

    async def test_the_same_is_not_said_twice(self, world: World) -> None:
        """A request that says nothing new costs money all the same."""
        store, registration = world.faulty()
        await registration.announce(record(1))
        store.calls.clear()
        await registration.announce(record(1))
        assert store.calls.total() == 0

    async def test_a_later_run_goes_on(self, world: World) -> None:
        """A remount finds its own record, and writes over it."""
        await Registration(world.bucket).announce(record(1))
        store, registration = world.faulty()
        await registration.announce(record(2))
        assert world.said() == record(2)
        assert store.calls == {"get": 1, "put": 2}

    async def test_a_copy_is_noticed(self, world: World) -> None:
        """Two machines under one id would take each other's commits for their own (L6)."""
        mine, copy = Registration(world.bucket), Registration(world.bucket)
        await mine.announce(record(1))
        await copy.announce(msgspec.structs.replace(record(2), host="there"))
        with pytest.raises(Copied):
            await mine.announce(record(3))
        assert world.said().host == "there"

    async def test_two_that_begin_together_are_noticed(self, world: World) -> None:
        """Likewise, when the copy was made before the first commit."""
        store, registration = world.faulty()
        store.fail("get", NotFound("not yet"))
        await world.bucket.put(KEY, encode_client(msgspec.structs.replace(record(1), host="x")))
        with pytest.raises(Copied):
            await registration.announce(record(1))

    async def test_a_store_without_if_match_is_refused(self, world: World) -> None:
        """`head` rests on it: two clients that cut the log at once would lose commits (L8)."""
        with pytest.raises(Unsupported, match="whatever version"):
            await Registration(Careless(world.bucket)).announce(record(1))

    async def test_no_permission_is_said(self, world: World) -> None:
        """The user learns why nothing is saved."""
        store, registration = world.faulty()
        store.fail("put", AccessDenied("no"))
        with pytest.raises(AccessDenied):
            await registration.announce(record(1))

    async def test_a_store_that_never_answers_is_given_up(self, world: World) -> None:
        """Nothing may hang (P8)."""
        store, registration = world.faulty()
        store.fail("put", LOST, times=None)
        with pytest.raises(OutcomeUnknown):
            await registration.announce(record(1))
        assert store.calls["put"] == MOST_PUTS

    @pytest.mark.parametrize("effect", ["fail", "lose_reply", "repeat_late"])
    async def test_every_call_fails_once(self, effect: str) -> None:
        """Whatever goes wrong, this client is not taken for a copy of itself."""
        nth = 0
        while True:
            nth += 1
            world = World()
            store, registration = world.faulty()
            if effect == "repeat_late":
                store.repeat_late(behind=1, nth=nth)
            else:
                getattr(store, effect)("any", LOST, nth=nth)
            for seq in (1, 2, 3):
                try:
                    await registration.announce(record(seq))
                except OutcomeUnknown:
                    await registration.announce(record(seq))
                assert world.said() == record(seq)
            calls = store.calls["put"] if effect == "repeat_late" else store.calls.total()
            if calls < nth:
                return
