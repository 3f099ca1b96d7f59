"""Ask a store for one name, and remember the answer for a while.

Used where a directory has no fresh listing: a program that opens one file in a directory
of a million must not wait for the million.
"""

from collections import OrderedDict
from dataclasses import dataclass

import trio

from blobfs.errors import NotFound
from blobfs.model.listing import (
    OBJECT_SUFFIX,
    Entry,
    name_problem,
    to_name,
    to_segment,
)
from blobfs.stores.base import Store
from blobfs.types import ObjectInfo

MOST_KEY_BYTES = 1024
"""The longest key that S3 and Azure take."""


async def ask_name(store: Store, prefix: str, name: bytes) -> Entry | None:
    """Return what `name` is in the directory `prefix`, in one round trip; None: nothing.

    A HEAD of the key and a LIST of one key below `name/` run side by side, because only
    the second one tells of a directory. A directory has the name in any case, so its
    answer waits for no HEAD; every other answer takes both.
    """
    found = await _ask_both(store, prefix, name, folder_is_enough=True)
    if found.is_folder:
        return Entry(name, True)
    if found.info is not None:
        return _file(name, found.info)
    suffix = OBJECT_SUFFIX.encode()
    if not name.endswith(suffix) or not (stem := name[: -len(suffix)]):
        return None
    found = await _ask_both(store, prefix, stem)
    if found.is_folder and found.info is not None:
        return _file(name, found.info, found.info.key)
    return None


@dataclass(slots=True)
class _Answer:
    info: ObjectInfo | None = None
    is_folder: bool = False


async def _ask_both(
    store: Store, prefix: str, name: bytes, *, folder_is_enough: bool = False
) -> _Answer:
    answer = _Answer()
    key = prefix + to_segment(name)
    if name_problem(name) or len(to_name(key)) > MOST_KEY_BYTES or not _can_be_key(store, name):
        return answer

    async def ask_object() -> None:
        try:
            answer.info = await store.head(key)
        except NotFound:
            answer.info = None

    async def ask_folder() -> None:
        page = await store.list(key + "/", max_keys=1)
        while not page.objects and page.next_token is not None:
            page = await store.list(key + "/", max_keys=1, token=page.next_token)
        answer.is_folder = bool(page.objects)
        if answer.is_folder and folder_is_enough:
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_object)
            nursery.start_soon(ask_folder)
    except BaseExceptionGroup as group:
        # Both failed, for the same reason as a rule: one error is what callers handle.
        raise _first(group) from group
    return answer


def _can_be_key(store: Store, name: bytes) -> bool:
    """Cloud keys are text: a name that is not UTF-8 is in none of them."""
    if store.traits.raw_keys:
        return True
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


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
