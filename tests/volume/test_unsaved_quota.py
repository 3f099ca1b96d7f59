"""The volume never exceeds its quota by what programs do, and nothing else is kept from them."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from blobfs.errors import NoRoom
from blobfs.formats.head import Head, VolumeSettings
from blobfs.formats.rows import Kind, Native
from blobfs.model.changes import Change, LocalInode
from blobfs.types import MIB, InodeNo
from blobfs.volume.known_settings import KnownSettings
from tests.volume.ledger import Files, Ledger, check, kill, open_small

A, B = b"a", b"b"
FIRST = InodeNo(2)
"""The number of the first file that a ledger makes."""


def with_quota(quota_bytes: int | None) -> KnownSettings:
    known = KnownSettings()
    known.note(Head(settings=VolumeSettings(quota_bytes=quota_bytes)))
    return known


async def test_a_write_beyond_it_leaves_no_trace(tmp_path: Path) -> None:
    """A program that is told ENOSPC would find half of its write, or what it wrote before gone."""
    async with open_small(tmp_path / "journal", Files(), settings=with_quota(3 * MIB)) as unsaved:
        ledger = Ledger(unsaved)
        ledger.create(A)
        ledger.write(A, 0, b"x" * MIB)
        with pytest.raises(NoRoom, match="quota"):
            ledger.write(A, MIB, b"y" * (2 * MIB + 1))
        await check(unsaved, Files(), ledger.now)
        left = kill(tmp_path / "journal", tmp_path / "left")
    async with open_small(left, Files()) as unsaved:
        await check(unsaved, Files(), ledger.now)


async def test_holes_count_by_the_size_of_their_file(tmp_path: Path) -> None:
    """`df` would not add up to what `ls` says, and a hole could be filled when it is too late."""
    async with open_small(tmp_path, Files(), settings=with_quota(1000)) as unsaved:
        ledger = Ledger(unsaved)
        ledger.create(A)
        with pytest.raises(NoRoom):
            ledger.truncate(A, 1001)
        ledger.truncate(A, 1000)
        ledger.write(A, 0, b"x" * 1000)
        assert unsaved.holdings.held_bytes == 1000


async def test_what_makes_room_is_never_refused(tmp_path: Path) -> None:
    """A volume whose quota was lowered below what it holds could not be cleaned up."""
    known = with_quota(1000)
    async with open_small(tmp_path, Files(), settings=known) as unsaved:
        ledger = Ledger(unsaved)
        ledger.create(A)
        ledger.write(A, 0, b"x" * 1000)
        known.note(Head(settings=VolumeSettings(quota_bytes=10)))
        ledger.write(A, 500, b"y" * 500)
        ledger.create(B)
        ledger.rename(A, b"c")
        ledger.truncate(b"c", 700)
        with pytest.raises(NoRoom):
            ledger.write(B, 0, b"z")
        ledger.unlink(b"c")
        ledger.write(B, 0, b"z" * 10)
        assert unsaved.holdings.held_bytes == 10


async def test_what_was_acknowledged_is_saved(tmp_path: Path) -> None:
    """A quota that is lowered would cost what was written before (P7)."""
    known = with_quota(1000)
    async with open_small(tmp_path, saved := Files(), settings=known) as unsaved:
        ledger = Ledger(unsaved, saved=saved)
        ledger.create(A)
        ledger.write(A, 0, b"x" * 1000)
        known.note(Head(settings=VolumeSettings(quota_bytes=0)))
        await ledger.begin()
        await ledger.land()
        assert not unsaved.inode_states
        assert unsaved.holdings.held_bytes == 1000
        await check(unsaved, saved, ledger.now)


async def test_a_file_without_a_name_counts_no_more(tmp_path: Path) -> None:
    """What was removed would take the room of what is there until its last reader is gone."""
    async with open_small(tmp_path, Files(), settings=with_quota(1000)) as unsaved:
        ledger = Ledger(unsaved)
        ledger.create(A)
        ledger.write(A, 0, b"x" * 1000)
        row = unsaved.inode(FIRST)
        assert isinstance(row, LocalInode)
        orphan = LocalInode(Kind.FILE, 0o644, 0, 0, 1, 1, 0, size_bytes=1000)
        unsaved.apply(Change({FIRST: orphan}))
        assert unsaved.holdings.held_bytes == 0
        unsaved.write(FIRST, LocalInode(Kind.FILE, 0o644, 0, 0, 1, 1, 0, 3000), 2990, b"y" * 10)
        ledger.create(B)
        ledger.write(B, 0, b"z" * 1000)


async def test_taking_over_a_native_file_is_not_refused(tmp_path: Path) -> None:
    """Nobody could rename what other tools wrote, because of what they wrote."""
    bound = Native(b"film", 5000, "1")
    row = LocalInode(Kind.FILE, 0o600, 0, 0, 1, 1, 1, 5000, 5000, bound=bound)
    async with open_small(tmp_path, Files(), settings=with_quota(1000)) as unsaved:
        unsaved.apply(Change({FIRST: row}))
        assert unsaved.holdings.held_bytes == 5000, "from now on it is a file of the volume"
        with pytest.raises(NoRoom):
            unsaved.apply(Change({FIRST: replace(row, size_bytes=5001)}))
        unsaved.apply(Change({FIRST: replace(row, size_bytes=0, base_limit_bytes=0)}))
        assert unsaved.holdings.held_bytes == 0


@dataclass(frozen=True)
class Step:
    kind: str
    name: bytes
    at: int
    length: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["write"] * 5 + ["truncate"] * 3 + ["unlink", "save", "quota"]),
        st.sampled_from([A, B, b"c"]),
        st.integers(0, 700),
        st.integers(1, 700),
    ),
    min_size=5,
    max_size=40,
)


async def live(steps: list[Step], folder: Path) -> None:
    limit, known = 1500, with_quota(1500)
    async with open_small(folder, saved := Files(), settings=known) as unsaved:
        ledger = Ledger(unsaved, saved=saved)
        for step in steps:
            before = unsaved.holdings.held_bytes
            if step.kind == "quota":
                limit = 2 * step.at
                known.note(Head(settings=VolumeSettings(quota_bytes=limit)))
            elif step.kind == "save":
                await ledger.begin()
                await ledger.land()
            else:
                take_step(ledger, step, limit)
            await check(unsaved, saved, ledger.now)
            assert unsaved.holdings.held_bytes <= max(before, limit)


def take_step(ledger: Ledger, step: Step, limit: int) -> None:
    """Take a step; it is refused if, and only if, the volume would grow beyond the limit."""
    bodies = ledger.now.bodies
    held = sum(map(len, bodies.values()))
    ledger.create(step.name)
    size = len(bodies[ledger.now.names[step.name]])
    wanted = {"write": max(size, step.at + step.length), "truncate": step.at, "unlink": 0}
    growth = wanted[step.kind] - size
    try:
        match step.kind:
            case "write":
                ledger.write(step.name, step.at, b"x" * step.length)
            case "truncate":
                ledger.truncate(step.name, step.at)
            case _:
                ledger.unlink(step.name)
    except NoRoom:
        assert growth > 0
        assert held + growth > limit
    else:
        assert growth <= 0 or held + growth <= limit


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_it_is_exceeded_by_nothing_that_grows(steps: list[Step]) -> None:
    """The bill would be higher than the quota, or a program be refused what fits."""
    with TemporaryDirectory() as folder:
        trio.run(live, steps, Path(folder))
