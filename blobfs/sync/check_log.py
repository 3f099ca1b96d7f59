"""Check a volume's log: every commit is there, whole, in its chain, and can be replayed.

Mounts stop at the first entry that is not right; a check names it and goes on behind it, so that
all packs that commits name are known. What lies behind cannot be replayed any more, by anybody.

Concurrency: slots are read side by side, and taken in one after the other.
"""

from collections.abc import Callable, Mapping, Sequence

import trio

from blobfs.errors import Damaged, NotFound
from blobfs.formats.keys import log_key
from blobfs.model.chain import Landed, Position, follow
from blobfs.stores.base import Store
from blobfs.sync.check_report import Findings
from blobfs.sync.slots import last_slot
from blobfs.types import PackName, Seq
from blobfs.volume.log_entries import open_entry
from blobfs.volume.tree import Tree

ENTRIES_AT_ONCE = 128
PARALLEL = 16

Stops = Mapping[Seq, Sequence[Callable[[], None]]]
"""What to do when the tree is at these commits."""


class LogCheck:
    """Reads the log behind what `tree` holds, and replays it into that."""

    def __init__(
        self,
        store: Store,
        tree: Tree,
        findings: Findings,
        *,
        stops: Stops,
        watch: Callable[[Landed], None],
    ) -> None:
        self._store = store
        self._tree = tree
        self._findings = findings
        self._stops = stops
        self._watch = watch
        self._position: Position | None = None
        """Where the next entry has to follow; None: nobody knows, for one is not right."""
        self.tip = Seq(0)
        self.broken: dict[Seq, str] = {}
        """Commits that are not right, and why."""
        self.packs: dict[PackName, int] = {}
        """All that entries name, and the size that one says each has; 0 where none does."""

    async def run(self) -> None:
        """Check all entries that are there now.

        Raises:
            Unsupported: a newer version of blobfs wrote one.
            BlobfsError: the store failed us.
        """
        self.tip = await last_slot(self._store, self._note_odd)
        self._position = self._tree.position
        self._reached()
        for first in range(self._position.seq + 1, self.tip + 1, ENTRIES_AT_ONCE):
            numbers = range(first, min(first + ENTRIES_AT_ONCE, self.tip + 1))
            found = await self._open(numbers)
            landed = [self._take(Seq(number), found[number]) for number in numbers]
            await self._replay([each for each in landed if each is not None])
        if self.broken:
            last = self._tree.position.seq
            self._findings.notes.append(
                f"commits behind {last} cannot be replayed from the bucket alone: only what was "
                f"committed up to {last} was checked file by file"
            )

    def _note_odd(self, key: str) -> None:
        self._findings.notes.append(f"this is no commit's name: {key!r}")

    async def _open(self, numbers: range) -> dict[int, Landed | Damaged]:
        found: dict[int, Landed | Damaged] = {}
        limit = trio.CapacityLimiter(PARALLEL)

        async def look(number: int) -> None:
            async with limit:
                try:
                    data = (await self._store.get(log_key(Seq(number)))).data
                    found[number] = await open_entry(self._store, Seq(number), bytes(data))
                except NotFound:
                    found[number] = Damaged("the commit is missing")
                except Damaged as error:
                    found[number] = error

        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(look, number)
        return found

    def _take(self, seq: Seq, found: Landed | Damaged) -> Landed | None:
        """Note an entry that was read, and what is wrong with it."""
        if isinstance(found, Damaged):
            self._break(seq, found)
            self._position = None
            return None
        if self._position is not None:
            try:
                follow(self._position, found)
            except Damaged as error:
                self._break(seq, error)
        self._position = found.position
        for pack in found.entry.packs:
            self.packs[pack.name] = pack.brought_bytes or self.packs.get(pack.name, 0)
        self._watch(found)
        return found

    def _break(self, seq: Seq, error: Damaged) -> None:
        self.broken.setdefault(seq, str(error))

    async def _replay(self, landed: Sequence[Landed]) -> None:
        group: list[Landed] = []
        for each in landed:
            if each.entry.seq == self._tree.position.seq + len(group) + 1:
                group.append(each)  # what lies behind a gap stays out
            if each.entry.seq in self._stops:
                await self._apply(group)
                group = []
        await self._apply(group)

    async def _apply(self, group: Sequence[Landed]) -> None:
        if not group:
            return
        try:
            await self._tree.replay(group)
        except Damaged as error:
            if len(group) > 1:
                for each in group:
                    await self._apply([each])
            elif not self.broken:  # what lies behind cannot be applied either, and that is all
                self._break(group[0].entry.seq, error)
            return
        self._reached()

    def _reached(self) -> None:
        for stop in self._stops.get(self._tree.position.seq, ()):
            stop()
