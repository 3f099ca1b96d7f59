"""A new checkpoint says what the rows are, and makes anew only what changed."""

import random
from bisect import bisect_left
from collections.abc import Iterator

import pytest

from blobfs.formats.checkpoint_blocks import BlockRef
from blobfs.formats.rows import Extent
from blobfs.formats.tables import Row
from blobfs.model.checkpoint_blocks import BlockSizes, KnownBlock, remake
from blobfs.types import ChunkId

SIZES = BlockSizes(target_bytes=1000)
VALUE = bytes(86)
"""With its key and what is added a row of 100 bytes: ten make a block."""


def key(number: int) -> bytes:
    return number.to_bytes(8, "big")


class Table:
    """Rows as they are now, and the blocks that an earlier checkpoint made of them."""

    def __init__(self, numbers: Iterator[int] | range | list[int]) -> None:
        self.rows = {key(number): VALUE for number in numbers}
        self.blocks: dict[bytes, list[Row]] = {}
        """By the first of their keys."""
        self.known: list[KnownBlock] = []
        self.unloaded: set[bytes] = set()
        self.read_keys: list[bytes] = []
        self.remake(None)

    def remake(self, changed: set[bytes] | None) -> int:
        """Make the next checkpoint; return how many blocks were made anew."""
        made = 0
        known = []
        order = None if changed is None else sorted(changed)
        for part in remake(self.known, order, self._read, SIZES):
            if not isinstance(part, BlockRef):
                made += 1
                self.blocks[part[0][0]] = part
                part = ref_of(part)
            known.append(KnownBlock(part, part.first not in self.unloaded))
        self.known = known
        return made

    def _read(self, start: bytes, stop: bytes | None) -> Iterator[Row]:
        keys = sorted(self.rows)
        for each in keys[bisect_left(keys, start) :]:
            if stop is not None and each >= stop:
                return
            self.read_keys.append(each)
            yield each, self.rows[each]

    def held(self) -> dict[bytes, bytes]:
        """Return the rows that the checkpoint holds, which follow each other."""
        rows = [row for block in self.known for row in self.blocks[block.ref.first]]
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
        return dict(rows)

    def lengths(self) -> list[int]:
        return [block.ref.rows for block in self.known]

    def unload(self, *places: int) -> None:
        """Let the rows of some blocks be elsewhere."""
        self.unloaded = {self.known[place].ref.first for place in places}
        self.known = [
            KnownBlock(block.ref, block.ref.first not in self.unloaded) for block in self.known
        ]


def ref_of(rows: list[Row]) -> BlockRef:
    length = 100 * len(rows)
    chunk = Extent(length, ChunkId(rows[0][0] * 4), stored_bytes=length)
    return BlockRef(0, rows[0][0], rows[-1][0], len(rows), chunk)


def test_the_first_checkpoint_holds_all_rows() -> None:
    """Users would lose files to the first checkpoint."""
    table = Table(range(1, 96))
    assert table.held() == table.rows
    assert table.lengths() == [10] * 8 + [15]


@pytest.mark.parametrize(
    ("count", "lengths"), [(0, []), (1, [1]), (15, [15]), (16, [8, 8]), (20, [10, 10])]
)
def test_the_last_blocks_are_of_one_length(count: int, lengths: list[int]) -> None:
    """Readers would fetch tiny blocks, or long ones for one row."""
    assert Table(range(1, count + 1)).lengths() == lengths


def test_what_did_not_change_is_named_again() -> None:
    """Each checkpoint of a large volume would be uploaded whole."""
    table = Table(range(100, 200))
    table.rows[key(105)] = bytes(80)
    table.rows[key(199)] = bytes(80)
    table.read_keys = []
    assert table.remake({key(105), key(199)}) == 2
    assert table.held() == table.rows
    assert set(table.read_keys) == {key(n) for n in (*range(100, 110), *range(190, 200))}


def test_nothing_changed() -> None:
    """A commit that changed no names would upload them all the same."""
    table = Table(range(100, 200))
    assert table.remake(set()) == 0
    assert table.remake(None) == 10


def test_a_block_that_grew_is_split() -> None:
    """Blocks would grow until a reader fetched a large volume for one row."""
    table = Table(range(0, 1000, 10))
    new = {key(n) for n in range(101, 130)}
    table.rows |= dict.fromkeys(new, VALUE)
    table.remake(new)
    assert table.held() == table.rows
    assert max(table.lengths()) <= 15


def test_a_block_that_shrank_takes_its_neighbour_along() -> None:
    """A volume whose files were removed would be thousands of empty blocks to fetch."""
    table = Table(range(100))
    gone = {key(n) for n in range(19)}
    for each in gone:
        del table.rows[each]
    assert table.remake(gone) == 1
    assert table.lengths() == [11, *[10] * 7]


def test_a_block_that_is_empty_is_gone() -> None:
    """A directory that was removed would be fetched for ever."""
    table = Table(range(20))
    table.unload(1)
    gone = {key(n) for n in range(10)}
    for each in gone:
        del table.rows[each]
    assert table.remake(gone) == 0
    assert table.lengths() == [10]


def test_small_blocks_do_not_stay() -> None:
    """A volume that grows a file at a time would become a block a file."""
    table = Table(range(10))
    for number in range(1000, 1100):
        table.rows[key(number)] = VALUE
        table.remake({key(number)})
        assert table.held() == table.rows
    assert min(table.lengths()) >= 5


def test_rows_that_are_elsewhere_are_never_asked_for() -> None:
    """A checkpoint of a volume that is mostly elsewhere would lack all the rest."""
    table = Table(range(0, 1000, 10))
    elsewhere = {
        row for place in (3, 4, 6) for row in map(key, range(100 * place, 100 * place + 100))
    }
    table.unload(3, 4, 6)
    table.read_keys = []
    new = {key(395), key(595), key(505)}
    table.rows |= dict.fromkeys(new, VALUE)
    whole = dict(table.rows)
    for each in elsewhere - new:
        table.rows.pop(each, None)
    table.remake(new)
    assert table.held() == whole
    assert not set(table.read_keys) & (elsewhere - new)


def test_a_change_in_a_block_that_is_elsewhere_is_a_fault() -> None:
    """The change would be lost with the next checkpoint."""
    table = Table(range(30))
    table.unload(1)
    with pytest.raises(ValueError, match="not here"):
        table.remake({key(15)})


@pytest.mark.parametrize("seed", range(20))
def test_any_changes(seed: int) -> None:
    """Users would find other files after a checkpoint than before."""
    chance = random.Random(seed)
    table = Table(chance.sample(range(2000), 300))
    for _ in range(30):
        changed = {key(n) for n in chance.sample(range(2000), chance.choice((1, 5, 60)))}
        for each in changed:
            if chance.random() < 0.5:
                table.rows.pop(each, None)
            else:
                table.rows[each] = bytes(chance.randrange(40, 130))
        table.remake(changed)
        assert table.held() == table.rows
        lengths = [
            sum(len(k) + len(v) + 6 for k, v in table.blocks[b.ref.first]) for b in table.known
        ]
        assert all(length <= 1700 for length in lengths)
