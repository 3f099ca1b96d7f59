"""A mount heeds the settings of its volume as it knows them."""

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from blobfs.errors import NoRoom
from blobfs.formats.head import Head, VolumeSettings
from blobfs.volume.known_settings import KnownSettings


def with_quota(quota_bytes: int | None) -> KnownSettings:
    settings = KnownSettings()
    settings.note(Head(settings=VolumeSettings(quota_bytes=quota_bytes)))
    return settings


class TestQuota:
    def test_up_to_the_last_byte(self) -> None:
        """Users would lose a byte of what they pay for, or get one too many."""
        settings = with_quota(100)
        settings.require_quota(90, 10)
        with pytest.raises(NoRoom) as caught:
            settings.require_quota(90, 11)
        assert caught.value.errno == errno.ENOSPC
        assert "quota=100 used=90 wanted=11" in str(caught.value)
        assert "blobfs settings --quota" in caught.value.hint

    @pytest.mark.parametrize("growth_bytes", [0, -1, -1000])
    def test_what_does_not_grow_is_never_refused(self, growth_bytes: int) -> None:
        """A volume whose quota was lowered could not be cleaned up."""
        with_quota(100).require_quota(5000, growth_bytes)

    def test_nothing_fits_into_nothing(self) -> None:
        """A quota of zero would be taken for none."""
        with pytest.raises(NoRoom):
            with_quota(0).require_quota(0, 1)

    def test_without_one_everything_fits(self) -> None:
        """Users who set no quota would meet one."""
        KnownSettings().require_quota(1 << 60, 1 << 60)

    def test_a_new_one_counts_at_once(self) -> None:
        """A quota that was raised, lowered or taken away would go on as it was."""
        settings = with_quota(100)
        settings.note(Head(settings=VolumeSettings(quota_bytes=200)))
        settings.require_quota(100, 100)
        settings.note(Head())
        settings.require_quota(100, 1000)


class TestRefusals:
    async def test_who_waits_hears_of_one(self) -> None:
        """A quota that was raised elsewhere would be noticed an hour later."""
        settings = with_quota(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(settings.wait_refused)
            await wait_all_tasks_blocked()
            assert nursery.child_tasks
            with pytest.raises(NoRoom):
                settings.require_quota(1, 1)

    async def test_a_look_at_head_ends_it(self) -> None:
        """One refusal would make a mount ask for ever."""
        settings = with_quota(1)
        with pytest.raises(NoRoom):
            settings.require_quota(1, 1)
        settings.note(Head(settings=VolumeSettings(quota_bytes=1)))
        with trio.move_on_after(0) as scope:
            await settings.wait_refused()
        assert scope.cancelled_caught

    def test_the_log_has_one_word_of_it(self, caplog: pytest.LogCaptureFixture) -> None:
        """A copy that goes on failing would fill the disk with lines that say the same."""
        settings = with_quota(1)
        for _ in range(3):
            with pytest.raises(NoRoom):
                settings.require_quota(1, 1)
            settings.note(Head(settings=VolumeSettings(quota_bytes=1)))
        warnings = [each for each in caplog.records if each.levelname == "WARNING"]
        assert [each.getMessage() for each in warnings] == ["the quota is used up. quota=1 used=1"]
