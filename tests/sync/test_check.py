"""`check` names what is damaged and what that costs, goes on behind it, and changes nothing."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from blobfs.cache.lock import hold_folder
from blobfs.database import Sync, open_database
from blobfs.env import Env
from blobfs.errors import Damaged, InUse, NotFound
from blobfs.formats.commit import Counters, Entry, SetContent
from blobfs.formats.entry import decode_entry, encode_entry
from blobfs.formats.head import Head, encode_head
from blobfs.formats.keys import head_key, log_key, pack_key, volume_key
from blobfs.formats.rows import Extents
from blobfs.stores.memory import MemoryStore
from blobfs.sync.binding import TREE
from blobfs.sync.check import Checked, CheckOptions, check, repair
from blobfs.sync.check_here import Here, Outcome, Repair, check_here
from blobfs.sync.check_local import Shown
from blobfs.sync.check_report import CheckReport, Damage, shown_path
from blobfs.types import PackName, Seq
from blobfs.volume.client import FILE
from blobfs.volume.tree_rows import TABLES
from tests.sync.place import opened_place

KIB = 1024


@pytest.fixture
async def store(tmp_path: Path) -> MemoryStore:
    """A volume of three commits: the first two bring a pack each, the third none."""
    store, chance = MemoryStore(), random.Random(1)
    async with opened_place(store, tmp_path) as place:
        await place.mkdir("d")
        await place.write("d/one", chance.randbytes(40 * KIB))
        await place.write("d/two", chance.randbytes(30 * KIB))
        await place.write("tiny", b"in its row")
        await place.save()
        await place.write("three", chance.randbytes(20 * KIB))
        await place.save()
        await place.rename("three", "d/renamed")
        await place.save()
    return store


async def look(store: MemoryStore, tmp_path: Path, **options: object) -> CheckReport:
    return (await look_closely(store, tmp_path, **options)).report


async def look_closely(store: MemoryStore, tmp_path: Path, **options: object) -> Checked:
    """Check the volume, and see that the check changed nothing in the bucket."""
    scratch = tmp_path / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    before = await contents(store)
    checked = await check(store, CheckOptions(scratch, **options), Env())  # type: ignore[arg-type]
    assert await contents(store) == before
    return checked


async def contents(store: MemoryStore) -> dict[str, bytes]:
    return {found.key: store.peek(found.key) for found in (await store.list()).objects}


async def entry(store: MemoryStore, seq: int) -> Entry:
    key = log_key(Seq(seq))
    return decode_entry(store.peek(key), key=key)


async def pack_of(store: MemoryStore, seq: int) -> PackName:
    """Return the pack that a commit brought."""
    (pack,) = [each.name for each in (await entry(store, seq)).packs if each.brought_bytes]
    return pack


async def flip(store: MemoryStore, key: str, at: int = 0) -> None:
    data = bytearray(store.peek(key))
    data[at] ^= 1
    await store.put(key, bytes(data))


async def rewrite(store: MemoryStore, seq: int, change: Callable[[Entry], Entry]) -> None:
    """Put another entry into a slot, as a faulty writer would have."""
    key = log_key(Seq(seq))
    await store.put(key, encode_entry(change(await entry(store, seq))))


def only(report: CheckReport) -> Damage:
    (damage,) = report.damages
    return damage


class TestWholeVolume:
    @pytest.mark.parametrize("read_data", [False, True])
    async def test_nothing_is_found(
        self, store: MemoryStore, tmp_path: Path, read_data: bool
    ) -> None:
        """A check that cries wolf is one that nobody runs."""
        report = await look(store, tmp_path, read_data=read_data, state_dir=tmp_path / "state")
        assert (report.damages, report.notes) == ((), ())
        assert (report.commits, report.packs, report.files) == (3, 2, 4)
        assert report.content_bytes == 90 * KIB + len(b"in its row")
        assert report.stored_bytes > 90 * KIB
        assert report.read_bytes == (report.stored_bytes if read_data else 0)

    async def test_a_new_volume(self, tmp_path: Path) -> None:
        """The first look after `init` would be an error."""
        store = MemoryStore()
        async with opened_place(store, tmp_path, read_write=True):
            pass
        assert (await look(store, tmp_path)).damages == ()

    async def test_no_volume(self, tmp_path: Path) -> None:
        """A wrong bucket would be called whole."""
        with pytest.raises(NotFound, match="there is no volume"):
            await look(MemoryStore(), tmp_path)

    async def test_uploads_that_were_given_up_are_no_damage(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """Every interrupted upload would look like a broken volume."""
        name = PackName(bytes(40))
        await store.put(pack_key(name), b"x" * 100)
        report = await look(store, tmp_path)
        assert report.damages == ()
        assert "no commit or checkpoint names 1 of the packs, 100 bytes" in report.notes[0]

    async def test_what_does_not_belong_there_is_said_and_folders_are_not(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """Somebody's stray copy would go unnoticed, or every empty folder be a riddle."""
        await store.put(".blobfs/packs/7c/", b"")
        await store.put(".blobfs/clients/", b"")
        await store.put(".blobfs/log/1 (copy)", b"")
        report = await look(store, tmp_path)
        assert report.damages == ()
        assert report.notes == ("this is no commit's name: '.blobfs/log/1 (copy)'",)

    async def test_a_long_list_of_extents(self, tmp_path: Path) -> None:
        """The largest files would not be looked at."""
        store = MemoryStore()
        async with opened_place(store, tmp_path) as place:
            for number in range(130):
                await place.write("sparse", bytes([1 + number % 200]) * 100, number * 512 * KIB)
            await place.save()
        assert (await look(store, tmp_path, read_data=True)).damages == ()
        (*_, last) = (await entry(store, 1)).packs  # that with the list
        await store.delete_many([pack_key(last.name)])
        assert only(await look(store, tmp_path)).files == ("sparse",)


