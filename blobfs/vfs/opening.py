"""Put the core together over an open volume and the bucket's native objects."""

import platform

from blobfs.cache.reading import Reading
from blobfs.config import Durability
from blobfs.env import Env
from blobfs.model.nodes import NativeLook
from blobfs.sync.engine import Engine
from blobfs.vfs.atimes import AccessTimes
from blobfs.vfs.core import Vfs
from blobfs.vfs.durability import sync_for
from blobfs.vfs.files import Files
from blobfs.vfs.kernel_view import KernelView, Tell, tell_nobody
from blobfs.vfs.native_files import NativeFiles
from blobfs.vfs.old_versions import OldVersions
from blobfs.vfs.usage import UsageMeter
from blobfs.vfs.volume_files import VolumeFiles
from blobfs.volume.conflicts import Conflicts
from blobfs.volume.namespace import Namespace
from blobfs.volume.native import NativeTree


def make_vfs(
    engine: Engine,
    native: NativeTree,
    reading: Reading,
    env: Env,
    *,
    source: str,
    look: NativeLook,
    durability: Durability = "local",
    deadline_s: float = 30,
    tell: Tell = tell_nobody,
) -> Vfs:
    """Return the file system.

    `source` is the URL of the store, `look` how native objects look; `durability` says what an
    fsync promises, which gives up when saving has not got on for `deadline_s`; `tell` passes on to
    a kernel what it should not believe any more.
    """
    namespace = Namespace(
        engine.unsaved,
        engine.tree,
        native,
        env,
        numbers=engine.numbers,
        source=source,
        look=look,
        read_only=engine.is_read_only,
    )
    atimes = AccessTimes()
    kernel = KernelView(tell)
    conflicts = Conflicts(engine.unsaved, engine.tree, env, platform.node())
    volume = VolumeFiles(
        namespace,
        engine.unsaved,
        engine.orphans,
        engine.contents,
        engine.settling,
        OldVersions(conflicts, kernel.note_named),
        atimes,
        env,
    )
    files = Files(
        NativeFiles(native, volume, reading, atimes, env),
        volume,
        sync_for(engine, durability, deadline_s),
    )
    meter = UsageMeter(native, engine.tree, engine.unsaved, read_only=engine.is_read_only)
    vfs = Vfs(namespace, files, kernel, atimes, meter.usage, env)
    engine.programs.held, engine.programs.place = vfs.held_inodes, vfs.place
    engine.programs.listeners.append(vfs.note_foreign)
    return vfs
