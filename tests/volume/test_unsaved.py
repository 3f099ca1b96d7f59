"""What is unsaved is what differs: no more is saved, and nothing less."""

import errno
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from blobfs.env import Env
from blobfs.errors import NoRoom
from blobfs.formats.rows import Kind
from blobfs.model.changes import (
    GONE,
    Change,
    Intent,
    LocalDirent,
    LocalInode,
    Uploaded,
)
from blobfs.types import MIB, ROOT_INODE, InodeNo, PackName, Seq
from blobfs.volume.room import Disk, Room
from blobfs.volume.unsaved import PLENTY_BYTES, UNASKED_BYTES, Unsaved, open_unsaved
from tests.volume.ledger import SEGMENT_BYTES, Files, Ledger, check, content, kill, open_small

FILE = InodeNo(2)
A = b"a"


def row(size_bytes: int = 0, *, nlink: int = 1, limit: int = 0) -> LocalInode:
    return LocalInode(Kind.FILE, 0o644, 0, 0, 1, 1, nlink, size_bytes, limit)


def named(inode: InodeNo = FILE) -> LocalDirent:
    return LocalDirent(inode, Kind.FILE)


async def move_oldest(unsaved: Unsaved) -> None:
    """Remove the oldest segment, whether that is worth it or not."""
    number = unsaved._journal.oldest
    assert number is not None
    await unsaved._cleaner._empty(number)
    await unsaved._journal.remove_oldest()


def fill_segment(ledger: Ledger) -> None:
    """Let what follows lie in another segment; leave nothing unsaved."""
    number = ledger.unsaved._journal._next_number
    while ledger.unsaved._journal._next_number == number:
        ledger.create(b"filler")
        ledger.unlink(b"filler")


@pytest.fixture
def saved() -> Files:
    """A replayed tree with one file of ten bytes."""
    return Files({A: FILE}, {FILE: row(10, limit=10)}, {FILE: b"0123456789"})


class TestRemovals:
    async def test_file_that_dies_young_leaves_nothing(self, tmp_path: Path) -> None:
        """Every temporary file would be uploaded, or its removal be committed."""
        async with open_small(tmp_path, Files()) as unsaved:
            ledger = Ledger(unsaved)
            ledger.create(b"tmp")
            ledger.write(b"tmp", 0, b"short-lived")
            ledger.unlink(b"tmp")
            assert not unsaved.inode_states
            assert not unsaved.dirent_states
            assert not unsaved.dirents(ROOT_INODE)
            assert unsaved.statistics().bytes == 0

    async def test_removal_of_a_saved_file_is_remembered(
        self, tmp_path: Path, saved: Files
    ) -> None:
        """A file that was removed would be there again."""
        async with open_small(tmp_path, saved) as unsaved:
            unsaved.apply(Change({FILE: None}, {(ROOT_INODE, A): None}))
            assert unsaved.inode(FILE) is GONE
            assert unsaved.dirent(ROOT_INODE, A) is GONE
            assert unsaved.dirents(ROOT_INODE) == {A: GONE}

    async def test_removal_during_a_commit_is_remembered(self, tmp_path: Path) -> None:
        """A file that is removed while it is saved would come back."""
        async with open_small(tmp_path, Files()) as unsaved:
            ledger = Ledger(unsaved)
            ledger.create(A)
            with unsaved.snapshot([FILE], [(ROOT_INODE, A)]):
                ledger.unlink(A)
            assert unsaved.inode(FILE) is GONE
            assert unsaved.dirent(ROOT_INODE, A) is GONE

    async def test_removal_while_the_outcome_is_unknown_is_remembered(self, tmp_path: Path) -> None:
        """A file that is removed after a lost reply would come back."""
        async with open_small(tmp_path / "journal", Files()) as unsaved:
            ledger = Ledger(unsaved)
            ledger.create(A)
            await ledger.begin()
            folder = kill(tmp_path / "journal", tmp_path / "killed")
        async with open_small(folder, Files()) as unsaved:
            unsaved.apply(Change({FILE: None}, {(ROOT_INODE, A): None}))
            assert unsaved.inode(FILE) is GONE
            assert unsaved.dirent(ROOT_INODE, A) is GONE

    @pytest.mark.parametrize("known", [True, False])
    async def test_orphans_go_at_the_next_mount(
        self, known: bool, tmp_path: Path, saved: Files
    ) -> None:
        """Files that were unlinked while open would fill the journal for ever."""
        tree = saved if known else Files()
        async with open_unsaved(tmp_path / "journal", Env(), tree) as unsaved:
            unsaved.apply(Change({FILE: row(10)}, {(ROOT_INODE, A): named()}))
            unsaved.write(FILE, row(10), 0, b"still open")
            unsaved.apply(Change({FILE: row(10, nlink=0)}, {(ROOT_INODE, A): None}))
            assert await content(unsaved, tree, FILE) == b"still open"
            folder = kill(tmp_path / "journal", tmp_path / "killed")
        async with open_unsaved(folder, Env(), tree) as unsaved:
            assert unsaved.inode(FILE) is (GONE if known else None)
            assert not unsaved.spans(FILE)


