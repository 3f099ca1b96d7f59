"""Check a volume: bucket against log, and what this machine has against both.

    checkpoints -> log, replayed into a tree of its own -> packs -> files -> clients

Nothing is changed. What is damaged is named, and everything else is checked all the same; only what
cannot be asked (the store is away, a newer version wrote it) ends a check.
"""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from blobfs.env import Env
from blobfs.errors import Damaged, NotFound
from blobfs.formats.client import decode_client
from blobfs.formats.head import Head
from blobfs.formats.keys import CLIENTS, LOG, head_key, log_key, volume_key
from blobfs.formats.rows import Kind
from blobfs.formats.volume import decode_volume
from blobfs.model.chain import Landed
from blobfs.stores.base import Store
from blobfs.sync.binding import JOURNAL
from blobfs.sync.check_checkpoints import (
    CheckpointCheck,
    Found,
    fetch_blocks,
    load_checkpoint,
    packs_of,
)
from blobfs.sync.check_files import FileCheck, walk
from blobfs.sync.check_local import Kept, Rebuilt, Shown, open_kept, rebuild
from blobfs.sync.check_log import LogCheck
from blobfs.sync.check_packs import Packs, Progress, find_packs, read_packs
from blobfs.sync.check_report import Affected, CheckReport, Findings, UnsavedReport
from blobfs.sync.check_unsaved import UnsavedCheck
from blobfs.sync.slots import list_all
from blobfs.types import Seq
from blobfs.volume.presence import Volume, look
from blobfs.volume.tree import Tree, open_tree
from blobfs.volume.tree_blocks import NotLoaded


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What to look at, besides the bucket."""

    scratch: Path
    """An empty folder for the tree that the log is replayed into."""
    read_data: bool = False
    state_dir: Path | None = None
    """What this machine keeps, held by the caller; None: nothing, or the volume is mounted."""
    shown: Shown | None = None
    """What the mount shows, where it is mounted."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found, and what has to be known to make local state anew."""

    report: CheckReport
    volume: Volume
    checkpoint: Found | None
    """The newest one with which nothing is wrong."""
    kept_seq: Seq | None
    """Where the local tree is, if it can be read."""
    own_seq: Seq
    has_unsaved: bool


async def check(
    store: Store, options: CheckOptions, env: Env, progress: Progress = lambda done, total: None
) -> Checked:
    """Check the volume in `store`, and tell.

    Raises:
        NotFound: there is no volume.
        Unsupported: a newer version of blobfs wrote some of it.
        BlobfsError: the store failed us.
    """
    findings = Findings()
    volume = await _open_volume(store, findings)
    async with AsyncExitStack() as stack:
        kept = None
        if options.state_dir is not None:
            kept = await stack.enter_async_context(
                open_kept(options.state_dir, volume, findings, env)
            )
        scratch = await stack.enter_async_context(
            open_tree(
                options.scratch, volume.info.id, volume.origin.chain, partial(fetch_blocks, store)
            )
        )
        check = _Check(store, findings, options, scratch, kept, progress)
        await check.run(volume, env)
        unsaved = None
        if kept is not None:
            unsaved = await UnsavedCheck(kept.folder / JOURNAL, store, scratch, findings, env).run()
        kept_seq = None if kept is None or kept.tree is None else kept.tree.position.seq
        return Checked(
            report=check.report(volume, unsaved),
            volume=volume,
            checkpoint=check.newest_whole,
            kept_seq=kept_seq,
            own_seq=Seq(0) if kept is None else kept.own_seq,
            has_unsaved=kept is not None and kept.has_unsaved,
        )


async def repair(store: Store, checked: Checked, state_dir: Path, env: Env) -> Rebuilt:
    """Make the local tree anew from the bucket; return what it is now.

    Raises:
        Damaged: the bucket cannot be replayed; what this machine keeps may be all there is.
        Changed: the state is of another volume.
        BlobfsError: store or disk failed us.
    """
    if any(damage.kind in ("volume", "log") for damage in checked.report.damages):
        raise Damaged(
            f"the bucket's log is damaged, so the local state is left as it is. "
            f"path={str(state_dir)!r}",
            hint="bring back what is missing or damaged below .blobfs/ first",
        )
    upto = None
    if checked.has_unsaved:
        upto = checked.own_seq if checked.kept_seq is None else checked.kept_seq
    checkpoint = checked.checkpoint
    if checkpoint is not None and upto is not None and checkpoint.checkpoint.seq > upto:
        checkpoint = None
    return await rebuild(store, checked.volume, state_dir, env, checkpoint, upto=upto)


