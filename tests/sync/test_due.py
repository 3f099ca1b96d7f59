"""What is due is found without looking through everything that is unsaved, and never too late."""

import dataclasses
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from blobfs.formats.rows import InodeRow, Kind
from blobfs.model.changes import LocalInode
from blobfs.model.settling import OPEN_S, SETTLE_S, Settling
from blobfs.model.spans import SpanMap, Written
from blobfs.sync.due import (
    ENOUGH_BYTES,
    GATHER_S,
    MOST_GATHER_S,
    Agenda,
    Clock,
    Due,
    UnsavedView,
    choices,
    is_left_over,
)
from blobfs.types import FIRST_NATIVE_INODE, MIB, ROOT_INODE, InodeNo, Serial
from blobfs.volume.unsaved_rows import InodeState

NUMBERS = [InodeNo(number) for number in range(10, 13)]
FOLDER = InodeNo(20)


@dataclass
class Unsaved:
    """Unsaved rows, programs that have files open, and a clock."""

    now_s: float = 1000.0
    inodes: dict[InodeNo, InodeState] = field(default_factory=dict)
    sizes: dict[InodeNo, int] = field(default_factory=dict)
    news: set[InodeNo] = field(default_factory=set)
    unreadable: set[InodeNo] = field(default_factory=set)
    serial: int = 0

    def __post_init__(self) -> None:
        self.settling = Settling(on_closed=self.note_closed)
        self.view = UnsavedView(
            self.inodes, {}, self.spans, lambda _: None, lambda *_: None, self.take_news
        )
        self.agenda = Agenda(self.view, self.settling)

    def note_closed(self, inode: InodeNo) -> None:
        self.agenda.note_closed(inode)

    def take_news(self) -> set[InodeNo]:
        news, self.news = self.news, set()
        return news

    def spans(self, inode: InodeNo) -> SpanMap:
        spans = SpanMap()
        if size := self.sizes.get(inode):
            list(spans.write_over(Written(0, size, 1, 0, Serial(1), b"x")))
        return spans

    @property
    def clock(self) -> Clock:
        return Clock(int(self.now_s * 1e9), self.now_s)

    def look(self) -> Due:
        return self.agenda.look(self.clock, self.unreadable)

    def look_through(self) -> Due:
        """Decide the same by looking at all rows."""
        times = {
            inode: self.due_s(inode, state)
            for inode, state in self.inodes.items()
            if inode not in self.unreadable and not is_left_over(self.view, inode, state)
        }
        ready = {inode: due_s for inode, due_s in times.items() if due_s <= self.now_s}
        waits = [due_s for inode, due_s in times.items() if inode not in ready]
        next_s = min(waits) - self.now_s if waits else None
        if not ready:
            return Due(False, next_s)
        size = sum(self.sizes.get(inode, 0) for inode in ready)
        gathers = next_s is not None and next_s <= GATHER_S
        young = self.now_s - min(ready.values()) < MOST_GATHER_S
        if gathers and young and size < ENOUGH_BYTES:
            return Due(False, next_s)
        return Due(True, 0.0)

    def due_s(self, inode: InodeNo, state: InodeState) -> float:
        since_s = self.clock.since_s(state.since_ns)
        if inode == FOLDER:
            return self.settling.calm_s(since_s, self.clock.since_s(state.touched_ns))
        return self.settling.due_s(inode, since_s)

    def write(self, inode: InodeNo, size: int, nlink: int = 1) -> None:
        self.change(inode, Kind.FILE, size, nlink)
        self.sizes[inode] = size
        self.settling.touched(inode, self.now_s)

    def change(self, inode: InodeNo, kind: Kind, size: int = 0, nlink: int = 1) -> None:
        self.serial += 1
        old = self.inodes.get(inode)
        now_ns = int(self.now_s * 1e9)
        row = LocalInode(kind, 0o644, 0, 0, now_ns, now_ns, nlink, size_bytes=size)
        since_ns = now_ns if old is None else old.since_ns
        self.inodes[inode] = InodeState(row, Serial(self.serial), since_ns, now_ns)
        self.news.add(inode)

    def save(self, inode: InodeNo) -> None:
        self.inodes.pop(inode, None)
        self.sizes.pop(inode, None)
        self.settling.saved(inode)


