"""Volumes that were written once are read for ever, and as their specification says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from blobfs.env import Env
from blobfs.formats import keys
from blobfs.formats.checkpoint import decode_checkpoint, encode_checkpoint
from blobfs.formats.client import decode_client, encode_client
from blobfs.formats.commit import Entry
from blobfs.formats.entry import decode_entry, encode_entry, entry_hash
from blobfs.formats.head import decode_head, encode_head
from blobfs.formats.pack import Pack, decode_directory, verify_name
from blobfs.formats.tables import Table
from blobfs.formats.volume import decode_volume, encode_volume
from blobfs.stores.memory import MemoryStore
from blobfs.types import ROOT_INODE, Seq
from blobfs.volume.log import Log
from blobfs.volume.tree import Tree, open_tree
from tests.formats import checkpoint_examples, examples, golden, independent

OBJECTS = golden.read_golden()
VOLUME = OBJECTS[keys.volume_key()]
SLOTS = [OBJECTS[keys.log_key(Seq(n))] for n in (1, 2, 3, 4)]

CONTENT = examples.content_pack()
LISTS = examples.list_pack(CONTENT)
BLOCKS = examples.block_pack(CONTENT, LISTS)
LEAVES = checkpoint_examples.leaf_pack(CONTENT, LISTS)
REFS = checkpoint_examples.refs_pack(CONTENT, LISTS, LEAVES)
PACKS = (CONTENT, LISTS, BLOCKS, LEAVES, REFS)

CHECKPOINT = checkpoint_examples.checkpoint(SLOTS[2], CONTENT, LISTS, BLOCKS)
(CHECKPOINT_KEY,) = (key for key in OBJECTS if key.startswith(keys.CHECKPOINTS))
CHECKPOINT_NAME = CHECKPOINT_KEY.removeprefix(keys.CHECKPOINTS)

ENTRIES = (
    examples.first_entry(VOLUME),
    examples.second_entry(SLOTS[0], CONTENT),
    examples.third_entry(SLOTS[1], BLOCKS),
    examples.fourth_entry(SLOTS[2]),
)


def test_json_objects_say_what_they_said() -> None:
    """Users of a newer version would find their old volumes closed."""
    assert decode_volume(VOLUME, key="volume") == examples.VOLUME
    assert decode_head(OBJECTS[keys.head_key()], key="head") == examples.HEAD
    key = keys.client_key(examples.CLIENT)
    assert decode_client(OBJECTS[key], key=key) == examples.CLIENT_RECORD


def test_json_objects_are_spelled_as_they_were() -> None:
    """Users of an older version would find newer volumes closed."""
    assert encode_volume(examples.VOLUME) == VOLUME
    assert encode_head(examples.HEAD) == OBJECTS[keys.head_key()]
    spelled = encode_client(examples.CLIENT_RECORD)
    assert spelled == OBJECTS[keys.client_key(examples.CLIENT)]


@pytest.mark.parametrize(("slot", "entry"), list(zip(SLOTS, ENTRIES, strict=True)), ids="1234")
def test_entries_say_what_they_said(slot: bytes, entry: Entry) -> None:
    """Users of a newer version would see another tree than the one they saved."""
    assert decode_entry(slot, key=keys.log_key(entry.seq)) == entry


@pytest.mark.parametrize(("slot", "entry"), list(zip(SLOTS, ENTRIES, strict=True)), ids="1234")
def test_entries_are_spelled_as_they_were(slot: bytes, entry: Entry) -> None:
    """Users of an older version would be shut out. How well zstd compresses is its own affair."""
    assert independent.open_entry(encode_entry(entry)) == independent.open_entry(slot)


def test_checkpoints_say_what_they_said() -> None:
    """Users of a newer version would wait for the whole log, or see another tree."""
    assert decode_checkpoint(OBJECTS[CHECKPOINT_KEY], name=CHECKPOINT_NAME) == CHECKPOINT


def test_checkpoints_are_spelled_as_they_were() -> None:
    """Users of an older version would be shut out. How well zstd compresses is its own affair."""
    _, data = encode_checkpoint(CHECKPOINT)
    assert independent.open_entry(data, b"BLOBCKPT") == independent.open_entry(
        OBJECTS[CHECKPOINT_KEY], b"BLOBCKPT"
    )


async def test_a_checkpoint_holds_what_replay_makes(tmp_path: Path) -> None:
    """Users would see another tree, depending on where their machine began to read."""
    inodes = checkpoint_examples.inode_rows(CONTENT, LISTS)
    dirents = checkpoint_examples.dirent_rows()
    small = {root.table: root.rows for root in CHECKPOINT.tables if root.rows}
    async with replayed(tmp_path, upto=CHECKPOINT.seq) as tree:
        state = tree.state
        with tree._database.read() as reader:
            found = {table: tuple(reader.range(table.name.lower())) for table in Table}
    assert {table: rows for table, rows in found.items() if rows} == {
        Table.INODES: inodes,
        Table.DIRENTS: dirents,
        **small,
    }
    assert (state.seq, state.chain, state.time_ns, state.counters, state.granted_to) == (
        CHECKPOINT.seq,
        CHECKPOINT.chain,
        CHECKPOINT.time_ns,
        CHECKPOINT.counters,
        CHECKPOINT.granted_to,
    )


@pytest.mark.parametrize("pack", PACKS)
def test_packs_are_what_they_were(pack: Pack) -> None:
    """Users would lose the content of all their files, or its proof."""
    key = keys.pack_key(pack.name)
    body = OBJECTS[key]
    assert body == pack.body
    assert decode_directory(body, pack_bytes=len(body), key=key) == pack.directory
    verify_name(pack.name, body, key=key)


def test_golden_files_are_all_there_is() -> None:
    """Users would rely on an object that no test reads."""
    assert OBJECTS.keys() == golden.golden_volume().keys()


@asynccontextmanager
async def replayed(folder: Path, upto: int = 128) -> AsyncIterator[Tree]:
    """The tree of the golden volume, as its log makes it."""
    store = MemoryStore()
    for key, data in OBJECTS.items():
        await store.put(key, data)
    async with open_tree(folder / "tree", examples.VOLUME.id, entry_hash(VOLUME)) as tree:
        tail = await Log(store, Env()).newer(tree.position, at_most=upto)
        await tree.replay(tail.landed)
        yield tree


async def test_the_volume_replays(tmp_path: Path) -> None:
    """Users would keep a volume that can be decoded, but not opened."""
    async with replayed(tmp_path) as tree:
        assert tree.state.seq == 6
        names = [name for name, _ in tree.dirents(ROOT_INODE)]
        assert names == [b"data", b"folder", b"link", b"moved", b"songs"]
        sparse = tree.inode(examples.SPARSE)
        assert sparse is not None
        assert sparse.size_bytes == 4096 + (1 << 40) + 16
        photo = tree.inode(examples.PHOTO)
        assert photo is not None
        assert photo.content == examples.PHOTO_OBJECT
        assert tree.hides(examples.PHOTO_OBJECT.key, examples.PHOTO_OBJECT.version)
        assert tree.hides(examples.OLD_KEY, examples.OLD_VERSION)
        assert tree.hides_below(b"photos/")
        assert not tree.hides_below(b"other/")
        music = tree.inode(examples.MUSIC)
        assert music is not None
        assert music.prefix is None


class TestIndependentReader:
    """The specification is enough: what was written from it alone reads the volume."""

    paths = independent.Volume(OBJECTS).paths()

    def test_it_finds_every_file(self) -> None:
        """Users could not get at their data by any other means than ours."""
        assert set(self.paths) == {
            b"data",
            b"folder",
            b"folder/cat.jpg",
            b"folder/data \xff",
            b"folder/hello",
            b"folder/sparse",
            b"link",
            b"moved",
            b"songs",
            b"songs/song.ogg",
        }

    def test_it_reads_their_content(self) -> None:
        """Users would get other bytes than they wrote."""
        raw, long = examples.RAW_CHUNK, examples.LONG_CHUNK
        assert self.paths[b"folder/hello"].content == (b"hello\n",)
        assert self.paths[b"link"].content == (b"hello",)
        assert self.paths[b"data"].content == (raw, 8192, long)
        assert self.paths[b"folder/sparse"].content == (long, 1 << 40, raw)

    def test_it_finds_what_other_tools_wrote(self) -> None:
        """Users would not know where the content of a renamed file lies."""
        found = self.paths[b"folder/cat.jpg"]
        assert found.content == ((b"photos/cat.jpg", "2048 1790000000 0x8DC0FFEE"),)
        assert independent.Volume(OBJECTS).hidden == {
            (b"photos/cat.jpg", "2048 1790000000 0x8DC0FFEE"): False,
            (b"old.txt", "9 1790000000 0x8DC0DEAD"): True,
            (b"music/song.ogg", "4096 1790000000 0x8DC0C0DE"): False,
        }

    def test_it_knows_which_directories_show_objects(self) -> None:
        """Users would look for what other tools write in a directory that was renamed."""
        assert independent.Volume(OBJECTS).prefixes == {1: ""}
        assert self.paths[b"songs/song.ogg"].content == (
            (b"music/song.ogg", "4096 1790000000 0x8DC0C0DE"),
        )

    def test_it_knows_their_attributes(self) -> None:
        """Users would lose what a backup needs beside the bytes."""
        data = self.paths[b"data"]
        assert data is self.paths[b"folder/data \xff"]
        assert (data.mode, data.uid, data.mtime_ns, data.nlink) == (0o600, 1000, -1, 2)
        assert data.xattrs == {b"user.colour": b"blue"}

    def test_it_finds_all_chunks_without_the_log(self) -> None:
        """Users whose log was destroyed would have nothing left to rebuild from."""
        found = dict(independent.open_pack(OBJECTS[keys.pack_key(CONTENT.name)]))
        assert set(found.values()) == {examples.RAW_CHUNK, examples.LONG_CHUNK}

    def test_it_reads_a_checkpoint(self) -> None:
        """Users would have to keep the whole log for ever, to be able to read without us."""
        later = {keys.log_key(Seq(n)) for n in range(CHECKPOINT.seq + 1, len(SLOTS) + 1)}
        volume = independent.Volume({key: OBJECTS[key] for key in OBJECTS if key not in later})
        assert independent.read_checkpoint(OBJECTS, CHECKPOINT_NAME) == (
            volume.inodes,
            volume.dirents,
        )
