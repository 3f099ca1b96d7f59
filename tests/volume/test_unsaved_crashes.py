"""A daemon killed between any two steps has lost nothing that was acknowledged."""

import copy
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from blobfs.env import Env
from tests.volume.ledger import (
    SEGMENT_BYTES,
    Files,
    Ledger,
    check,
    content,
    covered_inodes,
    kill,
    open_small,
)

NAMES = [b"a", b"b", b"c"]


@dataclass(frozen=True)
class Killed:
    """What a daemon left that was killed at a crash point."""

    point: str
    folder: Path
    before: Files
    """What programs saw after the last operation that was acknowledged."""
    done: int
    """How many operations that is."""
    saved: Files
    """The replayed tree."""
    brings: Files
    """What it is when a commit that is noted was found to have landed."""


class Crashes:
    """Kills a daemon, in a copy of its folder, at the crash points it passes."""

    def __init__(self, folder: Path, to: Path, chance: Random) -> None:
        self._folder, self._to, self._chance = folder, to, chance
        self.ledger: Ledger | None = None
        self.done: list[Files] = []
        self.kills: list[Killed] = []
        self._seen: set[str] = set()

    def point(self, name: str) -> None:
        if self.ledger is None or (name in self._seen and self._chance.random() > 0.04):
            return
        self._seen.add(name)
        ledger = self.ledger
        brings = ledger.attempt.brings if ledger.attempt else ledger.saved
        self.kills.append(
            Killed(
                name,
                kill(self._folder, self._to / str(len(self.kills))),
                copy.deepcopy(ledger.now),
                len(self.done),
                copy.deepcopy(ledger.saved),
                copy.deepcopy(brings),
            )
        )


async def work(ledger: Ledger, chance: Random) -> None:
    name, other = chance.choice(NAMES), chance.choice(NAMES)
    match chance.choice("wwwwtrubblllvssn"):
        case "w":
            ledger.create(name)
            ledger.write(name, chance.randint(0, 500), chance.randbytes(chance.randint(1, 1500)))
        case "t":
            ledger.truncate(name, chance.randint(0, 1000))
        case "r":
            ledger.rename(name, other)
        case "u":
            ledger.unlink(name)
        case "n":
            await ledger.renumber()
        case "b":
            await ledger.begin()
        case "l":
            await ledger.land()
        case "s":
            await ledger.unsaved._cleaner.clean(pressed=True)
        case _:
            ledger.void()


async def move_everything(ledger: Ledger) -> None:
    """Empty all segments, so that each step of it is seen."""
    ledger.create(b"a")
    for _ in range(2):
        ledger.write(b"a", 0, b"x" * (SEGMENT_BYTES - 900))
    ledger.write(b"a", 500, b"y" * 900)
    for _ in range(ledger.unsaved._journal.segments - 1):
        number = ledger.unsaved._journal.oldest
        assert number is not None
        await ledger.unsaved._cleaner._empty(number)
        await ledger.unsaved._journal.remove_oldest()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_kill_at_every_crash_point(seed: int, tmp_path: Path) -> None:
    """Users would lose what they were told was written, because a daemon died (P1)."""
    chance = Random(seed)
    journal = tmp_path / "journal"
    crashes = Crashes(journal, tmp_path, chance)
    async with open_small(journal, saved := Files(), env=Env(crash_point=crashes.point)) as unsaved:
        ledger = crashes.ledger = Ledger(unsaved, saved=saved)
        done = crashes.done
        ledger.done = lambda: done.append(copy.deepcopy(ledger.now))
        after: list[int] = []
        for _ in range(200):
            await work(ledger, chance)
            after += [len(done)] * (len(crashes.kills) - len(after))
        await move_everything(ledger)
        after += [len(done)] * (len(crashes.kills) - len(after))
        crashes.ledger = None
        if ledger.attempt:
            ledger.attempt.pins.close()
    points = {each.point for each in crashes.kills}
    assert points == {
        "journal.appended",
        "journal.segment-made",
        "journal.synced",
        "journal.before-floor",
        "journal.floor-set",
        "journal.removed",
        "cleaning.emptied",
        "cleaning.moved",
        "unsaved.cleaned",
    }
    for killed, count in zip(crashes.kills, after, strict=True):
        await check_one(killed, [killed.before, *done[killed.done : count]])


async def check_one(killed: Killed, expected: list[Files]) -> None:
    """Open what was left: all that was acknowledged is there, and perhaps what was under way."""
    saved = killed.saved
    async with open_small(killed.folder, saved) as unsaved:
        assert unsaved.statistics().damages == ()
        if unsaved.intent is not None:
            brings, covered = killed.brings, unsaved.intent.covered
            saved.names, saved.rows, saved.bodies = brings.names, brings.rows, brings.bodies
            unsaved.holdings.follow_tree(covered_inodes(covered))
            await unsaved.clean(covered)
        for files in expected[1:]:
            with suppress(AssertionError):
                return await check(unsaved, saved, files)
        await check(unsaved, saved, expected[0])


WRITER = """
import sys, trio
from pathlib import Path
from tests.volume.ledger import Files, Ledger, open_small

async def main():
    async with open_small(Path(sys.argv[1]), Files()) as unsaved:
        ledger = Ledger(unsaved)
        ledger.create(b"a")
        for count in range(1 << 30):
            ledger.write(b"a", count * 100, b"%100d" % count)
            print(count, flush=True)
            await trio.lowlevel.checkpoint()

trio.run(main)
"""


def write_until_killed(journal: Path, acknowledged: int) -> int:
    """Kill a writer after so many writes; return the last one that it told of."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER, str(journal)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == acknowledged:
                writer.send_signal(signal.SIGKILL)
                break
        told = writer.stdout.read().splitlines(keepends=True)
    return max([acknowledged, *(int(line) for line in told if line.endswith(b"\n"))])


@pytest.mark.slow
@pytest.mark.parametrize("acknowledged", [3, 700])
async def test_kill_a_real_writer(acknowledged: int, tmp_path: Path) -> None:
    """Users would lose what was in a memory that dies with the daemon (P1)."""
    journal = tmp_path / "journal"
    last = write_until_killed(journal, acknowledged)
    async with open_small(journal, Files()) as unsaved:
        (inode,) = unsaved.inode_states
        found = await content(unsaved, Files(), inode)
    assert len(found) >= (last + 1) * 100
    assert found == b"".join(b"%100d" % count for count in range(len(found) // 100))