def steps() -> st.SearchStrategy[list[tuple[str, InodeNo, float]]]:
    kinds = st.sampled_from(
        ["write", "large", "orphan", "entry", "open", "close", "save", "wait", "wait", "lose"]
    )
    waits = st.sampled_from([0.01, 0.05, 0.3, 0.5, 1.0, 31.0, 301.0])
    return st.lists(st.tuples(kinds, st.sampled_from(NUMBERS), waits), max_size=40)


@given(steps())
def test_it_decides_as_if_it_had_looked_at_everything(
    history: list[tuple[str, InodeNo, float]],
) -> None:
    """A file would be forgotten and stay unsaved, or be saved while it is being written."""
    unsaved = Unsaved()
    for kind, inode, wait_s in history:
        act(unsaved, kind, inode, wait_s)
        found, expected = unsaved.look(), unsaved.look_through()
        assert found.now == expected.now
        assert found.look_again_s == pytest.approx(expected.look_again_s, abs=1e-5)


def act(unsaved: Unsaved, kind: str, inode: InodeNo, wait_s: float) -> None:
    match kind:
        case "write":
            unsaved.write(inode, 100)
        case "large":
            unsaved.write(inode, 10 * MIB)
        case "orphan":
            unsaved.write(inode, 100, nlink=0)
        case "entry":
            unsaved.change(FOLDER, Kind.FOLDER)
        case "open":
            unsaved.settling.opened(inode)
        case "close" if unsaved.settling.writers(inode):
            unsaved.settling.closed(inode, unsaved.now_s)
        case "save":
            unsaved.save(inode)
        case "wait":
            unsaved.now_s += wait_s
        case "lose":
            unsaved.unreadable.add(inode)


def test_a_look_costs_what_has_changed() -> None:
    """With a hundred thousand unsaved files all of a core would go into looking through them."""
    unsaved = Unsaved()
    for number in range(2000):
        unsaved.write(InodeNo(100 + number), 10)
        unsaved.settling.opened(InodeNo(100 + number))
    unsaved.look()
    asked: list[InodeNo] = []
    due_s = unsaved.settling.due_s

    def counted(inode: InodeNo, since_s: float) -> float:
        asked.append(inode)
        return due_s(inode, since_s)

    unsaved.settling.due_s = counted  # type: ignore[method-assign]
    for _ in range(100):
        unsaved.now_s += 0.05
        unsaved.write(NUMBERS[0], 10)
        unsaved.look()
    assert len(asked) < 1000


def test_a_closed_file_is_due_soon() -> None:
    """What was written would stay unsaved for half a minute, as if it were open still."""
    unsaved = Unsaved()
    for inode in NUMBERS[1], NUMBERS[0]:
        unsaved.settling.opened(inode)
        unsaved.write(inode, 100)
        unsaved.now_s += 1
        unsaved.look()
    assert unsaved.look().look_again_s == pytest.approx(OPEN_S - 2)
    unsaved.settling.closed(NUMBERS[0], unsaved.now_s)
    assert unsaved.look().look_again_s == pytest.approx(SETTLE_S)


def test_entries_that_are_made_put_off_the_commit_of_their_directory() -> None:
    """Each second of unpacking an archive would commit the times of a directory, and no file."""
    unsaved = Unsaved()
    for _ in range(10):
        unsaved.change(FOLDER, Kind.FOLDER)
        assert not unsaved.look().now
        unsaved.now_s += SETTLE_S - 0.1
    unsaved.now_s += 0.1
    assert unsaved.look().now


def test_what_others_do_not_know_of_a_renamed_directory_of_objects() -> None:
    """It would be committed without its files (N2)."""
    before: dict[InodeNo, InodeRow] = {}
    unsaved = Unsaved()
    number, other = InodeNo(FIRST_NATIVE_INODE + 1), InodeNo(100)
    for inode in (number, other):
        unsaved.change(inode, Kind.FOLDER)
        state = unsaved.inodes[inode]
        assert isinstance(state.value, LocalInode)
        unsaved.inodes[inode] = replace(state, value=replace(state.value, parent=ROOT_INODE))
    view = dataclasses.replace(unsaved.view, tree_inode=before.get)

    def detached_in() -> list[InodeNo | None]:
        inodes, _ = choices(view, unsaved.settling, unsaved.clock, hurry=True)
        return [inodes[inode].detached_in for inode in (number, other)]

    assert detached_in() == [ROOT_INODE, None]
    before[number] = InodeRow(Kind.FOLDER, 0o755, 0, 0, 1, 1, 1, prefix="photos/")
    assert detached_in() == [ROOT_INODE, None]
    before[number] = replace(before[number], prefix=None)
    assert detached_in() == [None, None]