FOLDER = InodeNo(20)


class TestRenumbering:
    """What a copy of a state folder made gets numbers that the original does not give away (L6)."""

    async def fill(self, unsaved: Unsaved) -> None:
        """Make a directory with a file in it that has two names, and change a committed one."""
        folder = LocalInode(Kind.FOLDER, 0o755, 0, 0, 1, 1, 1, parent=ROOT_INODE)
        inside = LocalInode(Kind.FOLDER, 0o755, 0, 0, 1, 1, 1, parent=FOLDER)
        made = InodeNo(22)
        unsaved.apply(
            Change(
                {FOLDER: folder, InodeNo(21): inside, made: row(nlink=2)},
                {
                    (ROOT_INODE, b"folder"): LocalDirent(FOLDER, Kind.FOLDER),
                    (FOLDER, b"inside"): LocalDirent(InodeNo(21), Kind.FOLDER),
                    (FOLDER, b"f"): named(made),
                    (ROOT_INODE, b"f"): named(made),
                },
            )
        )
        unsaved.write(made, row(3, nlink=2), 0, b"new")
        unsaved.write(FILE, row(10, limit=10), 2, b"--")

    async def check(self, unsaved: Unsaved, saved: Files) -> None:
        assert list(unsaved.inode_states) == [30, 31, 32, FILE]
        assert unsaved.dirent(FOLDER, b"f") is None
        assert not unsaved.dirents(FOLDER)
        folder = InodeNo(30)
        assert unsaved.dirent(ROOT_INODE, b"folder") == LocalDirent(folder, Kind.FOLDER)
        assert unsaved.dirents(folder).keys() == {b"inside", b"f"}
        inside, made = unsaved.inode(InodeNo(31)), InodeNo(32)
        assert isinstance(inside, LocalInode)
        assert inside.parent == folder
        assert unsaved.dirent(folder, b"f") == unsaved.dirent(ROOT_INODE, b"f") == named(made)
        assert await content(unsaved, saved, made) == b"new"
        assert await content(unsaved, saved, FILE) == b"01--456789"
        assert unsaved.holdings.held_bytes == 13

    async def test_everything_that_names_an_inode_follows(
        self, tmp_path: Path, saved: Files
    ) -> None:
        """Files would lie in a directory of another machine, or nowhere; also after a kill."""
        numbers = {InodeNo(20 + n): InodeNo(30 + n) for n in range(3)}
        async with open_small(tmp_path / "journal", saved) as unsaved:
            await self.fill(unsaved)
            unsaved.take_news()
            await unsaved.renumber(numbers)
            assert unsaved.take_news() >= set(numbers.values())  # or they would be saved late
            await self.check(unsaved, saved)
            folder = kill(tmp_path / "journal", tmp_path / "killed")
        async with open_small(folder, saved) as unsaved:
            await self.check(unsaved, saved)
            ledger = Ledger(unsaved, saved=saved)
            ledger.next_inode = 40
            fill_segment(ledger)
            await move_oldest(unsaved)
            await self.check(unsaved, saved)
            folder = kill(folder, tmp_path / "killed again")
        async with open_small(folder, saved) as unsaved:
            await self.check(unsaved, saved)

    async def test_it_waits_for_a_segment_that_is_being_emptied(
        self, tmp_path: Path, saved: Files
    ) -> None:
        """What is found under another number would not be moved, and go with the segment."""
        order: list[str] = []

        async def renumber() -> None:
            await unsaved.renumber({InodeNo(20 + n): InodeNo(30 + n) for n in range(3)})
            order.append("renumbered")

        def begin(point: str) -> None:
            if point == "cleaning.moved" and not order:
                order.append("moving")
                nursery.start_soon(renumber)
            elif point == "cleaning.emptied":
                order.append("emptied")

        env = Env(crash_point=begin)
        async with (
            open_small(tmp_path / "journal", saved, env=env) as unsaved,
            trio.open_nursery() as nursery,
        ):
            await self.fill(unsaved)
            ledger = Ledger(unsaved, saved=saved)
            ledger.next_inode = 40
            for _ in range(6):
                fill_segment(ledger)
            await unsaved._cleaner.clean(pressed=True)
        assert order[:2] == ["moving", "emptied"]
        async with open_small(tmp_path / "journal", saved) as unsaved:
            await self.check(unsaved, saved)


