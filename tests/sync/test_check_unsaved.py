"""`check` says what is not saved yet, and whether it can be: without a mount, changing nothing."""

import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from blobfs.env import Env
from blobfs.formats.entry import decode_entry
from blobfs.formats.keys import log_key, pack_key
from blobfs.stores.memory import MemoryStore
from blobfs.sync.binding import JOURNAL
from blobfs.sync.check import CheckOptions, check
from blobfs.sync.check_report import CheckReport, Damage, UnsavedReport
from blobfs.types import PackName, Seq
from tests.sync.place import Place, opened_place

KIB = 1024
NOTHING = UnsavedReport(files=0, names=0, bytes=0, oldest_s=0, paths=(), uploads=0, commit=None)


@dataclass(frozen=True)
class Machine:
    """A client that was killed, and the bucket that it saved to."""

    store: MemoryStore
    state: Path

    @property
    def journal(self) -> Path:
        return self.state / JOURNAL

    @property
    def segments(self) -> list[Path]:
        return sorted(path for path in self.journal.iterdir() if path.name.isdecimal())

    async def check(self) -> CheckReport:
        """Check the volume, and see that nothing was changed, neither there nor here."""
        scratch = self.state.parent / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        before = await everything(self)
        checked = await check(self.store, CheckOptions(scratch, state_dir=self.state), Env())
        assert await everything(self) == before
        return checked.report

    async def unsaved(self) -> UnsavedReport:
        report = await self.check()
        assert report.damages == ()
        assert report.unsaved is not None
        return report.unsaved


async def everything(machine: Machine) -> dict[str, bytes]:
    found = {
        each.key: machine.store.peek(each.key) for each in (await machine.store.list()).objects
    }
    here = (path for path in machine.journal.rglob("*") if path.is_file())
    return found | {str(path): path.read_bytes() for path in here}


async def killed(
    tmp_path: Path,
    work: Callable[[Place], Awaitable[None]],
    at: str | None = None,
    *,
    save: bool = False,
) -> Machine:
    """Save two files, do `work`, and be killed after it, or where `save` first comes to `at`."""
    store, died = MemoryStore(), tmp_path / "killed"

    def crash(name: str) -> None:
        if name == at and saved and not died.exists():
            shutil.copytree(tmp_path / "state", died)

    saved = False
    async with opened_place(store, tmp_path, env=Env(crash_point=crash)) as place:
        await place.mkdir("d")
        await place.write("d/one", random.Random(1).randbytes(40 * KIB))
        await place.write("two", b"2")
        await place.save()
        saved = True
        await work(place)
        if at is None:
            shutil.copytree(tmp_path / "state", died)
        if save:
            await place.save()
    return Machine(store, died)


async def some_work(place: Place) -> None:
    await place.write("d/one", b"changed", 7)
    await place.write("d/new", b"n" * 3000)
    await place.unlink("two")
    await place.rename("d", "moved")


async def much_work(place: Place) -> None:
    for number in range(40):
        await place.write(f"f{number}", bytes([number]) * 4 * KIB)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blobfs.volume.unsaved.SEGMENT_BYTES", 64 * KIB)


def only(report: CheckReport) -> Damage:
    (damage,) = report.damages
    return damage


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


class TestWhatIsUnsaved:
    async def test_it_is_counted_and_named(self, tmp_path: Path) -> None:
        """Who finds an old laptop could not tell whether it may be wiped."""
        unsaved = await (await killed(tmp_path, some_work)).unsaved()
        assert sorted(unsaved.paths) == [".", "d", "moved", "moved/new", "moved/one", "two"]
        assert (unsaved.bytes, unsaved.uploads, unsaved.commit) == (3007, 0, None)
        assert unsaved.names == 4
        assert unsaved.oldest_s >= 0

    async def test_a_clean_end_leaves_nothing(self, tmp_path: Path) -> None:
        """An empty journal would look like work that was lost."""
        died = await killed(tmp_path, some_work, save=True)
        machine = Machine(died.store, tmp_path / "state")
        assert await machine.unsaved() == NOTHING
        shutil.rmtree(machine.journal)
        assert await machine.unsaved() == NOTHING

    async def test_a_machine_killed_when_all_was_saved(self, tmp_path: Path) -> None:
        """What a journal still holds of saved files would be called unsaved."""

        async def work(place: Place) -> None:
            await place.write("two", b"22")
            await place.save()

        assert await (await killed(tmp_path, work)).unsaved() == NOTHING


