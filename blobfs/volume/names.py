"""Ask a store for one name, and remember the answer for a while.

Used where a directory has no fresh listing: a program that opens one file in a directory
of a million must not wait for the million.
"""

from collections import OrderedDict
from dataclasses import dataclass

import trio

from blobfs.errors import NotFound, Unreachable
from blobfs.model.listing import (
    OBJECT_SUFFIX,
    Entry,
    FolderAssembler,
    assemble_folder,
    name_problem,
    to_name,
    to_segment,
)
from blobfs.stores.base import Store
from blobfs.types import ListPage, ObjectInfo

MOST_KEY_BYTES = 1024
"""The longest key that S3 and Azure take."""

FEW_ENTRIES = 32
"""A page of so many costs no more than one of a single key, and holds all of most directories
on the way to a file: then the next name is known without asking."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a store says of a name."""

    entry: Entry | None = None
    """None: there is nothing of that name."""
    below: tuple[Entry, ...] = ()
    """All that lies in the directory of that name; empty where that is more than a few."""


async def ask_name(store: Store, prefix: str, name: bytes, leftovers: trio.Nursery) -> Asked:
    """Return what `name` is in the directory `prefix`, in one round trip.

    A HEAD of the key and a short LIST below `name/` run side by side, because only
    the second one tells of a directory. A directory has the name in any case, so its
    answer waits for no HEAD; every other answer takes both. A HEAD that nobody waits for
    any more ends in `leftovers`: cancelled, it would take its connection with it.

    Raises:
        BlobfsError: the store did not answer one of them.
    """
    found = await _ask_both(store, prefix, name, leftovers, folder_is_enough=True)
    if found.is_folder:
        return Asked(Entry(name, True), found.below)
    if found.info is not None:
        return Asked(_file(name, found.info))
    suffix = OBJECT_SUFFIX.encode()
    if not name.endswith(suffix) or not (stem := name[: -len(suffix)]):
        return Asked()
    found = await _ask_both(store, prefix, stem, leftovers)
    if found.is_folder and found.info is not None:
        return Asked(_file(name, found.info, found.info.key))
    return Asked()


@dataclass(frozen=True, slots=True)
class _Answer:
    is_folder: bool = False
    info: ObjectInfo | None = None
    below: tuple[Entry, ...] = ()


class _Head:
    """A HEAD under way, for who may lose interest in it."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._ended = trio.Event()
        self._info: ObjectInfo | None = None
        # Until it is known better: a HEAD that was cancelled has found nothing out (P5).
        self._error: Exception | None = Unreachable(f"the mount ends. key={key!r}")

    async def run(self) -> None:
        try:
            self._info = await self._store.head(self._key)
            self._error = None
        except NotFound:
            self._error = None
        except Exception as error:  # is for who waits, and not for the nursery
            self._error = error
        finally:
            self._ended.set()

    async def info(self) -> ObjectInfo | None:
        """Return what there is; None: nothing."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._info


async def _ask_both(
    store: Store,
    prefix: str,
    name: bytes,
    leftovers: trio.Nursery,
    *,
    folder_is_enough: bool = False,
) -> _Answer:
    key = prefix + to_segment(name)
    if name_problem(name) or len(to_name(key)) > MOST_KEY_BYTES or not _can_be_key(store, name):
        return _Answer()
    head = _Head(store, key)
    leftovers.start_soon(head.run)
    page = await _first_page(store, key + "/")
    is_folder = bool(page.objects or page.prefixes)
    if is_folder and folder_is_enough:
        return _Answer(is_folder, below=_all_of(key + "/", page))
    return _Answer(is_folder, await head.info())


async def first_entries(store: Store, prefix: str) -> tuple[Entry, ...]:
    """Return all entries of a directory in one request; none where there are more than a few.

    Raises:
        BlobfsError: the store did not answer.
    """
    return _all_of(prefix, await _first_page(store, prefix))


async def _first_page(store: Store, prefix: str) -> ListPage:
    """Return the first page that holds anything, or the last one."""
    page = await store.list(prefix, delimiter=True, max_keys=FEW_ENTRIES)
    while not page.objects and not page.prefixes and page.next_token is not None:
        page = await store.list(prefix, delimiter=True, max_keys=FEW_ENTRIES, token=page.next_token)
    return page


def _all_of(prefix: str, page: ListPage) -> tuple[Entry, ...]:
    """Return the entries of a directory, none where the page does not hold all of them."""
    if page.next_token is not None:
        return ()
    return tuple(assemble_folder(FolderAssembler(prefix), page, last=True).entries)


def _can_be_key(store: Store, name: bytes) -> bool:
    """Cloud keys are text: a name that is not UTF-8 is in none of them."""
    if store.traits.raw_keys:
        return True
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _file(name: bytes, info: ObjectInfo, key: str | None = None) -> Entry:
    return Entry(name, False, info.size_bytes, info.etag, info.mtime_ns, key)


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer, and until when (monotonic clock) it may be believed."""

    entry: Entry | None
    valid_until_s: float


class NameMemory:
    """The last answers of `ask_name`, at most `most` of them."""

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._answers: OrderedDict[tuple[str, bytes], Remembered] = OrderedDict()

    def get(self, prefix: str, name: bytes, now_s: float) -> Remembered | None:
        answer = self._answers.get((prefix, name))
        if answer is None or answer.valid_until_s <= now_s:
            return None
        return answer

    def put(self, prefix: str, name: bytes, answer: Remembered) -> None:
        self._answers[prefix, name] = answer
        self._answers.move_to_end((prefix, name))
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def forget(self, prefix: str, name: bytes) -> None:
        self._answers.pop((prefix, name), None)
