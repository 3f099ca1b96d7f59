"""A machine that begins from a checkpoint shows and saves what one that read the whole log does."""

import random
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from blobfs.env import Env
from blobfs.errors import Damaged, Unreachable
from blobfs.formats.head import Head
from blobfs.formats.keys import CHECKPOINTS, log_key, pack_key
from blobfs.formats.tables import Table
from blobfs.model.checkpoint_blocks import BlockSizes
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.layers import Ask
from blobfs.stores.memory import MemoryStore
from blobfs.sync.checkpoint import CheckpointWriter
from blobfs.sync.checkpoint_making import CheckpointSizes
from blobfs.sync.slots import list_all
from blobfs.types import ROOT_INODE, ClientId, Seq
from blobfs.volume.checkpoint_finding import fetch_checkpoint
from blobfs.volume.head_change import change_head, find_head
from blobfs.volume.tree_blocks import NotLoaded
from tests.sync.place import Place, opened_place
from tests.volume.test_log import Meanwhile

T = TypeVar("T")

SIZES = CheckpointSizes(BlockSizes(target_bytes=300), pack_bytes=2000, inline_bytes=300)
"""So that a few files take several blocks."""

SOMEBODY = ClientId(b"w" * 16)


async def patiently(place: Place, ask: Callable[[], Awaitable[T]]) -> T:
    """Do what a front-end does: load what is missing, and ask again."""
    while True:
        try:
            return await ask()
        except NotLoaded as missing:
            await place.engine.tree.load(missing)


async def write(place: Place, path: str, data: bytes) -> None:
    await patiently(place, partial(place.write, path, data))


async def shown(place: Place) -> dict[str, bytes | None]:
    return await patiently(place, place.tree)


async def checkpoint(store: Store, place: Place, *, cut: bool = False) -> str:
    """Write a checkpoint of what `place` shows; cut the log below it."""
    env = Env(chance=random.Random(1).random)
    await CheckpointWriter(store, place.engine.tree, env, SOMEBODY, SIZES).write()
    head = (await find_head(store)).head
    assert head.checkpoint is not None
    if cut:
        seq = place.engine.tree.position.seq
        await change_head(store, partial(_cut_at, seq=seq), me=SOMEBODY)
        await store.delete_many([log_key(Seq(number)) for number in range(1, seq + 1)])
    return head.checkpoint


def _cut_at(head: Head, *, seq: Seq) -> Head:
    return Head(floor=seq, checkpoint=head.checkpoint, owner=head.owner, settings=head.settings)


async def fill(store: Store, folder: Path, *, cut: bool) -> dict[str, bytes | None]:
    """Write a small volume and a checkpoint of it; return what it holds."""
    async with opened_place(store, folder) as place:
        for number in range(5):
            await place.mkdir(f"d{number}")
            for name in range(6):
                await place.write(f"d{number}/f{name}", b"%d/%d" % (number, name))
            await place.save()
        await checkpoint(store, place, cut=cut)
        return await place.tree()


async def see(store: Store, folder: Path) -> dict[str, bytes | None]:
    """Return what a machine sees that opens the volume with its state in `folder`."""
    async with opened_place(store, folder) as place:
        return await shown(place)


async def stored_bytes(store: Store) -> int:
    """Return how much lies in the store."""
    return sum([found.size_bytes async for found in list_all(store, "")])


@pytest.fixture
def bucket() -> MemoryStore:
    return MemoryStore()


