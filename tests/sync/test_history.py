"""`log` tells what was committed, when, by whom and how much."""

import platform
import random
from pathlib import Path

import pytest

from blobfs.env import Env
from blobfs.errors import Damaged, NotFound
from blobfs.formats.keys import log_key
from blobfs.stores.memory import MemoryStore
from blobfs.sync.history import read_history
from blobfs.types import Seq
from tests.sync.place import opened_place

KIB = 1024


@pytest.fixture
async def store(tmp_path: Path) -> MemoryStore:
    """A volume of three commits."""
    store = MemoryStore()
    async with opened_place(store, tmp_path) as place:
        await place.write("one", random.Random(1).randbytes(40 * KIB))
        await place.write("two", b"in its row")
        await place.save()
        await place.rename("one", "three")
        await place.save()
        await place.unlink("two")
        await place.save()
    return store


async def test_commits_are_told_of_from_the_newest_on(store: MemoryStore) -> None:
    """Nobody could find out what happened to a file, or who did it."""
    commits = await read_history(store, Env(), limit=10)
    assert [each.seq for each in commits] == [3, 2, 1]
    assert {each.host for each in commits} == {platform.node()}
    assert len({each.client for each in commits}) == 1
    assert sorted((each.time_ns for each in commits), reverse=True) == [
        each.time_ns for each in commits
    ]
    last, middle, first = commits
    assert (first.files, first.names_put, first.names_dropped) == (2, 2, 0)
    assert 40 * KIB < first.stored_bytes < 41 * KIB
    assert (middle.files, middle.names_put, middle.names_dropped) == (0, 1, 1)
    assert (last.names_put, last.names_dropped, last.stored_bytes) == (0, 1, 0)


async def test_only_as_many_as_were_asked_for(store: MemoryStore) -> None:
    """A log of years would have to be read to see the last commit."""
    assert [each.seq for each in await read_history(store, Env(), limit=2)] == [3, 2]


async def test_an_author_who_left(store: MemoryStore) -> None:
    """The whole log could not be shown, for want of one name."""
    (record,) = (await store.list(".blobfs/clients/")).objects
    await store.delete_many([record.key])
    assert {each.host for each in await read_history(store, Env(), limit=9)} == {None}


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_gap_is_said(store: MemoryStore, lost: int) -> None:
    """The log would seem to end before it does, or not to be there at all."""
    await store.delete_many([log_key(Seq(lost))])
    with pytest.raises(Damaged, match=r"missing|gone"):
        await read_history(store, Env(), limit=9)


async def test_nothing_was_committed_yet(tmp_path: Path) -> None:
    """A new volume would have an error for a history."""
    store = MemoryStore()
    with pytest.raises(NotFound, match="there is no volume"):
        await read_history(store, Env(), limit=9)
    async with opened_place(store, tmp_path, read_write=True):
        pass
    assert await read_history(store, Env(), limit=9) == []
