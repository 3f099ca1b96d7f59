"""Replay what others committed, and move what is unsaved here over it.

    load what is needed -> let nobody change rows -> decide -> replay -> journal -> tell the kernel

Replay itself is blind (L1). Where an entry changes what is unsaved here, or what a program has
open, `model.reconcile` decides before it is replayed what the unsaved rows become. The tree
takes this in together with the entry, the journal after it: killed in between, the next mount does
the rest (`finish`).

Concurrency: one call at a time. Programs' changes, and looks at what changes, wait meanwhile; that
takes some milliseconds, since all that has to be fetched is fetched before.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import takewhile

from blobfs.env import Env
from blobfs.formats.commit import (
    AddLinks,
    Detach,
    DropDirent,
    DropFolder,
    MoveFolder,
    NewInode,
    Operation,
    PutDirent,
    SetAttributes,
    SetContent,
    SetXattr,
)
from blobfs.formats.rows import Kind, Native
from blobfs.formats.wire import covered_bytes
from blobfs.model.chain import Landed
from blobfs.model.changes import HIDDEN_FOLDER, DirentKey, Gone, LocalDirent, LocalInode
from blobfs.model.nodes import NativeLook
from blobfs.model.numbers import is_native
from blobfs.model.rebase import Conflict, Foreign, Mine, Rebased, Setting
from blobfs.model.reconcile import reconcile
from blobfs.sync.equality import Equality, Pair
from blobfs.sync.programs import Programs
from blobfs.types import InodeNo
from blobfs.volume.namespace_numbers import Numbers
from blobfs.volume.orphans import Orphans
from blobfs.volume.rebased_rows import decode_rebased, encode_rebased
from blobfs.volume.tree import Tree
from blobfs.volume.tree_base import named_keys
from blobfs.volume.tree_blocks import NotLoaded
from blobfs.volume.unsaved import Unsaved

Names = Mapping[InodeNo, Sequence[DirentKey]]

log = logging.getLogger("blobfs.replay")


@dataclass(frozen=True, slots=True)
class Known:
    """What was found out before a decision, while programs went on."""

    names: Names = field(default_factory=dict)
    equal: Sequence[Pair] = ()


class Replayer:
    """Replays the log of one mount."""

    def __init__(
        self,
        *,
        tree: Tree,
        unsaved: Unsaved,
        orphans: Orphans,
        programs: Programs,
        equality: Equality,
        numbers: Callable[[], Awaitable[Numbers]],
        host: str,
        look: NativeLook | None,
        env: Env,
    ) -> None:
        """`numbers` returns where new inodes get theirs from; `host` names this machine."""
        self._tree = tree
        self._unsaved = unsaved
        self._orphans = orphans
        self._programs = programs
        self._equality = equality
        self._numbers = numbers
        self._host = host
        self._look = look
        self._env = env
        self.moves = 0
        """How often unsaved rows were moved, but for times of directories."""

    async def finish(self) -> None:
        """Take into the journal what a killed daemon had decided of unsaved rows.

        Raises:
            Damaged: that cannot be read.
            LocalFault: the disk refused.
        """
        if (data := self._tree.rebased) is None:
            return
        seq, rebased = decode_rebased(data)
        if seq > self._unsaved.rebased_to:
            async with self._unsaved.held():
                await self._unsaved.rebase(seq, rebased)
        self._unsaved.holdings.follow_tree(tuple(self._unsaved.inode_states))
        await self._tree.forget_rebased()

    async def replay_own(self, landed: Sequence[Landed]) -> None:
        """Replay entries of this client: unsaved rows lie over what they say already."""
        self._orphans.note_before_replay()
        await self._tree.replay(landed)
        self._unsaved.holdings.follow_tree(_resized(landed))
        self._env.crash_point("commit.replayed")

    async def replay_foreign(self, landed: Sequence[Landed]) -> None:
        """Replay entries of others, and move what is unsaved here over them.

        Raises:
            Damaged: one cannot be replayed.
            NoRoom, LocalFault: the disk refused.
            BlobfsError: a part of the tree is not here, and the store failed us.
        """
        rest = tuple(landed)
        await self._tree.load_keys(named_keys(each.entry for each in rest))
        while rest:
            rest = rest[await self._replay_some(rest) :]

    async def _replay_some(self, landed: Sequence[Landed]) -> int:
        """Replay the first of these entries; return how many, perhaps none yet."""
        numbers = await self._numbers()
        contents = frozenset(_contents(landed))
        try:
            known = await self._known(landed)
            async with self._unsaved.held(contents):
                return await self._replay_first(landed, numbers, known)
        except NotLoaded as missing:
            await self._tree.load(missing)
            return 0

    async def _known(self, landed: Sequence[Landed]) -> Known:
        """Find out what a decision about the first contested entry may need."""
        held = self._programs.held()
        first = next((each for each in landed if self._contests(each, held)), None)
        if first is None:
            return Known()
        equal = await self._equality.pairs(first.entry)
        return Known(await self._names_in_question([first]), equal)

    async def _names_in_question(self, landed: Sequence[Landed]) -> Names:
        """Return the names of files that both sides changed, before and after: as far as they are
        here."""
        rows = self._unsaved.inode_states
        wanted = {
            operation.inode
            for operation in _operations(landed)
            if isinstance(operation, SetContent | AddLinks | PutDirent) and operation.inode in rows
        }
        names: dict[InodeNo, list[DirentKey]] = {}
        for operation in _operations(landed):
            if isinstance(operation, PutDirent) and operation.inode in wanted:
                names.setdefault(operation.inode, []).append((operation.parent, operation.name))
        for inode in wanted:
            place = self._programs.place(inode)
            row = None if place is None else self._tree.dirent(*place)
            if place is not None and row is not None and row.inode == inode:
                names.setdefault(inode, []).append(place)
        if unknown := wanted - names.keys():
            names.update(await self._tree.names_of(unknown))
        return names

    async def _replay_first(self, landed: Sequence[Landed], numbers: Numbers, known: Known) -> int:
        """Replay as many entries as touch nothing of ours, or one that does."""
        held = self._programs.held()
        free = tuple(takewhile(lambda each: not self._contests(each, held), landed))
        run = free or tuple(landed[:1])
        rebased = Rebased() if free else self._decide(run[0], held, numbers, known)
        self._orphans.note_before_replay()
        seq = run[-1].entry.seq
        kept = encode_rebased(seq, rebased) if rebased else None
        await self._tree.replay(run, rebased=kept, is_foreign=True)
        self._env.crash_point("replay.replayed")
        try:
            if rebased:
                await self._unsaved.rebase(seq, rebased)
                self._env.crash_point("replay.journaled")
        finally:
            # Whatever the disk said: the tree is another now, and `finish` does the rest.
            self._note_replayed(run, rebased, known)
        if rebased:
            await self._tree.forget_rebased()
        return len(run)

    def _note_replayed(self, run: Sequence[Landed], rebased: Rebased, known: Known) -> None:
        if rebased:
            self.moves += not self._is_only_times_of_folders(rebased)
        self._unsaved.holdings.follow_tree((*_resized(run), *rebased.inodes))
        same = {pair.mine for pair in known.equal if pair.mine == pair.theirs}
        self._programs.tell(_foreign(run, rebased, same - rebased.numbers.keys()))

    def _decide(
        self, landed: Landed, held: Set[InodeNo], numbers: Numbers, known: Known
    ) -> Rebased:
        def names(inode: InodeNo) -> Iterable[DirentKey]:
            place = self._programs.place(inode)
            return (*known.names.get(inode, ()), *([] if place is None else [place]))

        states = self._unsaved.inode_states
        equal = {
            (pair.mine, pair.theirs)
            for pair in known.equal
            if pair.mine in states and states[pair.mine].serial == pair.serial
        }
        setting = Setting(
            seq=landed.entry.seq,
            host=self._host,
            now_ns=self._env.now_ns(),
            fresh=numbers.take,
            equal=equal,
            names=names,
            look=self._look,
        )
        with self._tree.moments(landed) as (before, after):
            rebased = reconcile(before, after, self._mine(held), setting)
        for conflict in rebased.conflicts:
            _say(conflict, landed)
        return rebased

    def _mine(self, held: Set[InodeNo]) -> Mine:
        inodes = {inode: state.value for inode, state in self._unsaved.inode_states.items()}
        dirents = {key: state.value for key, state in self._unsaved.dirent_states.items()}
        edited = {inode for inode, row in inodes.items() if self._is_edited(inode, row)}
        return Mine(inodes, dirents, edited, held)

    def _is_edited(self, inode: InodeNo, row: LocalInode | Gone) -> bool:
        """Return whether a file holds other bytes here than what it lies over."""
        if isinstance(row, Gone) or row.kind is not Kind.FILE:
            return False
        if len(self._unsaved.spans(inode)):
            return True
        base_bytes = self._unsaved.inode_states[inode].base_bytes
        if row.bound is not None and self._tree.inode(inode) is None:
            base_bytes = covered_bytes(row.bound)
        return not row.size_bytes == row.base_limit_bytes == base_bytes

    def _is_only_times_of_folders(self, rebased: Rebased) -> bool:
        """Return whether what is about to be committed may go as it is, and the rest later."""
        rows = rebased.inodes.values()
        are_folders = all(isinstance(row, LocalInode) and row.kind is Kind.FOLDER for row in rows)
        return are_folders and not rebased.numbers and not rebased.dirents

    # -- what touches ours -----------------------------------------------------------

    def _contests(self, landed: Landed, held: Set[InodeNo]) -> bool:
        """Return whether an entry changes what is unsaved here, or what a program has open."""
        return any(self._touches(operation, held) for operation in landed.entry.operations)

    def _touches(self, operation: Operation, held: Set[InodeNo]) -> bool:
        rows = self._unsaved.inode_states
        match operation:
            case PutDirent() | DropDirent():
                return self._touches_name(operation)
            case SetContent() | AddLinks():
                return operation.inode in rows or operation.inode in held
            case SetXattr() | Detach():
                return operation.inode in rows
            case NewInode():  # both took over what another tool made
                return operation.inode in rows or self._hides(operation.inode)
            case DropFolder():
                return operation.inode in rows or bool(self._unsaved.dirents(operation.inode))
            case MoveFolder():
                return operation.inode in rows or self._moves_folders()
            case SetAttributes():
                return operation.inode in rows and not self._has_later_times(operation)
        return False

    def _touches_name(self, operation: PutDirent | DropDirent) -> bool:
        if isinstance(self._unsaved.inode(operation.parent), Gone):
            return True  # we removed the directory
        mine = self._unsaved.dirent(operation.parent, operation.name)
        is_same = isinstance(mine, LocalDirent) and mine.inode == operation.inode
        return mine is not None and not (is_same and isinstance(operation, PutDirent))

    def _hides(self, inode: InodeNo) -> bool:
        """Return whether an object was removed here that others made a file of."""
        if not is_native(inode):
            return False
        hidden = self._unsaved.dirents(HIDDEN_FOLDER).values()
        return any(isinstance(row, LocalDirent) and row.inode == inode for row in hidden)

    def _moves_folders(self) -> bool:
        """Return whether a directory was moved here, so that two moves may close a cycle."""
        for inode, state in self._unsaved.inode_states.items():
            row = state.value
            if isinstance(row, LocalInode) and row.kind is Kind.FOLDER:
                committed = self._tree.inode(inode)
                if committed is not None and committed.parent != row.parent:
                    return True
        return False

    def _has_later_times(self, operation: SetAttributes) -> bool:
        """Return whether both made entries in one directory, and ours are the later ones."""
        row = self._unsaved.inode(operation.inode)
        if not isinstance(row, LocalInode) or row.kind is not Kind.FOLDER:
            return False
        is_only_times = (operation.mode, operation.uid, operation.gid) == (None, None, None)
        times = (operation.mtime_ns or 0, row.mtime_ns), (operation.ctime_ns or 0, row.ctime_ns)
        return is_only_times and all(theirs <= ours for theirs, ours in times)


def _foreign(landed: Iterable[Landed], rebased: Rebased, same: Set[InodeNo]) -> Foreign:
    """Return what entries changed; the files that are the `same` held their new bytes before."""
    names: dict[DirentKey, None] = {}
    inodes: dict[InodeNo, None] = {}
    for operation in _operations(landed):
        match operation:
            case PutDirent() | DropDirent():
                names[operation.parent, operation.name] = None
            case (
                SetAttributes()
                | SetXattr()
                | AddLinks()
                | DropFolder()
                | MoveFolder()
                | SetContent()
                | Detach()
            ):
                inodes[operation.inode] = None
    names.update(dict.fromkeys(rebased.dirents))
    inodes.update(dict.fromkeys(rebased.inodes))
    contents = tuple(each for each in dict.fromkeys(_contents(landed)) if each not in same)
    return Foreign(tuple(names), tuple(inodes), contents, rebased.numbers)


def _contents(landed: Iterable[Landed]) -> Iterator[InodeNo]:
    """Yield the files that were there, and get other bytes.

    An object that others take over was there, under the number that its row has now; while the row
    only refers to it, it holds the same bytes (N6).
    """
    made: set[InodeNo] = set()
    for operation in _operations(landed):
        match operation:
            case NewInode() if not is_native(operation.inode):
                made.add(operation.inode)
            case SetContent(content=Native()):
                pass
            case SetContent() if operation.inode not in made:
                yield operation.inode


def _resized(landed: Iterable[Landed]) -> Iterator[InodeNo]:
    """Yield the inodes whose committed content may be another, or gone."""
    for operation in _operations(landed):
        if isinstance(operation, SetContent | AddLinks):
            yield operation.inode


def _operations(landed: Iterable[Landed]) -> Iterator[Operation]:
    for each in landed:
        yield from each.entry.operations


def _say(conflict: Conflict, landed: Landed) -> None:
    log.warning(
        "%s name=%r seq=%d client=%s",
        conflict.what,
        conflict.name,
        landed.entry.seq,
        landed.entry.client.hex(),
    )