class TestANewMachine:
    async def test_it_shows_and_saves_everything(self, tmp_path: Path, bucket: MemoryStore) -> None:
        """Once the log is cut, a checkpoint is all that there is."""
        expected = await fill(bucket, tmp_path / "one", cut=True)
        async with opened_place(bucket, tmp_path / "two") as place:
            assert await shown(place) == expected
            await write(place, "d3/f1", b"changed")
            await write(place, "new", b"made")
            await patiently(place, lambda: place.rename("d1/f1", "d2/moved"))
            await patiently(place, lambda: place.unlink("d0/f0"))
            await place.save()
            after = await shown(place)
        assert after == await see(bucket, tmp_path / "three")
        assert after == await see(bucket, tmp_path / "one")
        assert after["d3/f1"] == b"changed"
        assert "d0/f0" not in after

    async def test_it_asks_for_little(self, tmp_path: Path, bucket: MemoryStore) -> None:
        """Mounting would cost as much as the volume is large (P9)."""
        await fill(bucket, tmp_path / "one", cut=True)
        store = FaultyStore(bucket)
        async with opened_place(store, tmp_path / "two", read_only=True) as place:
            assert place.engine.tree.position.seq == 5
            # volume, head, manifest, its slot, the root's block, next slot, head
            assert store.calls["get"] <= 7
            before = store.calls.total()
            found = await patiently(place, lambda: place.find("d3/f1"))
            assert found is not None
            assert store.calls.total() - before <= 4

    async def test_it_does_not_send_again_what_it_has_seen(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """A copy of a file that another machine has written would cost its size once more."""
        data = random.Random(3).randbytes(5000)
        async with opened_place(bucket, tmp_path / "one") as place:
            await place.write("here", data)
            await place.save()
            await checkpoint(bucket, place, cut=True)
        before = await stored_bytes(bucket)
        async with opened_place(bucket, tmp_path / "two") as place:
            assert (await shown(place))["here"] == data
            await write(place, "copy", data)
            await place.save()
            assert (await shown(place))["copy"] == data
        assert await stored_bytes(bucket) - before < len(data)

    async def test_a_directory_is_loaded_together(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """A directory whose files were made one by one would take a round trip for each."""
        async with opened_place(bucket, tmp_path / "one") as place:
            for number in range(40):
                await place.write(f"other{number}", b"other")
                if number % 4 == 0:
                    await place.write(f"d{number:02}", b"%d" % number)
                await place.save()
            await checkpoint(bucket, place, cut=True)
        async with opened_place(bucket, tmp_path / "two", read_only=True) as place:
            reader, loads, cookie, names = await place.namespace.open_folder(ROOT_INODE), 0, 0, []
            while True:
                try:
                    page = await reader.read(cookie)
                except NotLoaded as missing:
                    loads += 1
                    await place.engine.tree.load(missing)
                    continue
                if page is None:
                    break
                for listed in page:
                    names.append(listed.name)
                    cookie = listed.next_cookie
            reader.close()
        assert len(names) == 50
        assert names == sorted(names)
        assert loads <= 12

    async def test_a_log_that_is_whole_is_not_read(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """A checkpoint would be of no use until somebody cuts the log."""
        expected = await fill(bucket, tmp_path / "one", cut=False)
        store = FaultyStore(bucket)
        asked = [log_key(Seq(number)) for number in range(1, 5)]
        for key in asked:
            store.fail("get", Unreachable("not to be asked for"), key=key, times=None)
        assert await see(store, tmp_path / "two") == expected

    async def test_it_follows_the_log_from_there(self, tmp_path: Path, bucket: MemoryStore) -> None:
        """What was committed after the checkpoint would be missing."""
        await fill(bucket, tmp_path / "one", cut=True)
        async with opened_place(bucket, tmp_path / "one") as place:
            await place.write("d2/f2", b"later")
            await place.save()
            expected = await place.tree()
        assert await see(bucket, tmp_path / "two") == expected

    async def test_it_reopens_without_asking_again(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """Each mount would begin from nothing."""
        expected = await fill(bucket, tmp_path / "one", cut=True)
        assert await see(bucket, tmp_path / "two") == expected
        store = FaultyStore(bucket)
        store.fail("get", Unreachable("not to be asked for"), key=_newest(bucket), times=None)
        assert await see(store, tmp_path / "two") == expected


class TestAMachineThatSlept:
    async def test_it_begins_anew_where_the_log_was_cut(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """It would never see anything new, or take what was cut for the end of the log (L4)."""
        await see_first_file(bucket, tmp_path / "slept")
        expected = await fill(bucket, tmp_path / "one", cut=True)
        assert await see(bucket, tmp_path / "slept") == expected

    async def test_while_it_is_mounted(self, tmp_path: Path, bucket: MemoryStore) -> None:
        """A laptop that wakes up has to be mounted anew."""
        await see_first_file(bucket, tmp_path / "slept")
        async with opened_place(bucket, tmp_path / "slept") as place:
            expected = await fill(bucket, tmp_path / "one", cut=True)
            await write(place, "mine", b"made before it woke up")
            await place.save()
            assert await shown(place) == expected | {"mine": b"made before it woke up"}
        assert (await see(bucket, tmp_path / "two"))["mine"] == b"made before it woke up"

    async def test_what_is_unsaved_lies_over_it(self, tmp_path: Path, bucket: MemoryStore) -> None:
        """Work would be lost because others went on meanwhile (P1)."""
        async with opened_place(bucket, tmp_path / "slept") as place:
            await place.write("mine", b"first")
            await place.save()
            await place.write("mine", b"other")
            await place.write("other", b"unsaved, too")
        expected = await fill(bucket, tmp_path / "one", cut=True)
        expected |= {"mine": b"other", "other": b"unsaved, too"}
        async with opened_place(bucket, tmp_path / "slept") as place:
            assert await shown(place) == expected
            await place.save()
        assert await see(bucket, tmp_path / "two") == expected

    async def test_what_was_made_before_the_first_commit(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """Both made the root, and the one that slept would never save what it made in it."""
        await bucket.put("native/object", b"of another tool")
        async with opened_place(bucket, tmp_path / "slept") as place:
            await place.write("mine", b"unsaved")
            await place.write("native/mine", b"unsaved, too")
        async with opened_place(bucket, tmp_path / "one") as place:
            await place.write("native/theirs", b"saved")
            await place.save()
        expected = await fill(bucket, tmp_path / "one", cut=True)
        expected |= {"mine": b"unsaved", "native/mine": b"unsaved, too"}
        async with opened_place(bucket, tmp_path / "slept") as place:
            assert await shown(place) == expected
            await place.save()
        assert await see(bucket, tmp_path / "two") == expected

    async def test_what_changes_while_it_begins(self, tmp_path: Path, bucket: MemoryStore) -> None:
        """A program that writes at that moment would be taken for somebody else (P4)."""
        await see_first_file(bucket, tmp_path / "slept")
        todo = ["first"]

        def is_of_checkpoint(ask: Ask) -> bool:
            return ask.kind == "get" and ask.keys[0].startswith(CHECKPOINTS) and bool(todo)

        async def change() -> None:
            await place.write(todo.pop(), b"while")

        store = Meanwhile(bucket, is_of_checkpoint, change)
        async with opened_place(store, tmp_path / "slept") as place:
            expected = await fill(bucket, tmp_path / "one", cut=True)
            await place.write("mine", b"made before it woke up")
            await place.engine.save()
            assert not todo
            await place.save()
            expected |= {"mine": b"made before it woke up", "first": b"while"}
            assert await shown(place) == expected
        assert await see(bucket, tmp_path / "two") == expected

    async def test_what_was_contested_stops_saving(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """One of two edits would be gone, and nobody hear of it (P4)."""
        async with opened_place(bucket, tmp_path / "slept") as place:
            await place.write("f", b"first")
            await place.save()
            await place.write("f", b"mine!")
        async with opened_place(bucket, tmp_path / "one") as place:
            await place.write("f", b"theirs")
            await place.save()
            await checkpoint(bucket, place, cut=True)
        async with opened_place(bucket, tmp_path / "slept", settle_s=0) as place:
            assert (await shown(place))["f"] == b"mine!"
            assert not place.engine.pusher.is_clean
        assert (await see(bucket, tmp_path / "two"))["f"] == b"theirs"


class TestAnUnknownOutcome:
    @pytest.mark.parametrize("landed", [True, False])
    async def test_the_checkpoint_tells(
        self, tmp_path: Path, bucket: MemoryStore, landed: bool
    ) -> None:
        """A commit would be made twice, or never (L3)."""
        async with opened_place(bucket, tmp_path / "before") as place:
            await place.write("f", b"first")
            await place.save()
        await commit_unheard(bucket, tmp_path / "before", tmp_path / "mine", landed=landed)
        async with opened_place(bucket, tmp_path / "one") as place:
            assert ("g" in await place.tree()) is landed
            await place.write("theirs", b"later")
            await place.save()
            await checkpoint(bucket, place, cut=True)
        async with opened_place(bucket, tmp_path / "mine") as place:
            await place.save()
            assert place.engine.tree.position.seq == 3
            expected = {"f": b"first", "g": b"unheard", "theirs": b"later"}
            assert await shown(place) == expected
        assert await see(bucket, tmp_path / "two") == expected


class TestDamage:
    @pytest.mark.parametrize("harm", ["gone", "damaged"])
    async def test_the_log_makes_up_for_a_checkpoint(
        self, tmp_path: Path, bucket: MemoryStore, harm: str
    ) -> None:
        """One lost object would take the volume with it."""
        expected = await fill(bucket, tmp_path / "one", cut=False)
        if harm == "gone":
            await bucket.delete_many([_newest(bucket)])
        else:
            await bucket.put(_newest(bucket), b"nothing of the kind")
        assert await see(bucket, tmp_path / "two") == expected

    async def test_an_older_checkpoint_does(self, tmp_path: Path, bucket: MemoryStore) -> None:
        """What was cut from the log lies in that one, and nowhere else."""
        await fill(bucket, tmp_path / "one", cut=True)
        async with opened_place(bucket, tmp_path / "one") as place:
            await place.write("later", b"later")
            await place.save()
            await checkpoint(bucket, place)
            expected = await place.tree()
        await bucket.delete_many([_newest(bucket)])
        assert await see(bucket, tmp_path / "two") == expected

    async def test_without_any_way_nothing_is_shown(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """A tree with less in it would be taken for what was deleted (L5)."""
        await fill(bucket, tmp_path / "one", cut=True)
        await bucket.delete_many([_newest(bucket)])
        with pytest.raises(ExceptionGroup) as raised:
            await see(bucket, tmp_path / "two")
        assert raised.group_contains(Damaged, match="no checkpoint of the volume can be read")

    async def test_a_lost_block_is_an_error_and_then_the_log_is_read(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """A directory would be short of some files, or the volume unreadable for ever."""
        expected = await fill(bucket, tmp_path / "one", cut=False)
        await lose_a_block(bucket)
        async with opened_place(bucket, tmp_path / "two") as place:
            assert place.engine.tree.problem is None
            with pytest.raises(Damaged, match="inodes from"):
                await shown(place)
            assert "is gone or damaged" in (place.engine.tree.problem or "")
        assert await see(bucket, tmp_path / "two") == expected

    async def test_what_is_unsaved_survives_a_lost_block(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """Beginning anew below it would lose sight of what it was made from."""
        expected = await fill(bucket, tmp_path / "one", cut=False)
        async with opened_place(bucket, tmp_path / "two") as place:
            await lose_a_block(bucket)
            with pytest.raises(Damaged):
                await shown(place)
            await write(place, "new", b"unsaved")
        async with opened_place(bucket, tmp_path / "two") as place:
            await place.save()
        assert await see(bucket, tmp_path / "two") == expected | {"new": b"unsaved"}

    async def test_a_power_cut_takes_back_what_was_loaded_last(
        self, tmp_path: Path, bucket: MemoryStore
    ) -> None:
        """What lies below unsaved changes would be asked for where nobody can wait (P2)."""
        expected = await fill(bucket, tmp_path / "one", cut=True)
        async with opened_place(bucket, tmp_path / "two"):
            pass
        tree = tmp_path / "two" / "state" / "tree.lmdb"
        shutil.copytree(tree, tmp_path / "before")
        async with opened_place(bucket, tmp_path / "two") as place:
            await write(place, "d3/f3", b"written before the cut")
            await patiently(place, lambda: place.unlink("d3/f4"))
        shutil.rmtree(tree)
        shutil.copytree(tmp_path / "before", tree)
        expected["d3/f3"] = b"written before the cut"
        del expected["d3/f4"]
        async with opened_place(bucket, tmp_path / "two") as place:
            assert await shown(place) == expected
            await place.save()
        assert await see(bucket, tmp_path / "three") == expected


class Lives:
    """Machines that work on one volume by turns, each in a directory of its own."""

    def __init__(self, bucket: MemoryStore, folder: Path, chance: random.Random) -> None:
        self._bucket = bucket
        self._folder = folder
        self._chance = chance
        self._saved: dict[str, bytes] = {}
        self._unsaved: dict[str, dict[str, bytes]] = {name: {} for name in "abc"}

    async def live(self) -> None:
        """Let one machine mount, look at everything, change something, and perhaps save it."""
        name = self._chance.choice("abc")
        if not self._unsaved[name] and self._chance.random() < 0.3:
            shutil.rmtree(self._folder / name, ignore_errors=True)  # a new one takes its place
        store = FaultyStore(self._bucket)
        if self._chance.random() < 0.3:
            store.fail("get", Unreachable("now and then"), nth=self._chance.randint(1, 12))
        try:
            async with opened_place(store, self._folder / name) as place:
                store.heal()
                await self._work(name, place)
        except* Unreachable:
            pass  # it could not be mounted

    async def _work(self, name: str, place: Place) -> None:
        expected = self._saved | self._unsaved[name]
        found = {path: data for path, data in (await shown(place)).items() if data is not None}
        assert found == expected
        for _ in range(self._chance.randint(1, 4)):
            path, data = f"{name}{self._chance.randrange(9)}", b"%08d" % self._chance.randrange(99)
            await write(place, path, data)
            self._unsaved[name][path] = data
        if self._chance.random() < 0.7:
            await place.save()
            self._saved |= self._unsaved[name]
            self._unsaved[name] = {}
            if self._chance.random() < 0.5:
                await checkpoint(self._bucket, place, cut=self._chance.random() < 0.5)


@pytest.mark.parametrize("seed", range(6))
async def test_machines_that_work_by_turns(tmp_path: Path, bucket: MemoryStore, seed: int) -> None:
    """Somebody would miss what another saved, or lose what is its own, by when the log was cut."""
    lives = Lives(bucket, tmp_path, random.Random(seed))
    for _ in range(10):
        await lives.live()


async def see_first_file(store: Store, folder: Path) -> None:
    """Let a machine know the volume as it is after its first commit."""
    async with opened_place(store, folder) as place:
        await place.write("first", b"first")
        await place.save()


async def commit_unheard(store: Store, folder: Path, killed: Path, *, landed: bool) -> None:
    """Commit `g`; in `killed` lies the state of a daemon that did not hear what became of it."""
    scope = trio.CancelScope()

    def crash(name: str) -> None:
        if name == ("commit.landed" if landed else "commit.noted"):
            shutil.copytree(folder / "state", killed / "state")
            scope.cancel()

    with scope:
        async with opened_place(store, folder, env=Env(crash_point=crash)) as place:
            await place.write("g", b"unheard")
            await place.save()


async def lose_a_block(store: MemoryStore) -> None:
    """Damage the last block of inodes."""
    name = _newest(store).removeprefix(CHECKPOINTS)
    chunk = (await fetch_checkpoint(store, name)).root(Table.INODES).refs[-1].chunk
    key = pack_key(chunk.pack)
    body = bytearray(store.peek(key))
    body[chunk.offset + chunk.stored_bytes // 2] ^= 1
    await store.put(key, bytes(body))


def _newest(store: MemoryStore) -> str:
    return max(key for key in store._objects if key.startswith(CHECKPOINTS))