class TestCommits:
    async def test_later_changes_stay(self, tmp_path: Path) -> None:
        """What is written while a commit is under way would never be saved."""
        async with open_small(tmp_path, saved := Files()) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            for name in (A, b"b"):
                ledger.create(name)
                ledger.write(name, 0, b"first")
            await ledger.begin()
            ledger.write(A, 2, b"second")
            await ledger.land()
            assert list(unsaved.inode_states) == [FILE]
            assert not unsaved.dirent_states
            assert unsaved.spans(FILE).unsaved_bytes == 6
            await check(unsaved, saved, ledger.now)

    async def test_truncations_during_a_commit_stay(self, tmp_path: Path) -> None:
        """Bytes that a program cut off would show again behind the new end of its file."""
        async with open_small(tmp_path, saved := Files()) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            ledger.create(A)
            ledger.write(A, 0, b"x" * 100)
            await ledger.begin()
            for size in (10, 80, 60, 90):
                ledger.truncate(A, size)
            await ledger.land()
            assert await content(unsaved, saved, FILE) == b"x" * 10 + bytes(80)

    async def test_serials_survive_cleaning(self, tmp_path: Path) -> None:
        """A commit would leave behind, as unsaved for ever, what cleaning had moved meanwhile."""
        async with open_small(tmp_path / "journal", saved := Files()) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            ledger.create(A)
            ledger.write(A, 0, b"x" * 3000)
            await ledger.begin()
            for count in range(5):
                ledger.create(b"filler")
                ledger.write(b"filler", 0, b"y" * (2000 + count))
                ledger.unlink(b"filler")
            await move_oldest(unsaved)
            assert unsaved.spans(FILE).inside(0, 1)[0].written.segment > 0
            folder = kill(tmp_path / "journal", tmp_path / "killed")
            await ledger.land()
            assert not unsaved.inode_states
        async with open_small(folder, saved) as unsaved:
            assert unsaved.intent is not None
            await unsaved.clean(unsaved.intent.covered)
            assert not unsaved.inode_states

    async def test_moved_bytes_are_dropped_with_their_commit(self, tmp_path: Path) -> None:
        """A file that is written all the time would be uploaded whole with every commit."""
        async with open_small(tmp_path, saved := Files()) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            ledger.create(A)
            ledger.write(A, 0, b"x" * 4000)
            await ledger.begin()
            ledger.write(A, 4000, b"y" * 4000)
            await move_oldest(unsaved)
            await ledger.land()
            assert unsaved.spans(FILE).unsaved_bytes == 4000
            await check(unsaved, saved, ledger.now)

    async def test_rows_can_be_moved_again_and_again(self, tmp_path: Path) -> None:
        """A file that waits for long would be forgotten when its second copy is removed (P1)."""
        async with open_small(tmp_path / "journal", Files()) as unsaved:
            ledger = Ledger(unsaved)
            ledger.create(A)
            for _ in range(3):
                ledger.create(b"filler")
                ledger.write(b"filler", 0, b"y" * SEGMENT_BYTES)
                ledger.unlink(b"filler")
                await move_oldest(unsaved)
            folder = kill(tmp_path / "journal", tmp_path / "killed")
        async with open_small(folder, Files()) as unsaved:
            await check(unsaved, Files(), ledger.now)

    async def test_truncation_needs_no_older_record(self, tmp_path: Path) -> None:
        """After a remount the bytes that a program cut off would show again."""
        async with open_small(tmp_path / "journal", saved := Files()) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            ledger.create(A)
            ledger.write(A, 0, b"x" * 100)
            fill_segment(ledger)
            await ledger.begin()
            ledger.truncate(A, 10)
            ledger.write(A, 50, b"y")
            await ledger.land()
            assert unsaved._journal._ends.keys().isdisjoint({0})
            folder = kill(tmp_path / "journal", tmp_path / "killed")
        async with open_small(folder, saved) as unsaved:
            await check(unsaved, saved, ledger.now)

    async def test_moved_bytes_can_be_cut_off(self, tmp_path: Path) -> None:
        """Bytes that were moved, then cut off, would show again in a file that grows later."""
        async with open_small(tmp_path / "journal", Files()) as unsaved:
            ledger = Ledger(unsaved)
            ledger.create(A)
            ledger.write(A, 0, b"x" * 100)
            fill_segment(ledger)
            ledger.truncate(A, 100)  # a change of the row alone
            fill_segment(ledger)
            await move_oldest(unsaved)
            ledger.truncate(A, 10)
            await move_oldest(unsaved)
            folder = kill(tmp_path / "journal", tmp_path / "killed")
        async with open_small(folder, Files()) as unsaved:
            Ledger(unsaved, ledger.now).truncate(A, 100)
            await check(unsaved, Files(), ledger.now)

    async def test_commit_under_way_survives_kill_and_cleaning(self, tmp_path: Path) -> None:
        """A killed daemon would upload packs again, or put other bytes into a slot (L2)."""
        pack = Uploaded(PackName(b"pack"), b"directory")
        async with open_small(tmp_path / "journal", Files()) as unsaved:
            ledger = Ledger(unsaved)
            ledger.create(A)
            unsaved.note_uploaded(pack)
            unsaved.note_uploaded(Uploaded(PackName(b"other"), b""))
            await ledger.begin()
            intent = unsaved.intent
            ledger.write(A, 0, b"x" * SEGMENT_BYTES)
            await move_oldest(unsaved)
            folder = kill(tmp_path / "journal", tmp_path / "killed")
        async with open_small(folder, Files()) as unsaved:
            assert isinstance(intent, Intent)
            assert unsaved.intent == intent
            assert pack in unsaved.uploaded
            unsaved.note_outcome(Seq(1), "landed", [pack.name])
            assert unsaved.intent is None
            assert [each.name for each in unsaved.uploaded] == [b"other"]

    async def test_snapshot_stays_readable(self, tmp_path: Path) -> None:
        """A commit would hold other bytes than its file had, or none."""
        async with open_small(tmp_path, saved := Files()) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            ledger.create(A)
            ledger.write(A, 0, b"x" * 5000)
            with unsaved.snapshot([FILE], []) as taken:
                for count in range(8):
                    ledger.write(A, 0, bytes([count]) * 5000)
                    await unsaved._cleaner.clean(pressed=True)
                assert unsaved._journal.segments == 1
                (piece,) = taken.spans[FILE]
                (read,) = await trio.to_thread.run_sync(unsaved.read_now, [piece])
                assert read == b"x" * 5000
            assert unsaved._journal._files.numbers() == list(unsaved._journal._ends)


