"""A checkpoint that was written is the tree, and costs what has changed."""

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from blobfs.env import Env
from blobfs.errors import Damaged, OutcomeUnknown, Unreachable
from blobfs.formats.chunk import Buffer
from blobfs.formats.commit import SetAttributes
from blobfs.formats.head import Head, decode_head, encode_head
from blobfs.formats.keys import CHECKPOINTS, PACKS, checkpoint_name, head_key
from blobfs.formats.rows import Extent
from blobfs.model.checkpoint_blocks import BlockSizes
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.sync.checkpoint import CheckpointWriter
from blobfs.sync.checkpoint_making import CheckpointSizes
from blobfs.types import InodeNo, Seq
from blobfs.volume import tree_changes
from blobfs.volume.checkpoint_finding import fetch_checkpoint
from blobfs.volume.log_entries import fetch_chunk
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.tree_blocks import NAMES, NotLoaded
from blobfs.volume.tree_rows import number_key
from tests.sync.small import SMALL
from tests.volume.random_log import RandomLog
from tests.volume.story import GRANTED, ME, ORIGIN, ROOT, Story, new_file

VOLUME = b"v" * 16

MIDDLING = CheckpointSizes(BlockSizes(target_bytes=2000), inline_bytes=150)


class Killed(Exception):
    """The process ends here."""


@dataclass
class World:
    """A bucket with a head, and the trees of its clients."""

    store: FaultyStore = field(default_factory=lambda: FaultyStore(MemoryStore()))
    crash_at: str = ""

    async def begin(self) -> None:
        await self.store.put(head_key(), encode_head(Head()))

    @asynccontextmanager
    async def tree(self, folder: Path) -> AsyncIterator[Tree]:
        async with open_tree(folder, VOLUME, ORIGIN, self.fetch) as tree:
            yield tree

    async def fetch(self, extents: Sequence[Extent]) -> list[Buffer]:
        return [await fetch_chunk(self.store, extent) for extent in extents]

    def writer(self, tree: Tree, sizes: CheckpointSizes = SMALL) -> CheckpointWriter:
        env = Env(chance=random.Random(1).random, crash_point=self._crash_point)
        return CheckpointWriter(self.store, tree, env, ME, sizes)

    def _crash_point(self, name: str) -> None:
        if name == self.crash_at:
            raise Killed

    async def head(self) -> Head:
        return decode_head(bytes((await self.store.get(head_key())).data), key="head")

    async def stored_bytes(self) -> int:
        """Return how much lies in packs and manifests."""
        pages = [await self.store.list(prefix) for prefix in (PACKS, CHECKPOINTS)]
        return sum(found.size_bytes for page in pages for found in page.objects)

    async def require_same(self, tree: Tree, folder: Path) -> None:
        """Make sure that whoever begins from head's checkpoint sees what `tree` holds."""
        name = (await self.head()).checkpoint
        assert name is not None
        async with self.tree(folder) as other:
            found = await fetch_checkpoint(self.store, name)
            await other.begin(await other.prepare(name, found))
            await load_all(other)
            await load_all(tree)
            assert other.first_difference(tree) is None


async def load_all(tree: Tree) -> None:
    for table in NAMES.values():
        while True:
            try:
                with tree._database.read() as reader:
                    list(tree._rows(reader).range(table))
                break
            except NotLoaded as missing:
                await tree.load(missing)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[World, Tree]]:
    world = World()
    await world.begin()
    async with world.tree(folder / "tree") as tree:
        yield world, tree


async def written_while(writer: CheckpointWriter, act: Callable[[], Awaitable[object]]) -> Seq:
    """Write a checkpoint; something happens before `head` names it."""
    put = writer._put

    async def put_and_act(key: str, data: bytes) -> None:
        await put(key, data)
        await act()

    writer._put = put_and_act  # type: ignore[method-assign]
    return await writer.write()


