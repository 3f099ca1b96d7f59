"""Say what is due to be saved, and when to look again. Rows and times in, a choice out.

Saving costs three requests however much it takes along, so what is due waits a moment for what is
about to be; a lot of bytes, or somebody who waits, does not.
"""

import heapq
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from blobfs.formats.rows import DirentRow, InodeRow, Kind
from blobfs.model.changes import DirentKey, LocalDirent, LocalInode
from blobfs.model.numbers import is_native
from blobfs.model.selection import InodeState as Choice
from blobfs.model.selection import NameState
from blobfs.model.settling import Settling
from blobfs.model.spans import SpanMap
from blobfs.types import MIB, InodeNo
from blobfs.volume.unsaved_rows import DirentState, InodeState

ENOUGH_BYTES = 16 * MIB
"""As much as fills a pack goes at once."""
GATHER_S = 0.1
"""What will be due so soon is waited for, ..."""
MOST_GATHER_S = 0.7
"""... but not for longer than this."""

NO_INODE = InodeNo(0)


@dataclass(frozen=True, slots=True)
class Due:
    """What to do now. Times are in seconds from now."""

    now: bool
    look_again_s: float | None
    """When something will be due; None: nothing is unsaved."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The present on both clocks: rows carry wall time, waits are measured by the other."""

    now_ns: int
    now_s: float

    def since_s(self, since_ns: int) -> float:
        """Return a row's time on the clock of waits. A wall clock that was set back is now."""
        return self.now_s - max(0, self.now_ns - since_ns) / 1e9


@dataclass(frozen=True, slots=True)
class UnsavedView:
    """The unsaved rows, and what lies under them."""

    inodes: Mapping[InodeNo, InodeState]
    dirents: Mapping[DirentKey, DirentState]
    spans: Callable[[InodeNo], SpanMap]
    tree_inode: Callable[[InodeNo], InodeRow | None]
    tree_dirent: Callable[[InodeNo, bytes], DirentRow | None]
    take_news: Callable[[], set[InodeNo]]
    """The inodes whose unsaved rows changed since the last call."""


def choices(
    view: UnsavedView,
    settling: Settling,
    clock: Clock,
    *,
    hurry: bool,
    unreadable: Collection[InodeNo] = (),
) -> tuple[dict[InodeNo, Choice], dict[DirentKey, NameState]]:
    """Return all unsaved rows as `model.selection` wants them.

    In a `hurry` open files go as they are. Those whose bytes the disk lost are held for ever.
    """
    inodes = {}
    for inode, state in view.inodes.items():
        if is_left_over(view, inode, state):
            continue
        due_s = settling.due_s(inode, clock.since_s(state.since_ns))
        held = inode in unreadable or (not hurry and due_s > clock.now_s)
        lost = inode in unreadable
        inodes[inode] = _choice(view, inode, state, clock, held=held, lost=lost)
    names = {}
    for key, dirent in view.dirents.items():
        before = view.tree_dirent(*key)
        after = dirent.value.inode if isinstance(dirent.value, LocalDirent) else NO_INODE
        names[key] = NameState(NO_INODE if before is None else before.inode, after)
    return inodes, names


