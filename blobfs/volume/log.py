"""Read a volume's log, and put commits into it (L3, L4).

Every answer that matters is looked at twice: what lies in a slot counts only when a `head` that
was read afterwards shows that the log still reaches down to it.

Concurrency: nothing is kept between calls but the time of the last look at `head`; each call may
be cancelled anywhere. A put that was cancelled may still land, so its intent must stand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import trio

from blobfs.env import Env
from blobfs.errors import (
    AlreadyExists,
    BlobfsError,
    Changed,
    Damaged,
    InUse,
    NotFound,
    OutcomeUnknown,
)
from blobfs.formats.entry import decode_entry
from blobfs.formats.head import Head
from blobfs.formats.keys import LOG, log_key, parse_log_key
from blobfs.model.chain import Landed, Position, follow
from blobfs.model.commit_outcome import (
    Answer,
    Outcome,
    Slot,
    Step,
    after_head,
    after_put,
    after_slot,
)
from blobfs.stores.base import Store
from blobfs.types import ClientId, Seq
from blobfs.volume.head_change import find_head
from blobfs.volume.log_entries import open_entry

MOST_ENTRIES_AT_ONCE = 128
"""Entries of one batch: at most 32 MiB of them, and few enough to hold a transaction short."""

PARALLEL_SLOTS = 64
"""Slots asked for at once at most: twice as many behind each row of filled ones, so that as many
requests as there are entries are in vain at most."""

TIP_IS_BELIEVED_NS = 3600 * 10**9
"""After this time an empty slot is taken for the tip only when `head` agrees."""

MOST_PUTS = 5
FIRST_PAUSE_S = 0.1


class Overtaken(Changed):
    """The log was cut above what was read of it: what follows stands in a checkpoint."""

    hint = "mount the volume again: it begins from a checkpoint then"


@dataclass(frozen=True, slots=True)
class Tail:
    """What follows in the log."""

    landed: tuple[Landed, ...]
    is_tip: bool
    """Whether nothing lay behind the last of them."""


class Log:
    """The log of one volume. Every request has the deadline that the layers of `store` give it.

    `me` is the client that puts; None: nobody does. `note_head` is told of every `head` that is
    read.
    """

    def __init__(
        self,
        store: Store,
        env: Env,
        me: ClientId | None = None,
        note_head: Callable[[Head], None] | None = None,
    ) -> None:
        self._store = store
        self._env = env
        self._me = me
        self._note_head = note_head
        self._confirmed_ns: int | None = None
        self._searched_ns: int | None = None
        self._owner_seen: ClientId | None = None
        self._has_seen_head = False

    # -- reading ---------------------------------------------------------------------

    async def newer(self, after: Position, *, at_most: int = MOST_ENTRIES_AT_ONCE) -> Tail:
        """Return the entries behind `after`, in order, as far as there are any (L4).

        Lists of operations that lie in chunks (L7) are fetched: each entry is whole. An empty
        slot is the tip; the first time, and once an hour, a listing says what there is, and the
        tip is only where `head` agrees and nothing lies behind it.

        Raises:
            Overtaken: the log was cut above `after`.
            Damaged: an entry, its place in the chain, or a pack with operations is not right.
            Unsupported: a newer version of blobfs wrote it.
        """
        if self._is_due(self._searched_ns):
            found = await self._listed_slots(after, at_most)
        else:
            found = await self._filled_slots(after.seq, at_most)
        if found or self._is_due(self._confirmed_ns):
            await self._require_uncut(after)
        is_tip = len(found) < at_most
        position = after
        landed = []
        for number, data in enumerate(found, after.seq + 1):
            each = await open_entry(self._store, Seq(number), data)
            position = follow(position, each)
            landed.append(each)
        return Tail(tuple(landed), is_tip)

    async def head(self) -> Head:
        """Return `head` as it is now.

        Raises:
            Damaged: it is gone, which is not how a log begins (L5), or is not right.
        """
        head = (await find_head(self._store)).head
        self._owner_seen, self._has_seen_head = head.owner, True
        if self._note_head is not None:
            self._note_head(head)
        return head

    def doubt(self) -> None:
        """Believe no empty slot because of an earlier look: the log may be cut since (L4)."""
        self._confirmed_ns = self._searched_ns = None

    def _is_due(self, last_ns: int | None) -> bool:
        # The wall clock, because the other one stands still while a machine sleeps.
        return last_ns is None or abs(self._env.now_ns() - last_ns) >= TIP_IS_BELIEVED_NS

    async def _require_uncut(self, after: Position) -> None:
        head = await self.head()
        if after.is_cut_off(head.floor):
            raise Overtaken(
                f"the log was cut above what is known here. known={after.seq} "
                f"floor={head.floor} checkpoint={head.checkpoint!r}"
            )
        self._confirmed_ns = self._env.now_ns()

    async def _listed_slots(self, after: Position, at_most: int) -> list[bytes]:
        """Return what lies in the slots behind `after`, by what a listing shows (L5).

        One request tells how many there are, instead of one for each that is empty. Who took a
        hole for the end would show an older tree, and commit into the hole.
        """
        page = await self._store.list(LOG, start_after=log_key(after.seq), max_keys=at_most)
        numbers = [seq for found in page.objects if (seq := parse_log_key(found.key)) is not None]
        for expected, seq in enumerate(numbers, after.seq + 1):
            if seq != expected:
                await self._refuse_gone(after, Seq(expected))
        found: list[bytes] = []
        while len(found) < len(numbers):
            some = numbers[len(found) : len(found) + PARALLEL_SLOTS]
            part = await self._slots(range(some[0], some[-1] + 1))
            found += part
            if len(part) < len(some):
                await self._refuse_gone(after, Seq(numbers[len(found)]))
        if len(numbers) < at_most:
            self._searched_ns = self._env.now_ns()
        return found

    async def _refuse_gone(self, after: Position, seq: Seq) -> NoReturn:
        """Say why a slot is empty that was filled: it was cut, which is so once `head` agrees (L4),
        or lost (L5). It is the tip in neither case.

        Raises:
            Overtaken, Damaged: always.
        """
        await self._require_uncut(after)
        raise Damaged(
            f"an entry of the log is gone. key={log_key(seq)!r} store={self._store.url}",
            hint="nothing was changed; bring it back, or run `blobfs check`",
        )

    async def _filled_slots(self, after: Seq, at_most: int) -> list[bytes]:
        """Return what lies in the slots behind `after`, up to the first empty one."""
        found: list[bytes] = []
        width = 1
        while len(found) < at_most:
            first = after + 1 + len(found)
            width = min(width, at_most - len(found))
            part = await self._slots(range(first, first + width))
            found += part
            if len(part) < width:
                break
            width = min(PARALLEL_SLOTS, 2 * width)
        return found

    async def _slots(self, numbers: range) -> list[bytes]:
        """Look into slots side by side; return what lies in those before the first empty one."""
        answers: dict[int, bytes | BlobfsError | None] = {}

        async def look(number: int) -> None:
            try:
                answers[number] = await self._slot(Seq(number))
            except BlobfsError as error:
                answers[number] = error

        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(look, number)
        found = []
        for number in numbers:
            answer = answers[number]
            if isinstance(answer, BlobfsError):
                raise answer
            if answer is None:
                break
            found.append(answer)
        return found

    async def _slot(self, seq: Seq) -> bytes | None:
        try:
            return bytes((await self._store.get(log_key(seq))).data)
        except NotFound:
            return None

    # -- writing ---------------------------------------------------------------------

    async def has_owner(self) -> bool:
        """Return whether one client alone may write, by the last look at `head` (L8)."""
        if not self._has_seen_head:
            await self.head()
        return self._owner_seen is not None

    async def put(self, seq: Seq, data: bytes) -> Outcome:
        """Put an entry into slot `seq`, and find out what became of it (L3).

        The caller has noted `data` durably before (L2), and puts nothing else into that slot
        while this says `UNKNOWN`, raises or is cancelled: then it is not known, and `put` with
        the same bytes goes on where this ended. All packs that the entry names are there.

        Raises:
            BlobfsError: the store cannot be asked, or refuses; it is not known either.
        """
        step, is_mine = Step.PUT, False
        for attempt in range(MOST_PUTS):
            await self._pause(attempt)
            step = after_put(await self._put(seq, data))
            is_mine = step is Step.READ_HEAD
            if step is Step.READ_SLOT:
                found = await self._look(seq, data)
                step, is_mine = after_slot(found), found is Slot.MINE
            if step is Step.READ_HEAD:
                outcome = after_head((await self.head()).floor, seq, is_mine=is_mine)
                if outcome is Outcome.OVERTAKEN:
                    self.doubt()
                return outcome
        return Outcome.UNKNOWN

    async def _put(self, seq: Seq, data: bytes) -> Answer:
        if await self.has_owner():
            return await self._put_alone(seq, data)
        try:
            await self._store.put(log_key(seq), data, if_absent=True)
        except AlreadyExists:
            return Answer.REFUSED
        except OutcomeUnknown:
            return Answer.NONE
        return Answer.STORED

    async def _put_alone(self, seq: Seq, data: bytes) -> Answer:
        """Put as the one client whom `head` lets write, on a store that heeds no condition (L8)."""
        owner = (await self.head()).owner
        if owner is None or owner != self._me:
            raise InUse(
                f"the volume belongs to one writer, who is another. owner={owner!r}",
                hint="mount it with --read-only, or write from where it belongs to",
            )
        if await self._slot(seq) is not None:
            return Answer.REFUSED
        await self._store.put(log_key(seq), data)
        return Answer.STORED

    async def _look(self, seq: Seq, data: bytes) -> Slot:
        found = await self._slot(seq)
        if found is None:
            return Slot.ABSENT
        if found == data:
            return Slot.MINE
        # Bytes that broke on their way would look like somebody else's entry, and mine, which
        # they are, would be committed a second time: so they have to be an entry (P6).
        decode_entry(found, key=log_key(seq))
        return Slot.OTHER

    async def _pause(self, attempt: int) -> None:
        """Wait before another put of the same slot, a time that chance spreads and that grows."""
        if attempt:
            await trio.sleep(self._env.chance() * FIRST_PAUSE_S * 2**attempt)
