"""Save what is unsaved, round by round: choose, stage, commit.

A round takes what has settled, uploads its content and makes one commit of it. What fails stays
unsaved and is tried again, later and later; nothing is ever given up. Who waits for saving
(`blobfs sync`, fsync with `--durability remote`, a writer without room) makes a round come at
once and take everything, open files as well.

Concurrency: one round at a time, in one task; programs go on meanwhile.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Set
from dataclasses import dataclass
from functools import partial

import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError
from blobfs.model.backoff import backoff_s
from blobfs.model.changes import Covered, DirentKey
from blobfs.model.difference import operations_for
from blobfs.model.rebase import Foreign
from blobfs.model.selection import Selection, select
from blobfs.model.settling import Settling
from blobfs.sync.ahead import Ahead
from blobfs.sync.commit import Committer, Draft, Outdated
from blobfs.sync.due import Agenda, Clock, UnsavedView, choices, is_left_over
from blobfs.sync.snapshots import BaseGone, Taken, Unreadable, take
from blobfs.sync.stage import Staged, Stager
from blobfs.sync.trash import Trash
from blobfs.sync.uploads import Uploads
from blobfs.types import GIB, InodeNo, Seq, Serial
from blobfs.volume.conflicts import Conflicts
from blobfs.volume.content import Contents
from blobfs.volume.tree import Tree
from blobfs.volume.unsaved import Unsaved

ROUND_BYTES = GIB
"""A round takes about so much content, so that small files need not wait for all large ones."""
LOOK_AGAIN_S = 0.05
"""How often what is unsaved is looked through at most, while programs write."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
PATIENT_FAILURES = 3
"""After so many failures in a row writers without room are told, instead of waiting on."""

log = logging.getLogger("blobfs.push")