class TestDamage:
    async def test_bytes_that_rotted(self, tmp_path: Path) -> None:
        """The one copy of a file would be found to be gone when it is mounted, or never."""
        machine = await killed(tmp_path, some_work)
        (segment,) = machine.segments
        flip(segment, segment.read_bytes().index(b"n" * 3000) + 5)
        damage = only(report := await machine.check())
        assert (damage.kind, damage.name) == ("unsaved", "moved/new")
        assert "3000 bytes" in damage.problem
        assert "0 to 3000" in damage.problem
        assert str(segment) in damage.problem
        assert report.is_bucket_whole
        assert not report.is_well(repaired=True)

    async def test_bytes_that_count_no_more_may_rot(self, tmp_path: Path) -> None:
        """A check that cries wolf is one that nobody runs."""

        async def work(place: Place) -> None:
            await place.write("two", b"o" * 3000)
            await place.write("two", b"n" * 3000)

        machine = await killed(tmp_path, work)
        (segment,) = machine.segments
        flip(segment, segment.read_bytes().index(b"o" * 3000) + 5)
        assert (await machine.unsaved()).bytes == 3000

    async def test_a_torn_end_is_no_damage(self, tmp_path: Path) -> None:
        """Every killed daemon would look like a broken disk."""
        machine = await killed(tmp_path, some_work)
        (segment,) = machine.segments
        raw = segment.read_bytes().rstrip(b"\0")
        segment.write_bytes(raw[:-3])
        unsaved = await machine.unsaved()
        assert "moved" not in unsaved.paths  # the last that was done
        assert "d/new" in unsaved.paths

    async def test_a_record_that_rotted(self, tmp_path: Path) -> None:
        """Nobody would be told that a part of what was done is gone."""
        machine = await killed(tmp_path, some_work)
        (segment,) = machine.segments
        flip(segment, segment.read_bytes().index(b"n" * 3000) - 30)
        damage = only(report := await machine.check())
        assert damage.name == str(segment)
        assert "1 change that had been on disk" in damage.problem
        assert report.unsaved is not None
        assert "moved/one" in report.unsaved.paths

    @pytest.mark.parametrize("lost", [0, 1])
    async def test_a_missing_segment(self, tmp_path: Path, lost: int, small_segments: None) -> None:
        """16 MiB of work would vanish without a word."""
        machine = await killed(tmp_path, much_work)
        machine.segments[lost].unlink()
        damage = only(report := await machine.check())
        assert "cannot be read any more" in damage.problem
        assert report.unsaved is not None
        assert 0 < len(report.unsaved.paths) < 40

    async def test_all_segments_missing(self, tmp_path: Path) -> None:
        """Who cleans up the wrong folder would be told that all is well."""
        async with opened_place(store := MemoryStore(), tmp_path) as place:
            await place.write("f", b"1")
            await place.save()
            await place.write("f", b"2")
        machine = Machine(store, tmp_path / "state")
        for segment in machine.segments:
            segment.unlink()
        assert "cannot be read any more" in only(await machine.check()).problem

    async def test_segments_that_changed_places(self, tmp_path: Path, small_segments: None) -> None:
        """A copy that mixed up files would be taken for what was done."""
        machine = await killed(tmp_path, much_work)
        first, second, *_ = machine.segments
        first.rename(aside := tmp_path / "aside")
        second.rename(first)
        aside.rename(second)
        assert (await machine.check()).damages

    @pytest.mark.parametrize("content", [b"{", None])
    async def test_the_state_file(self, tmp_path: Path, content: bytes | None) -> None:
        """A mount would be refused, or lose something, and `check` have called it well."""
        machine = await killed(tmp_path, some_work)
        state = machine.journal / "state"
        state.unlink()
        if content is not None:
            state.write_bytes(content)
        assert str(state) in str(only(await machine.check()))

    async def test_a_newer_journal(self, tmp_path: Path) -> None:
        """It would be called damaged, or well, and nobody has looked."""
        machine = await killed(tmp_path, some_work)
        (machine.journal / "state").write_text('{"format":2}')
        report = await machine.check()
        assert (report.damages, report.unsaved) == ((), None)
        assert "newer blobfs" in report.notes[0]


