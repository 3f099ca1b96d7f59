"""Put the core together over an open volume and the bucket's native objects."""

from blobfs.cache.reading import Reading
from blobfs.config import Durability
from blobfs.env import Env
from blobfs.model.nodes import NativeLook
from blobfs.sync.engine import Engine
from blobfs.vfs.atimes import AccessTimes
from blobfs.vfs.core import Vfs
from blobfs.vfs.durability import sync_for
from blobfs.vfs.files import Files
from blobfs.vfs.native_files import NativeFiles
from blobfs.vfs.usage import UsageMeter
from blobfs.vfs.volume_files import VolumeFiles
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
) -> Vfs:
    """Return the file system.

    `source` is the URL of the store, `look` how native objects look; `durability` says what an
    fsync promises, which gives up when saving has not got on for `deadline_s`.
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
    volume = VolumeFiles(
        namespace, engine.unsaved, engine.orphans, engine.contents, engine.settling, atimes, env
    )
    files = Files(
        NativeFiles(native, volume, reading, atimes, env),
        volume,
        sync_for(engine, durability, deadline_s),
    )
    meter = UsageMeter(native, engine.tree, engine.unsaved, read_only=engine.is_read_only)
    return Vfs(namespace, files, atimes, meter.usage, env)
