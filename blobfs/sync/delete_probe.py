"""Prove that a store deletes the version of an object that is meant, and leaves any other (N5).

A server that passes over the condition of a DELETE would remove what another tool has just
written, so nobody's objects are deleted before it has shown that it does not. What it showed is
kept in the state folder, which is that of one endpoint: another one has to show it anew.

Concurrency: one task at a time asks.
"""

from contextlib import suppress
from pathlib import Path

import msgspec
import trio

from blobfs.errors import BlobfsError, Changed, LocalFault, NotFound, Unsupported
from blobfs.folders import replace_file
from blobfs.formats.keys import probe_key
from blobfs.stores.base import Store
from blobfs.types import ClientId

FILE = "delete-probe.json"

FAILED = (
    "the store does not keep to conditions when it deletes objects, so it could remove what "
    "another tool has just written"
)


class _Verdict(msgspec.Struct, frozen=True):
    """What lies in `FILE`."""

    keeps_conditions: bool


class DeleteProbe:
    """The conditional deletes of one store, as the client `me` found them."""

    def __init__(self, store: Store, state_dir: Path, me: ClientId) -> None:
        self._store = store
        self._path = state_dir / FILE
        self._key = probe_key(me)
        self._verdict: bool | None = None

    @property
    def problem(self) -> str | None:
        """Why nothing may be deleted, once that was found out; None: it may, or nobody knows."""
        return FAILED if self._verdict is False else None

    async def passes(self) -> bool:
        """Return whether the store can be relied on.

        It is asked once by each state folder; where it failed, once more by each mount.

        Raises:
            BlobfsError: the store did not answer, and nobody knows.
        """
        if self._verdict is None:
            self._verdict = await trio.to_thread.run_sync(known_verdict, self._path.parent) or None
        if self._verdict is None:
            self._verdict = await self._ask()
            await trio.to_thread.run_sync(_keep, self._path, self._verdict)
        return self._verdict

    async def _ask(self) -> bool:
        if not self._store.traits.delete_if_match:
            return False
        stale = await self._store.put(self._key, b"blobfs: what a delete may not find")
        current = await self._store.put(self._key, b"blobfs: what a delete has to leave alone")
        try:
            return await self._is_left(stale) and await self._is_deleted(current)
        finally:
            with suppress(BlobfsError):  # nobody reads it; the next probe puts it again
                await self._store.delete_many([self._key])

    async def _is_left(self, stale: str) -> bool:
        """Return whether the object is still there after a delete of a version that is gone."""
        with suppress(Unsupported, Changed):
            await self._store.delete_if_match(self._key, stale)
            return False
        return await self._exists()

    async def _is_deleted(self, current: str) -> bool:
        with suppress(Unsupported, Changed):
            await self._store.delete_if_match(self._key, current)
        return not await self._exists()

    async def _exists(self) -> bool:
        try:
            await self._store.head(self._key)
        except NotFound:
            return False
        return True


def known_verdict(state_dir: Path) -> bool | None:
    """Return what a probe from this state folder showed; None: there was none."""
    try:
        return msgspec.json.decode((state_dir / FILE).read_bytes(), type=_Verdict).keeps_conditions
    except (OSError, msgspec.MsgspecError):
        return None  # it costs a probe


def _keep(path: Path, verdict: bool) -> None:
    try:
        replace_file(path, msgspec.json.encode(_Verdict(verdict)) + b"\n")
    except OSError as error:
        raise LocalFault(f"cannot write: {error.strerror}. path={str(path)!r}") from error
