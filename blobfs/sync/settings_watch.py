"""Look at `head` now and then, so that a mount heeds the settings that its volume has by now.

Concurrency: one task of a mount, for as long as it lasts.
"""

import logging
from collections.abc import Awaitable, Callable

import trio

from blobfs.errors import BlobfsError
from blobfs.volume.known_settings import KnownSettings

LOOKS_EVERY_S = 3600.0

PAUSE_S = 10.0
"""Between two looks at least, however often programs are refused: each is a request."""

log = logging.getLogger("blobfs.settings")


async def watch_settings(settings: KnownSettings, look: Callable[[], Awaitable[object]]) -> None:
    """Call `look`, which notes what it finds in `settings`, within every hour; and at once when
    a program was refused something, since somebody may have given it leave meanwhile."""
    while True:
        with trio.move_on_after(LOOKS_EVERY_S):
            await settings.wait_refused()
        try:
            await look()
        except BlobfsError as error:
            log.debug("the settings of the volume stay as they are known here: %s", error)
        await trio.sleep(PAUSE_S)
