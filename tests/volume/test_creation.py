"""A bucket becomes a volume once, and is written to only where puts have one winner."""

from collections.abc import Callable

import pytest
import trio

from blobfs.errors import (
    AccessDenied,
    BlobfsError,
    Damaged,
    InUse,
    OutcomeUnknown,
    ReadOnly,
    Unreachable,
    Unsupported,
    UsageError,
)
from blobfs.formats.head import Head, VolumeSettings, encode_head
from blobfs.formats.keys import LOG, head_key, volume_key
from blobfs.formats.volume import VolumeInfo
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.layers import Prefixed
from blobfs.stores.memory import MemoryStore
from blobfs.types import ClientId
from blobfs.volume import creation
from blobfs.volume.creation import (
    Access,
    complete,
    create,
    find_access,
    refuse_nested,
    require_writable,
    volumes_above,
)
from blobfs.volume.presence import Volume, look
from tests.volume.careless import Careless
from tests.volume.story import ME, SOMEBODY

INFO = VolumeInfo(id=b"v" * 16, created_ns=1)
OTHER = VolumeInfo(id=b"w" * 16, created_ns=2)
LOST = OutcomeUnknown("the answer was lost")


class TestCreate:
    async def test_it_makes_a_volume(self) -> None:
        """And everybody who looks from now on finds it."""
        store = MemoryStore()
        volume = await create(store, INFO)
        assert (volume.info, volume.head) == (INFO, Head())
        assert await look(store) == volume

    async def test_there_is_one_however_many_try(self) -> None:
        """Two clients whose first writes fall together write to the same volume."""
        store = MemoryStore()
        made: list[Volume] = []

        async def race(info: VolumeInfo) -> None:
            made.append(await create(store, info))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(race, INFO)
            nursery.start_soon(race, OTHER)
        assert made[0] == made[1] == await look(store)

    async def test_remains_are_not_built_upon(self) -> None:
        """A new volume over an old one's log would be neither (L5)."""
        store = MemoryStore()
        await store.put(LOG + "00000000000000000001", b"old")
        with pytest.raises(Damaged):
            await create(store, INFO)
        with pytest.raises(KeyError):
            store.peek(volume_key())

    @pytest.mark.parametrize("effect", ["fail", "lose_reply", "repeat_late"])
    async def test_every_call_fails_once(self, effect: str) -> None:
        """Whatever goes wrong, the next try ends with one whole volume."""
        nth = 0
        while True:
            nth += 1
            inner = MemoryStore()
            store = FaultyStore(inner)
            if effect == "repeat_late":
                store.repeat_late(behind=1, nth=nth)
            else:
                getattr(store, effect)("any", LOST, nth=nth)
            try:
                volume = await create(store, INFO)
            except OutcomeUnknown:
                volume = await create(store, OTHER)  # as another run would
            assert volume == await look(inner)
            assert volume.head == Head()
            calls = store.calls["put"] if effect == "repeat_late" else store.calls.total()
            if calls < nth:
                return

    async def test_a_killed_creation_is_completed(self) -> None:
        """Otherwise the bucket could never be written to."""
        store = MemoryStore()
        volume = await create(store, INFO)
        await store.delete_many([head_key()])
        killed = await look(store)
        assert killed is not None
        assert await complete(store, killed) == volume

    async def test_no_permission_is_said(self) -> None:
        """The user learns that these credentials cannot write."""
        store = FaultyStore(MemoryStore())
        store.fail("put", AccessDenied("no"), times=None)
        with pytest.raises(AccessDenied):
            await create(store, INFO)

    async def test_a_store_that_never_answers_is_given_up(self) -> None:
        """Nothing may hang, and nothing be taken for done (P8)."""
        store = FaultyStore(MemoryStore())
        store.fail("put", LOST, times=None)
        with pytest.raises(OutcomeUnknown):
            await create(store, INFO)
        assert store.calls["put"] == creation.MOST_PUTS


def refusing(error: BlobfsError) -> Callable[[Store], Store]:
    def wrap(inner: Store) -> Store:
        store = FaultyStore(inner)
        store.fail("put", error, times=None)
        return store

    return wrap


class TestAccess:
    """Putting `volume` once more tells all (L8)."""

    @pytest.mark.parametrize(
        ("wrap", "access"),
        [
            (lambda store: store, Access.SHARED),
            (Careless, Access.ALONE),
            (refusing(Unsupported("no conditions")), Access.ALONE),
            (refusing(AccessDenied("no")), Access.NONE),
            (refusing(ReadOnly("no")), Access.NONE),
        ],
    )
    async def test_what_the_answer_means(
        self, wrap: Callable[[Store], Store], access: Access
    ) -> None:
        """A wrong conclusion destroys commits, or refuses a good store."""
        store = MemoryStore()
        volume = await create(store, INFO)
        assert await find_access(wrap(store), volume) is access
        assert store.peek(volume_key()) == volume.data

    async def test_no_answer_is_none(self) -> None:
        """A lost reply means asking again, silence that nobody knows."""
        inner = MemoryStore()
        volume = await create(inner, INFO)
        store = FaultyStore(inner)
        store.fail("put", LOST, times=2)
        assert await find_access(store, volume) is Access.SHARED
        for error in (LOST, Unreachable("gone")):
            store = FaultyStore(inner)
            store.fail("put", error, times=None)
            with pytest.raises(type(error)):
                await find_access(store, volume)


