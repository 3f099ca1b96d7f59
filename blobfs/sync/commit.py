"""Bring rows into the log: one slot, exact bytes, noted before they leave (L1, L2, L3, L6).

    finish what an earlier run began -> catch up with the log -> spell the entry -> note it
    durably -> put it into its slot -> replay it -> forget the rows that it covered

Killed between any two of these, the next run goes on from the note: the slot tells what became of
it, and the rows stay unsaved until the entry was replayed like any other.

Concurrency: one commit, or one look at the log, at a time.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import trio
from msgspec.structs import replace

from blobfs.env import Env
from blobfs.errors import BlobfsError, Unreachable
from blobfs.formats.commit import Entry, Operation, UsedPack
from blobfs.formats.entry import decode_entry, entry_hash
from blobfs.formats.keys import log_key
from blobfs.model.chain import Landed
from blobfs.model.changes import Covered, Intent
from blobfs.model.commit_outcome import Author, Authored, Outcome, after_replay, is_recorded
from blobfs.sync.beginning import Beginner
from blobfs.sync.entries import BroughtBytes, SaveBlocks, Spelled, grants_for, spell_entry
from blobfs.sync.replaying import Replayer
from blobfs.types import PackName, Seq
from blobfs.volume.client import Identity
from blobfs.volume.log import Log, Overtaken, Tail
from blobfs.volume.membership import Membership
from blobfs.volume.registration import copied_at
from blobfs.volume.tree import Tree
from blobfs.volume.unsaved import Unsaved

MOST_SLOTS = 5
"""Slots that one commit tries while others take them."""

LATER_BY_NS = 1_000_000
"""Times in the log grow by 1 ms at least (volume format, clocks)."""

log = logging.getLogger("blobfs.commit")


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be committed: operations, the packs that they refer to, the rows they cover."""

    operations: tuple[Operation, ...]
    packs: Sequence[PackName]
    covered: Covered
    moves: int = 0
    """What `Committer.moves` was when the rows were looked at."""


class Outdated(BlobfsError):
    """What was to be committed is not what is unsaved any more: look at it again."""

    transient = True


