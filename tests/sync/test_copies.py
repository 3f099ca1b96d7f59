"""A conflict copy lies over the content that it was made of, which the tree has no more."""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from blobfs.formats.keys import PACKS
from blobfs.stores.layers import Ask, Layer
from blobfs.stores.memory import MemoryStore
from tests.sync.place import Place, opened_place

T = TypeVar("T")

KIB = 1024
BODY = random.Random(1).randbytes(1000 * KIB)
EDIT = random.Random(2).randbytes(256 * KIB)
EDITED = BODY[: 256 * KIB] + EDIT + BODY[512 * KIB :]
"""A whole chunk of it is another one."""


class PackTraffic(Layer):
    """Counts what is done to packs."""

    read, sent_bytes = 0, 0

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        if ask.keys[0].startswith(PACKS):
            self.read += ask.kind == "get"
            self.sent_bytes += ask.sent_bytes
        return await call()


@pytest.fixture
async def bucket(tmp_path: Path) -> MemoryStore:
    """A volume with one file, changed by a second client while it is edited by a first."""
    bucket = MemoryStore()
    async with opened_place(bucket, tmp_path / "theirs") as place:
        await place.write("f", BODY)
        await place.save()
    async with opened_place(bucket, tmp_path / "ours") as place:
        await place.write("f", EDIT, 256 * KIB)
    async with opened_place(bucket, tmp_path / "theirs") as place:
        await place.write("f", b"theirs", len(BODY))
        await place.save()
    return bucket


async def the_copy(place: Place) -> str:
    (name,) = [name for name in await place.tree() if "conflict" in name]
    return name


async def test_a_copy_costs_what_was_changed(bucket: MemoryStore, tmp_path: Path) -> None:
    """A small edit of a large file would download and upload all of it."""
    traffic = PackTraffic(bucket)
    async with opened_place(traffic, tmp_path / "ours") as place:
        await place.save()
    assert traffic.read == 0
    assert 256 * KIB <= traffic.sent_bytes < 300 * KIB
    async with opened_place(bucket, tmp_path / "fresh") as place:
        assert await place.tree() == {"f": BODY + b"theirs", await the_copy(place): EDITED}


async def test_a_copy_survives_a_remount(bucket: MemoryStore, tmp_path: Path) -> None:
    """What it lies over would be known to nobody, and read as zeros."""
    async with opened_place(bucket, tmp_path / "ours") as place:
        await place.sync()
        name = await the_copy(place)
    async with opened_place(bucket, tmp_path / "ours") as place:
        assert (await place.tree())[name] == EDITED
        await place.write(name, b"more", 900 * KIB)
        await place.save()
    async with opened_place(bucket, tmp_path / "fresh") as place:
        more = EDITED[: 900 * KIB] + b"more" + EDITED[900 * KIB + 4 :]
        assert (await place.tree())[name] == more


async def test_a_copy_that_is_a_rename_costs_nothing(tmp_path: Path) -> None:
    """What others removed and was moved to safety here would be uploaded a second time."""
    bucket = MemoryStore()
    async with opened_place(bucket, tmp_path / "theirs") as place:
        await place.write("f", BODY)
        await place.save()
    async with opened_place(bucket, tmp_path / "ours") as place:
        await place.rename("f", "safe")
    async with opened_place(bucket, tmp_path / "theirs") as place:
        await place.unlink("f")
        await place.save()
    traffic = PackTraffic(bucket)
    async with opened_place(traffic, tmp_path / "ours") as place:
        await place.save()
    assert (traffic.read, traffic.sent_bytes) == (0, 0)
    async with opened_place(bucket, tmp_path / "fresh") as place:
        assert await place.tree() == {"safe": BODY}