class _Check:
    """One check under way."""

    def __init__(
        self,
        store: Store,
        findings: Findings,
        options: CheckOptions,
        scratch: Tree,
        kept: Kept | None,
        progress: Progress,
    ) -> None:
        self._store = store
        self._findings = findings
        self._options = options
        self._scratch = scratch
        self._kept = kept
        self._progress = progress
        self._packs = Packs()
        self._checkpoints = CheckpointCheck(store, findings)
        self._stops: dict[Seq, list[Callable[[], None]]] = {}
        """Where to compare the replayed tree with others."""
        self._log = LogCheck(store, scratch, findings, stops=self._stops, watch=self._watch)
        self._files = 0
        self._objects = 0

    async def run(self, volume: Volume, env: Env) -> None:
        await self._checkpoints.find(volume.head or Head())
        self._note_stops()
        if volume.head is not None and volume.head.floor:
            await self._begin(volume)
        await self._log.run()
        self._name_broken()
        self._check_reached()
        await self._check_packs()
        if self._options.read_data:
            scratch = self._options.scratch / "checkpoint"
            await self._checkpoints.read(volume, scratch, self._scratch, env)
        files = FileCheck(self._store, self._scratch, self._packs, self._findings)
        await files.run()
        self._files, self._objects = files.files, files.objects
        await _check_clients(self._store, self._findings)

    def report(self, volume: Volume, unsaved: UnsavedReport | None) -> CheckReport:
        counters = self._scratch.counters()
        return CheckReport(
            source=self._store.url,
            volume=volume.info.id.hex(),
            commits=self._log.tip,
            checkpoints=len(self._checkpoints.found),
            packs=len(self._packs.sizes.keys() | self._packs.bad.keys()),
            stored_bytes=sum(self._packs.sizes.values()),
            files=self._files,
            objects=self._objects,
            content_bytes=counters.content_bytes,
            read_bytes=self._packs.read_bytes,
            damages=tuple(self._findings.damages),
            notes=tuple(self._findings.notes),
            unsaved=unsaved,
        )

    @property
    def newest_whole(self) -> Found | None:
        """The newest checkpoint with which nothing is wrong, as far as is known by now."""
        named = {damage.name for damage in self._findings.damages}
        whole = (found for found in self._checkpoints.found if found.key not in named)
        return next(whole, None)

    async def _begin(self, volume: Volume) -> None:
        """Begin where the log was cut.

        Raises:
            Damaged: no checkpoint has what was cut off.
        """
        newest = self.newest_whole
        if newest is None:
            problems = " ".join(damage.problem for damage in self._findings.damages)
            raise Damaged(
                f"the log was cut, and no checkpoint is whole that has what it had: {problems}",
                hint="bring back what is missing below .blobfs/",
            )
        await load_checkpoint(self._scratch, newest)
        self._log.packs |= dict.fromkeys(await packs_of(self._scratch), 0)

    async def _check_packs(self) -> None:
        named = {**dict.fromkeys(self._checkpoints.packs(), 0), **self._log.packs}
        self._packs = await find_packs(self._store, named, self._findings)
        if self._options.read_data:
            await read_packs(self._store, self._packs, self._progress)
        self._checkpoints.check_places(self._packs)

    def _watch(self, landed: Landed) -> None:
        if self._kept is not None:
            self._kept.note(landed)

    def _note_stops(self) -> None:
        kept, shown = self._kept, self._options.shown
        if kept is not None and kept.tree is not None:
            self._seen(kept.tree.position.seq).append(partial(kept.compare, self._scratch))
        if shown is not None:
            compare = partial(shown.compare, self._scratch, "the mount", self._findings)
            self._seen(shown.seq).append(compare)
        for found in self._checkpoints.found:
            self._seen(found.checkpoint.seq).append(partial(self._compare, found))

    def _seen(self, seq: Seq) -> list[Callable[[], None]]:
        return self._stops.setdefault(seq, [])

    def _compare(self, found: Found) -> None:
        self._checkpoints.compare(found, self._scratch.state)

    def _name_broken(self) -> None:
        """Name the commits that are not right, with the files that they changed last.

        Of those only this machine's tree tells, if it replayed them when they were right.
        """
        affected = {seq: Affected() for seq in self._log.broken}
        tree = None if self._kept is None else self._kept.tree
        if affected and tree is not None:
            with suppress(NotLoaded):  # what is not here was never replayed here
                _note_affected(tree, affected)
        for seq, problem in self._log.broken.items():
            self._findings.damaged("log", log_key(seq), problem, affected[seq])

    def _check_reached(self) -> None:
        """What this machine has seen has to be in the bucket."""
        for seq in self._stops:
            if seq > max(self._log.tip, self._scratch.position.seq):
                self._findings.damaged(
                    "log",
                    LOG,
                    f"the log ends at commit {self._log.tip}, but this machine, or a checkpoint, "
                    f"has seen commit {seq}: commits are lost",
                )


def _note_affected(tree: Tree, affected: Mapping[Seq, Affected]) -> None:
    """Note the files that the commits in `affected` changed last, as the tree knows them."""
    for path, row in walk(tree):
        for seq in {row.seq, row.content_seq} & affected.keys():
            if row.kind is not Kind.FOLDER:
                affected[seq].add(path)


async def _open_volume(store: Store, findings: Findings) -> Volume:
    """Return the volume; a lost head is noted, and the log looked at without it."""
    try:
        volume = await look(store)
    except Damaged as error:
        volume = await _without_head(store, error)
        findings.damaged("volume", head_key(), str(error))
    if volume is None:
        raise NotFound(f"there is no volume. store={store.url}", hint="`blobfs init` makes one")
    return volume


async def _without_head(store: Store, error: Damaged) -> Volume:
    key = volume_key()
    try:
        data = bytes((await store.get(key)).data)
    except NotFound:
        raise error from None
    return Volume(decode_volume(data, key=key), data, None)


async def _check_clients(store: Store, findings: Findings) -> None:
    async for found in list_all(store, CLIENTS):
        try:
            decode_client(bytes((await store.get(found.key)).data), key=found.key)
        except NotFound:
            continue  # it left meanwhile
        except Damaged as error:
            findings.damaged("client", found.key, str(error))
