"""Keep sorted tables of bytes in LMDB: the one place where lmdb is imported.

Concurrency: reads happen where the caller is, on the event loop or in any thread; a read
costs about a microsecond and never waits for a writer. Writes are functions handed to the
one writer thread; each runs inside a transaction, so that it happens whole or not at all,
and those that queued up meanwhile share one commit.
"""

import contextlib
import enum
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Generic, TypeVar

import lmdb
import trio

from blobfs.errors import BlobfsError, Damaged, LocalFault, NoRoom

T = TypeVar("T")

log = logging.getLogger("blobfs.database")

MOST_SHARING_A_COMMIT = 64
"""Changes in one transaction: enough to amortise a flush, few enough to bound a retry."""


class Sync(enum.Enum):
    """What a commit survives."""

    FULL = "power cut"
    NONE = "killed process"


class Reader:
    """A view of all tables at one moment. Values are copies: they outlive it."""

    __slots__ = ("_tables", "_txn")

    def __init__(self, txn: lmdb.Transaction, tables: dict[str, Any]) -> None:
        # The stubs cannot know that we never ask for buffers, only for bytes.
        self._txn: Any = txn
        self._tables = tables

    def get(self, table: str, key: bytes) -> bytes | None:
        value: bytes | None = self._txn.get(key, db=self._tables[table])
        return value

    def get_many(self, table: str, keys: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        """Return `(key, value)` for those of the keys that are there, in their order."""
        with self._txn.cursor(self._tables[table]) as cursor:
            found: list[tuple[bytes, bytes]] = cursor.getmulti(keys)
            return found

    def keys(self, table: str, start: bytes, stop: bytes) -> Iterator[bytes]:
        """Yield the keys `start` <= key < `stop` in order."""
        with self._txn.cursor(self._tables[table]) as cursor:
            if cursor.set_range(start):
                yield from takewhile(stop.__gt__, cursor.iternext(values=False))

    def range(
        self, table: str, start: bytes = b"", stop: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield `(key, value)` for `start` <= key < `stop` in order."""
        with self._txn.cursor(self._tables[table]) as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            while found:
                key, value = cursor.item()
                if stop is not None and key >= stop:
                    return
                yield key, value
                found = cursor.next()

    def at_or_before(self, table: str, key: bytes) -> tuple[bytes, bytes] | None:
        """Return the last `(key, value)` that does not lie behind `key`, None: there is none."""
        with self._txn.cursor(self._tables[table]) as cursor:
            if not cursor.set_range(key):
                found = cursor.last()
            else:
                found = cursor.key() == key or cursor.prev()
            return cursor.item() if found else None


class View:
    """A read transaction, as a context. Two of them are half of what a look at a file costs, so
    this is no generator."""

    __slots__ = ("_env", "_tables", "_txn")

    def __init__(self, env: lmdb.Environment, tables: dict[str, Any]) -> None:
        self._env = env
        self._tables = tables

    def __enter__(self) -> Reader:
        try:
            self._txn = self._env.begin()
        except lmdb.Error as error:
            raise _translated(error) from error
        return Reader(self._txn, self._tables)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        self._txn.abort()
        if isinstance(error, lmdb.Error):
            raise _translated(error) from error


class Writer(Reader):
    """A transaction under way, on the writer thread."""

    __slots__ = ()

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._txn.put(key, value, db=self._tables[table])

    def put_absent(self, table: str, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Put `(key, value)`, sorted, where nothing lies under the key yet."""
        with self._txn.cursor(self._tables[table]) as cursor:
            cursor.putmulti(rows, overwrite=False)

    def clear(self, table: str) -> None:
        """Remove everything from a table."""
        self._txn.drop(self._tables[table], delete=False)

    def delete(self, table: str, key: bytes) -> bool:
        """Remove `key`; return whether it was there."""
        removed: bool = self._txn.delete(key, db=self._tables[table])
        return removed

    def delete_range(
        self, table: str, start: bytes, stop: bytes, *, at_most: int | None = None
    ) -> int:
        """Remove the keys `start` <= key < `stop`, `at_most` of them; return how many."""
        count = 0
        with self._txn.cursor(self._tables[table]) as cursor:
            found = cursor.set_range(start)
            while found and cursor.key() < stop and count != at_most:
                found = cursor.delete()
                count += 1
        return count


class _Job(Generic[T]):
    """One change on its way through the writer thread."""

    __slots__ = ("change", "done", "error", "result")

    def __init__(self, change: Callable[[Writer], T]) -> None:
        self.change = change
        self.done = trio.Event()
        self.result: T | None = None
        self.error: BaseException | None = None


class Database:
    """An open LMDB environment. Made by `open_database`."""

    def __init__(self, env: lmdb.Environment, tables: dict[str, Any]) -> None:
        self._env = env
        self._tables = tables
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._loop = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._serve, name="lmdb-writer", daemon=True)
        self._thread.start()

    def read(self) -> "View":
        """Return what opens a view; close it soon, because pages that it sees cannot be reused.

        Raises:
            Damaged: as it is opened or read, the file does not hold together.
        """
        return View(self._env, self._tables)

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return one value, the fastest way. Raises: as `read`."""
        try:
            with self._env.begin() as txn:
                value: bytes | None = txn.get(key, db=self._tables[table])
                return value
        except lmdb.Error as error:
            raise _translated(error) from error

    async def write(self, change: Callable[[Writer], T]) -> T:
        """Run `change` inside a transaction; return what it returned, once committed.

        It runs on the writer thread, perhaps more than once (only the last run counts), so it
        must touch nothing but its writer. Cancellation does not interrupt it.

        Raises:
            Damaged: the file does not hold together.
            LocalFault: no room is left.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        job = _Job(change)
        self._jobs.put(job)
        with trio.CancelScope(shield=True):
            await job.done.wait()
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]

    async def flush(self) -> None:
        """Return when no power cut can take back what was written.

        Without it the last transaction may go, as a whole.

        Raises:
            LocalFault: the disk refused.
        """
        try:
            await trio.to_thread.run_sync(self._env.sync, True)
        except lmdb.Error as error:
            raise _translated(error) from error

    async def _close(self) -> None:
        self._jobs.put(None)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join)
        self._env.close()

    def _serve(self) -> None:
        """Run on the writer thread until the end mark comes."""
        open_for_more = True
        while open_for_more:
            batch, open_for_more = self._next_batch()
            if not self._try_together(batch):
                for job in batch:
                    self._run_alone(job)
            for job in batch:
                self._report(job)

    def _next_batch(self) -> tuple[list[_Job[Any]], bool]:
        job = self._jobs.get()
        batch: list[_Job[Any]] = []
        while job is not None:
            batch.append(job)
            if len(batch) == MOST_SHARING_A_COMMIT or self._jobs.empty():
                return batch, True
            job = self._jobs.get()
        return batch, False

    def _try_together(self, batch: list[_Job[Any]]) -> bool:
        """Run the batch in one transaction; False: one of them failed, none happened."""
        if len(batch) < 2:
            return not batch
        try:
            with self._env.begin(write=True) as txn:
                writer = Writer(txn, self._tables)
                for job in batch:
                    job.result = job.change(writer)
        except Exception:
            log.debug("a shared transaction failed; its changes run one by one", exc_info=True)
            return False
        return True

    def _run_alone(self, job: _Job[Any]) -> None:
        try:
            with self._env.begin(write=True) as txn:
                job.result = job.change(Writer(txn, self._tables))
        except lmdb.Error as error:
            job.error = _translated(error)
        except Exception as error:
            job.error = error

    def _report(self, job: _Job[Any]) -> None:
        # The loop has ended when the daemon is being killed: nobody waits any more.
        with contextlib.suppress(trio.RunFinishedError):
            self._loop.run_sync_soon(job.done.set)


