"""Decide how far an fsync carries: to the disk of this machine, or into the bucket."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from blobfs.config import Durability
from blobfs.errors import Unreachable
from blobfs.sync.engine import Engine

Sync = Callable[[], Awaitable[None]]
"""Returns when everything done before the call is as safe as an fsync promises."""


def sync_for(engine: Engine, durability: Durability, deadline_s: float) -> Sync:
    """Return what an fsync does."""
    if durability == "local" or engine.is_read_only:
        return engine.unsaved.sync
    return partial(_into_bucket, engine, deadline_s)


async def _into_bucket(engine: Engine, deadline_s: float) -> None:
    """Return when everything done so far is committed: however long that takes while it gets on.

    Raises:
        Unreachable: saving has not got on for `deadline_s`. The data is safe on the local disk,
            and saving goes on.
        LocalFault: the disk refused.
    """
    await engine.unsaved.sync()
    serial = engine.hurry()
    while not engine.is_saved(serial):
        with trio.move_on_after(deadline_s) as waited:
            await engine.pusher.wait_saved(serial)
        if waited.cancelled_caught and engine.pusher.problem is not None:
            raise Unreachable(f"not in the bucket yet, but on this disk: {engine.pusher.problem}")
