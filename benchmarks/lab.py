"""Give benchmarks what they measure on: made when first asked for, all gone at the end.

What takes long to make, a full bucket or a folder of a million keys, is made once a run.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import trio

from benchmarks.big_volume import BigVolume, Shape, write_volume
from benchmarks.mounts import Home, Mount, fresh_home
from benchmarks.remote import Bucket, delayed
from blobfs.stores.memory import MemoryStore
from blobfs.sync.slots import list_all
from blobfs.types import KIB, MIB
from tests.servers import seaweedfs

BIG_BYTES = 256 * MIB
BIG_OBJECTS = 8
SMALL_BYTES = 4 * KIB
SMALL_OBJECTS, SMALL_FOLDERS = 1_000, 20
DEEPEST = 4
CROWD = 100_000
MILLION = 1_000_000


class Lab:
    """Buckets, folders and mounts for one run. Made by `open_lab`."""

    def __init__(self, folder: Path, stack: ExitStack, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._stack = stack
        self._say = say
        self._numbers = itertools.count()
        self._bucket: Bucket | None = None
        self._filled: set[str] = set()

    @property
    def folder(self) -> Path:
        """A temporary folder, gone at the end of the run."""
        return self._folder

    def home(self, prefix: str, *, writable: bool = False) -> AbstractContextManager[Home]:
        """Return a new home that mounts `prefix` of the bucket, through the relay."""
        bucket = self._started()
        mode = "--read-write" if writable else "--read-only"
        options = (mode, *bucket.options)
        return fresh_home(self._next_folder(), f"{bucket.source}/{prefix}", options, bucket.env)

    @contextmanager
    def cold_mount(self, prefix: str) -> Iterator[Mount]:
        """Mount `prefix` of the bucket where nothing of it has ever been cached."""
        with self.home(prefix) as home, home.mount() as mount:
            yield mount

    @contextmanager
    def folder_mount(self, folder: Path) -> Iterator[Mount]:
        """Mount a folder store where nothing of it has ever been listed."""
        source = f"file://{folder}"
        with (
            fresh_home(self._next_folder(), source, ("--read-only",)) as home,
            home.mount() as mount,
        ):
            yield mount

    def bucket(self) -> Bucket:
        """Return the bucket, for what does not go through a mount."""
        return self._started()

    def big_objects(self) -> str:
        """Return a prefix with objects `0` to `7` of 256 MiB each."""
        return self._prefix("big", self._put_big)

    def small_objects(self) -> str:
        """Return a prefix with 1,000 objects of 4 KiB in 20 folders."""
        each = SMALL_OBJECTS // SMALL_FOLDERS
        keys = [f"small/{n // each:02}/{n % each:02}" for n in range(SMALL_OBJECTS)]
        return self._prefix("small", lambda: self._put_small(keys))

    def deep_objects(self) -> str:
        """Return a prefix with one object `file` in its root and one at each depth."""
        keys = ["/".join(["deep", *["folder"] * depth, "file"]) for depth in range(DEEPEST + 1)]
        return self._prefix("deep", lambda: self._put_small(keys))

    def native_objects(self, count: int, size_bytes: int) -> str:
        """Return a prefix with objects `0`, `1`, ... of other tools, so long each."""

        def fill() -> None:
            for number in range(count):
                self._started().put_random(f"native/{number}", size_bytes)

        return self._prefix("native", fill)

    def crowd(self) -> str:
        """Return a prefix with 100,000 objects in one folder."""
        keys = [f"crowd/folder/{n:06}" for n in range(CROWD)]
        return self._prefix("crowd", lambda: self._put_small(keys, b"x"))

    def million_files(self) -> Path:
        """Return a folder with 1,000,000 files in 1,000 folders."""
        root = self._folder / "million"
        if not root.exists():
            self._say("making 1,000,000 files")
            make_files(root, MILLION)
        return root

    def big_volume(self, name: str) -> tuple[str, BigVolume]:
        """Return a prefix with a volume of 1,000,000 files in 1,000 directories, and what it is."""
        shape = Shape()
        return self._prefix(name, lambda: self._put_volume(name, shape)), BigVolume(shape)

    def _put_volume(self, prefix: str, shape: Shape) -> None:
        async def make() -> list[tuple[str, bytes]]:
            store = MemoryStore()
            await write_volume(store, shape)
            keys = [found.key async for found in list_all(store, "")]
            return [(f"{prefix}/{key}", store.peek(key)) for key in keys]

        self._started().put_objects(trio.run(make))

    def _started(self) -> Bucket:
        if self._bucket is None:
            self._say("starting SeaweedFS behind a relay of 20 ms")
            server = self._stack.enter_context(seaweedfs())
            far = self._stack.enter_context(delayed(server.endpoint_url, self._folder))
            self._bucket = Bucket(
                server.make_bucket(), server.endpoint_url, far, server.environment()
            )
        return self._bucket

    def _prefix(self, name: str, fill: Callable[[], None]) -> str:
        if name not in self._filled:
            self._say(f"filling the bucket for {name}")
            fill()
            self._filled.add(name)
        return name

    def _put_big(self) -> None:
        for number in range(BIG_OBJECTS):
            self._started().put_random(f"big/{number}", BIG_BYTES)

    def _put_small(self, keys: list[str], body: bytes | None = None) -> None:
        self._started().put_many(keys, os.urandom(SMALL_BYTES) if body is None else body)

    def _next_folder(self) -> Path:
        return self._folder / f"home-{next(self._numbers)}"


def make_files(root: Path, count: int) -> None:
    """Make `count` empty files below `root`, 1,000 to a folder."""
    for number in range(count // 1000):
        folder = root / f"{number:04}"
        folder.mkdir(parents=True)
        for name in range(1000):
            os.close(os.open(folder / f"{name:03}", os.O_CREAT | os.O_WRONLY, 0o644))


@contextmanager
def open_lab(say: Callable[[str], None]) -> Iterator[Lab]:
    """Open a lab in a temporary folder; at the end its servers stop and the folder goes.

    `say` is told what takes a while.
    """
    folder = Path(tempfile.mkdtemp(prefix="blobfs-bench-"))
    try:
        with ExitStack() as stack:
            yield Lab(folder, stack, say)
    finally:
        shutil.rmtree(folder)
