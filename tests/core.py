"""Put the core together on any store, without daemon and front-end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from blobfs.cache.reading import open_reading
from blobfs.env import Env
from blobfs.stores.base import Store
from blobfs.stores.breaker import Breaker
from blobfs.types import GIB, MIB
from blobfs.vfs.core import Vfs
from blobfs.volume.native import open_native


@asynccontextmanager
async def opened_vfs(store: Store, folder: Path, env: Env, ttl_s: float) -> AsyncIterator[Vfs]:
    """Open a file system over `store` with its state and cache below `folder`."""
    breaker = Breaker(store, env)
    async with (
        open_native(breaker, folder / "state", ttl_s=ttl_s, env=env) as native,
        open_reading(
            breaker, folder / "cache", limit_bytes=GIB, memory_bytes=256 * MIB, env=env
        ) as reading,
    ):
        yield Vfs(store.url, native, reading, env)
