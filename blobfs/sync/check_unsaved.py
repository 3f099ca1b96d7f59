"""Check what is not saved yet: the journal of a volume that is not mounted, and what it counts on.

The journal is read as the next mount will read it, and not changed. What that mount will want:
bytes that verify, the packs that were uploaded for them, and a slot that a commit under way can
have (L2), or has got.

Concurrency: the caller holds the state folder.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from blobfs.env import Env
from blobfs.errors import Damaged, LocalFault, NotFound, Unsupported
from blobfs.formats.commit import Entry
from blobfs.formats.entry import decode_entry, entry_hash
from blobfs.formats.keys import log_key, pack_key
from blobfs.formats.rows import Kind
from blobfs.model.changes import Intent, LocalDirent
from blobfs.model.spans import Piece
from blobfs.stores.base import Store
from blobfs.sync.check_report import Affected, Findings, UnsavedReport, shown_path
from blobfs.sync.uploads import missing_packs
from blobfs.types import ROOT_INODE, InodeNo
from blobfs.volume.journal import read_journal
from blobfs.volume.journal_payloads import read_piece
from blobfs.volume.journal_recovery import Damage, RecoveredLog
from blobfs.volume.journal_segments import SegmentFiles
from blobfs.volume.tree import Tree
from blobfs.volume.unsaved_rows import Rows
from blobfs.volume.unsaved_state import UnsavedState

_MOST_PLACES = 3
"""Damaged places of a file that are spelled out."""
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal that was read, and the lost bytes of each file."""

    files: SegmentFiles
    log: RecoveredLog
    state: UnsavedState
    lost: dict[InodeNo, list[Piece]]


class UnsavedCheck:
    """Looks at one journal; `tree` is what the bucket's log says."""

    def __init__(
        self, folder: Path, store: Store, tree: Tree, findings: Findings, env: Env
    ) -> None:
        self._folder = folder
        self._store = store
        self._tree = tree
        self._findings = findings
        self._env = env

    async def run(self) -> UnsavedReport | None:
        """Check the journal; None: it cannot be read.

        Raises:
            BlobfsError: the store failed us.
        """
        if not self._folder.exists():
            return _report(UnsavedState(self._tree), (), 0.0)
        try:
            journal = await trio.to_thread.run_sync(_read, self._folder, self._tree)
        except (Damaged, LocalFault) as error:
            self._damaged(self._folder, f"what is not saved yet cannot be read: {error}")
            return None
        except Unsupported as error:
            self._findings.notes.append(f"what is not saved yet was not checked: {error}")
            return None
        named = Affected()
        paths = self._name(journal, named)
        self._name_damages(journal, paths)
        await self._check_uploads(journal.state)
        if journal.state.intent is not None:
            await self._check_intent(journal.state.intent.intent)
        return _report(journal.state, tuple(named.names), self._age_s(journal.state.rows))

    def _name(self, journal: Journal, named: Affected) -> dict[InodeNo, bytes]:
        """Take down the paths of what is unsaved; return those of files that lost bytes."""
        paths: dict[InodeNo, bytes] = {}
        for path, inode in walk_unsaved(self._tree, journal.state.rows):
            named.add(path)
            if inode in journal.lost:
                paths.setdefault(inode, path)
        return paths

    def _name_damages(self, journal: Journal, paths: dict[InodeNo, bytes]) -> None:
        if journal.log.ends and not (self._folder / "state").exists():
            self._damaged(self._folder / "state", "it is missing: bytes may be lost unnoticed")
        for damage in journal.log.damages:
            if damage.inode is None:
                self._damaged(journal.files.path(damage.segment), _lost_records(damage))
        for inode, pieces in journal.lost.items():
            path = paths.get(inode)
            name = f"inode {inode}, of unknown name" if path is None else shown_path(path)
            self._findings.damaged("unsaved", name, _lost_bytes(journal.files, pieces))

    async def _check_intent(self, intent: Intent) -> None:
        """See what became of a commit under way. Whether it landed or not, the next mount ends
        it; but a slot that is still free will get its bytes, so what they name has to be there.
        """
        key = log_key(intent.seq)
        try:
            entry = decode_entry(intent.entry, key=key)
        except Damaged as error:
            self._damaged(self._folder, f"the commit under way is not right: {error}")
            return
        try:
            found = bytes((await self._store.get(key)).data)
        except NotFound:
            await self._check_named(entry)
            return
        if entry_hash(found) != entry_hash(intent.entry):
            self._findings.notes.append(
                f"somebody else made commit {intent.seq}, which was tried from here: the next "
                "mount saves with a later one"
            )

    async def _check_named(self, entry: Entry) -> None:
        for name in await missing_packs(
            self._store, {pack.name: pack.brought_bytes for pack in entry.packs}
        ):
            self._findings.damaged(
                "unsaved",
                pack_key(name),
                f"it is missing, or not whole, and commit {entry.seq}, which is under way from "
                "here, names it. Bring it back before you mount the volume",
            )

    async def _check_uploads(self, state: UnsavedState) -> None:
        missing = await missing_packs(
            self._store, {noted.pack.name: noted.pack.size_bytes for noted in state.packs.values()}
        )
        if missing:
            self._findings.notes.append(
                f"the bucket lost {len(missing)} of the packs that were uploaded for what is not "
                "saved yet: the next mount uploads them again"
            )

    def _age_s(self, rows: Rows) -> float:
        since = [state.since_ns for state in rows.inodes.values()]
        since += [state.since_ns for state in rows.dirents.values()]
        now_ns = self._env.now_ns()
        return round(max(0.0, (now_ns - min(since, default=now_ns)) / 1e9), 3)

    def _damaged(self, path: Path, problem: str) -> None:
        self._findings.damaged("unsaved", str(path), problem)


