"""Mount a core for other threads of this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from blobfs.env import Env
from blobfs.stores.base import Store
from blobfs.vfs.kernel_view import tell_nobody
from mountd.fuse3 import KERNEL, Front, open_mount
from mountd.invalidation import Invalidator
from mountd.mount_options import MountOptions
from tests.contracts.kernel_files import KernelFiles
from tests.core import Core, opened_core


@dataclass(frozen=True, slots=True)
class Mounted:
    """A core, and its files as programs find them."""

    core: Core
    files: KernelFiles


@asynccontextmanager
async def mounted(
    store: Store, folder: Path, *, ttl_s: float = 60, read_only: bool
) -> AsyncIterator[KernelFiles]:
    """Mount `store` for other threads of this process."""
    async with mounted_core(store, folder, ttl_s=ttl_s, read_only=read_only) as both:
        yield both.files


@asynccontextmanager
async def mounted_core(
    store: Store, folder: Path, *, ttl_s: float = 60, read_only: bool, is_told: bool = True
) -> AsyncIterator[Mounted]:
    """Mount `store` for other threads of this process, and give its core, too.

    Unless `is_told`, the kernel hears of nothing that others change.
    """
    mountpoint = folder / "mountpoint"
    mountpoint.mkdir(exist_ok=True, parents=True)
    options = MountOptions("memory://test", allow_other=True, read_only=read_only)
    invalidator = Invalidator(KERNEL)
    tell = invalidator.note if is_told else tell_nobody
    async with (
        opened_core(store, folder, Env(), ttl_s, read_only=read_only, tell=tell) as core,
        open_mount(Front(core.vfs, options, core.engine.tree.load), mountpoint) as mount,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(invalidator.tell_while, mount.serve)
        await mount.wait_ready()
        yield Mounted(core, KernelFiles(mountpoint, core.engine.save))
        mount.stop()
