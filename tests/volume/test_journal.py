"""What is appended can be read, what is synced stays, and a disk that refuses is heard of."""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from blobfs.env import Env
from blobfs.errors import Damaged, LocalFault, NoRoom
from blobfs.formats.rows import Kind
from blobfs.model.changes import LocalInode
from blobfs.model.spans import Piece, Written
from blobfs.types import InodeNo, Seq, Serial
from blobfs.volume import journal_segments
from blobfs.volume.journal import Journal, open_journal
from blobfs.volume.journal_records import BLOCK_BYTES, OutcomeNoted, Wrote
from blobfs.volume.journal_segments import SegmentFiles
from blobfs.volume.unsaved_rows import InodeState
from tests.volume.ledger import KEPT_SPARES, SEGMENT_BYTES, Files, Ledger, check, kill, open_small

NOTE = OutcomeNoted(Seq(1), "void", ())
ROW = LocalInode(Kind.FILE, 0o644, 0, 0, 1, 1, 1)


def write(journal: Journal, data: bytes, start: int = 0) -> Written:
    return journal.append_bytes(Wrote(InodeNo(2), start, InodeState(ROW, Serial(1), 1, 1)), data)


def refusing(code: int) -> Callable[..., int]:
    """Return what a disk call is when the disk refuses."""

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return refuse


