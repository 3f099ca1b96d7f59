"""Who waits for saving is told when it is done, however that came about."""

from pathlib import Path

import pytest
import trio
import trio.testing

from blobfs.env import Env
from blobfs.errors import Unreachable
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.volume.room import Disk, Room
from blobfs.volume.unsaved import UNASKED_BYTES
from tests.sync.place import opened_place


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


async def test_a_commit_whose_answer_came_late_is_noticed(
    store: FaultyStore, tmp_path: Path
) -> None:
    """`blobfs sync` would wait for ever for what is in the bucket since long."""
    async with opened_place(store, tmp_path) as place:
        await place.write("f", b"1")
        await place.save()
        await place.write("f", b"2")
        # The entry lands; the look at `head` that has to follow does not come through.
        store.fail("get", Unreachable("gone, by a rule"), key=".blobfs/head")
        with trio.fail_after(10):
            await place.save()


async def test_a_change_beside_a_commit_is_waited_for(store: FaultyStore, tmp_path: Path) -> None:
    """`blobfs sync` would return for a commit that had begun before the last change."""
    late: list[str] = []

    async def change() -> None:
        await place.write("f", b"2")
        serial = place.engine.hurry()
        await place.engine.pusher.wait_saved(serial)
        assert place.engine.tree.state.seq == 2
        late.append("saved")

    def begin_late(point: str) -> None:
        if point == "push.uploaded" and not late:
            late.append("begun")
            nursery.start_soon(change)

    env = Env(crash_point=begin_late)
    with trio.fail_after(10):
        async with opened_place(store, tmp_path, env=env) as place, trio.open_nursery() as nursery:
            await place.write("f", b"1")
            await place.engine.save()
        assert late == ["begun", "saved"]


async def test_nobody_waits_for_a_file_that_died(store: FaultyStore, tmp_path: Path) -> None:
    """`blobfs sync` beside a compiler would wait for ever for its temporary files."""
    async with opened_place(store, tmp_path) as place:
        await place.write("dies", b"young")
        store.fail("any", Unreachable("gone, by a rule"), times=1)
        serial = place.engine.hurry()
        await trio.testing.wait_all_tasks_blocked()  # that failed, and is tried again later
        await place.unlink("dies")
        place.engine.hurry()
        with trio.fail_after(10):
            await place.engine.pusher.wait_saved(serial)


async def test_a_writer_who_waits_just_after_a_look_is_heard(
    store: FaultyStore, tmp_path: Path
) -> None:
    """A program that fills the room for unsaved data would stand still for half a minute."""
    saving = trio.Event()

    def note(point: str) -> None:
        if point == "push.uploaded":
            saving.set()

    with trio.fail_after(10):
        async with (
            opened_place(store, tmp_path, env=Env(crash_point=note)) as place,
            trio.open_nursery() as nursery,
        ):
            await place.write("f", b"1")
            await trio.testing.wait_all_tasks_blocked()  # it was looked at, and is not due
            place.engine.unsaved._room = Room(1, lambda: Disk(0, 0))
            nursery.start_soon(place.engine.unsaved.wait_for_room, UNASKED_BYTES + 1)
            await saving.wait()
            nursery.cancel_scope.cancel()
