"""Remove the bytes of native objects that were given up, where a volume keeps no trash (N5).

    entries that were replayed -> objects that are kept -> not open here, the version that is
    meant: DELETE -> a commit says that they are gone

What is to be removed is a row of the replayed tree until that commit was replayed. So nothing is
removed for an entry that did not land, and nothing is forgotten: who was killed anywhere between
removes what is gone already, and says so. An ETag alone does not tell an object from the same
bytes put there again, so its time is looked at just before.

Who gave an object up removes it at once, and waits only while a program here has it open. Others
do so an hour later: by then it was killed, or is away, and nobody should pay for that for ever.

Concurrency: one task, with a few deletes side by side. Failures are tried again, later and later,
and concern no program.
"""

import logging
import math
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError, Changed, NotFound
from blobfs.formats.commit import DropNative
from blobfs.formats.rows import Native
from blobfs.formats.tables import Kept, kept_of
from blobfs.formats.version import is_same_version, spell_version
from blobfs.model.backoff import backoff_s
from blobfs.model.changes import LocalInode
from blobfs.model.listing import RESERVED_NAME, to_segment
from blobfs.stores.base import Store
from blobfs.sync.delete_probe import DeleteProbe
from blobfs.types import ClientId
from blobfs.volume.known_settings import KnownSettings
from blobfs.volume.orphans import Orphans
from blobfs.volume.tree import Tree
from blobfs.volume.tree_kept import KeptObject
from blobfs.volume.unsaved import Unsaved

PARALLEL = 8
"""Objects that are removed side by side."""
LONGEST_PAUSE_S = 600.0

Version = tuple[bytes, str]
"""The key of an object, and which version of it."""

log = logging.getLogger("blobfs.trash")


@dataclass(frozen=True, slots=True)
class TrashRules:
    """When what was given up is removed, where it is not kept for a time."""

    others_after_s: float = 3600.0
    """What another client gave up."""
    open_look_s: float = 5.0
    """How often is looked whether a program has closed what was removed."""
    note_after_s: float = 5.0
    """How long a commit of something else is waited for that says what is gone, too."""
    first_pause_s: float = 5.0
    """After a failure; later ones double it."""


class OpenObjects:
    """Which versions of objects are read through this mount though they may be given up."""

    def __init__(self, orphans: Orphans, unsaved: Unsaved) -> None:
        self._orphans = orphans
        self._unsaved = unsaved

    def __call__(self) -> frozenset[Version]:
        """Return those of files without a name that are open, and those below unsaved changes."""
        rows = (self._orphans.committed(inode) for inode in self._orphans)
        committed = (row.content for row in rows if row is not None)
        states = (state.value for state in self._unsaved.inode_states.values())
        unsaved = (row.bound for row in states if isinstance(row, LocalInode))
        natives = (each for each in (*committed, *unsaved) if isinstance(each, Native))
        return frozenset((native.key, native.version) for native in natives)


