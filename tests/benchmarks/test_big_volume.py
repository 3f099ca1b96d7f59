"""The volume that is measured is one that mounts take, and what it says that it is."""

from functools import partial
from pathlib import Path

from benchmarks.big_volume import INLINE, MADE_AT, BigVolume, Shape, file_name, write_volume
from blobfs.env import Env
from blobfs.formats.rows import Inline, Kind
from blobfs.stores.memory import MemoryStore
from blobfs.sync.check_checkpoints import Found, fetch_blocks, follow_log, load_checkpoint, sums
from blobfs.types import ROOT_INODE, InodeNo
from blobfs.volume.checkpoint_finding import find_checkpoint
from blobfs.volume.log import Log
from blobfs.volume.presence import look
from blobfs.volume.tree import Tree, open_tree
from tests.sync.small import SMALL

SHAPE = Shape(folders=(2, 3), files=25, commits=3)


async def loaded(store: MemoryStore, tree: Tree) -> None:
    """Let the tree hold all of the volume."""
    volume = await look(store)
    assert volume is not None
    assert volume.head is not None
    found = await find_checkpoint(store, volume.head)
    assert found is not None
    await load_checkpoint(tree, Found(*found))
    assert await sums(tree) == tree.counters()
    await follow_log(tree, Log(store, Env()), None)


async def test_it_is_a_volume(tmp_path: Path) -> None:
    """Figures would be those of something that no mount ever meets."""
    store = MemoryStore()
    made = await write_volume(store, SHAPE, SMALL)
    volume = await look(store)
    assert volume is not None
    fetch = partial(fetch_blocks, store)
    async with open_tree(tmp_path, volume.info.id, volume.origin.chain, fetch) as tree:
        await loaded(store, tree)
        assert tree.state.seq == MADE_AT + SHAPE.commits
        assert tree.state.inodes == 1 + 2 + 6 + 6 * 25 + SHAPE.commits
        first, last = made.leaves[0], made.leaves[-1]
        assert (first.path, last.path) == ("/folder-00/folder-00", "/folder-01/folder-02")
        names = tree.dirents(InodeNo(first.number))
        assert [name for name, _ in names] == [file_name(count) for count in range(25)]
        assert len(tree.dirents(InodeNo(last.number))) == 25 + SHAPE.commits
        row = tree.inode(names[0][1].inode)
        assert row is not None
        assert (row.kind, row.content) == (Kind.FILE, Inline(INLINE))
        assert [name for name, _ in tree.dirents(ROOT_INODE)] == [b"folder-00", b"folder-01"]


def test_a_million_files() -> None:
    """The figures would be those of another number of files than they say."""
    volume = BigVolume(Shape(files=1000))
    assert sum(folder.files for folder in volume.leaves) == 1_000_000
    assert volume.leaves[0].path.count("/") == 4
