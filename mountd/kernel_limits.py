"""Raise what the kernel allows a mount, through the files in which it shows its settings."""

import logging
import os
from pathlib import Path

from blobfs.control.mounts import find_mount

log = logging.getLogger("blobfs.fuse")

READ_AHEAD_KIB = 1024
"""What the kernel may ask for ahead of a reader; its default of 128 costs half the speed."""

MOST_IN_BACKGROUND = 128
"""Read-ahead requests that the kernel sends before the first is answered. With its default of
12, as many that wait for a dead server would hold up those that the cache could answer."""


def raise_limits(mountpoint: Path) -> None:
    """Raise what we may of a fresh mount: the first needs root, the others do not."""
    mounted = find_mount(os.fspath(mountpoint))
    if mounted is None:
        return  # it was unmounted already
    device = mounted.device
    connection = f"/sys/fs/fuse/connections/{device.rpartition(':')[2]}"
    for setting, value in (
        (f"/sys/class/bdi/{device}/read_ahead_kb", READ_AHEAD_KIB),
        (f"{connection}/max_background", MOST_IN_BACKGROUND),
        (f"{connection}/congestion_threshold", MOST_IN_BACKGROUND * 3 // 4),
    ):
        try:
            Path(setting).write_text(str(value))
        except OSError as error:
            log.debug("the kernel's setting stays as it is: %s", error)
