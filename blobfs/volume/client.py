"""Keep who this client is: an id of its own, and what it last put into the log.

It lies in the state folder, as does the id of the volume that the folder belongs to (S1). Both
are on disk before anything in the bucket depends on them.

Concurrency: one task at a time changes an identity: the one that commits.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import trio

from blobfs.env import Env
from blobfs.errors import Changed, LocalFault
from blobfs.folders import replace_file, sync_folder
from blobfs.formats.tables import ClientState
from blobfs.model.chain import Landed
from blobfs.model.commit_outcome import Author, Authored, author_of
from blobfs.types import ClientId

FILE = "client.json"


class _Saved(msgspec.Struct, frozen=True):
    """What the file holds. Ids and hashes in hex, so that people can compare them."""

    volume: str
    client: str
    counter: int
    """Commits that this client put, or tried to."""
    hash: str
    """SHA-256 of the last of them; empty before the first."""


class Identity:
    """Who this client is. Made by `open_identity`."""

    def __init__(self, folder: Path, saved: _Saved, env: Env) -> None:
        self._folder = folder
        self._saved = saved
        self._env = env

    @property
    def client(self) -> ClientId:
        return ClientId(bytes.fromhex(self._saved.client))

    @property
    def last(self) -> Authored:
        """The last commit that was put, or tried, under this id."""
        return Authored(self.client, self._saved.counter, bytes.fromhex(self._saved.hash))

    def author_of(self, landed: Landed) -> Author:
        """Say who made an entry that was read from the log (L6)."""
        entry = landed.entry
        return author_of(Authored(entry.client, entry.counter, landed.hash), self.last)

    def author_of_last(self, last: ClientState) -> Author:
        """Say who made the last commit under this id that a tree knows of (L6)."""
        return author_of(Authored(self.client, last.counter, last.hash), self.last)

    async def note_attempt(self, counter: int, entry_hash: bytes) -> None:
        """Note the commit that is about to be put; once this returns, it is on disk (L2).

        Raises:
            LocalFault: it cannot be written.
        """
        saved = msgspec.structs.replace(self._saved, counter=counter, hash=entry_hash.hex())
        await _save(self._folder, saved)
        self._saved = saved

    async def renew(self) -> None:
        """Become another client, because somebody else has this id: the folder is a copy (L6).

        Numbers that were granted to the old id, and are in no entry yet, are not this client's.

        Raises:
            LocalFault: it cannot be written.
        """
        saved = _new(bytes.fromhex(self._saved.volume), self._env)
        await _save(self._folder, saved)
        self._saved = saved


async def bound_volume(folder: Path) -> bytes | None:
    """Return the id of the volume that the state folder belongs to, None: to none yet (S1).

    Raises:
        LocalFault: the file cannot be read.
    """
    saved = await _load(folder)
    return None if saved is None else bytes.fromhex(saved.volume)


async def bound_client(folder: Path) -> ClientId | None:
    """Return the id of the client whose state lies in the folder, None: of none yet.

    Raises:
        LocalFault: the file cannot be read.
    """
    saved = await _load(folder)
    return None if saved is None else ClientId(bytes.fromhex(saved.client))


async def open_identity(folder: Path, volume_id: bytes, env: Env) -> Identity:
    """Return who this client is in the volume; at first, bind the folder to it (S1).

    Raises:
        Changed: the folder belongs to another volume: see `set_aside`.
        LocalFault: the file cannot be read or written.
    """
    saved = await _load(folder)
    if saved is None:
        saved = _new(volume_id, env)
        await _save(folder, saved)
    elif bytes.fromhex(saved.volume) != volume_id:
        raise Changed(
            f"the bucket holds another volume than the one that this state belongs to. "
            f"path={str(folder)!r} expected={saved.volume} found={volume_id.hex()}",
            hint="mount the bucket that it belongs to, or choose another place with --state-dir",
        )
    return Identity(folder, saved, env)


async def set_aside(folder: Path, names: Iterable[str]) -> Path | None:
    """Move what belongs to the volume that the folder is bound to out of the way (S1).

    That is the client's file and the files and folders `names`, which nobody has open; the
    caller knows that nothing in them is unsaved. Return where they are now; None: the folder
    is bound to no volume. Who is killed on the way does it again.

    Raises:
        LocalFault: they cannot be moved.
    """
    saved = await _load(folder)
    if saved is None:
        return None
    aside = folder / f"aside-{saved.volume}-{saved.client[:8]}"
    await trio.to_thread.run_sync(_move, folder, aside, (*names, FILE))  # what binds it is last
    return aside


def _new(volume_id: bytes, env: Env) -> _Saved:
    client = bytes(int(env.chance() * 256) for _ in range(16))
    return _Saved(volume_id.hex(), client.hex(), 0, "")


async def _load(folder: Path) -> _Saved | None:
    path = folder / FILE
    try:
        data = await trio.to_thread.run_sync(path.read_bytes)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LocalFault(f"cannot read {error.strerror}. path={str(path)!r}") from error
    try:
        return msgspec.json.decode(data, type=_Saved)
    except msgspec.MsgspecError as error:
        raise LocalFault(
            f"this client's identity is damaged: {error}. path={str(path)!r}",
            hint="remove the file when `blobfs status` said that everything was saved",
        ) from error


async def _save(folder: Path, saved: _Saved) -> None:
    data = msgspec.json.format(msgspec.json.encode(saved), indent=2) + b"\n"
    await trio.to_thread.run_sync(_write, folder / FILE, data)


def _write(path: Path, data: bytes) -> None:
    try:
        replace_file(path, data)
    except OSError as error:
        raise LocalFault(f"cannot write: {error.strerror}. path={str(path)!r}") from error


def _move(folder: Path, aside: Path, names: Iterable[str]) -> None:
    try:
        aside.mkdir(mode=0o700, exist_ok=True)
        for name in names:
            if (folder / name).exists():
                (folder / name).rename(aside / name)
        sync_folder(folder)
    except OSError as error:
        raise LocalFault(f"cannot move: {error.strerror}. path={str(folder)!r}") from error
