"""Let the tree of a mount begin from a checkpoint of the bucket, where that is better or needed.

What is unsaved here stays: it lies over the new tree as it lay over the old one, unless somebody
else changed the same meanwhile. Then the tree stays as it is, and saving stops with a word.

Concurrency: for the one task that commits.
"""

import logging
from collections.abc import Iterator

from blobfs.errors import Changed, Damaged, Unsupported
from blobfs.formats.checkpoint import Checkpoint
from blobfs.formats.commit import Counters
from blobfs.formats.entry import entry_hash
from blobfs.formats.head import Head
from blobfs.formats.rows import DirentRow, InodeRow, Kind
from blobfs.formats.tables import Table, hidden_key
from blobfs.model.beginning import Beginning, Here, beginning, is_contested
from blobfs.model.changes import HIDDEN_FOLDER, LocalDirent, hidden_by
from blobfs.model.commit_outcome import Author
from blobfs.stores.base import Store
from blobfs.types import ROOT_INODE, InodeNo, Seq
from blobfs.volume.checkpoint_finding import find_checkpoint
from blobfs.volume.client import Identity
from blobfs.volume.orphans import Orphans
from blobfs.volume.presence import Volume
from blobfs.volume.registration import copied_at
from blobfs.volume.tree import Tree
from blobfs.volume.tree_base import Key, Prepared
from blobfs.volume.tree_blocks import NotLoaded
from blobfs.volume.tree_rows import dirent_key, number_key
from blobfs.volume.unsaved import Unsaved

log = logging.getLogger("blobfs.checkpoint")


class Contested(Changed):
    """Another client committed a change of what is unsaved here. Nothing is lost on either side."""

    hint = "what is unsaved stays on this machine; copy it elsewhere to keep it as well"