class Agenda:
    """Knows when each unsaved inode is to be saved, without looking through all of them.

    What programs do mostly moves a time later, which is found when that time has come. Only rows
    that changed and files that were closed are looked at before.
    """

    def __init__(self, view: UnsavedView, settling: Settling) -> None:
        self._view = view
        self._settling = settling
        self._times: list[tuple[float, InodeNo]] = []
        """A heap; an entry counts if `_planned` says the same."""
        self._planned: dict[InodeNo, float] = {}
        self._ready: dict[InodeNo, float] = {}
        """Those whose time has come, and when."""
        self._closed: set[InodeNo] = set()

    def note_closed(self, inode: InodeNo) -> None:
        """Note that a file may be due sooner than it was."""
        self._closed.add(inode)

    def look(self, clock: Clock, unreadable: Collection[InodeNo] = ()) -> Due:
        """Decide whether to save now. Those `unreadable` are never due."""
        news = {*self._view.take_news(), *self._closed, *self._ready}
        self._closed, self._ready = set(), {}
        for inode in news:
            self._plan(inode, clock, unreadable)
        self._advance(clock, unreadable)
        return self._decide(clock)

    def _plan(self, inode: InodeNo, clock: Clock, unreadable: Collection[InodeNo]) -> None:
        due_s = self._due_s(inode, clock, unreadable)
        planned_s = self._planned.get(inode)
        if due_s is None:
            self._planned.pop(inode, None)
        elif planned_s is None or due_s < planned_s:
            self._planned[inode] = due_s
            heapq.heappush(self._times, (due_s, inode))

    def _advance(self, clock: Clock, unreadable: Collection[InodeNo]) -> None:
        """Find those whose time has come, and the true time of the next."""
        while self._times:
            planned_s, inode = self._times[0]
            if self._planned.get(inode) != planned_s:
                heapq.heappop(self._times)  # planned anew since
                continue
            due_s = self._due_s(inode, clock, unreadable)
            if due_s == planned_s and due_s > clock.now_s:
                return
            heapq.heappop(self._times)
            del self._planned[inode]
            if due_s is not None and due_s <= clock.now_s:
                self._ready[inode] = due_s
            elif due_s is not None:
                self._planned[inode] = due_s
                heapq.heappush(self._times, (due_s, inode))

    def _due_s(self, inode: InodeNo, clock: Clock, unreadable: Collection[InodeNo]) -> float | None:
        state = self._view.inodes.get(inode)
        if state is None or inode in unreadable or is_left_over(self._view, inode, state):
            return None
        since_s = clock.since_s(state.since_ns)
        if isinstance(state.value, LocalInode) and state.value.kind is Kind.FOLDER:
            return self._settling.calm_s(since_s, clock.since_s(state.touched_ns))
        return self._settling.due_s(inode, since_s)

    def _decide(self, clock: Clock) -> Due:
        next_s = self._times[0][0] - clock.now_s if self._times else None
        if not self._ready:
            return Due(now=next_s is None and bool(self._view.dirents), look_again_s=next_s)
        ready_bytes = sum(self._view.spans(inode).unsaved_bytes for inode in self._ready)
        waited_s = clock.now_s - min(self._ready.values())
        worth_it = next_s is not None and next_s <= GATHER_S and waited_s < MOST_GATHER_S
        if worth_it and ready_bytes < ENOUGH_BYTES:
            return Due(now=False, look_again_s=next_s)
        return Due(now=True, look_again_s=0.0)


def _choice(
    view: UnsavedView, inode: InodeNo, state: InodeState, clock: Clock, *, held: bool, lost: bool
) -> Choice:
    row = state.value
    base = view.tree_inode(inode) if _may_be_folder(row) else None
    return Choice(
        since_s=clock.since_s(state.since_ns),
        unsaved_bytes=view.spans(inode).unsaved_bytes,
        held=held,
        is_new_folder=isinstance(row, LocalInode) and row.kind is Kind.FOLDER and base is None,
        is_gone_folder=_is_gone(row) and base is not None and base.kind is Kind.FOLDER,
        detached_in=_detached_in(inode, row, base),
        is_lost=lost,
    )


def _detached_in(inode: InodeNo, row: object, base: InodeRow | None) -> InodeNo | None:
    """Return where a directory lies that shows native objects no more, as nobody else knows yet."""
    if not isinstance(row, LocalInode) or row.kind is not Kind.FOLDER or not row.nlink:
        return None
    was_native = is_native(inode) and (base is None or base.prefix is not None)
    return row.parent if was_native and row.prefix is None else None


def is_left_over(view: UnsavedView, inode: InodeNo, state: InodeState) -> bool:
    """Whether it is only kept for a program that has it open, without a name."""
    row = state.value
    is_orphan = isinstance(row, LocalInode) and row.nlink == 0
    return is_orphan and view.tree_inode(inode) is None


def _is_gone(row: object) -> bool:
    return not isinstance(row, LocalInode) or row.nlink == 0


def _may_be_folder(row: object) -> bool:
    return not isinstance(row, LocalInode) or row.kind is Kind.FOLDER
