"""Who writes to a volume is known to the others before its first commit."""

import random
from pathlib import Path

import trio

from blobfs.env import Env
from blobfs.formats.client import decode_client
from blobfs.formats.keys import CLIENTS, log_key
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.layers import Ask
from blobfs.stores.memory import MemoryStore
from blobfs.types import Seq
from tests.sync.place import opened_place
from tests.volume.test_log import Meanwhile


async def test_a_client_has_a_lease_before_it_commits(tmp_path: Path) -> None:
    """What it commits and reads could be removed before anybody knew of it (L8)."""
    bucket = MemoryStore()
    seen: list[int] = []

    async def look() -> None:
        seen.append(len((await bucket.list(CLIENTS)).objects))

    def is_commit(ask: Ask) -> bool:
        return ask.kind == "put" and ask.keys == (log_key(Seq(1)),)

    async with opened_place(Meanwhile(bucket, is_commit, look), tmp_path) as place:
        await place.write("f", b"content")
        await place.save()
    assert seen == [1]
    (record,) = (await bucket.list(CLIENTS)).objects
    client = decode_client(bucket.peek(record.key), key=record.key)
    assert client.lease_until_ns > place.env.now_ns()
    assert client.host


async def test_later_commits_cost_no_request_for_it(tmp_path: Path) -> None:
    """A thousand small commits would cost a thousand requests more."""
    store = FaultyStore(MemoryStore())
    async with opened_place(store, tmp_path) as place:
        await place.write("f", b"x" * 5000)
        await place.save()
        store.calls.clear()
        await place.write("g", b"y" * 5000)
        await place.save()
    assert store.calls["put"] == 2  # a pack, a slot


async def test_numbers_are_never_taken_from_anothers_range(tmp_path: Path) -> None:
    """Who edits a file of another machine, and makes one after a remount, could save neither."""
    store = MemoryStore()
    async with opened_place(store, tmp_path / "first", env=Env(chance=lambda: 0.9)) as place:
        await place.write("theirs", b"1")
        await place.save()
    here = Env(chance=random.Random(1).random)  # a range below that of the first
    async with opened_place(store, tmp_path / "here", env=here) as place:
        await place.write("theirs", b"2")
    async with opened_place(store, tmp_path / "here", env=here) as place:
        await place.write("mine", b"3")
        with trio.fail_after(10):
            await place.save()
        assert await place.tree() == {"theirs": b"2", "mine": b"3"}
