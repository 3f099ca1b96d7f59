"""A volume whose log was cut below a checkpoint is mounted, shown and changed like any other."""

import os
import random
import shutil
from functools import partial
from pathlib import Path

import pytest
import trio

from blobfs.env import Env
from blobfs.formats.head import Head
from blobfs.formats.keys import log_key
from blobfs.model.checkpoint_blocks import BlockSizes
from blobfs.stores.base import Store
from blobfs.stores.opening import StoreOptions, open_store, parse_source
from blobfs.sync.checkpoint import CheckpointWriter
from blobfs.sync.checkpoint_making import CheckpointSizes
from blobfs.types import ClientId, Seq
from blobfs.volume.head_change import change_head, find_head
from blobfs.volume.log import Log
from blobfs.volume.presence import look
from blobfs.volume.tree import Tree, open_tree
from tests.e2e.buckets import Bucket, make_bucket
from tests.e2e.cli import Home

pytestmark = [pytest.mark.mount, pytest.mark.slow]

ME = ClientId(b"w" * 16)
STORES = (
    "folder",
    pytest.param("s3", marks=pytest.mark.server),
    pytest.param("azure", marks=pytest.mark.server),
)

SIZES = CheckpointSizes(BlockSizes(target_bytes=2000), inline_bytes=500)
"""So that some hundred files take dozens of blocks."""

Seen = dict[str, tuple[int, int, int, int, bytes]]


def fill(root: Path, chance: random.Random) -> None:
    """Make directories, files, links of both kinds and attributes."""
    for number in range(12):
        folder = root / f"d{number % 4}" / f"e{number % 3}" / f"f{number}"
        folder.mkdir(parents=True)
        for name in range(20):
            (folder / f"file{name:02}").write_bytes(chance.randbytes(chance.randrange(3000)))
        (folder / "link").symlink_to("file00")
        os.link(folder / "file01", folder / "hard")
        os.setxattr(folder / "file02", "user.number", b"%d" % number)
        (folder / "file03").chmod(0o600)


def change(root: Path) -> None:
    """Change something of each kind, in directories that nobody looked at before."""
    (root / "d1/e1/f1/file05").write_bytes(b"changed")
    (root / "d2/e2/f2/file06").unlink()
    (root / "d3/e0/f3").rename(root / "d0/moved")
    (root / "d0/e0/f0/file07").rename(root / "d0/e0/f0/file08")
    shutil.rmtree(root / "d2/e0/f6")
    (root / "new").mkdir()
    (root / "new/file").write_bytes(b"new")


def seen(root: Path) -> Seen:
    """Return what a program can see of a tree."""
    found: Seen = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder) / name
            status = path.lstat()
            data = b""
            if path.is_symlink():
                data = bytes(path.readlink())
            elif path.is_file():
                data = path.read_bytes()
            key = str(path.relative_to(root))
            size = 0 if path.is_dir() else status.st_size
            links = 1 if path.is_dir() else status.st_nlink
            found[key] = (status.st_mode, links, size, status.st_mtime_ns, data)
    return found


async def cut(bucket: Bucket, scratch: Path) -> int:
    """Write a checkpoint of the volume, and remove its log; return how long that was."""
    env = Env()
    endpoint_url = bucket.options[1] if bucket.options else None
    opened = await open_store(
        parse_source(bucket.source), StoreOptions(endpoint_url=endpoint_url), env
    )
    try:
        return await _cut(opened.store, scratch, env)
    finally:
        await opened.store.aclose()


async def _cut(store: Store, scratch: Path, env: Env) -> int:
    volume = await look(store)
    assert volume is not None
    async with open_tree(scratch, volume.info.id, volume.origin.chain) as tree:
        await _replay(store, tree, env)
        await CheckpointWriter(store, tree, env, ME, SIZES).write()
        seq = tree.position.seq
    await change_head(store, partial(_floor_at, seq=seq), me=ME)
    await store.delete_many([log_key(Seq(number)) for number in range(1, seq + 1)])
    assert (await find_head(store)).head.floor == seq
    return seq


async def _replay(store: Store, tree: Tree, env: Env) -> None:
    log, is_tip = Log(store, env), False
    while not is_tip:
        tail = await log.newer(tree.position)
        await tree.replay(tail.landed)
        is_tip = tail.is_tip


def _floor_at(head: Head, *, seq: Seq) -> Head:
    return Head(floor=seq, checkpoint=head.checkpoint, owner=head.owner, settings=head.settings)


def _home(folder: Path, bucket: Bucket) -> Home:
    folder.mkdir()
    return Home(folder, bucket.variables)


@pytest.mark.parametrize("kind", STORES)
def test_a_volume_without_its_log(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the log is cut, a checkpoint is all that a machine has that comes new."""
    bucket = make_bucket(kind, tmp_path, request)
    for name, value in bucket.variables.items():
        monkeypatch.setenv(name, value)
    one, two, three = (_home(tmp_path / name, bucket) for name in ("one", "two", "three"))
    source, options = bucket.source, bucket.options
    with one.mounted(source, *options, mode="--read-write") as root:
        fill(root, random.Random(1))
        one.run("sync", root)
        expected = seen(root)
    assert trio.run(cut, bucket, tmp_path / "scratch") >= 1
    with two.mounted(source, *options) as root:
        assert seen(root) == expected
    with three.mounted(source, *options, mode="--read-write") as root:
        change(root)
        three.run("sync", root)
        expected = seen(root)
        assert len(expected) > 200
    with one.mounted(source, *options) as root:  # whose tree ends where the log was cut
        assert seen(root) == expected
    with two.mounted(source, *options) as root:
        assert seen(root) == expected