class Trash:
    """The objects of one volume that were given up, as the client `me` removes them."""

    def __init__(
        self,
        *,
        store: Store,
        tree: Tree,
        settings: KnownSettings,
        probe: DeleteProbe,
        open_objects: Callable[[], Collection[Version]],
        me: ClientId,
        rules: TrashRules,
        env: Env,
    ) -> None:
        self._store = store
        self._tree = tree
        self._settings = settings
        self._probe = probe
        self._open_objects = open_objects
        self._me = me
        self._rules = rules
        self._env = env
        self._news = trio.Event()
        self._removed: set[Version] = set()
        """Those of which no commit says yet that they are gone."""
        self._notes_due = trio.Event()
        self._failures = 0
        self._failure: str | None = None

    @property
    def problem(self) -> str | None:
        """Why objects are kept that should not be; None: nothing is known to speak against it."""
        if self._settings.now.trash_time_s or not self._tree.kept().objects:
            return None
        return self._probe.problem or self._failure

    def kept(self) -> Kept:
        """Return what the objects come to that were given up and are not known to be gone."""
        kept, gone = self._tree.kept(), [kept_of(note.version) for note in self.notes()]
        return Kept(kept.objects - len(gone), kept.bytes - sum(each.bytes for each in gone))

    def note_news(self) -> None:
        """Note that a commit of this client may have been replayed."""
        self._news.set()

    # -- what a commit says ------------------------------------------------------------

    def notes(self) -> tuple[DropNative, ...]:
        """Return what the next commit is to say: which objects are gone by now."""
        if self._removed:
            kept = {(each.key, each.version) for each in self._tree.kept_objects()}
            self._removed &= kept  # a commit said it of the others
        return tuple(DropNative(*version) for version in sorted(self._removed))

    @property
    def are_notes_due(self) -> bool:
        """Whether that has waited long enough for a commit of something else."""
        return self._notes_due.is_set() and bool(self.notes())

    async def wait_notes_due(self) -> None:
        """Return when `are_notes_due` may hold."""
        await self._notes_due.wait()

    # -- removing ----------------------------------------------------------------------

    async def run(self) -> None:
        """Remove what is to be removed, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_settings)
            while True:
                self._news = trio.Event()
                try:
                    again_s = await self._remove_due()
                    self._note_success()
                except BlobfsError as error:
                    await self._pause_after(str(error))
                    continue
                except Exception as error:
                    # The objects are kept, which is no more than a cost.
                    log.exception("removing objects failed for a reason of our own")
                    await self._pause_after(f"{type(error).__name__}: {error}")
                    continue
                await self._wait(again_s)

    async def _watch_settings(self) -> None:
        while True:
            await self._settings.wait_changed()
            self._news.set()

    async def _wait(self, again_s: float) -> None:
        """Wait for news, for so long at most; let what was removed be noted if none come."""
        if self._notes_due.is_set():
            self._notes_due = trio.Event()
        if not self.notes():
            with trio.move_on_after(again_s):
                await self._news.wait()
            return
        with trio.move_on_after(min(again_s, self._rules.note_after_s)) as quiet:
            await self._news.wait()
        if quiet.cancelled_caught:
            self._notes_due.set()
            with trio.move_on_after(again_s):
                await self._news.wait()

    async def _remove_due(self) -> float:
        """Remove what is due; return when to look again, in seconds."""
        if self._settings.now.trash_time_s:
            return math.inf
        if not self._tree.kept().objects:
            return self._rules.others_after_s  # nobody tells of what they commit
        if not await self._passes():
            return math.inf
        await self._tree.load_kept()
        due, again_s = self._due()
        if due:
            await self._remove_all(due)
        return again_s

    async def _passes(self) -> bool:
        was_known = self._probe.problem is not None
        passes = await self._probe.passes()
        if not passes and not was_known:
            log.warning("removed objects are kept whatever the trash time: %s", self._probe.problem)
        return passes

    def _due(self) -> tuple[list[KeptObject], float]:
        """Return what may go now, and in how many seconds more of it may."""
        due: list[KeptObject] = []
        again_s = self._rules.others_after_s
        is_open, now_ns = self._open_objects(), self._env.now_ns()
        for each in self._tree.kept_objects():
            version = each.key, each.version
            waits_s = 0.0
            if each.client != self._me:
                waits_s = self._rules.others_after_s - (now_ns - each.unlinked_ns) / 1e9
            if version in self._removed or RESERVED_NAME in each.key.split(b"/"):
                continue  # what blobfs keeps is nobody's object, whoever says so (N7)
            if version in is_open:
                again_s = min(again_s, self._rules.open_look_s)
            elif waits_s > 0:
                again_s = min(again_s, waits_s)
            else:
                due.append(each)
        return due, again_s

    async def _remove_all(self, due: Iterable[KeptObject]) -> None:
        """Remove all that can be removed.

        Raises:
            BlobfsError: the first thing that went wrong.
        """
        failures: list[BlobfsError] = []
        limit = trio.CapacityLimiter(PARALLEL)

        async def remove(each: KeptObject) -> None:
            async with limit:
                try:
                    await self._remove(each)
                    self._removed.add((each.key, each.version))
                except BlobfsError as error:
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for each in due:
                nursery.start_soon(remove, each)
        if self._removed:
            log.info("objects that were given up are gone. objects=%d", len(self._removed))
        if failures:
            raise failures[0]

    async def _remove(self, each: KeptObject) -> None:
        """Remove a version of an object; one that is gone, or another by now, needs no more."""
        key = to_segment(each.key)
        with suppress(NotFound):
            found = await self._store.head(key)
            etag = "" if key.endswith("/") else found.etag  # a marker's version has none
            version = spell_version(etag, found.size_bytes, found.mtime_ns)
            if is_same_version(each.version, version):
                with suppress(Changed):
                    await self._store.delete_if_match(key, found.etag)
                self._env.crash_point("trash.removed")
                log.debug("removed an object. key=%r version=%r", key, version)

    def _note_success(self) -> None:
        if self._failures:
            log.info("removing objects goes on")
        self._failures, self._failure = 0, None

    async def _pause_after(self, problem: str) -> None:
        self._failures += 1
        self._failure = problem
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        log.log(
            level,
            "objects could not be removed, and will be later. failures=%d (%s)",
            self._failures,
            problem,
        )
        first_s, chance = self._rules.first_pause_s, self._env.chance()
        await trio.sleep(backoff_s(self._failures, first_s, LONGEST_PAUSE_S, chance))
