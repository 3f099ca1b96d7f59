"""A mount looks at its volume's settings often enough, and not more often."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from blobfs.errors import NoRoom, Unreachable
from blobfs.formats.head import Head, VolumeSettings
from blobfs.sync.settings_watch import LOOKS_EVERY_S, PAUSE_S, watch_settings
from blobfs.volume.known_settings import KnownSettings

FULL = Head(settings=VolumeSettings(quota_bytes=0))


@dataclass
class Volume:
    """A volume whose `head` can be looked at, and when that was done."""

    settings: KnownSettings = field(default_factory=KnownSettings)
    looks: list[float] = field(default_factory=list)
    is_there: bool = True

    async def look(self) -> None:
        self.looks.append(trio.current_time())
        if not self.is_there:
            raise Unreachable("unplugged")
        self.settings.note(FULL)

    def refuse(self) -> None:
        with pytest.raises(NoRoom):
            self.settings.require_quota(1, 1)


@asynccontextmanager
async def watched() -> AsyncIterator[Volume]:
    volume = Volume()
    volume.settings.note(FULL)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_settings, volume.settings, volume.look)
        yield volume
        nursery.cancel_scope.cancel()


async def test_an_idle_mount_looks_every_hour(autojump_clock: MockClock) -> None:
    """A quota that was set elsewhere would never reach it; or it would cost requests all day."""
    async with watched() as volume:
        await trio.sleep(3.5 * LOOKS_EVERY_S)
        assert len(volume.looks) == 3


async def test_a_refusal_is_looked_into_at_once(autojump_clock: MockClock) -> None:
    """Who raised the quota would wait for an hour."""
    async with watched() as volume:
        await trio.sleep(5)
        began = trio.current_time()
        volume.refuse()
        await trio.sleep(1)
        assert volume.looks == [pytest.approx(began, abs=0.1)]


async def test_refusals_do_not_make_it_look_all_the_time(autojump_clock: MockClock) -> None:
    """A program that tries again and again would cost a request each time."""
    async with watched() as volume:
        for _ in range(100):
            volume.refuse()
            await trio.sleep(PAUSE_S / 10)
        assert len(volume.looks) <= 11


async def test_an_outage_ends_nothing(autojump_clock: MockClock) -> None:
    """A mount would keep a quota for ever because the line was down once."""
    async with watched() as volume:
        volume.is_there = False
        volume.refuse()
        await trio.sleep(PAUSE_S * 3.5)
        assert len(volume.looks) == 4
        volume.is_there = True
        await trio.sleep(PAUSE_S * 10)
        assert len(volume.looks) == 5
