"""Fill packs with frames and send them, several at a time.

A pack's name is never used twice, whatever becomes of a PUT: a request whose answer was lost may
still arrive when its pack has long been removed as nobody's. So the same bytes go out under a new
nonce each time.

Concurrency: one task adds frames, in the order in which they shall lie; each full pack is sealed
in a thread and sent by a task of its own. What frames hold of `Room` comes back when their
pack was sent.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from blobfs.env import Env
from blobfs.errors import AlreadyExists, OutcomeUnknown
from blobfs.formats.chunk import Buffer
from blobfs.formats.keys import pack_key
from blobfs.formats.pack import NONCE_BYTES, Pack, PackBuilder, PackedChunk
from blobfs.formats.rows import Extent
from blobfs.stores.base import Store
from blobfs.types import ChunkId, PackName

MOST_UPLOADS = 8
MOST_NAMES = 4
"""Names that one pack is sent under, before whoever wants it saved is told that it failed."""


class Room:
    """Counts the bytes that one staging holds, and makes it wait at `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._turns: deque[tuple[int, trio.Event]] = deque()
        self.used_bytes = 0

    async def take(self, count: int) -> None:
        """Take `count` bytes as soon as they are there, first come, first served."""
        if not self._turns and self._fits(count):
            self.used_bytes += count
            await trio.lowlevel.checkpoint()
            return
        turn = (count, trio.Event())
        self._turns.append(turn)
        await turn[1].wait()

    def give_back(self, count: int) -> None:
        """`count` bytes are held no more."""
        self.used_bytes -= count
        while self._turns and self._fits(self._turns[0][0]):
            count, turn = self._turns.popleft()
            self.used_bytes += count
            turn.set()

    def _fits(self, count: int) -> bool:
        return not self.used_bytes or self.used_bytes + count <= self._limit_bytes


@dataclass(slots=True, eq=False)
class Slot:
    """A chunk that is being saved; `extent` says where, once its pack was sent."""

    length_bytes: int
    extent: Extent | None = None


class PackSender:
    """The packs of one staging."""

    def __init__(
        self,
        store: Store,
        env: Env,
        nursery: trio.Nursery,
        room: Room,
        *,
        pack_bytes: int,
        sent: Callable[[Pack], None],
    ) -> None:
        """`sent` is told of each pack when the store has it."""
        self._store = store
        self._env = env
        self._nursery = nursery
        self._room = room
        self._pack_bytes = pack_bytes
        self._sent = sent
        self._builder = PackBuilder()
        self._slots: list[Slot] = []
        self._sealing = trio.CapacityLimiter(1)  # it holds a pack twice while it copies
        self._uploads = trio.CapacityLimiter(MOST_UPLOADS)

    def add(self, chunk: ChunkId, frame: Buffer, slot: Slot) -> None:
        """Put a frame behind those before it; its bytes of the room are taken."""
        if not self._builder.has_room(len(frame)):
            self.send_off()
        self._builder.add(chunk, frame, slot.length_bytes)
        self._slots.append(slot)
        if self._builder.size_bytes >= self._pack_bytes:
            self.send_off()

    def send_off(self) -> None:
        """Send what was added so far, without waiting for more."""
        if self._slots:
            self._nursery.start_soon(self._send, self._builder, self._slots)
            self._builder, self._slots = PackBuilder(), []

    async def _send(self, builder: PackBuilder, slots: list[Slot]) -> None:
        pack = await trio.to_thread.run_sync(
            builder.seal, new_nonce(self._env), limiter=self._sealing
        )
        del builder  # its frames are in the body now
        async with self._uploads:
            self._env.crash_point("pack.sealed")
            pack = await upload(self._store, self._env, pack)
        self._env.crash_point("pack.sent")
        self._sent(pack)
        self._env.crash_point("pack.noted")
        for slot, packed in zip(slots, pack.directory, strict=True):
            slot.extent = extent_of(pack.name, packed)
        self._room.give_back(sum(packed.stored_bytes for packed in pack.directory))


async def upload(store: Store, env: Env, pack: Pack) -> Pack:
    """Store `pack`, under another nonce where an answer got lost; return it as it is stored.

    Raises:
        OutcomeUnknown, AlreadyExists: no answer came, name after name.
        AccessDenied, Unreachable: the store failed us.
    """
    if_absent = store.traits.put_if_absent
    for left in reversed(range(MOST_NAMES)):
        try:
            await store.put(pack_key(pack.name), pack.body, if_absent=if_absent)
            return pack
        except (AlreadyExists, OutcomeUnknown):
            if not left:
                raise
            pack = replace(pack, name=renamed(pack.name, new_nonce(env)))
    raise AssertionError("unreachable")


def renamed(name: PackName, nonce: bytes) -> PackName:
    """Return the name of the same body with another nonce."""
    return PackName(name[:-NONCE_BYTES] + nonce)


def new_nonce(env: Env) -> bytes:
    """Draw what makes the name of a pack unique."""
    halves = (int(env.chance() * 2**32) for _ in range(2))
    return b"".join(half.to_bytes(NONCE_BYTES // 2, "big") for half in halves)


def extent_of(pack: PackName, packed: PackedChunk) -> Extent:
    """Return the extent that a chunk of a pack is."""
    return Extent(packed.length_bytes, packed.chunk, pack, packed.offset, packed.stored_bytes)
