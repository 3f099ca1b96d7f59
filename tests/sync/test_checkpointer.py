"""Checkpoints are written when they are due, by whoever made them so, and hold up nobody."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from blobfs.env import Env
from blobfs.errors import Unreachable
from blobfs.sync.checkpointer import Checkpointer, CheckpointRules
from blobfs.types import MIB, Seq
from blobfs.volume.tree import Tree, open_tree
from tests.volume.random_log import RandomLog
from tests.volume.story import ORIGIN

VOLUME = b"v" * 16
NONE = Seq(0)


@dataclass
class Writer:
    """Takes note of what is asked of it."""

    tree: Tree
    found: Seq = NONE
    """The newest checkpoint of others."""
    error: BaseException | None = None
    written: list[Seq] = field(default_factory=list)
    asked: int = 0

    async def newest(self) -> Seq:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        return self.found

    async def write(self) -> Seq:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.written.append(self.tree.position.seq)
        return self.written[-1]


@dataclass
class Place:
    tree: Tree
    writer: Writer
    checkpointer: Checkpointer
    log: RandomLog

    async def commit(self, count: int) -> None:
        """Commit so often, and see what comes of it."""
        for landed in self.log.entries(count):
            await self.tree.replay([landed])
            self.checkpointer.note_committed()
            await wait_all_tasks_blocked()


@asynccontextmanager
async def running(
    folder: Path, *, entries: int = 4, limit_bytes: int = MIB
) -> AsyncIterator[Place]:
    async with open_tree(folder, VOLUME, ORIGIN) as tree, trio.open_nursery() as nursery:
        writer = Writer(tree)
        rules = CheckpointRules(entries, limit_bytes)
        checkpointer = Checkpointer(writer, tree, rules, Env(chance=random.Random(1).random))
        nursery.start_soon(checkpointer.run)
        yield Place(tree, writer, checkpointer, RandomLog(random.Random(1)))
        nursery.cancel_scope.cancel()


async def test_due_after_so_many_entries(tmp_path: Path) -> None:
    """Opening a volume would take longer with each commit, or each commit write a checkpoint."""
    async with running(tmp_path) as place:
        await place.commit(3)
        assert place.writer.asked == 0
        await place.commit(9)
        assert place.writer.written == [4, 8, 12]


async def test_due_after_large_commits(tmp_path: Path) -> None:
    """A volume into which a million files came at once would take minutes to open."""
    async with running(tmp_path, entries=1000, limit_bytes=200) as place:
        await place.commit(12)
        assert 1 < len(place.writer.written) < 12


async def test_others_checkpoints_count(tmp_path: Path) -> None:
    """Every client would write every checkpoint."""
    async with running(tmp_path) as place:
        place.writer.found = Seq(3)
        await place.commit(6)
        assert place.writer.written == []
        await place.commit(1)
        assert place.writer.written == [7]


@pytest.mark.parametrize("error", [Unreachable("away"), ZeroDivisionError()])
async def test_a_failure_is_tried_again_later(
    tmp_path: Path,
    error: BaseException,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A store that is away would be asked without end, or the mount end for a checkpoint."""
    async with running(tmp_path) as place:
        place.writer.error = error
        await place.commit(4)
        await trio.sleep(3600)
        assert 5 < place.writer.asked < 20
        warnings = [each for each in caplog.records if each.levelname == "WARNING"]
        assert len(warnings) == 1
        place.writer.error = None
        await trio.sleep(3600)
        assert place.writer.written == [4]


async def test_what_is_damaged_is_not_passed_on(tmp_path: Path) -> None:
    """The next checkpoint would name again what nobody can read."""
    async with running(tmp_path) as place:
        place.tree.base = "00000000000000000001-0123456789abcdef"

        def doubted() -> frozenset[str]:
            return frozenset({place.tree.base or ""})

        place.tree.doubted = doubted  # type: ignore[method-assign]
        await place.commit(8)
        assert place.writer.asked == 0


def test_rules_are_those_of_the_format() -> None:
    """Readers would have more to replay than they were promised (L9)."""
    assert (CheckpointRules().due_entries, CheckpointRules().due_bytes) == (64, 4 * MIB)