def walk_unsaved(tree: Tree, rows: Rows) -> Iterator[tuple[bytes, InodeNo]]:
    """Yield path and inode of everything unsaved, removed names included, as a mount shows it:
    the unsaved rows over the replayed tree. The root is `.`: its times follow its names.
    """
    if ROOT_INODE in rows.inodes:
        yield b".", ROOT_INODE
    folders = [(b"", ROOT_INODE)]
    while folders:
        above, folder = folders.pop()
        for name, inode, kind, changed in _entries(tree, rows, folder):
            path = above + b"/" + name if above else name
            if changed:
                yield path, inode
            if kind is Kind.FOLDER:
                folders.append((path, inode))


def _entries(
    tree: Tree, rows: Rows, folder: InodeNo
) -> Iterator[tuple[bytes, InodeNo, Kind | None, bool]]:
    """Yield the names of a directory: inode, kind, and whether anything of it is unsaved.

    A name that is gone has no kind: nothing lies below it.
    """
    unsaved = rows.in_folder(folder)
    for name, mine in unsaved.items():
        if isinstance(mine, LocalDirent):
            yield name, mine.inode, mine.kind, True
        else:
            yield name, InodeNo(0), None, True
    after = b""
    while page := tree.dirents(folder, after, _PAGE):
        for name, dirent in page:
            if name not in unsaved:
                yield name, dirent.inode, dirent.kind, dirent.inode in rows.inodes
        after = page[-1][0]


def _read(folder: Path, tree: Tree) -> Journal:
    """Read the journal and all bytes that count in it. Blocking.

    Raises: as `read_journal`.
    """
    state = UnsavedState(tree)
    files, log = read_journal(folder, state.replay)
    lost: defaultdict[InodeNo, list[Piece]] = defaultdict(list)
    for inode, spans in state.rows.spans.items():
        for piece in spans:
            try:
                read_piece(files, piece)
            except Damaged:
                lost[inode].append(piece)
    return Journal(files, log, state, lost)


def _lost_records(damage: Damage) -> str:
    what = "1 change" if damage.records == 1 else f"{damage.records} changes"
    return (
        f"{what} that had been on disk cannot be read any more, from byte {damage.span.start} of "
        "this file on. Nobody can tell of which files. What else is unsaved can be read"
    )


def _lost_bytes(files: SegmentFiles, pieces: Sequence[Piece]) -> str:
    lost = sum(piece.length_bytes for piece in pieces)
    places = ", ".join(f"{piece.start} to {piece.stop}" for piece in pieces[:_MOST_PLACES])
    more = ", and more" if len(pieces) > _MOST_PLACES else ""
    segments = ", ".join(
        sorted({str(files.path(piece.written.segment)) for piece in pieces[:_MOST_PLACES]})
    )
    return (
        f"{lost} bytes that were written to it cannot be read back: {places}{more}, in {segments}. "
        "The file is not saved before they are written again, or it is removed"
    )


def _report(state: UnsavedState, paths: tuple[str, ...], oldest_s: float) -> UnsavedReport:
    rows = state.rows
    return UnsavedReport(
        files=len(rows.inodes),
        names=len(rows.dirents),
        bytes=sum(spans.unsaved_bytes for spans in rows.spans.values()),
        oldest_s=oldest_s,
        paths=paths,
        uploads=len(state.packs),
        commit=None if state.intent is None else state.intent.intent.seq,
    )
