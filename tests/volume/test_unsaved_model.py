"""Whatever happens to a journal, programs see what they did: against a plain model."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.volume.ledger import Files, Ledger, check, covered_inodes, kill, open_small

NAMES = st.sampled_from([b"a", b"b", b"c"])
KINDS = (
    ["write"] * 6
    + ["truncate"] * 4
    + ["unlink", "rename", "begin", "begin", "land", "land", "land"] * 2
    + ["void", "squeeze", "sync", "kill", "close", "renumber"]
)


@dataclass(frozen=True)
class Step:
    """One step; most kinds look at a part of it only."""

    kind: str
    name: bytes
    other: bytes
    at: int
    length: int


STEPS = st.lists(
    st.builds(
        Step, st.sampled_from(KINDS), NAMES, NAMES, st.integers(0, 2000), st.integers(1, 2000)
    ),
    min_size=10,
    max_size=60,
)


class Run:
    """One list of steps, with reopenings in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "0"
        self._generation = 0
        self._now, self._saved = Files(), Files()
        self._next_inode = 2
        self._writes = 0
        self._brings: Files | None = None

    async def take(self, steps: list[Step]) -> None:
        rest = steps
        while rest:
            rest = await self._session(rest)
        await self._session([])

    async def _session(self, steps: list[Step]) -> list[Step]:
        """Take steps until one ends the daemon; return those behind it."""
        async with open_small(self._folder, self._saved) as unsaved:
            await check(unsaved, self._saved, self._now)
            ledger = Ledger(unsaved, self._now, self._saved)
            ledger.next_inode = self._next_inode
            await self._settle_intent(ledger)
            for index, step in enumerate(steps):
                if step.kind in ("kill", "close"):
                    self._brings = ledger.attempt.brings if ledger.attempt else None
                    if step.kind == "kill":
                        self._generation += 1
                        to = self._folder.parent / str(self._generation)
                        self._folder = kill(self._folder, to)
                    if ledger.attempt:
                        ledger.attempt.pins.close()
                    self._next_inode = ledger.next_inode
                    return steps[index + 1 :]
                await self._step(ledger, step)
                await check(unsaved, self._saved, self._now)
            if ledger.attempt:
                self._brings = ledger.attempt.brings
                ledger.attempt.pins.close()
        return []

    async def _settle_intent(self, ledger: Ledger) -> None:
        """Do what a mount does first: find that the commit under way had landed."""
        intent = ledger.unsaved.intent
        if intent is None:
            return
        assert self._brings is not None
        self._saved.names, self._saved.rows = self._brings.names, self._brings.rows
        self._saved.bodies = self._brings.bodies
        ledger.unsaved.holdings.follow_tree(covered_inodes(intent.covered))
        await ledger.unsaved.clean(intent.covered)
        ledger.unsaved.note_outcome(intent.seq, "landed")
        await check(ledger.unsaved, self._saved, self._now)

    async def _step(self, ledger: Ledger, step: Step) -> None:
        match step.kind:
            case "write":
                ledger.create(step.name)
                ledger.write(step.name, step.at, self._filling() * step.length)
            case "truncate":
                ledger.truncate(step.name, step.at)
            case "unlink":
                ledger.unlink(step.name)
            case "rename":
                ledger.rename(step.name, step.other)
            case "squeeze":
                await ledger.unsaved._cleaner.clean(pressed=True)
            case "sync":
                await ledger.unsaved.sync()
            case "renumber":
                await ledger.renumber()
            case "begin":
                await ledger.begin()
            case "land":
                await ledger.land()
            case _:
                ledger.void()

    def _filling(self) -> bytes:
        """Return a byte that the last 254 writes did not have, and that is not zero."""
        self._writes += 1
        return bytes([1 + self._writes % 255])


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_programs_see_what_they_did(steps: list[Step]) -> None:
    """Users would lose what they wrote, or meet again what they removed (P1)."""
    with TemporaryDirectory() as folder:
        trio.run(Run(Path(folder)).take, list(steps))
