"""What the kernel is not told of must not end the mount."""

import logging
from unittest.mock import AsyncMock, Mock

import pytest

from blobfs.errors import NoRoom
from blobfs.vfs.core import Vfs
from mountd.fuse3 import Front
from mountd.mount_options import MountOptions


@pytest.mark.parametrize("error", [NoRoom("the disk is full"), ValueError("a fault of ours")])
async def test_a_failure_to_forget_is_only_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk would otherwise take the mount away, with all that is open on it."""
    vfs = Mock(spec=Vfs)
    vfs.forget.side_effect = [error, None]
    options = MountOptions("memory://", allow_other=False, read_only=False)
    front = Front(vfs, options, AsyncMock())
    with caplog.at_level(logging.DEBUG):
        await front.forget([(5, 1), (6, 2)])
    assert [call.args for call in vfs.forget.call_args_list] == [(5, 1), (6, 2)]
    assert str(error) in caplog.text
