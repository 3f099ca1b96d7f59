"""Choose which unsaved rows the next commit takes. Pure: values in, values out.

Rows that name the same inode form a *group*, taken together or not at all: a rename is two
names and one inode, and whoever saw only one of the names would see the file twice or
not at all. A group that holds a file which is still being written waits. One group can need
another: a new entry its new directory, a removed directory the removal of what lay in it.
What waits makes those wait that need it.

A directory that was renamed and shows native objects no more needs all of these as rows: whoever
saw it without them would see a directory without its files.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from blobfs.model.changes import DirentKey
from blobfs.model.numbers import is_native
from blobfs.types import InodeNo


@dataclass(frozen=True, slots=True)
class InodeState:
    """What matters of an unsaved inode row."""

    since_s: float
    """When it became unsaved; any clock, as long as it is one."""
    unsaved_bytes: int = 0
    held: bool = False
    """Still being written: not now."""
    is_new_folder: bool = False
    is_gone_folder: bool = False
    detached_in: InodeNo | None = None
    """Of a directory that shows native objects no more, though the replayed tree does not know
    that: where it lies. Those that lie in each other go together."""
    is_lost: bool = False
    """Held until its content is given up: nothing is kept waiting by it."""


@dataclass(frozen=True, slots=True)
class NameState:
    """What an unsaved dirent leads to: `before` in the replayed tree, `after` now; 0 for none."""

    before: InodeNo
    after: InodeNo


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows that can be committed together, oldest first."""

    inodes: tuple[InodeNo, ...]
    names: tuple[DirentKey, ...]

    def __bool__(self) -> bool:
        return bool(self.inodes or self.names)


@dataclass(slots=True)
class _Group:
    inodes: list[InodeNo] = field(default_factory=list)
    names: list[DirentKey] = field(default_factory=list)
    needs: set[InodeNo] = field(default_factory=set)
    since_s: float = 0.0
    unsaved_bytes: int = 0
    waits: bool = False


def select(
    inodes: Mapping[InodeNo, InodeState], names: Mapping[DirentKey, NameState], most_bytes: int
) -> Selection:
    """Return the oldest groups that need not wait, of about `most_bytes` of unsaved content.

    At least one group is taken where there is one, however large.
    """
    groups = _groups(inodes, names)
    _spread_waiting(groups)
    chosen: dict[InodeNo, None] = {}
    taken_bytes = 0
    for root in sorted(groups, key=lambda root: groups[root].since_s):
        if groups[root].waits or root in chosen:
            continue
        if taken_bytes and taken_bytes + groups[root].unsaved_bytes > most_bytes:
            break
        for each in _with_needs(groups, root):
            if each not in chosen:
                chosen[each] = None
                taken_bytes += groups[each].unsaved_bytes
    return Selection(
        inodes=tuple(inode for root in chosen for inode in groups[root].inodes),
        names=tuple(name for root in chosen for name in groups[root].names),
    )


def _groups(
    inodes: Mapping[InodeNo, InodeState], names: Mapping[DirentKey, NameState]
) -> dict[InodeNo, _Group]:
    """Return the groups by the inode that stands for each."""
    sets = _DisjointSets()
    for state in names.values():
        if state.before and state.after:
            sets.join(state.before, state.after)
    for inode, inode_state in inodes.items():
        above = inode_state.detached_in
        if above is not None and above in inodes and inodes[above].detached_in is not None:
            sets.join(inode, above)
    groups: dict[InodeNo, _Group] = defaultdict(_Group)
    for inode, inode_state in inodes.items():
        group = groups[sets.find(inode)]
        group.since_s = (
            min(group.since_s, inode_state.since_s) if group.inodes else (inode_state.since_s)
        )
        group.inodes.append(inode)
        group.unsaved_bytes += inode_state.unsaved_bytes
        group.waits |= inode_state.held
    for (parent, name), state in names.items():
        root = sets.find(state.after or state.before)
        groups[root].names.append((parent, name))
        _note_needs(groups, root, sets.find(parent), inodes.get(parent), state)
        if _goes_with_folder(inodes, parent, state):
            groups[sets.find(parent)].needs.add(root)
    return groups


def _note_needs(
    groups: dict[InodeNo, _Group],
    root: InodeNo,
    folder_root: InodeNo,
    folder: InodeState | None,
    state: NameState,
) -> None:
    if folder is None or root == folder_root:
        return
    if folder.is_new_folder and state.after:
        groups[root].needs.add(folder_root)
    if folder.is_gone_folder:
        groups[folder_root].needs.add(root)


def _goes_with_folder(
    inodes: Mapping[InodeNo, InodeState], parent: InodeNo, state: NameState
) -> bool:
    """Whether a name is that of an object which its directory showed before it was renamed."""
    folder, inode = inodes.get(parent), inodes.get(state.after)
    if folder is None or folder.detached_in is None or inode is None:
        return False
    return is_native(state.after) and not inode.is_lost


def _spread_waiting(groups: Mapping[InodeNo, _Group]) -> None:
    """Let every group wait that needs one which waits."""
    needed_by: dict[InodeNo, list[InodeNo]] = defaultdict(list)
    for root, group in groups.items():
        for needed in group.needs:
            needed_by[needed].append(root)
    waiting = [root for root, group in groups.items() if group.waits]
    while waiting:
        for root in needed_by[waiting.pop()]:
            if not groups[root].waits:
                groups[root].waits = True
                waiting.append(root)


def _with_needs(groups: Mapping[InodeNo, _Group], root: InodeNo) -> Iterator[InodeNo]:
    """Yield a group and all that it needs, directly or not."""
    seen = {root}
    ahead = [root]
    while ahead:
        current = ahead.pop()
        yield current
        fresh = groups[current].needs - seen
        seen |= fresh
        ahead.extend(sorted(fresh))


class _DisjointSets:
    """Union-find with path halving (Tarjan 1975)."""

    def __init__(self) -> None:
        self._above: dict[InodeNo, InodeNo] = {}

    def find(self, member: InodeNo) -> InodeNo:
        above = self._above
        while (parent := above.get(member, member)) != member:
            above[member] = above.get(parent, parent)
            member = parent
        return member

    def join(self, one: InodeNo, other: InodeNo) -> None:
        self._above[self.find(one)] = self.find(other)
