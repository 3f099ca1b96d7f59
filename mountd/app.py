"""Put one mount together and serve it: the one place that knows all parts.

Concurrency: one nursery holds the mount's tasks. It ends when the mount is detached, by
`blobfs unmount` or by anybody else, and is cancelled by SIGTERM, SIGINT and SIGHUP. Either way
everything is taken down in the reverse order of its making, and that has a bound (`ending`).
"""

import gc
import logging
import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from blobfs.cache.lock import hold_folder
from blobfs.config import MountSettings
from blobfs.control.messages import (
    Description,
    Gauges,
    MountStatus,
    SyncReply,
    TreeStatus,
)
from blobfs.control.mounts import detach
from blobfs.control.processes import own_memory_bytes, started_at
from blobfs.control.registry import Claim, Registration, claim
from blobfs.env import Env
from blobfs.errors import InUse, Unreachable
from mountd.ending import Ending
from mountd.server import serve_control

log = logging.getLogger("mountd.app")

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP: the terminal of a mount in the foreground was closed."""

SWITCH_INTERVAL_S = 0.001
"""Less makes long listings slower, whose pages are read in threads; more, programs' writes."""

START_WITHIN_S = 7.5
"""The command line gives up after 10 s in all; the reason has to reach it before."""


class FileSystem(Protocol):
    """A file system with its front-end, ready to be mounted."""

    def gauges(self) -> Gauges: ...

    def sync(self, upto: int | None) -> SyncReply:
        """Hurry saving what was changed up to `upto` (None: up to now); say how far it is.

        Raises:
            ReadOnly: nothing can be saved through this mount.
        """
        ...

    def tree(self) -> TreeStatus: ...

    async def heed_settings(self) -> None:
        """Look at the settings of the volume, and heed them from now on.

        Raises:
            BlobfsError: they cannot be read.
        """
        ...

    async def serve(self, mounted: Callable[[], None]) -> None:
        """Mount, call `mounted` once programs can use it, return when it was detached.

        Cancelled, it detaches the mount itself, whoever still uses it.

        Raises:
            BlobfsError: it cannot be mounted.
        """
        ...


OpenFileSystem = Callable[[MountSettings, Env], AbstractAsyncContextManager[FileSystem]]
Ready = Callable[[str | None], None]
"""Called once the mount can be used, with the reason why nothing can be written, if any."""


async def run(
    settings: MountSettings,
    ready: Ready,
    open_file_system: OpenFileSystem,
    env: Env | None = None,
) -> None:
    """Serve the mount of `settings` until it ends; call `ready` once it can be used.

    Raises:
        BlobfsError: it could not be started, perhaps inside an exception group.
    """
    ending = Ending()
    app = _App(settings, ready, env or Env(), ending)
    try:
        with trio.open_signal_receiver(*_ENDING) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope, ending)
                await app.serve(open_file_system, nursery)
                nursery.cancel_scope.cancel()
    finally:
        ending.over()
    log.info("ended. mountpoint=%s", settings.mountpoint)


@dataclass(frozen=True, slots=True)
class _App:
    settings: MountSettings
    ready: Ready
    env: Env
    ending: Ending

    async def serve(self, open_file_system: OpenFileSystem, nursery: trio.Nursery) -> None:
        with trio.move_on_after(START_WITHIN_S) as start, ExitStack() as held:
            claimed = held.enter_context(claim(self.settings.runtime_dir, self._registration()))
            held.enter_context(self._held_state())
            async with open_file_system(self.settings, self.env) as file_system:

                def mounted() -> None:
                    start.deadline = math.inf
                    self._open_for_business(claimed, file_system, nursery)

                try:
                    await file_system.serve(mounted)
                finally:
                    self.ending.begin()
        if start.cancelled_caught:
            raise Unreachable(
                f"no answer in time. source={self.settings.source} waited_s={START_WITHIN_S:g}",
                hint="check the network, the endpoint and the proxy settings",
            )

    @contextmanager
    def _held_state(self) -> Iterator[None]:
        with ExitStack() as held:
            try:
                held.enter_context(hold_folder(self.settings.state_dir))
            except InUse as error:
                raise InUse(
                    f"another blobfs uses this bucket on this machine: {error}",
                    hint="`blobfs status` says where it is mounted; unmount it there first",
                ) from None
            yield

    def _open_for_business(
        self, claimed: Claim, file_system: FileSystem, nursery: trio.Nursery
    ) -> None:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(claimed.listener))
        mount = _Mount(self.settings, file_system, self.env, self.env.monotonic_s())
        nursery.start_soon(serve_control, listener, mount)
        # What is here now stays, and collections that walk through all modules and the SDK each
        # time are a seventh of the CPU time of a long listing.
        gc.freeze()
        # A request gives up the interpreter several times; each time it would wait 5 ms for a
        # thread that works on a commit.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        claimed.announce_ready()
        self.ready(file_system.gauges().read_only_reason)
        log.info("mounted. source=%s mountpoint=%s", self.settings.source, self.settings.mountpoint)

    def _registration(self) -> Registration:
        settings, pid = self.settings, os.getpid()
        return Registration(
            mountpoint=str(settings.mountpoint),
            source=settings.source,
            read_only=settings.read_only,
            pid=pid,
            process_started=started_at(pid) or 0,
            log=None if settings.log_path is None else str(settings.log_path),
        )


@dataclass(frozen=True, slots=True)
class _Mount:
    """What the control socket gives access to."""

    settings: MountSettings
    file_system: FileSystem
    env: Env
    mounted_s: float

    def status(self) -> MountStatus:
        gauges = self.file_system.gauges()
        return MountStatus(
            mountpoint=str(self.settings.mountpoint),
            source=self.settings.source,
            pid=os.getpid(),
            read_only=self.settings.read_only or gauges.read_only_reason is not None,
            uptime_s=round(self.env.monotonic_s() - self.mounted_s, 3),
            state="mounted",
            cache=gauges.cache,
            store=gauges.store,
            memory_bytes=own_memory_bytes(),
            fuse=gauges.fuse,
            listings=gauges.listings,
            odd_keys=gauges.odd_keys,
            open_files=gauges.open_files,
            unsaved=gauges.unsaved,
            seq=gauges.seq,
            safe=gauges.safe,
            quota=gauges.quota,
            trash=gauges.trash,
            last_commit=gauges.last_commit,
            read_only_reason=gauges.read_only_reason,
            incomplete=gauges.incomplete,
            behind=gauges.behind,
        )

    def sync(self, upto: int | None) -> SyncReply:
        return self.file_system.sync(upto)

    def describe(self) -> Description:
        settings = self.settings
        return Description(
            source=settings.source,
            state_dir=str(settings.state_dir),
            profile=settings.profile,
            region=settings.region,
            endpoint_url=settings.endpoint_url,
            anonymous=settings.anonymous,
            account=settings.account,
            tree=self.file_system.tree(),
        )

    async def heed_settings(self) -> None:
        await self.file_system.heed_settings()

    async def unmount(self) -> None:
        # In a thread, because the kernel asks us for more before it lets the mount go.
        await trio.to_thread.run_sync(detach, str(self.settings.mountpoint), abandon_on_cancel=True)


async def _cancel_on_signal(
    signals: AsyncIterator[int], scope: trio.CancelScope, ending: Ending
) -> None:
    async for number in signals:
        log.info("ending. signal=%s", signal.Signals(number).name)
        ending.begin()
        scope.cancel()