class BelowUnsaved:
    """The tree, for the unsaved rows that lie over it.

    What lies below them is loaded before they change, but a power cut may take back the last
    blocks that were. Until `Beginner.begin` has loaded them again, any row may be there.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def inode(self, inode: InodeNo) -> InodeRow | None:
        try:
            return self._tree.inode(inode)
        except NotLoaded:
            return _ANY_INODE

    def dirent(self, parent: InodeNo, name: bytes) -> DirentRow | None:
        try:
            return self._tree.dirent(parent, name)
        except NotLoaded:
            return _ANY_DIRENT

    def counters(self) -> Counters:
        return self._tree.counters()


class Beginner:
    """Makes the tree begin. `volume` is what was found when the bucket was opened."""

    def __init__(
        self,
        *,
        store: Store,
        tree: Tree,
        unsaved: Unsaved,
        orphans: Orphans,
        identity: Identity,
        volume: Volume,
    ) -> None:
        self._store = store
        self._tree = tree
        self._unsaved = unsaved
        self._orphans = orphans
        self._identity = identity
        self._origin = volume.origin
        self._first_head = volume.head

    async def begin_once(self) -> None:
        """Begin as `begin` does, by the `head` that was found, until that succeeded once."""
        if self._first_head is not None:
            await self.begin(self._first_head)
            self._first_head = None

    async def begin(self, head: Head) -> None:
        """Begin from a checkpoint if that is worth it, or if there is no other way; `head` is new.

        In the end all rows that lie below unsaved ones are loaded.

        Raises:
            Contested: another client changed what is unsaved here.
            Damaged: neither a checkpoint nor the log leads to what the volume holds now.
            BlobfsError: the store failed us.
        """
        what = beginning(head, self._here())
        if what is not Beginning.LEFT and not await self._begin_from_any(head, what):
            await self._begin_without(head, what)
        if self._tree.missing(self._wanted()):
            await self._tree.load_keys(self._wanted())
            self._follow_tree()

    async def _begin_from_any(self, head: Head, what: Beginning) -> bool:
        """Begin from the newest checkpoint that is whole, as far as can be seen."""
        while (found := await find_checkpoint(self._store, head, self._tree.doubted())) is not None:
            if what is Beginning.WORTHWHILE and found[1].seq <= self._tree.position.seq:
                break  # an older one, because the newest cannot be read
            try:
                prepared = await self._prepare(*found)
            except (Damaged, Unsupported) as error:
                log.error("a checkpoint cannot be used: %s", error)
                continue  # it is doubted from now on
            await self._begin_from(prepared)
            return True
        return False

    async def _prepare(self, name: str, checkpoint: Checkpoint) -> Prepared:
        """Prepare to begin from a checkpoint, with all that lies below what is unsaved by then.

        Raises: as `Tree.prepare`.
        """
        while True:
            wanted = frozenset(self._wanted())
            prepared = await self._tree.prepare(name, checkpoint, wanted)
            if wanted.issuperset(self._wanted()):
                return prepared

    async def _begin_from(self, prepared: Prepared) -> None:
        self._require_uncontested(prepared)
        self._orphans.note_before_replay()
        await self._tree.begin(prepared)
        self._follow_tree()
        log.info("the tree begins from a checkpoint. name=%s", prepared.name)

    async def _begin_without(self, head: Head, what: Beginning) -> None:
        """Go on without a checkpoint.

        Raises:
            Damaged: the log has not everything either.
        """
        if what is Beginning.NEEDED:
            raise Damaged(
                f"no checkpoint of the volume can be read, and its log was cut. "
                f"checkpoint={head.checkpoint!r} floor={head.floor} store={self._store.url}",
                hint="nothing was changed; run `blobfs check`, and bring back what is missing",
            )
        if what is Beginning.ANEW and not head.floor:
            log.warning("no checkpoint can be used: the whole log is replayed")
            await self._tree.begin_empty(self._origin.chain)

    def _follow_tree(self) -> None:
        self._unsaved.holdings.follow_tree(tuple(self._unsaved.inode_states))

    def _here(self) -> Here:
        base = self._tree.base
        return Here(
            self._tree.position.seq,
            is_doubted=base is not None and base in self._tree.doubted(),
            has_unsaved=bool(self._unsaved.inode_states or self._unsaved.dirent_states),
        )

    def _wanted(self) -> Iterator[Key]:
        """Yield the rows that are asked for where nobody can wait: those below unsaved ones.

        And the root's, which everybody asks for first.
        """
        yield Table.INODES, number_key(ROOT_INODE)
        for inode in (*self._unsaved.inode_states, *self._orphans):
            yield Table.INODES, number_key(inode)
        for key in self._unsaved.dirent_states:
            if key[0] == HIDDEN_FOLDER:
                yield Table.HIDDEN, hidden_key(*hidden_by(key))
            else:
                yield Table.DIRENTS, dirent_key(*key)

    def _require_uncontested(self, prepared: Prepared) -> None:
        own_seq = self._own_seq(prepared)
        for inode in self._unsaved.inode_states:
            if is_contested(self._tree.inode(inode), prepared.inode(inode), own_seq):
                raise _contested(f"inode={inode}", prepared)
        for (parent, name), state in self._unsaved.dirent_states.items():
            before, now = self._tree.dirent(parent, name), prepared.dirent(parent, name)
            mine = state.value if isinstance(state.value, LocalDirent) else None
            is_same = mine is not None and now is not None and mine.inode == now.inode
            if not is_same and is_contested(before, now, own_seq):
                raise _contested(f"name={name!r}", prepared)

    def _own_seq(self, prepared: Prepared) -> Seq:
        """Return this client's last commit in the checkpoint, 0 where it has none.

        Raises:
            Copied: a copy of it made that; no commit is under way any more (L6).
        """
        last = prepared.client(self._identity.client)
        if last is None:
            return Seq(0)
        intent = self._unsaved.intent
        if intent is not None and entry_hash(intent.entry) == last.hash:
            return last.seq
        if self._identity.author_of_last(last) is Author.COPY:
            if intent is not None:
                # If it landed, so did what the copy built on it: then it shows as contested.
                self._unsaved.note_outcome(intent.seq, "void")
            raise copied_at(last.seq)
        return last.seq


def _contested(what: str, prepared: Prepared) -> Contested:
    return Contested(
        f"another client changed what is unsaved here. {what} checkpoint={prepared.name}"
    )


_ANY_INODE = InodeRow(Kind.FILE, 0, 0, 0, 0, 0, 0)
_ANY_DIRENT = DirentRow(ROOT_INODE, Kind.FILE)