class TestWhatWasUploaded:
    """A kill between upload and commit leaves packs that only the journal knows."""

    async def test_it_is_there(self, tmp_path: Path) -> None:
        """Every interrupted save would look like damage."""
        machine = await killed(tmp_path, some_work, "push.uploaded", save=True)
        await lose_second_commit(machine)
        assert (await machine.unsaved()).uploads == 1

    async def test_it_is_not(self, tmp_path: Path) -> None:
        """Nobody would know why the next mount uploads again."""
        machine = await killed(tmp_path, some_work, "push.uploaded", save=True)
        await lose_its_pack(machine)
        await lose_second_commit(machine)
        assert "the bucket lost 1 of the packs" in (await machine.check()).notes[0]

    async def test_the_next_mount_sends_it_again(self, tmp_path: Path) -> None:
        """A commit would name a pack that is not there, and a file be lost with it (P3)."""
        machine = await killed(tmp_path, some_work, "push.uploaded", save=True)
        await lose_its_pack(machine)
        await lose_second_commit(machine)
        later = tmp_path / "later"
        later.mkdir()
        machine.state.rename(later / "state")
        async with opened_place(machine.store, later) as place:
            await place.save()
        report = await Machine(machine.store, later / "state").check()
        assert (report.damages, report.commits) == ((), 2)
        async with opened_place(machine.store, tmp_path / "fresh") as place:
            assert (await place.tree())["moved/new"] == b"n" * 3000


class TestCommitUnderWay:
    async def test_its_slot_is_free(self, tmp_path: Path) -> None:
        """A kill before the commit would look like damage, or like a commit."""
        machine = await killed(tmp_path, some_work, "commit.noted", save=True)
        await lose_second_commit(machine)
        assert (await machine.unsaved()).commit == 2

    async def test_it_landed(self, tmp_path: Path) -> None:
        """A kill after the commit would look like damage."""
        machine = await killed(tmp_path, some_work, "commit.landed", save=True)
        assert (await machine.unsaved()).commit == 2

    async def test_somebody_else_has_its_slot(self, tmp_path: Path) -> None:
        """Others' commits would be taken for one's own, or for damage."""
        machine = await killed(tmp_path, some_work, "commit.noted", save=True)
        await lose_second_commit(machine)
        async with opened_place(machine.store, tmp_path / "other") as place:
            await place.write("theirs", b"1")
            await place.save()
        report = await machine.check()
        assert report.damages == ()
        assert any("somebody else made commit 2" in note for note in report.notes)

    async def test_it_names_what_the_bucket_lost(self, tmp_path: Path) -> None:
        """The next mount would commit a file whose bytes are nowhere (P3)."""
        machine = await killed(tmp_path, some_work, "commit.noted", save=True)
        name = await lose_its_pack(machine)
        await lose_second_commit(machine)
        damage = only(await machine.check())
        assert (damage.kind, damage.name) == ("unsaved", pack_key(name))
        assert "commit 2, which is under way" in damage.problem


async def lose_second_commit(machine: Machine) -> None:
    """Let the bucket be as before the commit that was under way."""
    await machine.store.delete_many([log_key(Seq(2))])


async def lose_its_pack(machine: Machine) -> PackName:
    key = log_key(Seq(2))
    (pack,) = [
        each.name
        for each in decode_entry(machine.store.peek(key), key=key).packs
        if each.brought_bytes
    ]
    await machine.store.delete_many([pack_key(pack)])
    return pack
