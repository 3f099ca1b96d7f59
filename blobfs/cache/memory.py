"""Hold buffers within one budget: those under way, and verified ones for readers to come.

A buffer is *busy* while a request fills it or the disk cache writes it, and *idle* when it
is kept only because somebody may read it (again). Idle buffers go at once when room is
needed, least recently read first.

    |---------------- limit ----------------|
    |------- kept: busy + idle -------|         idle buffers use up to three quarters,
    |---- background: busy -----|               work ahead of demand up to a half;
                                                the rest is there for demand alone.

Concurrency: `take` is the only place that waits, first come, first served.
"""

from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from blobfs.cache.buffers import held_bytes
from blobfs.types import KIB, ByteRange

OVERHEAD_BYTES = KIB
"""What keeping a buffer costs beside its bytes, so that a million tiny ones are not free."""


class Resting(Protocol):
    """Memory that is kept to be used again."""

    @property
    def resting_bytes(self) -> int: ...

    def release(self, count: int) -> None:
        """Let `count` bytes go, or all of them."""


class MemoryBudget:
    """Counts bytes and decides who may have some. It holds no buffer itself."""

    def __init__(
        self, limit_bytes: int, shed: Callable[[int], None], resting: Resting | None = None
    ) -> None:
        """`shed(n)` is called to make at least `n` idle bytes go, or all of them.

        What `resting` keeps beside what is counted here goes as soon as both are too much.
        """
        self.limit_bytes = limit_bytes
        self._resting = resting
        self.busy_bytes = 0
        self.idle_bytes = 0
        self._lent_bytes = 0
        self._shed = shed
        self._waiters: deque[tuple[int, trio.Event]] = deque()

    @property
    def used_bytes(self) -> int:
        return self.busy_bytes + self.idle_bytes

    @property
    def held_bytes(self) -> int:
        """All memory that is kept from others, in use or not."""
        return self.used_bytes + (self._resting.resting_bytes if self._resting else 0)

    def try_take(self, count: int) -> bool:
        """Make `count` bytes busy for work that nobody waits for yet, if that is no burden."""
        if self._waiters or self.busy_bytes + count > self.limit_bytes // 2:
            return False
        self._grant(count)
        return True

    async def take(self, count: int) -> None:
        """Make `count` bytes busy, as soon as they are there.

        More than there is, is granted when nothing else is busy that ends by itself: better over
        the limit for a moment than stuck for ever.
        """
        if not self._waiters and self._fits(count):
            self._grant(count)
            return
        turn = (count, trio.Event())
        self._waiters.append(turn)
        try:
            await turn[1].wait()
        except trio.Cancelled:
            if turn[1].is_set():
                self.give_back(count)
            else:
                self._waiters.remove(turn)
                self._wake()
            raise

    @asynccontextmanager
    async def lent(self, count: int) -> AsyncIterator[None]:
        """Make `count` bytes busy for work that goes on by what others take meanwhile.

        All that is lent at a time has to fit into the budget: it never waits for itself.
        """
        await self.take(count)
        self._lent_bytes += count
        self._wake()
        try:
            yield
        finally:
            self._lent_bytes -= count
            self.give_back(count)

    def give_back(self, count: int) -> None:
        """`count` busy bytes are gone."""
        self.busy_bytes -= count
        self._wake()

    def rest(self, count: int) -> None:
        """`count` busy bytes are idle now."""
        self.busy_bytes -= count
        self.idle_bytes += count
        self._trim()
        self._wake()

    def forget(self, count: int) -> None:
        """`count` idle bytes are gone."""
        self.idle_bytes -= count

    def _fits(self, count: int) -> bool:
        return self.busy_bytes + count <= self.limit_bytes or self.busy_bytes <= self._lent_bytes

    def _grant(self, count: int) -> None:
        self.busy_bytes += count
        self._trim()

    def _trim(self) -> None:
        excess = self.used_bytes - self.limit_bytes * 3 // 4
        if excess > 0 and self.idle_bytes:
            self._shed(excess)
        if self._resting is not None and (excess := self.held_bytes - self.limit_bytes) > 0:
            self._resting.release(excess)

    def _wake(self) -> None:
        while self._waiters and self._fits(self._waiters[0][0]):
            count, turn = self._waiters.popleft()
            self._grant(count)
            turn.set()


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One buffer: the verified bytes `span` of the content `digest`."""

    digest: bytes
    span: ByteRange
    data: memoryview
    from_disk: bool = False

    @property
    def cost_bytes(self) -> int:
        return held_bytes(self.data) + OVERHEAD_BYTES

    def part(self, span: ByteRange) -> memoryview:
        """Return the bytes of `span` that are here; its start is."""
        base = self.span.start
        return self.data[span.start - base : span.stop - base]


class PieceCache:
    """The pieces at hand, found by the blocks that they hold."""

    def __init__(self, limit_bytes: int, block_bytes: int, resting: Resting | None = None) -> None:
        self.budget = MemoryBudget(limit_bytes, self._shed, resting)
        self._block_bytes = block_bytes
        self._blocks: dict[bytes, dict[int, Piece]] = {}
        self._idle: OrderedDict[Piece, None] = OrderedDict()
        self._passed: set[Piece] = set()

    def find(self, digest: bytes, block: int) -> Piece | None:
        """Return the piece that holds `block`, and count it as read just now."""
        piece = self._blocks.get(digest, {}).get(block)
        if piece is not None and piece in self._idle:
            self._idle.move_to_end(piece)
        return piece

    def has(self, digest: bytes, block: int) -> bool:
        """Return whether `block` is here."""
        return block in self._blocks.get(digest, {})

    def blocks(self, digest: bytes) -> Iterator[int]:
        """Yield the numbers of the blocks of `digest` that are here."""
        yield from self._blocks.get(digest, {})

    def add(self, piece: Piece) -> None:
        """Make a busy piece known; its `cost_bytes` are taken already."""
        known = self._blocks.setdefault(piece.digest, {})
        for block in piece.span.blocks(self._block_bytes):
            known[block] = piece

    def settle(self, piece: Piece) -> None:
        """Make a busy piece idle: from now on it goes when room is needed."""
        self._idle[piece] = None
        self.budget.rest(piece.cost_bytes)
        if piece in self._passed:
            self._drop(piece)

    def passed(self, piece: Piece) -> None:
        """Let go of a piece that a stream went through, as soon as nothing else is done with it.

        The kernel keeps what was read. A buffer that is used again at once costs no page
        faults, which were a tenth of all work of a cold stream.
        """
        self._passed.add(piece)
        if piece in self._idle:
            self._drop(piece)

    def clear(self) -> None:
        """Let all idle pieces go."""
        self._shed(self.budget.idle_bytes)

    def _shed(self, count: int) -> None:
        while count > 0 and self._idle:
            piece = next(iter(self._idle))
            count -= piece.cost_bytes
            self._drop(piece)

    def _drop(self, piece: Piece) -> None:
        del self._idle[piece]
        self._passed.discard(piece)
        self.budget.forget(piece.cost_bytes)
        known = self._blocks.get(piece.digest, {})
        for block in piece.span.blocks(self._block_bytes):
            if known.get(block) is piece:  # a later piece may hold the block as well
                del known[block]
        if not known:
            self._blocks.pop(piece.digest, None)
