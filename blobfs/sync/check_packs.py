"""Check the packs of a volume: they are there, have their size, and hold what they should.

Concurrency: a few packs are read side by side, and verified in threads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import trio

from blobfs.errors import Damaged, NotFound
from blobfs.formats.chunk import Buffer, decode_frame
from blobfs.formats.keys import PACKS, pack_key, parse_pack_key
from blobfs.formats.pack import PackedChunk, decode_directory, verify_name
from blobfs.stores.base import Store
from blobfs.sync.check_report import Affected, Findings
from blobfs.sync.slots import list_all
from blobfs.types import PackName

PARALLEL = 4
"""Packs held at once: 64 MiB, mostly."""

Progress = Callable[[int, int], None]
"""Told how many bytes of how many were read."""


@dataclass(slots=True)
class BadPack:
    """A pack that is not right, and what that means."""

    problem: str
    offsets: frozenset[int] | None = None
    """Of the frames that are damaged; None: nobody knows, so all of them."""
    affected: Affected = field(default_factory=Affected)

    def concerns(self, offset: int) -> bool:
        return self.offsets is None or offset in self.offsets


@dataclass(slots=True)
class Packs:
    """The packs that commits and checkpoints name, as they were found."""

    sizes: dict[PackName, int] = field(default_factory=dict)
    """Of those that are there."""
    bad: dict[PackName, BadPack] = field(default_factory=dict)
    places: set[int] | None = None
    """Fingerprints of all places that packs say they have; None: they were not read."""
    read_bytes: int = 0


async def find_packs(store: Store, named: Mapping[PackName, int], findings: Findings) -> Packs:
    """Compare the packs that are `named`, and their sizes, with those that are there.

    The log was read before: what it names has to be there by now.
    """
    packs = Packs()
    spare, spare_bytes = 0, 0
    async for found in list_all(store, PACKS):
        name = parse_pack_key(found.key)
        if name is None:
            findings.notes.append(f"this is no pack's name: {found.key!r}")
        elif name in named:
            packs.sizes[name] = found.size_bytes
        else:
            spare, spare_bytes = spare + 1, spare_bytes + found.size_bytes
    for name, size_bytes in named.items():
        _compare(packs, name, size_bytes)
    if spare:
        findings.notes.append(
            f"no commit or checkpoint names {spare} of the packs, {spare_bytes} bytes: uploads "
            "that are under way, or were given up"
        )
    return packs


def _compare(packs: Packs, name: PackName, size_bytes: int) -> None:
    found = packs.sizes.get(name)
    if found is None:
        packs.bad[name] = BadPack("it is missing")
    elif size_bytes and found != size_bytes:
        packs.bad[name] = BadPack(f"it has {found} bytes, its commit says {size_bytes}")


async def read_packs(store: Store, packs: Packs, progress: Progress) -> None:
    """Read and verify every byte of the packs that are there (P6)."""
    packs.places = set()
    total = sum(packs.sizes.values())
    limit = trio.CapacityLimiter(PARALLEL)

    async def read(name: PackName) -> None:
        async with limit:
            await _read_pack(store, packs, name)
            progress(packs.read_bytes, total)

    async with trio.open_nursery() as nursery:
        for name in packs.sizes:
            nursery.start_soon(read, name)


async def _read_pack(store: Store, packs: Packs, name: PackName) -> None:
    try:
        body = (await store.get(pack_key(name))).data
    except (NotFound, Damaged) as error:
        packs.bad[name] = BadPack(f"it cannot be read: {error}")
        return
    packs.read_bytes += len(body)
    verified = await trio.to_thread.run_sync(verify_pack, name, body)
    assert packs.places is not None, "they are being read"
    packs.places |= {place_of(name, each) for each in verified.directory}
    if verified.problem is not None:
        packs.bad[name] = BadPack(verified.problem, verified.bad_offsets)


@dataclass(frozen=True, slots=True)
class Verified:
    """What the bytes of a pack show. Without a directory nobody knows which frames are bad."""

    directory: tuple[PackedChunk, ...]
    problem: str | None
    bad_offsets: frozenset[int] | None


def verify_pack(name: PackName, body: Buffer) -> Verified:
    """Compare the bytes of a pack with its name, its directory and the ids of its chunks.

    Raises:
        Unsupported: a newer version wrote it.
    """
    key = pack_key(name)
    problem = None
    try:
        verify_name(name, body, key=key)
    except Damaged as error:
        problem = str(error)
    try:
        directory = decode_directory(body, pack_bytes=len(body), key=key)
    except Damaged as error:
        return Verified((), problem or str(error), None)
    bad = frozenset(each.offset for each in directory if not _is_whole(body, each))
    if bad:
        problem = f"{len(bad)} of its {len(directory)} chunks are damaged"
    return Verified(directory, problem, bad)


def place_of(name: PackName, each: PackedChunk) -> int:
    """Return a fingerprint of a chunk and its place, so that many are little memory."""
    return hash((name, each.offset, each.stored_bytes, each.length_bytes, each.chunk))


def _is_whole(body: Buffer, packed: PackedChunk) -> bool:
    frame = memoryview(body)[packed.offset : packed.offset + packed.stored_bytes]
    try:
        decode_frame(frame, chunk=packed.chunk, length_bytes=packed.length_bytes)
    except Damaged:
        return False
    return True
