"""Tell the kernel what it should not believe any more, from a thread of its own.

The kernel may let us wait: to take a name back it wants the lock of the directory, and who holds
that may be waiting for an answer of ours. So the event loop only notes what is outdated, and one
thread at a time tells the kernel, while requests go on being answered (`tell_while`). What cannot
be told is believed for half a minute at most (`vfs.core.MOST_VALID_S`).

Concurrency: `note` never waits. At the end nothing more is told, and the call under way is waited
for while requests are still answered: else the kernel could wait for us, and we for it.
"""

import errno
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from blobfs.types import NodeNo
from blobfs.vfs.kernel_view import Outdated

log = logging.getLogger("blobfs.fuse")

MOST_PENDING = 100_000
"""What came beyond it would be believed for longer than it takes to tell of that many."""

AT_ONCE = 256
"""Told in one go; the end of the mount waits for one call of them only."""

_UNKNOWN = (errno.ENOENT, errno.ENOTDIR)
"""The kernel has forgotten it already."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """How a kernel is told. Both calls block, and raise OSError."""

    forget_name: Callable[[NodeNo, bytes], None]
    forget_attributes: Callable[[NodeNo], None]


class Invalidator:
    """What the kernel has still to be told; each thing is there once."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._names: dict[tuple[NodeNo, bytes], None] = {}
        self._attributes: dict[NodeNo, None] = {}
        self._news = trio.Event()

    def note(self, outdated: Outdated) -> None:
        """Note what to tell. Beyond `MOST_PENDING` it is left to the kernel's own half minute."""
        if len(self._names) + len(self._attributes) >= MOST_PENDING:
            log.warning("too much changed at once: names may be outdated for half a minute")
            return
        self._names |= dict.fromkeys(outdated.names)
        self._attributes |= dict.fromkeys(outdated.attributes)
        self._news.set()

    async def tell_while(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Tell the kernel while `serve` answers its requests; return when that returned.

        Cancelled, `serve` goes on until the call under way has ended: it may be waiting for a
        request that only `serve` can answer.
        """
        served = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                with served:
                    await serve()
                nursery.cancel_scope.cancel()

            nursery.start_soon(answer)
            try:
                await self._tell_for_ever()
            finally:
                served.cancel()

    async def _tell_for_ever(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            while calls := self._take():
                await trio.to_thread.run_sync(_tell, calls)

    def _take(self) -> list[Callable[[], None]]:
        """Return what to tell next: names before attributes, which they lead to."""
        names = [self._names.popitem()[0] for _ in range(min(AT_ONCE, len(self._names)))]
        count = min(AT_ONCE - len(names), len(self._attributes))
        nodes = [self._attributes.popitem()[0] for _ in range(count)]
        return [
            *(partial(self._kernel.forget_name, *name) for name in names),
            *(partial(self._kernel.forget_attributes, node) for node in nodes),
        ]


def _tell(calls: Sequence[Callable[[], None]]) -> None:
    """Make calls, on a thread, until nobody wants that any more."""
    for call in calls:
        trio.from_thread.check_cancelled()
        try:
            call()
        except OSError as error:
            if error.errno not in _UNKNOWN:
                log.warning("the kernel does not let itself be told what changed: %s", error)