class TestWritable:
    async def test_a_good_store_is_written_to(self) -> None:
        """With or without the flag, and without a trace in `head`."""
        store = MemoryStore()
        volume = await create(store, INFO)
        for flag in (True, False):
            access = await require_writable(store, volume, ME, single_writer=flag)
            assert access is Access.SHARED
        assert await look(store) == volume

    async def test_credentials_for_reading_are_told_of(self) -> None:
        """At the mount, not at the first write."""
        inner = MemoryStore()
        volume = await create(inner, INFO)
        store = refusing(AccessDenied("no"))(inner)
        with pytest.raises(ReadOnly, match="credentials"):
            await require_writable(store, volume, ME, single_writer=True)

    async def test_a_careless_store_is_refused(self) -> None:
        """Two clients would destroy each other's commits on it."""
        store = Careless(MemoryStore())
        volume = await create(store, INFO)
        with pytest.raises(Unsupported, match="does not refuse") as caught:
            await require_writable(store, volume, ME, single_writer=False)
        assert "--single-writer" in caught.value.hint

    async def test_a_careless_store_has_one_writer(self) -> None:
        """Who comes first, and says so, has it; everybody else is kept out."""
        store = Careless(MemoryStore())
        volume = await create(store, INFO)
        assert await require_writable(store, volume, ME, single_writer=True) is Access.ALONE
        claimed = await look(store)
        assert claimed is not None
        assert claimed.head == Head(owner=ME)
        assert await require_writable(store, claimed, ME, single_writer=True) is Access.ALONE
        with pytest.raises(InUse, match=ME.hex()):
            await require_writable(store, claimed, SOMEBODY, single_writer=True)

    async def test_who_becomes_the_writer_leaves_the_settings(self) -> None:
        """A quota would be gone with the first mount that writes."""
        store = Careless(MemoryStore())
        await create(store, INFO)
        settings = VolumeSettings(quota_bytes=5)
        await store.put(head_key(), encode_head(Head(settings=settings)))
        volume = await look(store)
        assert volume is not None
        await require_writable(store, volume, ME, single_writer=True)
        claimed = await look(store)
        assert claimed is not None
        assert claimed.head == Head(owner=ME, settings=settings)

    async def test_an_owner_counts_on_a_good_store_too(self) -> None:
        """The owner may reach the same bucket by a way that knows no conditions."""
        store = MemoryStore()
        volume = await create(store, INFO)
        await store.put(head_key(), encode_head(Head(owner=ClientId(b"x" * 16))))
        volume = await look(store) or volume
        with pytest.raises(InUse):
            await require_writable(store, volume, ME, single_writer=False)


class TestNested:
    """A volume within a volume would have two masters (N7)."""

    def test_where_volumes_above_would_lie(self) -> None:
        """Each folder above is asked, the bucket's root too; a neighbour is not."""
        assert volumes_above("") == []
        assert volumes_above("a/") == [".blobfs/volume"]
        assert volumes_above("a/b/c/") == [
            "a/b/.blobfs/volume",
            "a/.blobfs/volume",
            ".blobfs/volume",
        ]

    @pytest.mark.parametrize(
        ("key", "words"),
        [
            (".blobfs/volume", "above"),
            ("a/.blobfs/volume", "above"),
            ("a/b/c/d/.blobfs/volume", "below"),
            ("a/b/x.blobfs/volume", None),
            ("a/bb/.blobfs/volume", None),
            ("z/.blobfs/volume", None),
        ],
    )
    async def test_above_and_below_are_refused(self, key: str, words: str | None) -> None:
        """Both would hide each other's files, and collect each other's bytes."""
        outer = MemoryStore()
        await outer.put(key, b"a volume")
        store = Prefixed(outer, "a/b/")
        if words is None:
            await refuse_nested(store, outer, "a/b/")
        else:
            with pytest.raises(UsageError, match=words):
                await refuse_nested(store, outer, "a/b/")

    async def test_the_search_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first write to a bucket of a billion keys must not list them all."""
        monkeypatch.setattr(creation, "PAGES_LOOKED_THROUGH", 2)
        inner = MemoryStore()
        for number in range(2001):
            await inner.put(f"{number:05d}", b"")
        store = FaultyStore(inner)
        await refuse_nested(store, inner, "")
        assert store.calls == {"list": 2}
