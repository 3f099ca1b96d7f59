"""What a commit says is read by everybody as its author meant it, however long it is."""

import random
from collections.abc import Sequence

import msgspec
import pytest

from blobfs.env import Env
from blobfs.formats.chunk import Buffer, chunk_id
from blobfs.formats.commit import Entry, UsedPack
from blobfs.formats.entry import MOST_ENTRY_BYTES
from blobfs.formats.head import Head, encode_head
from blobfs.formats.keys import head_key, log_key, pack_key
from blobfs.formats.rows import Extent
from blobfs.model.chain import Position
from blobfs.stores.memory import MemoryStore
from blobfs.sync.entries import spell_entry
from blobfs.types import PackName, Seq
from blobfs.volume.log import Log
from tests.volume.story import ME, ORIGIN, PACK, chunked, new_file


class Blocks:
    """Saves blocks as chunks, so many in one pack."""

    def __init__(self, store: MemoryStore, at_once: int) -> None:
        self._store = store
        self._at_once = at_once

    async def save(self, blocks: Sequence[Buffer]) -> list[Extent]:
        extents: list[Extent] = []
        for first in range(0, len(blocks), self._at_once):
            name, body = PackName(bytes([65 + first]) * 40), b""
            for block in blocks[first : first + self._at_once]:
                extents.append(Extent(len(block), chunk_id(block), name, len(body), len(block)))
                body += block
            await self._store.put(pack_key(name), body)
        return extents


def brought(name: PackName) -> int:
    return 0 if name == PACK else 7


@pytest.mark.parametrize(("files", "at_once"), [(10, 9), (6000, 9), (6000, 1)])
async def test_others_read_what_the_author_replays(files: int, at_once: int) -> None:
    """The author replays its own entry from memory: a difference would set its tree apart (C6)."""
    store = MemoryStore()
    await store.put(head_key(), encode_head(Head()))
    chance = random.Random(0)
    names = [chance.randbytes(60).replace(b"/", b"+").replace(b"\0", b"-") for _ in range(files)]
    operations = [op for number, name in enumerate(names, 2) for op in new_file(number, name)]
    content = msgspec.structs.replace(chunked(2), base=Seq(0))
    entry = Entry(Seq(1), ORIGIN, ME, 1, 1, (*operations, content), (UsedPack(PACK),))
    spelled = await spell_entry(entry, Blocks(store, at_once).save, brought)
    assert len(spelled.data) <= MOST_ENTRY_BYTES
    await store.put(log_key(Seq(1)), spelled.data)
    tail = await Log(store, Env()).newer(Position(Seq(0), ORIGIN))
    assert tail.landed == (spelled.landed,)
    assert tail.landed[0].entry.operations == entry.operations