class TestWriting:
    """What others begin from is what this client has."""

    @pytest.mark.parametrize("seed", range(4))
    async def test_one_after_the_other(self, tmp_path: Path, seed: int) -> None:
        """Users would find other files, depending on where their machine began to read."""
        chance = random.Random(seed)
        log = RandomLog(chance)
        async with opened(tmp_path) as (world, tree):
            for step in range(8):
                await tree.replay(log.entries(chance.randint(1, 12)))
                assert await world.writer(tree).write() == tree.state.seq
                assert tree.base == (await world.head()).checkpoint
                await world.require_same(tree, tmp_path / str(step))

    @pytest.mark.parametrize("seed", range(4))
    async def test_of_a_tree_that_is_mostly_elsewhere(self, tmp_path: Path, seed: int) -> None:
        """A checkpoint written by a machine that mounted a minute ago would lack everything."""
        chance = random.Random(seed)
        log = RandomLog(chance)
        async with opened(tmp_path) as (world, whole):
            await whole.replay(log.entries(40))
            await world.writer(whole).write()
            name = whole.base
            assert name is not None
            async with world.tree(tmp_path / "lazy") as lazy:
                found = await fetch_checkpoint(world.store, name)
                await lazy.begin(await lazy.prepare(name, found))
                for step in range(6):
                    landed = log.entries(chance.randint(1, 3))
                    await lazy.replay(landed)
                    await whole.replay(landed)
                    await world.writer(lazy).write()
                    await world.require_same(whole, tmp_path / str(step))

    async def test_it_costs_what_has_changed(self, tmp_path: Path) -> None:
        """Each checkpoint of a large volume would be uploaded whole."""
        story = Story()
        operations = [each for n in range(2, 500) for each in new_file(n, b"file%d" % n)]
        async with opened(tmp_path) as (world, tree):
            await tree.replay([story.entry(ROOT, GRANTED, *operations)])
            await world.writer(tree, MIDDLING).write()
            before = await world.stored_bytes()
            await tree.replay([story.entry(SetAttributes(InodeNo(300), mode=0o600))])
            await world.writer(tree, MIDDLING).write()
            assert await world.stored_bytes() - before < before / 4
            await world.require_same(tree, tmp_path / "other")

    async def test_a_small_volume_is_one_object(self, tmp_path: Path) -> None:
        """Opening a small volume would take more requests than replaying its log."""
        async with opened(tmp_path) as (world, tree):
            await tree.replay(RandomLog(random.Random(1)).entries(5))
            await world.writer(tree, CheckpointSizes()).write()
            assert not (await world.store.list(PACKS)).objects
            await world.require_same(tree, tmp_path / "other")

    async def test_more_changes_than_are_gone_through_one_by_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Memory would follow the size of a commit, or changes would be left out."""
        monkeypatch.setattr(tree_changes, "MOST_CHANGED_BYTES", 20)
        log = RandomLog(random.Random(3))
        async with opened(tmp_path) as (world, tree):
            for step in range(3):
                await tree.replay(log.entries(15))
                await world.writer(tree).write()
                await world.require_same(tree, tmp_path / str(step))

    async def test_what_is_committed_meanwhile_is_in_the_next(self, tmp_path: Path) -> None:
        """A commit that came while a checkpoint was written would be in none."""
        log = RandomLog(random.Random(4))
        async with opened(tmp_path) as (world, tree):
            await tree.replay(log.entries(20))
            await world.writer(tree).write()
            await tree.replay(log.entries(2))
            await written_while(world.writer(tree), partial(tree.replay, log.entries(2)))
            await world.writer(tree).write()
            await world.require_same(tree, tmp_path / "other")

    async def test_nothing_new_is_written_once(self, tmp_path: Path) -> None:
        """An idle volume would grow."""
        async with opened(tmp_path) as (world, tree):
            await tree.replay(RandomLog(random.Random(1)).entries(5))
            await world.writer(tree).write()
            puts = world.store.calls["put"]
            assert await world.writer(tree).write() == 5
            assert world.store.calls["put"] == puts

    async def test_a_quicker_client_is_left_alone(self, tmp_path: Path) -> None:
        """Two clients would take the newest checkpoint back from each other."""
        async with opened(tmp_path) as (world, tree):
            await tree.replay(RandomLog(random.Random(1)).entries(5))
            newer = checkpoint_name(Seq(9), bytes(32))

            be_quicker = partial(world.store.put, head_key(), encode_head(Head(checkpoint=newer)))
            assert await written_while(world.writer(tree), be_quicker) == 9
            assert (await world.head()).checkpoint == newer
            assert tree.base is None


def fail(store: FaultyStore, nth: int) -> Callable[[], int]:
    store.fail("any", Unreachable("away"), nth=nth)
    return store.calls.total


def lose(store: FaultyStore, nth: int) -> Callable[[], int]:
    store.fail("put", OutcomeUnknown("lost"), nth=nth)
    return lambda: store.calls["put"]


def lose_reply(store: FaultyStore, nth: int) -> Callable[[], int]:
    store.lose_reply("put", OutcomeUnknown("lost"), nth=nth)
    return lambda: store.calls["put"]


FAULTS = {"fails": fail, "is lost": lose, "is not answered": lose_reply}
"""Each makes one request go wrong, and returns how to count those."""


class TestFaults:
    """Whatever goes wrong, `head` names a checkpoint that is whole, and the next one succeeds."""

    @pytest.mark.parametrize("point", ["packed", "made", "stored", "named", "taken_up"])
    async def test_killed_between_any_two_steps(self, tmp_path: Path, point: str) -> None:
        """Users would not get into their volume after a power cut somewhere else."""
        log = RandomLog(random.Random(5))
        async with opened(tmp_path) as (world, tree):
            await tree.replay(log.entries(20))
            await world.writer(tree).write()
            await tree.replay(log.entries(5))
            world.crash_at = f"checkpoint.{point}"
            with pytest.raises(Killed):
                await world.writer(tree).write()
            world.crash_at = ""
            found = await fetch_checkpoint(world.store, (await world.head()).checkpoint or "")
            assert found.seq == (25 if point in ("named", "taken_up") else 20)
        async with world.tree(tmp_path / "tree") as tree:
            await tree.replay(log.entries(1))
            await world.writer(tree).write()
            await world.require_same(tree, tmp_path / "other")

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_any_request_goes_wrong(self, tmp_path: Path, fault: str) -> None:
        """A checkpoint would be named that is not there, or never another be made."""
        for nth in range(1, 40):
            log = RandomLog(random.Random(6))
            async with opened(tmp_path / str(nth)) as (world, tree):
                await tree.replay(log.entries(12))
                await world.writer(tree).write()
                await tree.replay(log.entries(3))
                asked = FAULTS[fault](world.store, nth)
                before = asked()
                await try_to(world.writer(tree).write)
                has_fired = asked() - before >= nth
                world.store.heal()
                await world.writer(tree).write()
                await world.require_same(tree, tmp_path / f"{nth}.other")
            if not has_fired:
                break
        assert nth > 3

    async def test_a_tree_that_does_not_add_up_is_not_passed_on(self, tmp_path: Path) -> None:
        """One damaged disk would become everybody's damaged volume."""
        async with opened(tmp_path) as (world, tree):
            await tree.replay(RandomLog(random.Random(1)).entries(20))
            await tree._database.write(lambda writer: writer.delete("inodes", number_key(1)))
            with pytest.raises(Damaged, match="adds up to"):
                await world.writer(tree).write()
            assert (await world.head()).checkpoint is None

    async def test_a_tree_that_began_anew_meanwhile_stays_as_it_is(self, tmp_path: Path) -> None:
        """Blocks would count as loaded that are not, and their files as removed."""
        log = RandomLog(random.Random(7))
        first, more, last = log.entries(30), log.entries(3), log.entries(1)
        async with opened(tmp_path) as (world, tree), world.tree(tmp_path / "whole") as whole:
            await whole.replay([*first, *more, *last])
            await tree.replay(first)
            await world.writer(tree).write()
            name = tree.base
            assert name is not None
            await tree.replay(more)
            found = await fetch_checkpoint(world.store, name)

            async def begin_again() -> None:
                await tree.begin(await tree.prepare(name, found))

            await written_while(world.writer(tree), begin_again)
            assert tree.base == name
            await tree.replay([*more, *last])
            await world.writer(tree).write()
            await world.require_same(whole, tmp_path / "other")


async def try_to(write: Callable[[], Awaitable[Seq]]) -> None:
    with contextlib.suppress(Unreachable, OutcomeUnknown):
        await write()
