"""Keep every entry that was ever spelled, and what follows from it: a tree, counters, numbers."""

from typing import NamedTuple

from blobfs.model.commit_outcome import Authored
from tests.protocol.values import ORIGIN, Change, Entry, Number, Tree


class Replayed(NamedTuple):
    """What the log up to an entry adds up to."""

    tree: Tree = Tree()
    clients: dict[str, Authored] = {}  # noqa: RUF012 - never changed
    """The last commit of each client, as a checkpoint records it."""
    seqs: dict[str, int] = {}  # noqa: RUF012 - never changed
    numbers: frozenset[Number] = frozenset()
    ops: frozenset[tuple[str, str]] = frozenset()
    """With the machine that spelled them."""


class History:
    """The entries of all worlds of one search. Equal ones have the same hash."""

    def __init__(self) -> None:
        self._hashes: dict[Entry, bytes] = {}
        self._entries: dict[bytes, Entry] = {}
        self._replayed: dict[bytes, Replayed] = {ORIGIN: Replayed()}

    def note(self, entry: Entry) -> bytes:
        """Return the hash of an entry."""
        found = self._hashes.get(entry)
        if found is None:
            found = self._hashes[entry] = b"#%d" % (len(self._hashes) + 1)
            self._entries[found] = entry
        return found

    def entry(self, hash: bytes) -> Entry:
        return self._entries[hash]

    def replayed(self, hash: bytes) -> Replayed:
        """Return what a client holds that has replayed everything up to this entry, blindly."""
        found = self._replayed.get(hash)
        if found is None:
            entry = self._entries[hash]
            before = self.replayed(entry.previous)
            found = self._replayed[hash] = Replayed(
                apply(before.tree, entry.changes),
                before.clients | {entry.client: Authored(entry.client, entry.counter, hash)},  # type: ignore[arg-type]
                before.seqs | {entry.client: entry.seq},
                before.numbers | {change.number for change in entry.changes},
                before.ops | {(op, entry.machine) for op in entry.ops},
            )
        return found


def apply(tree: Tree, changes: tuple[Change, ...]) -> Tree:
    """Return the tree after changes that are done as they are said (L1)."""
    for change in changes:
        if change.is_shared:
            tree = tree._replace(shared=change.op)
        else:
            tree = tree._replace(own=tree.own | {change.op})
    return tree