class TestPacks:
    async def test_a_missing_pack_is_named_with_its_files(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """Nobody would know which files to bring back from elsewhere."""
        key = pack_key(await pack_of(store, 1))
        await store.delete_many([key])
        damage = only(await look(store, tmp_path))
        assert (damage.kind, damage.name, damage.problem) == ("pack", key, "it is missing")
        assert sorted(damage.files) == ["d/one", "d/two"]
        assert damage.file_count == 2

    async def test_a_pack_that_was_cut_off(self, store: MemoryStore, tmp_path: Path) -> None:
        """An upload that a proxy cut would go unnoticed until somebody reads."""
        key = pack_key(await pack_of(store, 2))
        await store.put(key, store.peek(key)[:-1])
        damage = only(await look(store, tmp_path))
        assert (damage.name, damage.files) == (key, ("d/renamed",))
        assert "its commit says" in damage.problem

    async def test_a_flipped_bit_is_found_by_reading(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """Bits rot; of two files in a pack only the one that is hit is lost."""
        key = pack_key(await pack_of(store, 1))
        await flip(store, key)
        assert (await look(store, tmp_path)).damages == ()
        damage = only(await look(store, tmp_path, read_data=True))
        assert (damage.kind, damage.name, damage.files) == ("pack", key, ("d/one",))
        assert damage.problem == "1 of its 2 chunks are damaged"

    async def test_a_damaged_directory_costs_no_file_its_bytes(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """A pack that cannot be taken apart any more has to be known, whatever lies in it."""
        key = pack_key(await pack_of(store, 2))
        await flip(store, key, at=-1)
        damage = only(await look(store, tmp_path, read_data=True))
        assert (damage.name, damage.files) == (key, ("d/renamed",))
        assert "SHA-256" in damage.problem

    async def test_a_chunk_outside_of_its_pack(self, store: MemoryStore, tmp_path: Path) -> None:
        """A file that cannot be read would pass."""
        await rewrite(store, 2, lambda entry: moved(entry, 10**6))
        await store.delete_many([log_key(Seq(3))])
        damage = only(await look(store, tmp_path))
        assert (damage.kind, damage.name) == ("file", "three")
        assert "outside of its pack" in damage.problem

    async def test_a_chunk_that_is_not_where_it_should_be(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """The pack is whole, and the file cannot be read all the same."""
        await rewrite(store, 1, lambda entry: moved(entry, 1))
        await store.delete_many([log_key(Seq(2)), log_key(Seq(3))])
        assert (await look(store, tmp_path)).damages == ()
        report = await look(store, tmp_path, read_data=True)
        assert sorted(each.name for each in report.damages) == ["d/one", "d/two"]
        assert all("no such chunk" in each.problem for each in report.damages)


def moved(entry: Entry, by: int) -> Entry:
    """Return the entry with all extents at another offset."""

    def change(operation: object) -> object:
        if isinstance(operation, SetContent) and isinstance(operation.content, Extents):
            extents = tuple(
                replace(each, offset=each.offset + by) for each in operation.content.extents
            )
            return replace(operation, content=Extents(extents))
        return operation

    return replace(entry, operations=tuple(map(change, entry.operations)), counters=None)


class TestLog:
    async def test_a_missing_commit_is_named_and_the_rest_checked(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """A gap looks like the end of the log to whoever just reads on."""
        lost = pack_key(await pack_of(store, 2))
        await store.delete_many([log_key(Seq(1)), lost])
        report = await look(store, tmp_path)
        assert [(each.kind, each.name) for each in report.damages] == [
            ("log", log_key(Seq(1))),
            ("pack", lost),
        ]
        assert "the commit is missing" in report.damages[0].problem
        assert "commits behind 0 cannot be replayed" in report.notes[0]

    async def test_a_damaged_commit(self, store: MemoryStore, tmp_path: Path) -> None:
        """What lies before it is fine, and has to be said to be."""
        await flip(store, log_key(Seq(2)), at=20)
        report = await look(store, tmp_path)
        assert (only(report).kind, only(report).name) == ("log", log_key(Seq(2)))
        assert (report.commits, report.files) == (3, 3)
        assert "commits behind 1" in report.notes[0]

    async def test_a_machine_that_knows_names_the_files_of_a_lost_commit(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """Nobody would know what the lost commit was about, though the answer is at hand."""
        await store.delete_many([log_key(Seq(1))])
        assert (await look(store, tmp_path)).damages[0].files == ()
        report = await look(store, tmp_path, state_dir=tmp_path / "state")
        (damage,) = report.damages
        assert sorted(damage.files) == ["d/one", "d/two", "tiny"]

    async def test_a_commit_of_another_history(self, store: MemoryStore, tmp_path: Path) -> None:
        """A log of which one part was restored from a copy would be taken for one."""
        await rewrite(store, 2, lambda entry: replace(entry, previous=bytes(32)))
        report = await look(store, tmp_path)
        assert [each.name for each in report.damages] == [log_key(Seq(2)), log_key(Seq(3))]
        assert all("does not continue" in each.problem for each in report.damages)

    async def test_a_commit_that_counts_otherwise(self, store: MemoryStore, tmp_path: Path) -> None:
        """Two clients would show two trees, and both believe they are right (L9)."""
        wrong = Counters(99, 99, bytes(16))
        await rewrite(store, 3, lambda entry: replace(entry, counters=wrong))
        damage = only(await look(store, tmp_path))
        assert damage.name == log_key(Seq(3))
        assert "not the one that the author had" in damage.problem

    async def test_a_lost_head(self, store: MemoryStore, tmp_path: Path) -> None:
        """The one mark that mounts cannot do without; all the rest may be fine."""
        await store.delete_many([head_key()])
        report = await look(store, tmp_path)
        assert (only(report).kind, only(report).name) == ("volume", head_key())
        assert report.files == 4

    async def test_a_lost_volume(self, store: MemoryStore, tmp_path: Path) -> None:
        """It would be called an empty bucket, and written over (L5)."""
        await store.delete_many([volume_key()])
        with pytest.raises(Damaged, match="lost one of its marks"):
            await look(store, tmp_path)

    async def test_a_log_that_was_cut(self, store: MemoryStore, tmp_path: Path) -> None:
        """A volume that lost its checkpoint would be called whole, because its tail is."""
        await store.put(
            head_key(), encode_head(Head(floor=Seq(2), checkpoint=f"{2:020d}-{0:016x}"))
        )
        with pytest.raises(Damaged, match="a checkpoint is gone"):
            await look(store, tmp_path)

    async def test_a_damaged_client(self, store: MemoryStore, tmp_path: Path) -> None:
        """Collecting garbage has to know what every client still needs."""
        (found,) = (await store.list(".blobfs/clients/")).objects
        await store.put(found.key, b"{")
        assert only(await look(store, tmp_path)).name == found.key


class TestThisMachine:
    async def test_a_tree_that_differs_in_one_row(self, store: MemoryStore, tmp_path: Path) -> None:
        """This machine would show what nobody else sees, and commit on top of it."""
        state = tmp_path / "state"
        await tamper(state)
        checked = await look_closely(store, tmp_path, state_dir=state)
        assert only(checked.report).kind == "local"
        assert "its tree is not what the log says up to commit 3" in only(checked.report).problem
        assert (await repair(store, checked, state, Env())).seq == 3
        assert (await look(store, tmp_path, state_dir=state)).damages == ()

    async def test_a_tree_that_is_no_database(self, store: MemoryStore, tmp_path: Path) -> None:
        """A disk that broke has to be told from a bucket that did."""
        state = tmp_path / "state"
        (state / TREE / "data.mdb").write_bytes(b"x" * 8192)
        checked = await look_closely(store, tmp_path, state_dir=state)
        assert only(checked.report).kind == "local"
        assert checked.report.is_bucket_whole
        assert (await repair(store, checked, state, Env())).seq == 3
        assert (await look(store, tmp_path, state_dir=state)).damages == ()

    async def test_commits_that_the_bucket_lost(self, store: MemoryStore, tmp_path: Path) -> None:
        """A bucket that was set back would look whole, and the only copy be thrown away."""
        state = tmp_path / "state"
        await store.delete_many([log_key(Seq(3))])
        checked = await look_closely(store, tmp_path, state_dir=state)
        assert "has seen commit 3: commits are lost" in only(checked.report).problem
        assert not checked.report.is_bucket_whole
        with pytest.raises(Damaged, match="left as it is"):
            await repair(store, checked, state, Env())

    async def test_a_state_of_nowhere_can_be_made(self, store: MemoryStore, tmp_path: Path) -> None:
        """After the loss of a disk, the bucket alone has to do."""
        state = tmp_path / "fresh"
        state.mkdir()
        checked = await look_closely(store, tmp_path, state_dir=state)
        assert checked.report.damages == ()
        assert (await repair(store, checked, state, Env())).seq == 3
        again = await look_closely(store, tmp_path, state_dir=state)
        assert (again.report.damages, again.kept_seq) == ((), 3)

    async def test_a_repair_keeps_what_is_unsaved(self, store: MemoryStore, tmp_path: Path) -> None:
        """Who repairs would lose the one thing that is nowhere else."""
        async with opened_place(store, tmp_path) as place:
            await place.write("tiny", b"unsaved")
        state = tmp_path / "state"
        await tamper(state)
        checked = await look_closely(store, tmp_path, state_dir=state)
        assert checked.report.unsaved is not None
        assert checked.report.unsaved.paths == ("tiny",)
        await repair(store, checked, state, Env())
        async with opened_place(store, tmp_path) as place:
            assert (await place.tree())["tiny"] == b"unsavedrow"
            await place.save()
        assert (await look(store, tmp_path, state_dir=state)).damages == ()

    @pytest.mark.parametrize("readable", [True, False])
    async def test_a_repair_hides_no_conflict(
        self, store: MemoryStore, tmp_path: Path, readable: bool
    ) -> None:
        """What others committed meanwhile would silently be overwritten by the next save."""
        async with opened_place(store, tmp_path) as place:
            await place.write("tiny", b"mine")
        async with opened_place(store, tmp_path / "other") as place:
            await place.write("tiny", b"theirs")
            await place.save()
        state = tmp_path / "state"
        if readable:
            await tamper(state)
        else:
            (state / TREE / "data.mdb").write_bytes(b"x" * 8192)
        checked = await look_closely(store, tmp_path, state_dir=state)
        assert (await repair(store, checked, state, Env())).seq == 3  # and not the 4 that there are

    async def test_a_state_of_another_volume(self, store: MemoryStore, tmp_path: Path) -> None:
        """It would be measured by a log that has nothing to do with it."""
        async with opened_place(MemoryStore(), tmp_path / "other") as place:
            await place.write("f", b"1")
            await place.save()
        checked = await look_closely(store, tmp_path, state_dir=tmp_path / "other" / "state")
        assert {damage.kind for damage in checked.report.damages} == {"identity", "local"}
        assert checked.report.is_bucket_whole

    async def test_a_copied_state(self, store: MemoryStore, tmp_path: Path) -> None:
        """Two machines under one name would overwrite each other's commits (L6)."""
        state = tmp_path / "state"
        before = (state / FILE).read_bytes()
        async with opened_place(store, tmp_path) as place:
            await place.write("g", b"1")
            await place.save()
        (state / FILE).write_bytes(before)
        damage = only(await look(store, tmp_path, state_dir=state))
        assert (damage.kind, "a copy" in damage.problem) == ("identity", True)
        assert not (await look(store, tmp_path, state_dir=state)).is_well(repaired=True)

    async def test_what_a_mount_shows(self, store: MemoryStore, tmp_path: Path) -> None:
        """A mount that shows another tree than the bucket's would only be noticed by chance."""
        async with opened_place(store, tmp_path) as place:
            state = place.engine.tree.state
        right = Shown(state.seq, state.chain, state.counters)
        assert (await look(store, tmp_path, shown=right)).damages == ()
        for wrong in (
            Shown(state.seq, bytes(32), state.counters),
            Shown(state.seq, state.chain, Counters(1, 1, bytes(16))),
            Shown(Seq(9), state.chain, state.counters),
        ):
            assert len((await look(store, tmp_path, shown=wrong)).damages) == 1


class TestHere:
    """The state folder is held, and touched only when that was asked for."""

    async def run(self, store: MemoryStore, state: Path, when: Repair = "never") -> Outcome:
        return await check_here(
            store, Here(state, None), Env(), read_data=False, when=when, progress=lambda *_: None
        )

    async def test_repair_is_what_was_asked_for(self, store: MemoryStore, tmp_path: Path) -> None:
        """Looking would change, or changing would do nothing."""
        state = tmp_path / "state"
        await tamper(state)
        assert (await self.run(store, state)).repaired_to is None
        assert (await self.run(store, state)).report.has_local_damage
        assert (await self.run(store, state, "damaged")).repaired_to == 3
        again = await self.run(store, state, "damaged")
        assert (again.report.damages, again.repaired_to) == ((), None)
        assert (await self.run(store, state, "always")).repaired_to == 3

    async def test_a_machine_without_state_gets_none(
        self, store: MemoryStore, tmp_path: Path
    ) -> None:
        """A look at a bucket would leave folders behind."""
        fresh = tmp_path / "fresh"
        await self.run(store, fresh, "damaged")
        assert not fresh.exists()
        assert (await self.run(store, fresh, "always")).repaired_to == 3

    async def test_what_is_in_use_is_left_alone(self, store: MemoryStore, tmp_path: Path) -> None:
        """A daemon would lose the tree under its feet."""
        with hold_folder(tmp_path / "state"), pytest.raises(InUse):
            await self.run(store, tmp_path / "state")
        shown = Shown(Seq(0), bytes(32), Counters(0, 0, bytes(16)))
        with pytest.raises(InUse, match="it is mounted"):
            await check_here(
                store,
                Here(tmp_path / "state", shown),
                Env(),
                read_data=False,
                when="always",
                progress=lambda *_: None,
            )


async def tamper(state: Path) -> None:
    """Let one name of the tree on this machine be gone."""
    async with open_database(
        state / TREE, tables=TABLES, map_bytes=2**30, sync=Sync.NONE
    ) as database:
        with database.read() as reader:
            key, _ = next(iter(reader.range("dirents")))
        await database.write(lambda writer: writer.delete("dirents", key))


def test_names_that_steer_terminals_are_shown_harmless() -> None:
    """A file's name could clear the screen that tells of its loss."""
    assert shown_path("ä\x1b[2J\n".encode() + b"\xff") == "ä\\x1b[2J\\n\\udcff"