@contextlib.asynccontextmanager
async def open_database(
    path: Path, *, tables: Sequence[str], map_bytes: int, sync: Sync
) -> AsyncIterator[Database]:
    """Open, or make, the database in the folder `path`, with these tables.

    `map_bytes` is a ceiling, not an allocation. The caller holds a lock that keeps other
    processes away.

    Raises:
        Damaged: what lies there is no database, or a torn one.
        LocalFault: the disk is full, or the folder cannot be written.
    """
    database = Database(*await trio.to_thread.run_sync(_open, path, tables, map_bytes, sync))
    try:
        yield database
    finally:
        await database._close()


@contextlib.asynccontextmanager
async def open_or_begin_anew(
    opening: Callable[[], contextlib.AbstractAsyncContextManager[T]],
    discard: Callable[[], object],
    name: str,
) -> AsyncIterator[T]:
    """Enter `opening`: tables of which all can be had again, from the bucket for one.

    If they are damaged that is said in the log, under this `name`; `discard` removes them, on
    a worker thread, and `opening` is entered again.

    Raises:
        Damaged: they are so again.
        LocalFault: as `open_database`.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(opening())
        except Damaged as error:
            log.warning("%s cannot be used: begun anew. (%s)", name, error)
            await trio.to_thread.run_sync(discard)
            opened = await stack.enter_async_context(opening())
        yield opened


def _open(
    path: Path, tables: Sequence[str], map_bytes: int, sync: Sync
) -> tuple[lmdb.Environment, dict[str, Any]]:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        env = lmdb.open(
            str(path),
            map_size=map_bytes,
            max_dbs=len(tables),
            # NOMETASYNC keeps the file whole after a power cut at one flush a commit.
            metasync=False,
            sync=sync is Sync.FULL,
            max_readers=512,
        )
        env.reader_check()  # slots of a process that was killed
        return env, {name: env.open_db(name.encode()) for name in tables}
    except OSError as error:
        raise LocalFault(f"cannot use the folder: {error.strerror}. path={str(path)!r}") from error
    except lmdb.Error as error:
        raise _translated(error) from error


_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)


def _translated(error: lmdb.Error) -> BlobfsError:
    if isinstance(error, _DAMAGE):
        return Damaged(f"database is damaged: {error}")
    if isinstance(error, (lmdb.MapFullError, lmdb.DiskError)):
        return NoRoom(f"database has no room: {error}")
    return LocalFault(f"database failed: {error}")