class TestReading:
    @pytest.mark.parametrize("cached", [True, False])
    @pytest.mark.parametrize(
        ("start", "stop"), [(0, 5), (70_000, 70_001), (65_536, 131_072), (0, 200_000), (1, 199_999)]
    )
    async def test_any_part_comes_back(
        self, cached: bool, start: int, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Users would read bytes of another place in their file."""
        monkeypatch.setattr(journal_segments, "_NO_WAIT", os.RWF_NOWAIT if cached else 0)
        data = bytes(range(250)) * 800
        async with open_journal(tmp_path, Env(), lambda _: None) as journal:
            written = write(journal, data, start=1000)
            piece = Piece(1000 + start, 1000 + stop, written)
            assert await journal.read(piece) == data[start:stop]
            assert journal.read_now([piece]) == [data[start:stop]]

    async def test_many_pieces_come_back_each_as_it_was(self, tmp_path: Path) -> None:
        """What is read together to be saved would be saved under another file's name."""
        chance = random.Random(5)
        async with open_journal(tmp_path, Env(), lambda _: None) as journal:
            data = [chance.randbytes(chance.randrange(1, 100_000)) for _ in range(60)]
            written = [write(journal, each, start=1000) for each in data]
            numbers = sorted(chance.choices(range(60), k=80)) + chance.sample(range(60), 20)
            pieces, expected = [], []
            for number in numbers:
                start = chance.randrange(len(data[number]))
                stop = chance.randint(start + 1, len(data[number]))
                pieces.append(Piece(1000 + start, 1000 + stop, written[number]))
                expected.append(data[number][start:stop])
            assert journal.read_now(pieces) == expected

    async def test_damage_costs_its_block_alone(self, tmp_path: Path) -> None:
        """One bad sector would cost a megabyte, or be read as what was written (P6)."""
        async with open_journal(tmp_path, Env(), lambda _: None) as journal:
            written = write(journal, bytes(3 * BLOCK_BYTES))
            with journal._files.path(written.segment).open("r+b") as file:
                file.seek(written.offset + BLOCK_BYTES + 7)
                file.write(b"!")
            for block, damaged in enumerate([False, True, False]):
                piece = Piece(block * BLOCK_BYTES + 5, block * BLOCK_BYTES + 6, written)
                if damaged:
                    with pytest.raises(Damaged, match="local disk"):
                        await journal.read(piece)
                else:
                    assert await journal.read(piece) == b"\0"


class TestSync:
    async def test_callers_share_a_flush(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A hundred programs that fsync would wait for a hundred turns of the disk."""
        flushes = []
        real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", lambda fd: (flushes.append(fd), real(fd)))
        async with open_journal(tmp_path, Env(), lambda _: None) as journal:
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    journal.append(NOTE)
                    nursery.start_soon(journal.sync)
            assert 1 <= len(flushes) <= 2
            await journal.sync()
            assert len(flushes) <= 2

    async def test_disk_that_refuses_a_flush_is_not_trusted_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An fsync after a failed one would say that lost bytes are safe (P2)."""
        async with open_journal(tmp_path, Env(), lambda _: None) as journal:
            journal.append(NOTE)
            with monkeypatch.context() as patched:
                patched.setattr(os, "fdatasync", refusing(errno.EIO))
                with pytest.raises(LocalFault, match="to disk"):
                    await journal.sync()
            with pytest.raises(LocalFault):
                await journal.sync()
            with pytest.raises(LocalFault):
                journal.append(NOTE)

    async def test_flush_that_was_called_off_is_made_later(self, tmp_path: Path) -> None:
        """An fsync after an interrupted one would say that all is on disk when it is not (P2)."""
        async with open_journal(tmp_path, Env(), lambda _: None) as journal:
            journal.append(NOTE)
            with trio.CancelScope() as scope:
                scope.cancel()
                await journal.sync()
            assert scope.cancelled_caught
            assert journal._unflushed
            await journal.sync()
            assert not journal._unflushed

    async def test_full_segments_are_flushed_unasked(self, tmp_path: Path) -> None:
        """The fsync of a small file would wait for all that a large copy had written."""
        synced = trio.Event()
        env = Env(crash_point=lambda name: synced.set() if name == "journal.synced" else None)
        async with open_journal(tmp_path, env, lambda _: None, segment_bytes=SEGMENT_BYTES) as log:
            write(log, bytes(SEGMENT_BYTES - 500))
            write(log, bytes(SEGMENT_BYTES - 500))
            with trio.fail_after(5):
                await synced.wait()


class TestFullDisk:
    @pytest.mark.parametrize("taken", [0, 1, 60, 300])
    async def test_failed_write_is_no_write(
        self, taken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full disk would cost what was acknowledged, or half of the next write stay (P7)."""
        real = os.pwritev

        def short(descriptor: int, parts: list[bytes], offset: int) -> int:
            """Write `taken` bytes and be full."""
            return real(descriptor, [b"".join(parts)[:taken]], offset) if taken else refuse()

        refuse = refusing(errno.ENOSPC)
        async with open_small(tmp_path / "journal", Files()) as unsaved:
            ledger = Ledger(unsaved)
            ledger.create(b"a")
            ledger.write(b"a", 0, b"before")
            with monkeypatch.context() as patched:
                patched.setattr(os, "pwritev", short)
                with pytest.raises(NoRoom) as failed:
                    ledger.write(b"a", 0, b"lost" * 100)
            assert failed.value.errno == errno.ENOSPC
            await check(unsaved, Files(), ledger.now)
            full = kill(tmp_path / "journal", tmp_path / "full")
            ledger.write(b"a", 3, b"after")
            later = kill(tmp_path / "journal", tmp_path / "later")
        async with open_small(later, Files()) as unsaved:
            await check(unsaved, Files(), ledger.now)
        ledger.now.bodies[InodeNo(2)] = b"before"
        async with open_small(full, Files()) as unsaved:
            await check(unsaved, Files(), ledger.now)
            assert unsaved.statistics().damages == ()

    async def test_cleaning_has_room_of_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full disk would keep its own cure from working: what is saved could not go."""
        async with open_small(tmp_path, saved := Files()) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            ledger.create(b"a")
            for _ in range(2):
                ledger.write(b"a", 0, b"x" * (SEGMENT_BYTES - 900))
            monkeypatch.setattr(os, "posix_fallocate", refusing(errno.ENOSPC))
            monkeypatch.setattr(SegmentFiles, "_replace_state", replace_when_a_spare_is_gone)
            with pytest.raises(NoRoom):
                fill(ledger)
            await ledger.begin()
            await ledger.land()
            assert not unsaved.inode_states
            ledger.write(b"a", 0, b"y" * 1000)
            await check(unsaved, saved, ledger.now)


def fill(ledger: Ledger) -> None:
    for _ in range(1000):
        ledger.write(b"a", 0, b"y")


_replace_state = SegmentFiles._replace_state


def replace_when_a_spare_is_gone(files: SegmentFiles, data: bytes) -> None:
    """Do what a disk does that has not one block left but what spare segments take."""
    if len(files.spares) > 1:
        refusing(errno.ENOSPC)()
    _replace_state(files, data)


class TestSegments:
    async def test_removed_files_are_written_over(self, tmp_path: Path) -> None:
        """Fresh pages and fresh blocks would cost half the speed of a stream."""
        async with open_small(tmp_path, saved := Files()) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            seen: set[int] = set()
            for count in range(30):
                ledger.create(b"a")
                ledger.write(b"a", 0, bytes([count]) * (SEGMENT_BYTES // 2))
                await ledger.begin()
                await ledger.land()
                seen |= {path.stat().st_ino for path in tmp_path.glob("[0s]*[0-9]")}  # noqa: ASYNC240
            assert unsaved._journal._next_number > 12
            assert len(seen) <= KEPT_SPARES + 4
            await check(unsaved, saved, ledger.now)
        async with open_small(tmp_path, saved) as unsaved:
            await check(unsaved, saved, ledger.now)

    async def test_disk_is_used_no_more_than_needed(self, tmp_path: Path) -> None:
        """A mount that wrote a lot once would keep the room for ever."""
        async with open_small(tmp_path, saved := Files()) as unsaved:
            ledger = Ledger(unsaved, saved=saved)
            for count in range(40):
                ledger.create(b"%d" % count)
                ledger.write(b"%d" % count, 0, bytes(SEGMENT_BYTES // 2))
            await ledger.begin()
            await ledger.land()
            used = sum(path.stat().st_size for path in tmp_path.iterdir())  # noqa: ASYNC240
            assert used <= (KEPT_SPARES + 2) * SEGMENT_BYTES