@dataclass(frozen=True, slots=True)
class LastCommit:
    """What `status` says of the last commit of this run."""

    seq: Seq
    when_ns: int
    files: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Why a file cannot be saved."""

    why: str
    serial: Serial | None = None
    """Of the change that needs what is lost, since a later one may not; None: for good."""


@dataclass(slots=True, eq=False)
class Goal:
    """Rows that somebody waits for to be saved."""

    inodes: set[InodeNo]
    names: set[DirentKey]
    reached: trio.Event

    @property
    def is_reached(self) -> bool:
        return not self.inodes and not self.names

    def note_saved(self, inodes: Iterable[InodeNo], names: Iterable[DirentKey]) -> None:
        self.inodes.difference_update(inodes)
        self.names.difference_update(names)

    def follow(self, foreign: Foreign) -> None:
        """Wait for rows that were moved over others' commits as well, and for what became of them:
        those that are saved already are found to be."""
        self.inodes.update(foreign.inodes, foreign.numbers.values())
        self.names.update(foreign.dirents)

    def note_left(self, inodes: Set[InodeNo], names: Set[DirentKey]) -> None:
        """Note which rows are still unsaved: what is not among them needs no waiting for."""
        self.inodes.intersection_update(inodes)
        self.names.intersection_update(names)


class Pusher:
    """Saves the unsaved rows of one mount."""

    def __init__(
        self,
        *,
        unsaved: Unsaved,
        tree: Tree,
        committer: Committer,
        stager: Stager,
        uploads: Uploads,
        ahead: Ahead,
        contents: Contents,
        conflicts: Conflicts,
        settling: Settling,
        prepare: Callable[[], Awaitable[None]],
        trash: Trash,
        env: Env,
    ) -> None:
        """`prepare` is called before anything is sent: it makes the bucket a volume."""
        self._prepare = prepare
        self._unsaved = unsaved
        self._tree = tree
        self._committer = committer
        self._stager = stager
        self._uploads = uploads
        self._ahead = ahead
        self._contents = contents
        self._conflicts = conflicts
        self._settling = settling
        self._trash = trash
        self._env = env
        self._view = UnsavedView(
            unsaved.inode_states,
            unsaved.dirent_states,
            unsaved.spans,
            tree.inode,
            tree.dirent,
            unsaved.take_news,
        )
        self._agenda = Agenda(self._view, settling)
        self._goals: dict[Serial, Goal] = {}
        """Those that are not reached yet."""
        self._hurried = trio.Event()
        self._closed = trio.Event()
        self._lost: dict[InodeNo, Lost] = {}
        """What the disk or the store lost, so that a file cannot be saved."""
        self._failures = 0
        self.problem: str | None = None
        """Why saving does not get on; None: it does."""
        self.last_commit: LastCommit | None = None
        self.files_under_way = 0

    # -- what others ask ---------------------------------------------------------------

    def hurry(self) -> Serial:
        """Begin to save all that is unsaved now; return what to ask `is_saved` about."""
        serial = self._unsaved.serial
        if serial not in self._goals:
            inodes = set(self._view.inodes) - self._left_over()
            goal = Goal(inodes, set(self._view.dirents), trio.Event())
            if not goal.is_reached:
                self._goals[serial] = goal
        self._hurried.set()
        return serial

    def is_saved(self, serial: Serial) -> bool:
        """Return whether all that was unsaved at a call of `hurry` is committed."""
        return serial not in self._goals

    async def wait_saved(self, serial: Serial) -> None:
        """Return when `is_saved`."""
        goal = self._goals.get(serial)
        if goal is not None:
            await goal.reached.wait()

    @property
    def is_clean(self) -> bool:
        """Whether everything that was acknowledged is in the bucket."""
        intent = self._unsaved.intent
        if intent is not None and (intent.covered.inodes or intent.covered.dirents):
            return False  # one that covers nothing notes what is gone from the bucket
        if self._view.dirents:
            return False
        return len(self._view.inodes) == len(self._left_over())

    def note_foreign(self, foreign: Foreign) -> None:
        """Note what others committed, and what it made of unsaved rows."""
        for old, new in foreign.numbers.items():
            if old in self._lost:
                self._lost[new] = self._lost.pop(old)
        for goal in self._goals.values():
            goal.follow(foreign)

    def note_closed(self, inode: InodeNo) -> None:
        """Note that a file was closed, so that it may be due sooner than it was."""
        self._agenda.note_closed(inode)
        self._closed.set()

    # -- the rounds --------------------------------------------------------------------

    async def run(self) -> None:
        """Save for ever."""
        while True:
            await self._wait_until_due()
            try:
                if not await self._round_or_give_way():
                    await trio.sleep(LOOK_AGAIN_S)  # somebody waits for what cannot be saved
                self._note_success()
            except Outdated:
                log.info("others committed first: looking again at what is to be saved")
            except Unreadable as error:
                self._lost[error.inode] = Lost(str(error))
                log.error("a file cannot be saved, because the local disk lost it: %s", error)
            except BlobfsError as error:
                await self._pause_after(error)
            except Exception as error:
                # Everything is still unsaved and safe; a mount without this task would be worse.
                log.exception("saving failed for a reason of our own")
                await self._pause_after(
                    BlobfsError(f"a fault in blobfs itself: {type(error).__name__}: {error}")
                )

    async def _wait_until_due(self) -> None:
        while not self._is_hurried:
            seen, self._closed, self._hurried = self._unsaved.serial, trio.Event(), trio.Event()
            decision = self._agenda.look(self._clock(), self._held())
            if decision.now or self._unsaved.intent is not None or self._trash.are_notes_due:
                return
            if decision.look_again_s is not None:
                # To look through what is unsaved takes time, too.
                with trio.move_on_after(LOOK_AGAIN_S):
                    await self._hurried.wait()
            if not self._is_hurried:  # nobody repeats that there is no room
                await self._wait_news(seen, decision.look_again_s)

    async def _wait_news(self, seen: Serial, within_s: float | None) -> None:
        """Return when something may be due: at a change, a close, a call of `hurry`, in time."""

        async def watch(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
            await wait()
            scope.cancel()

        with trio.move_on_after(math.inf if within_s is None else within_s):
            async with trio.open_nursery() as nursery:
                change = partial(self._unsaved.wait_change, seen)
                notes = self._trash.wait_notes_due
                for wait in (change, self._closed.wait, self._hurried.wait, notes):
                    nursery.start_soon(watch, wait, nursery.cancel_scope)

    @property
    def _is_hurried(self) -> bool:
        return bool(self._goals) or self._unsaved.wants_room

    async def _round_or_give_way(self) -> bool:
        """Save as `_round` does; a file whose base is lost leaves its name, and waits."""
        try:
            return await self._round()
        except BaseGone as error:
            self._give_way(error)
            return True

    async def _round(self) -> bool:
        """Save what is due, or as much of it as one round takes; return whether there was any.

        Raises:
            Unreadable: the disk lost bytes of a file.
            BaseGone: another tool replaced or removed what a file was changed from.
            BlobfsError: it did not succeed, and everything is as unsaved as before.
        """
        await self._committer.finish()
        self._note_left()
        chosen = self._select()
        if not chosen:
            if self.is_clean:
                self._uploads.forget_unnamed()
            if self._trash.are_notes_due:
                await self._save_notes()
                return True
            return False
        serial = self._unsaved.serial
        async with self._ahead.finished(chosen.inodes):
            if self._unsaved.serial != serial:
                chosen = self._select()  # what was chosen may be gone
            await self._save_chosen(chosen)
        return True

    async def _save_chosen(self, chosen: Selection) -> None:
        with self._unsaved.snapshot(chosen.inodes, chosen.names) as snapshot:
            taken = take(snapshot, self._unsaved, self._contents, self._tree)
            moves = self._committer.moves
            try:
                await self._save(taken, moves)
            finally:
                self.files_under_way = 0
                taken.close()
        self._note_saved(chosen, snapshot.covered.serial)

    def _select(self) -> Selection:
        inodes, names = choices(
            self._view,
            self._settling,
            self._clock(),
            hurry=self._is_hurried,
            unreadable=self._held(),
        )
        return select(inodes, names, ROUND_BYTES)

    async def _save(self, taken: Taken, moves: int) -> None:
        # Nothing leaves this machine that a power cut could take back (S2).
        await self._unsaved.sync()
        await self._prepare()
        files = await taken.files(self._ahead.staged)
        self.files_under_way = len(files)
        staged = await self._stager.stage(files, taken.read)
        self._env.crash_point("push.uploaded")
        changes = operations_for(taken.inode_changes(staged.contents), taken.name_changes())
        operations = (*changes, *self._trash.notes())
        covered = taken.covered
        if not operations:
            # Written and put back as it was: the tree says the same already.
            await self._unsaved.clean(covered)
            return
        landed = await self._committer.commit(
            Draft(operations, sorted(staged.packs), covered, moves)
        )
        await self._note_commit(landed.entry.seq, staged, len(files))

    async def _save_notes(self) -> None:
        """Commit which objects are gone from the bucket: nobody changed anything else."""
        await self._prepare()
        nothing = Covered(self._unsaved.serial, (), ())
        moves = self._committer.moves
        await self._committer.commit(Draft(self._trash.notes(), (), nothing, moves))

    def _give_way(self, error: BaseGone) -> None:
        """Leave the name to the other tool's version, and keep what is here of ours (C1).

        Bytes of the base that are lost are neither made up nor taken from another version.
        """
        name = self._conflicts.give_way(error.inode) if error.is_replaced else None
        state = self._view.inodes.get(error.inode)
        if state is None:
            return  # it was removed meanwhile
        why = f"a changed file cannot be saved: {error}"
        if name is not None:
            why += f"; what is here of it is kept as {name!r}"
        self._lost[error.inode] = Lost(why, state.serial)
        log.error("%s", why)

    def _held(self) -> dict[InodeNo, str]:
        """Return the files that cannot be saved as they are now, and why."""
        states = self._view.inodes
        return {
            inode: lost.why
            for inode, lost in self._lost.items()
            if inode in states and lost.serial in (None, states[inode].serial)
        }

    # -- notes -------------------------------------------------------------------------

    async def _note_commit(self, seq: Seq, staged: Staged, files: int) -> None:
        brought = await self._uploads.take_named(staged.packs)
        self.last_commit = LastCommit(seq, self._env.now_ns(), files, brought)
        log.info("committed. seq=%d files=%d stored_bytes=%d", seq, files, brought)

    def _note_saved(self, chosen: Selection, upto: Serial) -> None:
        """Note that a commit has brought what rows were at the change `upto`."""
        self._ahead.forget(chosen.inodes)
        for inode in chosen.inodes:
            if inode not in self._view.inodes:
                self._settling.saved(inode)
        for serial, goal in self._goals.items():
            if serial <= upto:
                goal.note_saved(chosen.inodes, chosen.names)
        self._note_left()

    def _note_left(self) -> None:
        """Let nobody wait for rows that died, or whose commit was found to have landed."""
        if not self._goals:
            return
        inodes = self._view.inodes.keys() - self._left_over()
        for serial, goal in list(self._goals.items()):
            goal.note_left(inodes, self._view.dirents.keys())
            if goal.is_reached:
                goal.reached.set()
                del self._goals[serial]

    def _note_success(self) -> None:
        if self._failures:
            log.info("saving goes on")
        self._failures, self.problem = 0, next(iter(self._held().values()), None)
        self._unsaved.set_saving(None)
        self._trash.note_news()

    async def _pause_after(self, error: BlobfsError) -> None:
        self._failures += 1
        self.problem = f"{error} ({error.hint})" if error.hint else str(error)
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        log.log(
            level, "saving failed and will be tried again. failures=%d (%s)", self._failures, error
        )
        if not error.transient or self._failures >= PATIENT_FAILURES:
            self._unsaved.set_saving(str(error))
        chance = self._env.chance()
        self._hurried = trio.Event()
        with trio.move_on_after(backoff_s(self._failures, FIRST_PAUSE_S, LONGEST_PAUSE_S, chance)):
            await self._hurried.wait()

    def _left_over(self) -> set[InodeNo]:
        """Return the inodes that only live on because a program has them open."""
        states = self._view.inodes.items()
        return {inode for inode, state in states if is_left_over(self._view, inode, state)}

    def _clock(self) -> Clock:
        return Clock(self._env.now_ns(), self._env.monotonic_s())
