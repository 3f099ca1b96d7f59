"""A commit that a killed run put is known for its own, whatever happened in the bucket since."""

import shutil
from collections.abc import Callable
from pathlib import Path

from blobfs.env import Env
from blobfs.formats.keys import log_key
from blobfs.stores.layers import Ask
from blobfs.stores.memory import MemoryStore
from blobfs.types import Seq
from blobfs.volume.client import FILE
from tests.sync.place import opened_place
from tests.sync.test_beginning import checkpoint
from tests.volume.test_log import Meanwhile


def keep_at(point: str, keep: Callable[[], None]) -> Env:
    """Return an environment in which `keep` is called when `point` is passed first."""
    passed: list[str] = []

    def pass_by(name: str) -> None:
        if name == point and name not in passed:
            keep()
        passed.append(name)

    return Env(crash_point=pass_by)


async def test_what_others_build_on_an_own_commit_is_no_conflict_with_it(tmp_path: Path) -> None:
    """Killed right after a replay, a machine would call its own file changed by others (L6).

    It would stop saving, for good.
    """
    store, here, left = MemoryStore(), tmp_path / "here", tmp_path / "left"
    env = keep_at("commit.replayed", lambda: shutil.copytree(here, left))
    async with opened_place(store, here, env=env) as place:
        await place.write("f", b"mine")
        await place.save()
    async with opened_place(store, tmp_path / "other") as other:
        await other.write("f", b"theirs, on top of mine")
        await other.save()
    async with opened_place(store, left) as place:
        assert place.engine.unsaved.intent is None
        assert place.engine.pusher.is_clean
        assert await place.tree() == {"f": b"theirs, on top of mine"}
        await place.write("f", b"again")
        await place.save()


async def test_the_intent_is_noted_before_what_goes_out_under_this_id(tmp_path: Path) -> None:
    """A copy of a state folder that was made in between would know an entry for its own, and not
    what it covers: that would be saved again, under numbers that are taken, and never get through.
    """
    store, here, left = MemoryStore(), tmp_path / "here", tmp_path / "left"
    async with opened_place(store, here) as place:
        await place.write("f", b"first")
        await place.save()
    before = (here / "state" / FILE).read_bytes()
    env = keep_at("commit.noted", lambda: shutil.copytree(here, left))
    async with opened_place(store, here, env=env) as place:
        await place.write("g", b"second")
        await place.save()
    assert (left / "state" / FILE).read_bytes() == before
    assert (here / "state" / FILE).read_bytes() != before


async def test_a_commit_into_a_slot_that_was_cut_is_not_called_saved(tmp_path: Path) -> None:
    """Nobody would ever read it, and whoever waits for saving would unplug the machine (L3)."""
    bucket = MemoryStore()
    async with opened_place(bucket, tmp_path / "other") as other:
        await other.write("first", b"1")
        await other.save()
        passed: list[Ask] = []

        async def cut_and_go_on() -> None:
            await other.write("second", b"2")
            await other.save()
            await checkpoint(bucket, other, cut=True)
            await other.write("third", b"3")
            await other.save()

        def is_first_put(ask: Ask) -> bool:
            is_it = not passed and ask.kind == "put" and ask.keys == (log_key(Seq(2)),)
            passed.extend([ask] * is_it)
            return is_it

        async with opened_place(Meanwhile(bucket, is_first_put, cut_and_go_on), tmp_path) as place:
            await place.write("mine", b"4")
            await place.save()
        assert passed
    async with opened_place(bucket, tmp_path / "third") as third:
        assert (await third.tree())["mine"] == b"4"
