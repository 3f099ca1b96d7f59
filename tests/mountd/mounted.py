"""Mount a core for other threads of this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from blobfs.env import Env
from blobfs.stores.base import Store
from mountd.fuse3 import Front, open_mount
from mountd.mount_options import MountOptions
from tests.contracts.kernel_files import KernelFiles
from tests.core import opened_core


@asynccontextmanager
async def mounted(
    store: Store, folder: Path, *, ttl_s: float = 60, read_only: bool
) -> AsyncIterator[KernelFiles]:
    """Mount `store` for other threads of this process."""
    mountpoint = folder / "mountpoint"
    mountpoint.mkdir(exist_ok=True, parents=True)
    options = MountOptions("memory://test", allow_other=True, read_only=read_only)
    async with (
        opened_core(store, folder, Env(), ttl_s, read_only=read_only) as core,
        open_mount(Front(core.vfs, options, core.engine.tree.load), mountpoint) as mount,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(mount.serve)
        await mount.wait_ready()
        yield KernelFiles(mountpoint, core.engine.save)
        mount.stop()