class Committer:
    """Writes the log of one volume for one client."""

    def __init__(
        self,
        *,
        tree: Tree,
        beginner: Beginner,
        replayer: Replayer,
        log: Log,
        unsaved: Unsaved,
        identity: Identity,
        membership: Membership,
        save_blocks: SaveBlocks,
        brought: BroughtBytes,
        committed: Callable[[], None],
        env: Env,
    ) -> None:
        """`committed` is told of each own commit when it was replayed."""
        self._tree = tree
        self._beginner = beginner
        self._log = log
        self._unsaved = unsaved
        self._replayer = replayer
        self._one_at_a_time = trio.Lock()
        self._identity = identity
        self._membership = membership
        self._save_blocks = save_blocks
        self._brought = brought
        self._committed = committed
        self._env = env

    @property
    def moves(self) -> int:
        """How often unsaved rows were moved over what others committed."""
        return self._replayer.moves

    async def catch_up(self) -> None:
        """Replay what was committed since, by this client or by others (L4, L6).

        Raises:
            Copied: somebody else commits under this client's id; what comes before is replayed, and
                no commit is under way any more.
            Contested: another client changed what is unsaved here; nothing of it was replayed.
            Damaged: the log does not continue what was replayed before.
            BlobfsError: the store failed us.
        """
        async with self._one_at_a_time:
            await self._catch_up()

    async def finish(self) -> None:
        """Find out what became of a commit whose outcome is not known, and end it.

        Raises: as `catch_up`, and
            Unreachable: it is still not known.
        """
        async with self._one_at_a_time:
            await self._finish()

    async def commit(self, draft: Draft) -> Landed:
        """Commit `draft`; when this returns it is in the log, replayed, and no longer unsaved.

        The rows that it covers are a snapshot that stands until then.

        Raises: as `finish`, and
            Copied: somebody else writes under this client's id.
            Outdated: others committed what moved the unsaved rows.
        """
        async with self._one_at_a_time:
            return await self._commit(draft)

    async def _catch_up(self) -> None:
        await self._replayer.finish()
        # Before anything newer is replayed: what others did on top of an own commit is no
        # conflict with it, and after theirs it would look void.
        await self._end_replayed()
        await self._beginner.begin_once()
        await self._end_replayed()
        while True:
            tail = await self._newer()
            if tail.landed:
                await self._take_in(tail.landed)
            if tail.is_tip:
                break
        self._require_own()

    async def _finish(self) -> None:
        await self._replayer.finish()
        if self._unsaved.intent is not None:
            await self._catch_up()
        intent = self._unsaved.intent
        if intent is None:
            return
        outcome = Outcome.TAKEN
        if self._tree.position.seq < intent.seq:
            outcome = await self._put(intent)
        if outcome is not Outcome.TAKEN:
            await self._catch_up()
        if self._unsaved.intent is not None:
            self._unsaved.note_outcome(intent.seq, "void")

    async def _commit(self, draft: Draft) -> Landed:
        if not await self._log.has_owner():
            await self._membership.register(self._tree.position.seq)
        for _ in range(MOST_SLOTS):
            if self.moves != draft.moves:
                raise Outdated("others changed what was about to be committed")
            await self._membership.wait_turn()
            spelled = await self._spell(draft)
            entry = spelled.landed.entry
            intent = Intent(entry.seq, entry.counter, spelled.data, draft.covered)
            await self._unsaved.note_intent(intent)
            self._env.crash_point("commit.noted")
            outcome = await self._put(intent)
            if outcome is Outcome.LANDED:
                self._env.crash_point("commit.landed")
                self._membership.note_landed()
                await self._take_in([spelled.landed])
                self._committed()
                return spelled.landed
            if outcome is Outcome.OVERTAKEN:
                await self._catch_up()
                if self._has_replayed(intent):
                    return spelled.landed  # as a checkpoint shows
            if self._unsaved.intent is not None:
                self._unsaved.note_outcome(intent.seq, "void")
            await self._membership.note_lost()
            await self._catch_up()
        raise Unreachable(f"others took every slot of the log. tried={MOST_SLOTS}")

    async def _newer(self) -> Tail:
        """Return what follows in the log; where it was cut above, that of a checkpoint (L4)."""
        try:
            return await self._log.newer(self._tree.position)
        except Overtaken:
            await self._beginner.begin(await self._log.head())
            await self._end_replayed()  # the checkpoint may show it (L3)
            return await self._log.newer(self._tree.position)

    async def _spell(self, draft: Draft) -> Spelled:
        """Return the entry as it goes on top of the tree, which is sure to take it (L1)."""
        state = self._tree.state
        client = self._identity.client
        last = self._tree.client(client)
        grants = grants_for(draft.operations, self._tree.granted(client))
        entry = Entry(
            seq=Seq(state.seq + 1),
            previous=state.chain,
            client=client,
            counter=1 if last is None else last.counter + 1,
            time_ns=max(self._env.now_ns(), state.time_ns + LATER_BY_NS),
            operations=(*grants, *draft.operations),
            packs=tuple(UsedPack(name, self._brought(name)) for name in draft.packs),
        )
        counters = await self._tree.rehearse(entry)
        entry = replace(entry, counters=counters)
        return await spell_entry(entry, self._save_blocks, self._brought)

    async def _put(self, intent: Intent) -> Outcome:
        """Put the exact bytes of `intent` into its slot.

        Raises:
            Unreachable: what became of it is not known; the intent stands.
        """
        # After the intent: a copy of the state folder that was made in between would take the
        # entry for its own, and not know what it covers (L6).
        await self._identity.note_attempt(intent.counter, entry_hash(intent.entry))
        outcome = await self._log.put(intent.seq, intent.entry)
        if outcome is Outcome.UNKNOWN:
            raise Unreachable(f"the store did not say whether a commit landed. seq={intent.seq}")
        return outcome

    async def _take_in(self, landed: Sequence[Landed]) -> None:
        """Replay entries, up to the first that a copy of this state folder made (L6)."""
        authors = [self._author_of(each) for each in landed]
        upto = authors.index(Author.COPY) if Author.COPY in authors else len(landed)
        known = zip(authors[:upto], landed[:upto], strict=True)
        for author, run in groupby(known, key=itemgetter(0)):
            await self._replay([each for _, each in run], is_own=author is Author.MINE)
        if upto < len(landed):
            if (intent := self._unsaved.intent) is not None:
                await self._end_if_decided(intent, landed[: upto + 1])
            raise copied_at(landed[upto].entry.seq)

    async def _replay(self, landed: Sequence[Landed], *, is_own: bool) -> None:
        """Replay entries of one kind, and let go of the rows that an own one covered (L6)."""
        intent = self._unsaved.intent
        if is_own:
            await self._replayer.replay_own(landed)
            if intent is not None:
                await self._end_if_decided(intent, landed)
            return
        self._membership.note_other()
        if intent is not None:
            # Before what is unsaved moves over them: nothing of it is under way any more.
            await self._end_if_decided(intent, landed)
        await self._replayer.replay_foreign(landed)

    async def _end_if_decided(self, intent: Intent, landed: Sequence[Landed]) -> None:
        """End the commit under way if these entries fill its slot."""
        mine = entry_hash(intent.entry)
        own = next((each for each in landed if each.hash == mine), None)
        outcome = after_replay(intent.seq, landed[-1].entry.seq, is_mine=own is not None)
        if outcome is Outcome.TAKEN:
            self._unsaved.note_outcome(intent.seq, "void")
        elif own is not None:
            await self._end_landed(intent, own.entry)

    async def _end_replayed(self) -> None:
        """Let go of what a commit covered that a killed daemon had replayed already (L6)."""
        intent = self._unsaved.intent
        if intent is not None and self._has_replayed(intent):
            entry = decode_entry(intent.entry, key=log_key(intent.seq))
            await self._end_landed(intent, entry)

    def _has_replayed(self, intent: Intent) -> bool:
        """Return whether the tree holds a commit under way, or the last one that was."""
        client = self._identity.client
        last = self._tree.client(client)
        if last is None:
            return False
        mine = Authored(client, intent.counter, entry_hash(intent.entry))
        return is_recorded(Authored(client, last.counter, last.hash), mine)

    async def _end_landed(self, intent: Intent, entry: Entry) -> None:
        await self._unsaved.clean_landed(intent, [pack.name for pack in entry.packs])

    def _author_of(self, landed: Landed) -> Author:
        intent = self._unsaved.intent
        if intent is not None and landed.hash == entry_hash(intent.entry):
            return Author.MINE  # whoever put it: a copy has the same commit under way (L2)
        return self._identity.author_of(landed)

    def _require_own(self) -> None:
        """Make sure that what the tree shows of this client is what it did (L6)."""
        last = self._tree.client(self._identity.client)
        if last is None or self._unsaved.intent is not None:
            return  # what is under way is ended first
        if self._identity.author_of_last(last) is Author.COPY:
            raise copied_at(last.seq)
