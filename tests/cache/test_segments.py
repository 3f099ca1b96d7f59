"""Blocks come back as they were written, or are called bad."""

from collections.abc import Callable
from pathlib import Path

import pytest

from blobfs.cache.buffers import BufferPool
from blobfs.cache.segments import PAGE_BYTES, Segments
from blobfs.types import KIB, MIB

Body = Callable[[int], bytes]


@pytest.fixture
def segments(tmp_path: Path) -> Segments:
    made = Segments(tmp_path / "data", 16 * PAGE_BYTES, 0, 0, BufferPool(MIB))
    made.prepare(frozenset())
    return made


def views(*blocks: bytes) -> list[memoryview]:
    return [memoryview(block) for block in blocks]


def test_neighbours_are_read_at_once(segments: Segments, body: Body) -> None:
    """Users would wait for one disk access a block."""
    data = body(3 * PAGE_BYTES - 5)
    blocks = [data[n : n + PAGE_BYTES] for n in range(0, len(data), PAGE_BYTES)]
    places = segments.append(views(*blocks))
    assert segments.read(places).data == data
    assert segments.read(places[1:]).data == data[PAGE_BYTES:]


def test_full_segment_is_left(segments: Segments, tmp_path: Path, body: Body) -> None:
    """Eviction goes by segment: one that grows for ever could never be evicted."""
    places = segments.append(views(*[body(PAGE_BYTES)] * 40))
    assert [place.segment for place in places] == [0] * 16 + [1] * 16 + [2] * 8
    assert {path.stat().st_size for path in (tmp_path / "data").iterdir()} == {
        16 * PAGE_BYTES,
        8 * PAGE_BYTES,
    }


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damage_is_noticed(segments: Segments, tmp_path: Path, body: Body, damage: str) -> None:
    """Users would read wrong bytes (P6)."""
    places = segments.append(views(body(PAGE_BYTES), body(PAGE_BYTES)))
    path = tmp_path / "data" / f"{0:08d}"
    raw = bytearray(path.read_bytes())
    raw[PAGE_BYTES + 7] ^= 1
    match damage:
        case "flip":
            path.write_bytes(raw)
        case "cut":
            path.write_bytes(raw[:-1])
        case _:
            path.unlink()
    bad = segments.read(places).bad
    assert bad == (tuple(places) if damage == "delete" else (places[1],))


def test_uncommitted_bytes_and_files_are_removed(segments: Segments, tmp_path: Path) -> None:
    """Users would lose disk space to every killed daemon."""
    place = segments.append(views(b"committed"))[0]
    segments.append(views(b"not committed"))
    (tmp_path / "data" / "00000001").write_bytes(b"orphan")
    (tmp_path / "data" / "stranger").write_bytes(b"orphan")
    again = Segments(tmp_path / "data", 16 * PAGE_BYTES, 0, PAGE_BYTES, BufferPool(MIB))
    again.prepare(frozenset({0}))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["00000000"]
    assert (tmp_path / "data" / "00000000").stat().st_size == PAGE_BYTES
    assert again.read([place]).data == b"committed"
    assert again.append(views(b"next"))[0].offset == PAGE_BYTES


@pytest.mark.parametrize("tail_bytes", [0, 5])
def test_streams_come_back_whether_or_not_they_lie_as_the_disk_wants_them(
    tmp_path: Path, body: Body, tail_bytes: int
) -> None:
    """Users would read wrong bytes, or lose a cache that takes no odd lengths (P6)."""
    buffers = BufferPool(4 * MIB)
    segments = Segments(tmp_path / "data", 64 * MIB, 0, 0, buffers)
    segments.prepare(frozenset())
    data = body(2 * MIB + tail_bytes)
    lent = buffers.borrow(len(data))
    lent[:] = data
    blocks = [lent[at : at + 256 * KIB] for at in range(0, len(data), 256 * KIB)]
    places = segments.append(blocks) + segments.append(views(data[: 256 * KIB]))
    assert segments.read(places[:-1]).data == data
    assert segments.read(places[-1:]).data == data[: 256 * KIB]
