"""A torn end is forgotten, damage is named, and everything else is read."""

from pathlib import Path

import pytest

from blobfs.errors import Damaged, Unsupported
from blobfs.types import ROOT_INODE, ByteRange, InodeNo
from tests.volume.ledger import SEGMENT_BYTES, Files, Ledger, check, content, kill, open_small

A_RUN = "one run of the machine"


@pytest.fixture(autouse=True)
def boot(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The run of the machine; its last value counts."""
    runs = [A_RUN]
    monkeypatch.setattr("blobfs.volume.journal.boot_id", lambda: runs[-1])
    return runs


def segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.isdecimal())


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


async def three_files(folder: Path, to: Path, *, sync: bool = False) -> Files:
    """Write `a`, `b` and `c`, 500 bytes each, and be killed; return what there was."""
    async with open_small(folder, Files()) as unsaved:
        ledger = Ledger(unsaved)
        for name in (b"a", b"b", b"c"):
            ledger.create(name)
            ledger.write(name, 0, name * 500)
            if sync:
                await unsaved.sync()
        kill(folder, to)
    return ledger.now


async def test_last_record_torn_anywhere(tmp_path: Path) -> None:
    """A daemon killed in a write would not mount again, or show half a record."""
    async with open_small(tmp_path / "journal", Files()) as unsaved:
        ledger = Ledger(unsaved)
        ledger.create(b"a")
        ledger.write(b"a", 0, b"kept")
        before = kill(tmp_path / "journal", tmp_path / "before")
        end = unsaved._journal.used_bytes
        ledger.write(b"a", 0, b"torn")
        stop = unsaved._journal.used_bytes
        after = kill(tmp_path / "journal", tmp_path / "after")
    (old,), (new,) = segments(before), segments(after)
    raw = new.read_bytes()
    for at in range(end, stop, 7):
        torn = kill(before, tmp_path / "torn")
        (torn / new.name).write_bytes(raw[:at] + old.read_bytes()[at:])
        async with open_small(torn, Files()) as unsaved:
            (inode,) = unsaved.inode_states
            assert await content(unsaved, Files(), inode) == b"kept"
            assert unsaved.statistics().damages == ()


@pytest.mark.parametrize("run", [A_RUN, "another run"])
async def test_damaged_bytes_are_named(run: str, boot: list[str], tmp_path: Path) -> None:
    """Users would read wrong bytes, or lose everything to one bad sector (P6)."""
    folder = tmp_path / "killed"
    now = await three_files(tmp_path / "journal", folder, sync=True)
    (segment,) = segments(folder)
    flip(segment, segment.read_bytes().index(b"b" * 500) + 99)
    boot.append(run)
    for _ in range(2):  # a remount says the same
        async with open_small(folder, Files()) as unsaved:
            with pytest.raises(Damaged) as failed:
                await content(unsaved, Files(), InodeNo(3))
            assert failed.value.errno == 5
            (damage,) = unsaved.statistics().damages
            assert (damage.inode, damage.lost) == (3, ByteRange(0, 500))
            for inode in (InodeNo(2), InodeNo(4)):
                assert await content(unsaved, Files(), inode) == now.bodies[inode]


async def test_damage_survives_cleaning(tmp_path: Path) -> None:
    """Damaged bytes would turn into zeros when their segment is emptied."""
    folder = tmp_path / "killed"
    now = await three_files(tmp_path / "journal", folder)
    (segment,) = segments(folder)
    flip(segment, segment.read_bytes().index(b"b" * 500) + 99)
    async with open_small(folder, Files()) as unsaved:
        ledger = Ledger(unsaved, now)
        ledger.write(b"c", 0, b"x")
        await unsaved._cleaner._empty(0)
        await unsaved._journal.remove_oldest()
        with pytest.raises(Damaged):
            await content(unsaved, Files(), InodeNo(3))
    async with open_small(folder, Files()) as unsaved:
        with pytest.raises(Damaged):
            await content(unsaved, Files(), InodeNo(3))
        assert await content(unsaved, Files(), InodeNo(2)) == b"a" * 500
        assert [damage.inode for damage in unsaved.statistics().damages] == [3]
        Ledger(unsaved, now).write(b"b", 0, b"whole again" * 50)
        assert unsaved.statistics().damages == ()


async def test_damaged_record_is_named_and_the_log_goes_on(tmp_path: Path) -> None:
    """One bad sector would cost all that was written after it."""
    folder = tmp_path / "killed"
    await three_files(tmp_path / "journal", folder)
    (segment,) = segments(folder)
    flip(segment, segment.read_bytes().index(b"b" * 500) - 30)
    async with open_small(folder, Files()) as unsaved:
        (damage,) = unsaved.statistics().damages
        assert damage.segment == 0
        assert damage.span
        assert await content(unsaved, Files(), InodeNo(2)) == b"a" * 500
        assert await content(unsaved, Files(), InodeNo(3)) == b""
        assert await content(unsaved, Files(), InodeNo(4)) == b"c" * 500


async def test_lost_segment_is_damage(tmp_path: Path) -> None:
    """Users would not be told that a part of what they wrote is missing."""
    async with open_small(tmp_path / "journal", Files()) as unsaved:
        ledger = Ledger(unsaved)
        for count in range(30):
            ledger.create(b"%d" % count)
            ledger.write(b"%d" % count, 0, b"x" * 900)
        folder = kill(tmp_path / "journal", tmp_path / "killed")
    segments(folder)[1].unlink()
    async with open_small(folder, Files()) as unsaved:
        assert unsaved.statistics().damages
        assert InodeNo(2) in unsaved.inode_states
        assert InodeNo(31) in unsaved.inode_states


async def test_unsynced_end_is_no_damage_after_a_power_cut(boot: list[str], tmp_path: Path) -> None:
    """A power cut would be reported as a broken disk, and its unsynced rest come in parts (S2)."""
    folder = tmp_path / "killed"
    await three_files(tmp_path / "journal", folder)
    (segment,) = segments(folder)
    flip(segment, segment.read_bytes().index(b"b" * 500) + 99)
    boot.append("another run")
    async with open_small(folder, Files()) as unsaved:
        assert unsaved.statistics().damages == ()
        assert await content(unsaved, Files(), InodeNo(3)) == b""
        assert InodeNo(4) not in unsaved.inode_states


async def test_damage_at_the_end_of_a_closed_journal(tmp_path: Path) -> None:
    """The last thing that was saved before an unmount would vanish without a word."""
    folder = tmp_path / "journal"
    async with open_small(folder, Files()) as unsaved:
        ledger = Ledger(unsaved)
        ledger.create(b"a")
        ledger.write(b"a", 0, b"last")
    (segment,) = segments(folder)
    flip(segment, segment.read_bytes().index(b"last"))
    async with open_small(folder, Files()) as unsaved:
        with pytest.raises(Damaged):
            await content(unsaved, Files(), InodeNo(2))
        assert [damage.inode for damage in unsaved.statistics().damages] == [2]


async def test_lost_end_of_a_closed_journal(tmp_path: Path) -> None:
    """Users would not be told that the last thing they did before an unmount is missing."""
    folder = tmp_path / "journal"
    async with open_small(folder, Files()) as unsaved:
        ledger = Ledger(unsaved)
        ledger.create(b"a")
        ledger.create(b"b")
        end = unsaved._journal.used_bytes
    flip(segments(folder)[0], end - 1)
    async with open_small(folder, Files()) as unsaved:
        assert unsaved.statistics().damages
        assert list(unsaved.dirents(ROOT_INODE)) == [b"a"]


async def test_journal_inside_a_journal(tmp_path: Path) -> None:
    """Who copies the state folder into the mount would have it replayed after a crash."""
    async with open_small(tmp_path / "journal", Files()) as unsaved:
        ledger = Ledger(unsaved)
        ledger.create(b"a")
        ledger.write(b"a", 0, b"old")
        copied = segments(tmp_path / "journal")[0].read_bytes()[:600]
        ledger.write(b"a", 0, copied)
        folder = kill(tmp_path / "journal", tmp_path / "killed")
        stop = unsaved._journal.used_bytes
    flip(segments(folder)[0], stop - 1)
    async with open_small(folder, Files()) as unsaved:
        (inode,) = unsaved.inode_states
        assert await content(unsaved, Files(), inode) == b"old"
        assert unsaved.statistics().damages == ()


async def test_records_of_a_lost_segment_stay_lost(boot: list[str], tmp_path: Path) -> None:
    """A power cut that undid the renaming of a spare file would bring back, much later, what it
    had undone with it."""
    folder = tmp_path / "killed"
    await three_files(tmp_path / "journal", folder)
    segments(folder)[0].rename(folder / "spare-9")
    assert (folder / f"spare-{SEGMENT_BYTES}").exists()  # and is held back
    boot.append("another run")
    async with open_small(folder, Files()) as unsaved:
        assert not unsaved.inode_states
        ledger = Ledger(unsaved)
        ledger.create(b"n")
        again = kill(folder, tmp_path / "again")
    async with open_small(again, Files()) as unsaved:
        assert unsaved.statistics().damages == ()
        await check(unsaved, Files(), ledger.now)


async def test_newer_journal_is_refused(tmp_path: Path) -> None:
    """An older blobfs would take a newer journal for rubbish, and remove it."""
    folder = tmp_path / "journal"
    await three_files(folder, tmp_path / "killed")
    (folder / "state").write_text('{"format":2}')
    with pytest.raises(Unsupported, match="newer blobfs"):
        async with open_small(folder, Files()):
            pass
    assert segments(folder)


async def test_reopening_changes_nothing(tmp_path: Path) -> None:
    """Users would lose files by mounting often."""
    folder = tmp_path / "killed"
    now = await three_files(tmp_path / "journal", folder)
    for _ in range(3):
        async with open_small(folder, Files()) as unsaved:
            await check(unsaved, Files(), now)
