"""Put the core together on any store, without daemon and front-end."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from blobfs.cache.reading import Reading, open_reading
from blobfs.config import Durability
from blobfs.env import Env
from blobfs.model.nodes import NativeLook
from blobfs.stores.base import Store
from blobfs.stores.breaker import Breaker
from blobfs.sync.binding import Bucket
from blobfs.sync.checkpointer import CheckpointRules
from blobfs.sync.engine import Engine, EngineOptions, open_engine
from blobfs.sync.trash import TrashRules
from blobfs.types import GIB, MIB
from blobfs.vfs.core import Vfs
from blobfs.vfs.kernel_view import Tell, tell_nobody
from blobfs.vfs.opening import make_vfs
from blobfs.volume.native import open_native

LOOK = NativeLook(os.getuid(), os.getgid())


@dataclass(frozen=True, slots=True)
class Core:
    """A file system, and what saves behind it."""

    vfs: Vfs
    engine: Engine
    reading: Reading


@asynccontextmanager
async def opened_core(
    store: Store,
    folder: Path,
    env: Env,
    ttl_s: float,
    *,
    read_only: bool = True,
    durability: Durability = "local",
    deadline_s: float = 30,
    unsaved_size_bytes: int | None = None,
    settle_s: float = 0.5,
    trash: TrashRules | None = None,
    checkpoints: CheckpointRules | None = None,
    tell: Tell = tell_nobody,
) -> AsyncIterator[Core]:
    """Open a file system over `store` with its state and cache below `folder`."""
    breaker = Breaker(store, env)
    options = EngineOptions(
        state_dir=folder / "state",
        read_only=read_only,
        unsaved_size_bytes=unsaved_size_bytes,
        settle_s=settle_s,
        look=LOOK,
        checkpoints=checkpoints or CheckpointRules(),
        trash=trash or TrashRules(),
    )
    async with (
        open_native(breaker, options.state_dir, ttl_s=ttl_s, env=env) as native,
        open_reading(
            breaker, folder / "cache", limit_bytes=GIB, memory_bytes=256 * MIB, env=env
        ) as reading,
        open_engine(Bucket(breaker, store, ""), reading, options, env) as engine,
    ):
        vfs = make_vfs(
            engine,
            native,
            reading,
            env,
            source=store.url,
            look=LOOK,
            durability=durability,
            deadline_s=deadline_s,
            tell=tell,
        )
        yield Core(vfs, engine, reading)