class TestWrites:
    async def test_large_write_is_whole(self, tmp_path: Path) -> None:
        """A write of more than a record takes would be cut or misplaced."""
        data = bytes(range(256)) * (5 * MIB // 512) + b"end"
        async with open_unsaved(tmp_path, Env(), Files()) as unsaved:
            unsaved.apply(Change({FILE: row()}, {(ROOT_INODE, A): named()}))
            unsaved.write(FILE, row(100 + len(data)), 100, data)
            assert await content(unsaved, Files(), FILE) == bytes(100) + data
            assert len(unsaved.spans(FILE)) == 3

    async def test_part_of_a_large_write_shows_no_zeros(self, tmp_path: Path) -> None:
        """A kill in the middle of a large write would leave zeros at its end (S2)."""
        sizes = []
        env = Env(crash_point=lambda _: sizes.append(unsaved.inode(FILE)))
        async with open_unsaved(tmp_path, env, Files()) as unsaved:
            unsaved.write(FILE, row(2 * MIB + 5), 0, bytes(2 * MIB + 5))
        found = [each.size_bytes for each in sizes if isinstance(each, LocalInode)]
        assert found[:2] == [MIB, 2 * MIB]

    async def test_news_reach_who_waits(self, tmp_path: Path) -> None:
        """Nothing would be saved before something else happens to be."""
        async with open_small(tmp_path, Files()) as unsaved, trio.open_nursery() as nursery:
            since = unsaved.serial
            nursery.start_soon(unsaved.wait_change, since)
            await trio.testing.wait_all_tasks_blocked()
            Ledger(unsaved).create(A)
            await unsaved.wait_change(since)

    async def test_clean_journal_takes_no_room(self, tmp_path: Path) -> None:
        """Every bucket that was ever mounted would keep megabytes of the disk."""
        folder = tmp_path / "journal"
        async with open_unsaved(folder, Env(), saved := Files()) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            ledger.create(A)
            await ledger.begin()
            await ledger.land()
            last = unsaved.serial
        assert [path.name for path in folder.iterdir()] == ["state"]
        async with open_unsaved(folder, Env(), saved) as unsaved:
            assert unsaved.serial >= last
            Ledger(unsaved, now=ledger.now, saved=saved).write(A, 0, b"again")
            assert unsaved.serial > last


class TestRoom:
    """Eight segments are all the room."""

    LIMIT = 8 * SEGMENT_BYTES

    async def fill(self, ledger: Ledger) -> None:
        """Write until there is no room."""
        count = 0
        while ledger.unsaved.room_bytes >= 1000:
            ledger.create(b"%d" % count)
            ledger.write(b"%d" % count, 0, b"x" * 1000)
            count += 1

    def make_names(self, ledger: Ledger) -> None:
        for count in range(1000):
            ledger.create(b"empty %d" % count)

    async def find_no_room(self, unsaved: Unsaved) -> None:
        with pytest.raises(NoRoom) as failed:
            await unsaved.wait_for_room(1000)
        assert failed.value.errno == errno.ENOSPC

    async def test_writer_waits_while_saving_makes_room(
        self, tmp_path: Path, mock_clock: MockClock
    ) -> None:
        """A copy larger than the room would fail, though all of it could be saved in time."""
        room = Room(self.LIMIT, lambda: Disk(0, 0))
        async with open_small(tmp_path, saved := Files(), room=room) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            await self.fill(ledger)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(unsaved.wait_for_room, 1000)
                await trio.testing.wait_all_tasks_blocked()
                assert unsaved.wants_room
                mock_clock.jump(15)
                await ledger.begin()
                await ledger.land()
            assert not unsaved.wants_room
            assert unsaved.room_bytes >= 1000
            await check(unsaved, saved, ledger.now)

    async def test_the_disk_is_not_looked_at_for_each_write(self, tmp_path: Path) -> None:
        """A program that writes small pieces would wait a fifth longer for each."""
        looks: list[Disk] = []

        def look() -> Disk:
            looks.append(Disk(free_bytes=PLENTY_BYTES * 2, total_bytes=0))
            return looks[-1]

        async with open_small(tmp_path, Files(), room=Room(None, look)) as unsaved:
            for _ in range(2 * UNASKED_BYTES // 1000):
                await unsaved.wait_for_room(1000)
        assert 2 <= len(looks) <= 10

    async def test_the_disk_is_looked_at_for_each_write_when_it_fills_up(
        self, tmp_path: Path
    ) -> None:
        """What another program has taken of the disk would be promised to a writer (P7)."""
        disk = [Disk(free_bytes=PLENTY_BYTES - 1, total_bytes=0)]
        async with open_small(tmp_path, Files(), room=Room(None, lambda: disk[0])) as unsaved:
            await unsaved.wait_for_room(1000)
            disk[0] = Disk(free_bytes=0, total_bytes=1000 * PLENTY_BYTES)
            unsaved.set_saving("the bucket refuses")
            await self.find_no_room(unsaved)

    async def test_writer_gets_enospc_when_nothing_is_saved(
        self, tmp_path: Path, mock_clock: MockClock
    ) -> None:
        """A program would hang for as long as the bucket cannot be reached (P7)."""
        room = Room(self.LIMIT, lambda: Disk(0, 0))
        async with open_small(tmp_path / "journal", Files(), room=room) as unsaved:
            ledger = Ledger(unsaved)
            await self.fill(ledger)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.find_no_room, unsaved)
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(19.9)
                await trio.testing.wait_all_tasks_blocked()
                assert nursery.child_tasks
                mock_clock.jump(0.2)
            unsaved.set_saving("the bucket refuses")
            with pytest.raises(NoRoom, match="the bucket refuses"):
                await unsaved.wait_for_room(1000)
            await check(unsaved, Files(), ledger.now)

    async def test_upload_is_progress(self, tmp_path: Path, mock_clock: MockClock) -> None:
        """A copy over a slow link would fail, though one pack after the other goes out."""
        room = Room(self.LIMIT, lambda: Disk(0, 0))
        async with open_small(tmp_path, Files(), room=room) as unsaved:
            await self.fill(Ledger(unsaved))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.find_no_room, unsaved)
                for count in range(4):
                    await trio.testing.wait_all_tasks_blocked()
                    mock_clock.jump(15)
                    unsaved.note_uploaded(Uploaded(PackName(b"%d" % count), b""))
                await trio.testing.wait_all_tasks_blocked()
                assert nursery.child_tasks
                mock_clock.jump(21)

    async def test_full_room_takes_removals_and_no_names(self, tmp_path: Path) -> None:
        """A full mount could not be emptied with `rm`; or `mkdir` would fill the disk."""
        room = Room(self.LIMIT, lambda: Disk(0, 0))
        async with open_small(tmp_path, Files(), room=room) as unsaved:
            ledger = Ledger(unsaved)
            await self.fill(ledger)
            with pytest.raises(NoRoom):
                self.make_names(ledger)
            ledger.unlink(b"0")
            ledger.truncate(b"1", 10)
            await check(unsaved, Files(), ledger.now)

    async def test_dead_files_give_their_room_back(self, tmp_path: Path) -> None:
        """Temporary files would fill the disk while nothing is there to be saved."""
        async with open_unsaved(tmp_path, Env(), Files(), limit_bytes=16 * MIB) as unsaved:
            ledger = Ledger(unsaved)
            for _ in range(30):
                ledger.create(b"tmp")
                await unsaved.wait_for_room(MIB)
                ledger.write(b"tmp", 0, bytes(MIB))
                ledger.unlink(b"tmp")

    def test_default_leaves_a_part_of_the_disk_free(self) -> None:
        """Unsaved data would fill the disk that the rest of the machine lives on."""
        room = Room(None, lambda: Disk(100, 1000))
        assert room.left_bytes(used_bytes=700, ready_bytes=30) == 80


def test_unsaved_is_what_its_users_think(tmp_path: Path) -> None:
    """Numbers in `status` would not be those that the daemon decides by."""

    async def main() -> None:
        now = iter(range(100, 200))
        async with open_small(tmp_path, Files(), env=Env(now_ns=lambda: next(now))) as unsaved:
            assert unsaved.statistics().oldest_ns is None
            await fill(unsaved)
            found = unsaved.statistics()
            assert (found.files, found.names, found.bytes, found.oldest_ns) == (2, 2, 7, 100)
            assert unsaved.inode_states[FILE].touched_ns > 100

    async def fill(unsaved: Unsaved) -> None:
        ledger = Ledger(unsaved)
        ledger.create(A)
        ledger.write(A, 0, b"7 bytes")
        ledger.create(b"b")

    trio.run(main)
