"""A tree that is read by blocks says what the whole tree says, or that it has to be loaded."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from blobfs.errors import Damaged, Unreachable, Unsupported
from blobfs.formats.tables import Row, Table
from blobfs.model.chain import Landed, Position
from blobfs.model.nodes import as_local
from blobfs.types import ROOT_INODE, InodeNo, Seq
from blobfs.volume.tree import Tree, open_kept_tree, open_tree
from blobfs.volume.tree_blocks import NAMES, Block, NotLoaded
from blobfs.volume.tree_changes import changed_keys, forget_changed
from blobfs.volume.tree_rows import dirent_key, number_key
from tests.volume.checkpoints import Chunks, checkpoint_of
from tests.volume.random_log import NAMES as FILE_NAMES
from tests.volume.random_log import PACKS, RandomLog
from tests.volume.story import ME, ORIGIN, SOMEBODY

VOLUME = b"v" * 16

T = TypeVar("T")


@dataclass
class Pair:
    """A whole tree, and one that began from a checkpoint of it."""

    whole: Tree
    lazy: Tree
    chunks: Chunks
    log: RandomLog
    name: str


@asynccontextmanager
async def opened_pair(
    folder: Path, chance: random.Random, *, entries: int = 12, levels: int = 1
) -> AsyncIterator[Pair]:
    chunks, log = Chunks(chance), RandomLog(chance)
    async with (
        open_tree(folder / "whole", VOLUME, ORIGIN) as whole,
        open_tree(folder / "lazy", VOLUME, ORIGIN, chunks.fetch) as lazy,
    ):
        await whole.replay(log.entries(entries))
        name, checkpoint = checkpoint_of(whole, chunks, levels=levels)
        await lazy.begin(await lazy.prepare(name, checkpoint))
        yield Pair(whole, lazy, chunks, log, name)


async def patiently(tree: Tree, ask: Callable[[], T]) -> T:
    """Ask until everything is loaded, through all failures."""
    while True:
        try:
            return ask()
        except NotLoaded as missing:
            try:
                await tree.load(missing)
            except Unreachable:
                continue


async def replay_patiently(tree: Tree, landed: list[Landed]) -> None:
    while True:
        try:
            await tree.replay(landed)
        except Unreachable:
            continue
        return


def question(pair: Pair, chance: random.Random) -> Callable[[Tree], object]:
    """Return something that can be asked of a tree."""
    number = chance.choice(pair.log.numbers)
    parent = chance.choice([ROOT_INODE, *pair.log.folders, number])
    name = chance.choice(FILE_NAMES) + b"%d" % chance.randrange(9)
    after = chance.choice([b"", name])
    at_most, pack = chance.randint(1, 9), chance.choice(PACKS)
    return chance.choice(
        [
            lambda tree: tree.inode(number),
            lambda tree: tree.dirent(parent, name),
            lambda tree: tree.dirents(parent, after, at_most),
            lambda tree: tree.names(parent, after, at_most),
            lambda tree: tree.has_dirents(parent),
            lambda tree: tree.pack_last_seq(pack),
            lambda tree: (tree.client(ME), tree.client(SOMEBODY), tree.granted(ME)),
            lambda tree: (tree.state, tree.counters()),
        ]
    )


async def load_all(tree: Tree) -> None:
    """Load whatever is left."""
    for name in NAMES.values():
        await patiently(tree, partial(lazy_rows, tree, name))


def lazy_rows(tree: Tree, table: str) -> list[Row]:
    with tree._database.read() as reader:
        return list(tree._rows(reader).range(table))


def kept_rows(tree: Tree) -> dict[tuple[str, bytes], bytes]:
    """Return all rows of all tables that the log fills, as they lie on the disk."""
    with tree._database.read() as reader:
        return {(table, key): row for table in NAMES.values() for key, row in reader.range(table)}


class TestTheSame:
    @pytest.mark.parametrize("seed", range(16))
    async def test_it_is_at_all_times_the_whole_tree(self, tmp_path: Path, seed: int) -> None:
        """Names would come and go by what happened to be loaded, and be committed so."""
        chance = random.Random(seed)
        async with opened_pair(tmp_path, chance, levels=seed % 4) as pair:
            pair.chunks.failing = chance.choice([0, 0.3])
            for _ in range(chance.randint(5, 40)):
                if chance.random() < 0.2:
                    landed = pair.log.entries(chance.randint(1, 3))
                    await pair.whole.replay(landed)
                    await replay_patiently(pair.lazy, landed)
                ask = question(pair, chance)
                assert await patiently(pair.lazy, partial(ask, pair.lazy)) == ask(pair.whole)
            assert pair.lazy.first_difference(pair.whole) is None
            await load_all(pair.lazy)
            assert kept_rows(pair.lazy) == kept_rows(pair.whole)

    @pytest.mark.parametrize("seed", range(6))
    async def test_a_rehearsal_says_what_replay_will(self, tmp_path: Path, seed: int) -> None:
        """An entry with the wrong sums stops every client that replays it."""
        chance = random.Random(seed)
        async with opened_pair(tmp_path, chance, levels=1 + seed % 3) as pair:
            for landed in pair.log.entries(4):
                counters = await pair.lazy.rehearse(landed.entry)
                await pair.whole.replay([landed])
                assert counters == pair.whole.counters()
                await pair.lazy.replay([landed])

    async def test_it_goes_on_after_a_remount(self, tmp_path: Path) -> None:
        """What was loaded once need not be fetched again, and what was not must not be absent."""
        chance = random.Random(5)
        async with opened_pair(tmp_path, chance, levels=2) as pair:
            await patiently(pair.lazy, lambda: pair.lazy.inode(ROOT_INODE))
            expected, chunks, name = kept_rows(pair.whole), pair.chunks, pair.name
        chunks.fetched.clear()
        async with open_tree(tmp_path / "lazy", VOLUME, ORIGIN, chunks.fetch) as lazy:
            assert lazy.base == name
            assert lazy.inode(ROOT_INODE) is not None
            assert not chunks.fetched
            await load_all(lazy)
            assert kept_rows(lazy) == expected

    async def test_a_small_tree_lies_in_its_manifest(self, tmp_path: Path) -> None:
        """A volume of a few files would cost requests that it need not."""
        async with opened_pair(tmp_path, random.Random(6), levels=0) as pair:
            assert kept_rows(pair.lazy) == kept_rows(pair.whole)
            assert pair.chunks.requests == 0

    async def test_what_was_there_before_is_forgotten(self, tmp_path: Path) -> None:
        """Rows of an older tree would be shown where the newer one has none."""
        async with opened_pair(tmp_path, random.Random(7)) as pair:
            await pair.whole.replay(landed := pair.log.entries(3))
            await pair.lazy.replay(landed[:2])
            prepared = await pair.lazy.prepare(*checkpoint_of(pair.whole, pair.chunks))
            await pair.lazy.begin(prepared)
            await load_all(pair.lazy)
            assert kept_rows(pair.lazy) == kept_rows(pair.whole)
            assert pair.lazy.state == pair.whole.state
            assert changed_keys_of(pair.lazy, Seq(0)) == {}


class TestAsking:
    async def test_nothing_is_taken_for_absent(self, tmp_path: Path) -> None:
        """A file whose block was not fetched yet would be gone, and its name given away."""
        async with opened_pair(tmp_path, random.Random(8), levels=2) as pair:
            with pytest.raises(NotLoaded):
                pair.lazy.inode(ROOT_INODE)
            with pytest.raises(NotLoaded):
                pair.lazy.dirents(ROOT_INODE)

    async def test_what_no_block_covers_is_known_to_be_absent(self, tmp_path: Path) -> None:
        """Every file that is made would cost a request that can find nothing."""
        async with opened_pair(tmp_path, random.Random(9), levels=2) as pair:
            before = pair.chunks.requests
            assert pair.lazy.inode(InodeNo(1 << 60)) is None
            assert pair.lazy.dirents(InodeNo(1 << 60)) == []
            assert pair.chunks.requests == before

    async def test_clients_and_numbers_are_there_at_once(self, tmp_path: Path) -> None:
        """Whoever commits asks for them, and could not wait there."""
        async with opened_pair(tmp_path, random.Random(10), levels=3) as pair:
            assert pair.lazy.client(ME) == pair.whole.client(ME)
            assert pair.lazy.granted(ME) == pair.whole.granted(ME)

    async def test_wanted_rows_are_there_at_the_same_moment(self, tmp_path: Path) -> None:
        """What lies below unsaved changes is asked for where nobody can wait."""
        async with opened_pair(tmp_path, random.Random(11), levels=3) as pair:
            wanted = [(Table.INODES, number_key(ROOT_INODE)), (Table.INODES, number_key(2))]
            checkpoint = checkpoint_of(pair.whole, pair.chunks, levels=3)
            prepared = await pair.lazy.prepare(*checkpoint, wanted)
            await pair.lazy.begin(prepared)
            for number in (ROOT_INODE, InodeNo(2)):
                assert pair.lazy.inode(number) == pair.whole.inode(number)
                assert prepared.inode(number) == pair.whole.inode(number)
            assert prepared.client(ME) == pair.whole.client(ME)
            assert prepared.client(SOMEBODY) is None

    async def test_a_preparation_that_fails_changes_nothing(self, tmp_path: Path) -> None:
        """The tree of before can still be read while the store is away."""
        async with opened_pair(tmp_path, random.Random(12), levels=2) as pair:
            await load_all(pair.lazy)
            expected = kept_rows(pair.lazy), pair.lazy.state
            checkpoint = checkpoint_of(pair.whole, pair.chunks, levels=2)
            pair.chunks.failing = 1
            with pytest.raises(Unreachable):
                await pair.lazy.prepare(*checkpoint)
            assert (kept_rows(pair.lazy), pair.lazy.state, pair.lazy.base) == (*expected, pair.name)

    async def test_what_is_missing_is_named_whatever_the_order(self, tmp_path: Path) -> None:
        """A row that was passed over would be asked for where nobody can wait."""
        chance = random.Random(22)
        async with opened_pair(tmp_path, chance, entries=60) as pair:
            keys = [(Table.INODES, number_key(number)) for number in pair.log.numbers]
            keys += [(Table.DIRENTS, dirent_key(ROOT_INODE, name)) for name in FILE_NAMES]
            chance.shuffle(keys)
            alone = [block for key in keys for block in pair.lazy.missing([key])]
            assert len(set(alone)) > 10
            assert set(pair.lazy.missing(keys)) == set(alone)
            await pair.lazy.load_keys(keys)
            assert pair.lazy.missing(keys) == []

    @pytest.mark.parametrize("seed", range(6))
    async def test_names_that_are_found_together_are_right(self, tmp_path: Path, seed: int) -> None:
        """A listing would show attributes that a file never had, or those of another."""
        chance = random.Random(seed)
        async with opened_pair(tmp_path, chance, entries=30) as pair:
            names = pair.whole.names(ROOT_INODE)
            expected = pair.whole.found(ROOT_INODE, names)
            assert [name for name, _, _ in expected] == names
            for name, inode, row in expected:
                dirent, whole_row = pair.whole.dirent(ROOT_INODE, name), pair.whole.inode(inode)
                assert dirent is not None
                assert whole_row is not None
                assert dirent.inode == inode
                assert row == as_local(whole_row)
            assert pair.lazy.found(ROOT_INODE, names) == []
            for block in pair.lazy.missing([(Table.DIRENTS, dirent_key(ROOT_INODE, names[0]))]):
                await pair.lazy.load(NotLoaded([block]))
            while (found := pair.lazy.found(ROOT_INODE, names)) != expected:
                assert set(found) < set(expected)
                await pair.lazy.load(NotLoaded(_some_missing(pair.lazy, names, chance)))


class TestLoading:
    async def test_a_block_is_fetched_once_for_all_who_wait(self, tmp_path: Path) -> None:
        """A hundred programs that start at once would fetch the same block a hundred times."""
        async with opened_pair(tmp_path, random.Random(13)) as pair:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    ask = partial(pair.lazy.inode, ROOT_INODE)
                    nursery.start_soon(patiently, pair.lazy, ask)
            assert set(pair.chunks.fetched.values()) == {1}

    async def test_who_waited_for_one_that_failed_makes_its_own(self, tmp_path: Path) -> None:
        """One cancelled program would take the others with it."""
        async with opened_pair(tmp_path, random.Random(14)) as pair:
            pair.chunks.held = trio.Event()
            async with trio.open_nursery() as nursery:
                first = trio.CancelScope()
                nursery.start_soon(_within, first, pair.lazy)
                await wait_all_tasks_blocked()
                nursery.start_soon(patiently, pair.lazy, lambda: pair.lazy.inode(ROOT_INODE))
                await wait_all_tasks_blocked()
                first.cancel()
                await wait_all_tasks_blocked()
                pair.chunks.held.set()
            assert pair.lazy.inode(ROOT_INODE) is not None

    async def test_a_walk_is_read_ahead(self, tmp_path: Path) -> None:
        """A listing of a million files would wait for each of some thousand blocks."""
        chance = random.Random(15)
        async with opened_pair(tmp_path, chance, entries=100, levels=2) as pair:
            before = pair.chunks.requests
            await patiently(pair.lazy, partial(lazy_rows, pair.lazy, "inodes"))
            blocks = len(pair.chunks.fetched)
            assert blocks > 20
            assert pair.chunks.requests - before < blocks / 2

    async def test_who_asks_here_and_there_gets_no_more(self, tmp_path: Path) -> None:
        """Each look at one file would fetch the half of a table."""
        async with opened_pair(tmp_path, random.Random(16), entries=60) as pair:
            begun = sum(pair.chunks.fetched.values())
            for asked, number in enumerate((60, 5, 40, 20), 1):
                await patiently(pair.lazy, partial(pair.lazy.inode, InodeNo(number)))
                assert sum(pair.chunks.fetched.values()) - begun <= asked

    async def test_what_entries_name_is_loaded_together(self, tmp_path: Path) -> None:
        """To follow the log would take a round trip for each file that changed."""
        async with opened_pair(tmp_path, random.Random(17), entries=60) as pair:
            before = pair.chunks.requests
            landed = pair.log.entries(1, length=40)
            await pair.lazy.replay(landed)
            assert pair.chunks.requests - before <= 4

    @pytest.mark.parametrize("harm", [b"", b"\x92\x01\x90", b"\x92\x02\x90"])
    async def test_a_block_that_is_none_is_named(self, tmp_path: Path, harm: bytes) -> None:
        """Whoever is to bring it back has to know what is missing."""
        async with opened_pair(tmp_path, random.Random(18)) as pair:
            again = checkpoint_of(pair.whole, pair.chunks)
            pair.chunks.data = dict.fromkeys(pair.chunks.data, harm)
            with pytest.raises((Damaged, Unsupported), match="inodes from 0000"):
                await patiently(pair.lazy, lambda: pair.lazy.inode(ROOT_INODE))
            with pytest.raises(NotLoaded):
                pair.lazy.inode(ROOT_INODE)
            assert pair.lazy.doubted() == {pair.name}
            with pytest.raises((Damaged, Unsupported)):
                await pair.lazy.prepare(*again)

    async def test_a_checkpoint_in_doubt_is_left(self, tmp_path: Path) -> None:
        """The mount would fail the same way for ever, though the log has everything."""
        async with opened_pair(tmp_path, random.Random(21)) as pair:
            pair.chunks.data.clear()
            with pytest.raises(Damaged):
                await patiently(pair.lazy, lambda: pair.lazy.inode(ROOT_INODE))
            await pair.lazy.begin_empty(ORIGIN)
            assert (pair.lazy.base, pair.lazy.position) == (None, Position(Seq(0), ORIGIN))
            assert pair.lazy.inode(ROOT_INODE) is None
            assert kept_rows(pair.lazy) == {}
            assert pair.lazy.doubted() == {pair.name}

    async def test_who_only_looks_is_told(self, tmp_path: Path) -> None:
        """A check without a store must not take what is not here for absent."""
        async with opened_pair(tmp_path, random.Random(19)):
            pass
        async with open_kept_tree(tmp_path / "lazy", VOLUME) as kept:
            with pytest.raises(NotLoaded):
                await kept.load_keys([(Table.INODES, number_key(ROOT_INODE))])


class TestChanges:
    async def test_an_entry_s_rows_are_noted(self, tmp_path: Path) -> None:
        """A checkpoint that left out a changed row would take the change back, for everybody."""
        async with opened_pair(tmp_path, random.Random(20), entries=6) as pair:
            before, seq = kept_rows(pair.whole), pair.whole.state.seq
            await pair.whole.replay(pair.log.entries(4))
            after = kept_rows(pair.whole)
            different = {key for key in before.keys() | after if before.get(key) != after.get(key)}
            noted = changed_keys_of(pair.whole, seq)
            assert different <= {(NAMES[t], key) for t, keys in noted.items() for key in keys}
            last = pair.whole.state.seq
            await pair.whole._database.write(partial(forget_changed, upto=Seq(last - 1)))
            assert changed_keys_of(pair.whole, Seq(0)) == changed_keys_of(pair.whole, Seq(last - 1))
            assert changed_keys_of(pair.whole, last) == {}


def changed_keys_of(tree: Tree, after: Seq) -> dict[Table, set[bytes]]:
    with tree._database.read() as reader:
        found = changed_keys(reader, after)
    return {table: keys for table, keys in found.items() if keys is not None}


async def _within(scope: trio.CancelScope, tree: Tree) -> None:
    with scope:
        await patiently(tree, lambda: tree.inode(ROOT_INODE))


def _some_missing(tree: Tree, names: list[bytes], chance: random.Random) -> list[Block]:
    """Return a block that is needed to know what names in the root lead to."""
    dirents = [(Table.DIRENTS, dirent_key(ROOT_INODE, name)) for name in names]
    if missing := tree.missing(dirents):
        return [chance.choice(missing)]
    found = [tree.dirent(ROOT_INODE, name) for name in names]
    numbers = [number_key(dirent.inode) for dirent in found if dirent is not None]
    return [chance.choice(tree.missing((Table.INODES, number) for number in numbers))]
