"""Check the checkpoints of a volume: what they are made of is there, and says what the log does.

    manifests and blocks of refs -> what they add up to, against the log -> their packs
    with --read-data, the newest one: every row, against what the log comes to

Those are looked at that reading may begin from: the one that `head` names, and those that came
before it, as far down as the log reaches.

Concurrency: one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError, Damaged
from blobfs.formats.checkpoint import Checkpoint
from blobfs.formats.checkpoint_blocks import BlockRef, decode_refs
from blobfs.formats.chunk import Buffer
from blobfs.formats.commit import Counters
from blobfs.formats.head import Head
from blobfs.formats.keys import checkpoint_key, parse_checkpoint_name
from blobfs.formats.pack import FOOTER_BYTES
from blobfs.formats.rows import Extent
from blobfs.formats.tables import Table
from blobfs.stores.base import Store
from blobfs.sync.check_packs import Packs
from blobfs.sync.check_report import Findings
from blobfs.types import ChunkId, PackName, Seq
from blobfs.volume.checkpoint_finding import fetch_checkpoint
from blobfs.volume.log import MOST_ENTRIES_AT_ONCE, Log
from blobfs.volume.log_entries import fetch_chunk
from blobfs.volume.presence import Volume
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.tree_rows import (
    LogState,
    decode_dirent,
    decode_inode,
    digest_bytes,
    digest_of,
)
from blobfs.volume.tree_snapshot import TreeSnapshot

PARALLEL = 16
"""Blocks fetched side by side."""


@dataclass(slots=True)
class Found:
    """A checkpoint whose manifest is right."""

    name: str
    checkpoint: Checkpoint
    blocks: list[BlockRef] = field(default_factory=list)
    """Of all levels, as far as blocks of refs could be read."""

    @property
    def key(self) -> str:
        return checkpoint_key(self.name)


class CheckpointCheck:
    """Looks at the checkpoints that `head` names."""

    def __init__(self, store: Store, findings: Findings) -> None:
        self._store = store
        self._findings = findings
        self._opened: dict[ChunkId, tuple[BlockRef, ...]] = {}
        """Blocks of refs that were read: checkpoints share them."""
        self.found: list[Found] = []
        """The newest first."""

    async def find(self, head: Head) -> None:
        """Read all manifests and blocks of refs.

        Raises:
            Unsupported: a newer version of blobfs wrote one.
            BlobfsError: the store failed us.
        """
        name = head.checkpoint
        while name is not None and (parse_checkpoint_name(name) or 0) >= max(head.floor, 1):
            try:
                found = Found(name, await fetch_checkpoint(self._store, name))
            except Damaged as error:
                self._findings.damaged("checkpoint", checkpoint_key(name), str(error))
                return  # it alone knows what came before
            await self._open(found)
            self.found.append(found)
            name = found.checkpoint.previous

    def packs(self) -> set[PackName]:
        """Return the packs in which their blocks lie."""
        return {ref.chunk.pack for found in self.found for ref in found.blocks}

    def compare(self, found: Found, state: LogState) -> None:
        """Compare what it says with what the log comes to at the same commit."""
        checkpoint = found.checkpoint
        says = checkpoint.chain, checkpoint.time_ns, checkpoint.counters, checkpoint.granted_to
        is_same = says == (state.chain, state.time_ns, state.counters, state.granted_to)
        if not is_same or checkpoint.kept not in (None, state.kept):
            problem = f"it does not say what the log comes to at commit {state.seq}"
            self._findings.damaged("checkpoint", found.key, problem)

    def check_places(self, packs: Packs) -> None:
        """Check that all blocks are where their refs say."""
        for found in self.found:
            bad = [ref for ref in found.blocks if not _is_there(ref, packs)]
            if bad:
                problem = (
                    f"{len(bad)} of its {len(found.blocks)} blocks are not in their packs, or "
                    f"damaged. pack={bad[0].chunk.pack.hex()}"
                )
                self._findings.damaged("checkpoint", found.key, problem)

    async def read(self, volume: Volume, scratch: Path, expected: Tree, env: Env) -> None:
        """Read all rows of the newest one, and see that they come to what the log does.

        `expected` is the tree that the log makes, as far as it can be replayed.
        """
        if not self.found:
            return
        newest = self.found[0]
        try:
            fetch = partial(fetch_blocks, self._store)
            async with open_tree(scratch, volume.info.id, volume.origin.chain, fetch) as tree:
                await load_checkpoint(tree, newest)
                if await sums(tree) != newest.checkpoint.counters:
                    raise Damaged("its rows do not come to what it says that they do")
                await follow_log(tree, Log(self._store, env), expected.position.seq)
                is_there = tree.position == expected.position
                difference = tree.first_difference(expected) if is_there else None
                if difference is not None:
                    raise Damaged(f"it leads to another tree than the log. {difference}")
        except Damaged as error:
            self._findings.damaged("checkpoint", newest.key, str(error))

    async def _open(self, found: Found) -> None:
        """Note all blocks of a checkpoint, and what is wrong with those of refs."""
        pending = [ref for root in found.checkpoint.tables for ref in root.refs]
        try:
            while pending:
                found.blocks += pending
                pending = [low for ref in pending if ref.level for low in await self._refs(ref)]
        except Damaged as error:
            self._findings.damaged("checkpoint", found.key, str(error))

    async def _refs(self, ref: BlockRef) -> tuple[BlockRef, ...]:
        refs = self._opened.get(ref.chunk.chunk)
        if refs is None:
            data = await fetch_chunk(self._store, ref.chunk)
            refs = decode_refs(data, ref=ref, key=f"block {ref.chunk.chunk.hex()}")
            self._opened[ref.chunk.chunk] = refs
        return refs


async def fetch_blocks(store: Store, extents: Sequence[Extent]) -> list[Buffer]:
    """Return the plain bytes of blocks, verified; for trees that are opened to be checked.

    Raises:
        Damaged: a pack is gone, or its bytes are not right.
        BlobfsError: the store failed us.
    """
    answers: dict[int, Buffer | BlobfsError] = {}
    limit = trio.CapacityLimiter(PARALLEL)

    async def fetch(number: int) -> None:
        async with limit:
            try:
                answers[number] = await fetch_chunk(store, extents[number])
            except BlobfsError as error:
                answers[number] = error

    async with trio.open_nursery() as nursery:
        for number in range(len(extents)):
            nursery.start_soon(fetch, number)
    return [_unless_error(answers[number]) for number in range(len(extents))]


def _unless_error(answer: Buffer | BlobfsError) -> Buffer:
    if isinstance(answer, BlobfsError):
        raise answer
    return answer


async def load_checkpoint(tree: Tree, found: Found) -> None:
    """Let a tree hold all rows of a checkpoint.

    Raises:
        Damaged: some of them cannot be had.
        BlobfsError: the store failed us.
    """
    await tree.begin(await tree.prepare(found.name, found.checkpoint))
    await tree.load_all()


async def packs_of(tree: Tree) -> list[PackName]:
    """Return the packs that the log of a tree has named, of which all is loaded."""
    async with tree.snapshot() as snapshot:
        return [PackName(key) for key, _ in snapshot.rows(Table.PACKS, b"", None)]


async def follow_log(tree: Tree, log: Log, upto: Seq | None) -> None:
    """Replay the log behind the tree, up to commit `upto` or its end. Raises: as `Log.newer`."""
    while upto is None or tree.position.seq < upto:
        left = MOST_ENTRIES_AT_ONCE if upto is None else upto - tree.position.seq
        tail = await log.newer(tree.position, at_most=min(left, MOST_ENTRIES_AT_ONCE))
        if tail.landed:
            await tree.replay(tail.landed)
        if tail.is_tip:
            return


async def sums(tree: Tree) -> Counters:
    """Return what the rows of a tree add up to, of which all are loaded; by all of them."""
    async with tree.snapshot() as snapshot:
        return await trio.to_thread.run_sync(_sums, snapshot)


def _sums(snapshot: TreeSnapshot) -> Counters:
    inodes = content_bytes = digest = 0
    for _, data in snapshot.rows(Table.INODES, b"", None):
        inodes += 1
        content_bytes += decode_inode(data).size_bytes
    for key, data in snapshot.rows(Table.DIRENTS, b"", None):
        digest ^= digest_of(key, decode_dirent(data).inode)
    return Counters(inodes, content_bytes, digest_bytes(digest))


def _is_there(ref: BlockRef, packs: Packs) -> bool:
    chunk = ref.chunk
    bad = packs.bad.get(chunk.pack)
    if bad is not None and bad.concerns(chunk.offset):
        return False
    size_bytes = packs.sizes.get(chunk.pack)
    return size_bytes is not None and chunk.offset + chunk.stored_bytes <= size_bytes - FOOTER_BYTES
