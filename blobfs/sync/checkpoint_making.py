"""Make the blocks of a checkpoint, store them in packs, and say where they are.

Concurrency: rows are read, compressed and hashed in threads, a pack at a time, and each pack is
stored before the next is begun: two copies of one are in memory at most.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import trio
from msgspec.structs import replace

from blobfs.env import Env
from blobfs.errors import Damaged
from blobfs.formats.checkpoint import Checkpoint, TableRoot
from blobfs.formats.checkpoint_blocks import BlockRef, encode_refs, encode_rows
from blobfs.formats.chunk import chunk_id, encode_frame
from blobfs.formats.pack import PackBuilder
from blobfs.formats.rows import Extent
from blobfs.formats.tables import Row, Table
from blobfs.model.checkpoint_blocks import BlockSizes, KnownBlock, remake
from blobfs.model.checkpoint_index import (
    MOST_REFS_BYTES,
    REFS_IN_A_BLOCK,
    Bundle,
    bundle,
    refs_bytes,
)
from blobfs.stores.base import Store
from blobfs.sync.packs import extent_of, new_nonce, upload
from blobfs.types import KIB, MIB
from blobfs.volume.tree_blocks import Block
from blobfs.volume.tree_rows import LogState
from blobfs.volume.tree_snapshot import Written

_LEVEL = 3
"""Of zstd: a block is read by everybody, and written once."""

_NOWHERE = Extent(0)


@dataclass(frozen=True, slots=True)
class CheckpointSizes:
    """How a checkpoint is cut."""

    blocks: BlockSizes = field(default_factory=BlockSizes)
    pack_bytes: int = 8 * MIB
    """Of a pack of blocks: of neighbours, so that a walk through a table takes large pieces."""
    inline_bytes: int = 8 * KIB
    """Of the rows of a table that lie in the manifest itself."""
    refs_bytes: int = MOST_REFS_BYTES
    refs_in_a_block: int = REFS_IN_A_BLOCK


@dataclass(frozen=True, slots=True)
class _Pending:
    """A ref to a block that lies in a pack that was not stored yet, and its place in a list."""

    refs: list[BlockRef]
    place: int


class Source(Protocol):
    """What a checkpoint is made of; a snapshot of the tree is one."""

    @property
    def state(self) -> LogState: ...

    def known(self, table: Table) -> list[KnownBlock]:
        """Return these blocks in order."""

    def changed(self, table: Table) -> Sequence[bytes] | None:
        """Return the keys of changed rows in order; None: any may have changed."""

    def rows(self, table: Table, start: bytes, stop: bytes | None) -> Iterator[Row]:
        """Yield the rows with start <= key < stop, as far as they are here."""


Parts = Generator[tuple[list[BlockRef], BlockRef | list[Row] | Bundle], None, None]
"""Lists of refs, and what comes next in each: a block that is there, or what one is made of."""


class Making:
    """A checkpoint under way, of what `snapshot` shows while it is open."""

    def __init__(self, store: Store, snapshot: Source, env: Env, sizes: CheckpointSizes) -> None:
        self._store = store
        self._snapshot = snapshot
        self._env = env
        self._sizes = sizes
        self._refs: dict[Table, list[BlockRef]] = {table: [] for table in Table}
        self._rows: dict[Table, tuple[Row, ...]] = {}
        """Of tables that lie in the manifest."""
        self._gone: list[Block] = []
        self._made: list[Block] = []
        self._builder = PackBuilder()
        self._pending: list[_Pending] = []

    async def make(self, previous: str | None) -> Checkpoint:
        """Store all blocks; return the manifest, which says that `previous` came before.

        Raises:
            Damaged: the tree does not hold what its log adds up to.
            BlobfsError: the store failed us.
        """
        await self._store_all(self._leaves())
        await trio.to_thread.run_sync(self._compare)
        while (table := self._most_refs()) is not None:
            refs, self._refs[table] = self._refs[table], []
            await self._store_all(self._bundles(refs, self._refs[table]))
        return self._manifest(previous)

    def written(self, name: str) -> Written:
        """Return how the checkpoint that was made, and is called `name`, differs from its base."""
        return Written(name, self._snapshot.state.seq, tuple(self._gone), tuple(self._made))

    # -- what there is to store ------------------------------------------------------

    def _leaves(self) -> Parts:
        for table in Table:
            known = self._snapshot.known(table)
            if not known and (rows := self._few_rows(table)) is not None:
                self._rows[table] = rows
                continue
            changed = self._snapshot.changed(table) if known else None
            read = partial(self._snapshot.rows, table)
            for part in remake(known, changed, read, self._sizes.blocks):
                yield self._refs[table], part

    def _few_rows(self, table: Table) -> tuple[Row, ...] | None:
        """Return all rows of a table, None where they are too many for the manifest."""
        rows: list[Row] = []
        left = self._sizes.inline_bytes
        for key, row in self._snapshot.rows(table, b"", None):
            left -= len(key) + len(row)
            if left < 0:
                return None
            rows.append((key, row))
        return tuple(rows)

    def _bundles(self, refs: list[BlockRef], bundled: list[BlockRef]) -> Parts:
        for part in bundle(refs, self._sizes.refs_in_a_block):
            yield bundled, part

    def _most_refs(self) -> Table | None:
        """Return the table whose refs are to lie in blocks, None when the manifest has room."""
        lengths = {table: refs_bytes(refs) for table, refs in self._refs.items() if len(refs) > 1}
        is_long = sum(lengths.values()) > self._sizes.refs_bytes
        return max(lengths, key=lambda table: lengths[table]) if is_long else None

    # -- storing it ------------------------------------------------------------------

    async def _store_all(self, parts: Parts) -> None:
        with closing(parts):
            while await trio.to_thread.run_sync(self._fill, parts):
                await self._send()
            await self._send()

    def _fill(self, parts: Parts) -> bool:
        """Take parts until a pack is full; return whether there may be more of them."""
        for refs, part in parts:
            if isinstance(part, BlockRef):
                refs.append(part)
            else:
                self._add(refs, part)
            if self._builder.size_bytes >= self._sizes.pack_bytes:
                return True
        return False

    def _add(self, refs: list[BlockRef], part: list[Row] | Bundle) -> None:
        if isinstance(part, tuple):
            plain = encode_refs(part)
            level, rows = max(ref.level for ref in part) + 1, sum(ref.rows for ref in part)
            ref = BlockRef(level, part[0].first, part[-1].last, rows, _NOWHERE)
        else:
            plain = encode_rows(part)
            ref = BlockRef(0, part[0][0], part[-1][0], len(part), _NOWHERE)
        self._builder.add(chunk_id(plain), encode_frame(plain, level=_LEVEL), len(plain))
        self._pending.append(_Pending(refs, len(refs)))
        refs.append(ref)

    async def _send(self) -> None:
        """Store the pack that was filled, and let the refs to its blocks say where they are."""
        if not self._pending:
            return
        builder, pending = self._builder, self._pending
        self._builder, self._pending = PackBuilder(), []
        pack = await trio.to_thread.run_sync(builder.seal, new_nonce(self._env))
        pack = await upload(self._store, self._env, pack)
        self._env.crash_point("checkpoint.packed")
        for each, packed in zip(pending, pack.directory, strict=True):
            ref = each.refs[each.place]
            each.refs[each.place] = replace(ref, chunk=extent_of(pack.name, packed))

    # -- what came of it -------------------------------------------------------------

    def _compare(self) -> None:
        """Find out which blocks of rows came and went.

        Raises:
            Damaged: there are not as many inodes as the log adds up to.
        """
        for table, refs in self._refs.items():
            known = self._snapshot.known(table)
            self._gone += _lacking(known, table, frozenset(refs))
            before = frozenset(block.ref for block in known)
            self._made += [Block(table, ref) for ref in refs if ref not in before]
        rows = self._rows.get(Table.INODES, ())
        inodes = len(rows) + sum(ref.rows for ref in self._refs[Table.INODES])
        if inodes != self._snapshot.state.inodes:
            raise Damaged(
                f"the local tree does not hold what the log adds up to: no checkpoint is made of "
                f"it. inodes={inodes} expected={self._snapshot.state.inodes}",
                hint="run `blobfs check --repair`",
            )

    def _manifest(self, previous: str | None) -> Checkpoint:
        state = self._snapshot.state
        roots = (
            TableRoot(table, tuple(self._refs[table]), self._rows.get(table, ())) for table in Table
        )
        return Checkpoint(
            seq=state.seq,
            chain=state.chain,
            time_ns=state.time_ns,
            counters=state.counters,
            granted_to=state.granted_to,
            previous=previous,
            tables=tuple(root for root in roots if root.refs or root.rows),
            kept=state.kept,
        )


def _lacking(known: list[KnownBlock], table: Table, refs: frozenset[BlockRef]) -> Iterator[Block]:
    for block in known:
        if block.ref not in refs:
            yield Block(table, block.ref)
