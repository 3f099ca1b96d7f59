"""A power cut leaves what was fsynced, and a prefix of the rest: never zeros, never a mixture."""

import copy
from pathlib import Path
from random import Random

import pytest

from blobfs.env import Env
from blobfs.types import Serial
from tests.volume.ledger import Files, Ledger, check, kill, open_small
from tests.volume.power import Disk

NAMES = [b"a", b"b", b"c"]


class History:
    """What programs saw after each serial, and what was fsynced when."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: list[tuple[Serial, Files]] = [(Serial(0), Files())]
        self.synced = Serial(0)
        ledger.done = self.note

    def note(self) -> None:
        self._seen.append((self._ledger.unsaved.serial, copy.deepcopy(self._ledger.now)))

    async def sync(self) -> None:
        target = self._ledger.unsaved.serial
        await self._ledger.unsaved.sync()
        self.synced = target

    def at(self, serial: Serial) -> Files:
        """Return what programs saw when `serial` was the last."""
        return next(files for at, files in reversed(self._seen) if at <= serial)


async def do_something(ledger: Ledger, history: History, chance: Random) -> None:
    name, other = chance.choice(NAMES), chance.choice(NAMES)
    match chance.choice("wwwwwtrusc"):
        case "w":
            ledger.create(name)
            data = chance.randbytes(chance.choice([1, 50, 700, 3000])).replace(b"\0", b"1")
            ledger.write(name, chance.randint(0, 800), data)
        case "t":
            ledger.truncate(name, chance.randint(0, 900))
        case "r":
            ledger.rename(name, other)
        case "u":
            ledger.unlink(name)
        case "s":
            await history.sync()
        case _:
            await ledger.unsaved._cleaner.clean(pressed=True)


@pytest.mark.parametrize("seed", range(10))
async def test_power_cut_leaves_a_prefix(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users would lose fsynced bytes, or find zeros or a mixture of times in a file (P2, S2)."""
    chance = Random(seed)
    journal, cuts = tmp_path / "journal", []
    journal.mkdir()
    with monkeypatch.context() as patched:
        disk = Disk(journal, patched)

        def cut_sometimes(_point: str) -> None:
            if chance.random() < 0.04:
                cuts.append((disk.cut(tmp_path / str(len(cuts)), chance), history.synced))

        env = Env(crash_point=cut_sometimes)
        async with open_small(journal, Files(), env=env) as unsaved:
            ledger = Ledger(unsaved)
            history = History(ledger)
            for _ in range(150):
                await do_something(ledger, history, chance)
        last = unsaved.serial
    monkeypatch.setattr("blobfs.volume.journal.boot_id", lambda: "another run")
    assert cuts
    for folder, synced in cuts:
        async with open_small(folder, Files()) as unsaved:
            assert synced <= unsaved.serial <= last
            assert unsaved.statistics().damages == ()
            seen = copy.deepcopy(history.at(unsaved.serial))
            await check(unsaved, Files(), seen)
            await go_on(Ledger(unsaved, seen), chance)
            killed = kill(folder, tmp_path / "killed")
        async with open_small(killed, Files()) as unsaved:
            await check(unsaved, Files(), seen)
            assert unsaved.statistics().damages == ()


async def go_on(ledger: Ledger, chance: Random) -> None:
    """Write more than what was rolled back: nothing of that may come again."""
    ledger.next_inode = 1000
    for _ in range(4):
        ledger.create(b"new")
        ledger.write(b"new", 0, chance.randbytes(2000))
