"""The newest checkpoint that can be read is found, and only one of this log."""

import hashlib

import pytest

from blobfs.errors import Damaged, Unreachable, Unsupported
from blobfs.formats.checkpoint import Checkpoint, encode_checkpoint
from blobfs.formats.commit import Counters, Entry
from blobfs.formats.entry import encode_entry
from blobfs.formats.head import Head, encode_head
from blobfs.formats.keys import checkpoint_key, checkpoint_name, head_key, log_key
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.types import ClientId, Seq
from blobfs.volume.checkpoint_finding import fetch_checkpoint, find_checkpoint


def entry(seq: int, client: bytes = b"c") -> bytes:
    return encode_entry(Entry(Seq(seq), b"p" * 32, ClientId(client * 16), seq, seq, ()))


class Bucket:
    """A store with checkpoints of an empty tree, one after the other."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.last: str | None = None

    async def add(self, seq: int, *, chain: bytes | None = None, slot: bool = True) -> str:
        """Add a checkpoint after entry `seq`, and that entry."""
        data = entry(seq)
        if slot:
            await self.store.put(log_key(Seq(seq)), data)
        name, manifest = encode_checkpoint(
            Checkpoint(
                seq=Seq(seq),
                chain=chain or hashlib.sha256(data).digest(),
                time_ns=0,
                counters=Counters(0, 0, bytes(16)),
                granted_to=2,
                previous=self.last,
                tables=(),
            )
        )
        await self.store.put(checkpoint_key(name), manifest)
        self.last = name
        return name

    async def add_newer(self, seq: int) -> str:
        """Add one that a newer version of blobfs has written."""
        assert self.last is not None
        data = bytearray(self.store.peek(checkpoint_key(self.last)))
        data[9] += 1
        data[-32:] = hashlib.sha256(data[:-32]).digest()
        self.last = checkpoint_name(Seq(seq), hashlib.sha256(data).digest())
        await self.store.put(checkpoint_key(self.last), bytes(data))
        return self.last

    def head(self, floor: int = 0) -> Head:
        return Head(floor=Seq(floor), checkpoint=self.last)

    async def found(self, *refused: str, floor: int = 0) -> str | None:
        found = await find_checkpoint(self.store, self.head(floor), refused)
        return None if found is None else found[0]


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


async def test_a_volume_without_one_has_none(bucket: Bucket) -> None:
    """Volumes that were never large begin with their log."""
    assert await bucket.found() is None


async def test_the_newest_one_is_found(bucket: Bucket) -> None:
    """A mount would replay what it need not."""
    await bucket.add(3)
    newest = await bucket.add(5)
    name, checkpoint = await find_checkpoint(bucket.store, bucket.head()) or ("", None)
    assert name == newest
    assert checkpoint is not None
    assert checkpoint.seq == 5


@pytest.mark.parametrize("harm", ["gone", "damaged", "refused", "another's bytes"])
async def test_one_that_is_of_no_use_makes_way_for_the_one_before(
    bucket: Bucket, harm: str
) -> None:
    """One lost object would take the whole volume with it."""
    first, newest = await bucket.add(3), await bucket.add(5)
    if harm == "gone":
        await bucket.store.delete_many([checkpoint_key(newest)])
    elif harm == "damaged":
        await bucket.store.put(checkpoint_key(newest), b"nothing of the kind")
    elif harm == "another's bytes":
        await bucket.store.put(checkpoint_key(newest), bucket.store.peek(checkpoint_key(first)))
    assert await bucket.found(*([newest] if harm == "refused" else [])) == first
    await bucket.store.delete_many([checkpoint_key(first)])
    assert await bucket.found(newest) is None


async def test_one_below_the_floor_is_none(bucket: Bucket) -> None:
    """What was cut from the log behind it would be missing from the tree (L5)."""
    first, newest = await bucket.add(3), await bucket.add(5)
    assert await bucket.found(newest, floor=3) == first
    assert await bucket.found(newest, floor=4) is None


async def test_one_of_another_log_is_refused(bucket: Bucket) -> None:
    """A bucket put together from two copies would show files of either."""
    first = await bucket.add(3)
    await bucket.add(5, chain=b"x" * 32)
    await bucket.store.put(head_key(), encode_head(bucket.head()))
    assert await bucket.found() == first


async def test_a_late_entry_in_a_slot_that_was_just_cut_does_not_speak_against_it(
    bucket: Bucket,
) -> None:
    """Whoever opens the volume in such a moment would be told that it is damaged (L4)."""
    newest = await bucket.add(5)
    await bucket.store.put(log_key(Seq(5)), entry(5, client=b"d"))
    await bucket.store.put(head_key(), encode_head(bucket.head(floor=5)))
    assert await bucket.found() == newest


async def test_the_entry_need_not_be_there_any_more(bucket: Bucket) -> None:
    """That is what checkpoints are for."""
    newest = await bucket.add(5, slot=False)
    assert await bucket.found(floor=5) == newest


async def test_a_damaged_entry_does_not_speak_against_it(bucket: Bucket) -> None:
    """What the checkpoint makes up for would be lost because of it."""
    newest = await bucket.add(5)
    await bucket.store.put(log_key(Seq(5)), entry(5)[:-1])
    assert await bucket.found() == newest


async def test_a_store_that_does_not_answer_is_no_missing_checkpoint(bucket: Bucket) -> None:
    """An older tree would be shown because the network was away (P5)."""
    await bucket.add(3)
    await bucket.add(5)
    faulty = FaultyStore(bucket.store)
    faulty.fail("get", Unreachable("no network"))
    with pytest.raises(Unreachable):
        await find_checkpoint(faulty, bucket.head())


async def test_a_newer_one_is_called_so(bucket: Bucket) -> None:
    """Users would be told that their volume is damaged, when only their program is old. What the
    program understands is used as long as there is any."""
    before = await bucket.add(5)
    newest = await bucket.add_newer(6)
    assert await bucket.found() == before
    with pytest.raises(Unsupported, match="newer"):
        await fetch_checkpoint(bucket.store, newest)


async def test_what_is_gone_is_named(bucket: Bucket) -> None:
    """Whoever is to bring it back has to know what."""
    newest = await bucket.add(5)
    await bucket.store.delete_many([checkpoint_key(newest)])
    with pytest.raises(Damaged, match=newest):
        await fetch_checkpoint(bucket.store, newest)
