"""Keep objects in memory: the store that tests of everything above run on.

It passes the same contract suite as the real ones, so what holds on it holds on them.
"""

import bisect
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import trio

from blobfs.env import Env
from blobfs.errors import AlreadyExists, BlobfsError, Changed, NotFound
from blobfs.stores.base import MAX_PAGE_KEYS, Fetched, Store, StoreTraits
from blobfs.types import ByteRange, ListPage, ObjectInfo


@dataclass(frozen=True, slots=True)
class _Object:
    info: ObjectInfo
    data: bytes


@dataclass(slots=True)
class MemoryStore(Store):
    """Objects in a dict, and their keys in a sorted list beside it."""

    url: str = "memory://"
    env: Env = field(default_factory=Env)
    traits: StoreTraits = field(
        default=StoreTraits(
            put_if_absent=True,
            put_if_match=True,
            delete_if_match=True,
            delete_batch=1000,
            parallel=64,
        )
    )
    _objects: dict[str, _Object] = field(default_factory=dict)
    _sorted: list[str] = field(default_factory=list)
    _puts: int = 0

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        await trio.lowlevel.checkpoint()
        if span is not None and not span:
            raise ValueError(f"empty span. key={key!r}")
        found = self._find(key)
        if if_match is not None and if_match != found.info.etag:
            raise Changed(f"object has another version. key={key!r} expected={if_match!r}")
        span = (span or ByteRange(0, found.info.size_bytes)).clamp(found.info.size_bytes)
        return Fetched(found.info, memoryview(found.data)[span.start : span.stop])

    async def head(self, key: str) -> ObjectInfo:
        await trio.lowlevel.checkpoint()
        return self._find(key).info

    async def list(
        self,
        prefix: str = "",
        *,
        delimiter: bool = False,
        start_after: str = "",
        max_keys: int = MAX_PAGE_KEYS,
        token: str | None = None,
    ) -> ListPage:
        await trio.lowlevel.checkpoint()
        if not 1 <= max_keys <= MAX_PAGE_KEYS:
            raise ValueError(f"a page holds 1 to {MAX_PAGE_KEYS} keys. max_keys={max_keys}")
        entries = self._entries(prefix, delimiter, token or start_after)
        page = tuple(islice(entries, max_keys))
        more = next(entries, None) is not None
        objects = tuple(entry for entry in page if isinstance(entry, ObjectInfo))
        prefixes = tuple(entry for entry in page if isinstance(entry, str))
        return ListPage(objects, prefixes, _name(page[-1]) if more else None)

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        await trio.lowlevel.checkpoint()
        current = self._objects.get(key)
        if if_absent and current is not None:
            raise AlreadyExists(f"object exists. key={key!r}")
        if if_match is not None and (current is None or current.info.etag != if_match):
            raise Changed(f"object has another version. key={key!r} expected={if_match!r}")
        self._puts += 1
        body = bytes(data)
        etag = f"{hashlib.sha256(body).hexdigest()[:32]}-{self._puts}"
        self._objects[key] = _Object(ObjectInfo(key, len(body), etag, self.env.now_ns()), body)
        if current is None:
            bisect.insort(self._sorted, key)
        return etag

    async def delete_many(self, keys: Iterable[str]) -> dict[str, BlobfsError]:
        await trio.lowlevel.checkpoint()
        for key in keys:
            if self._objects.pop(key, None) is not None:
                del self._sorted[self._position(key)]
        return {}

    async def delete_if_match(self, key: str, etag: str) -> None:
        await trio.lowlevel.checkpoint()
        current = self._objects.get(key)
        if current is None:
            return
        if current.info.etag != etag:
            raise Changed(f"object has another version. key={key!r} expected={etag!r}")
        del self._objects[key], self._sorted[self._position(key)]

    def peek(self, key: str) -> bytes:
        """Return the bytes under `key`, past the interface, for tests that want a witness."""
        return self._objects[key].data

    def _entries(self, prefix: str, delimiter: bool, after: str) -> Iterator[ObjectInfo | str]:
        """Yield objects and common prefixes greater than `after`, in order.

        Strings compare like their UTF-8 bytes: both by code point.
        """
        position = self._position(max(prefix, after))
        while position < len(self._sorted) and self._sorted[position].startswith(prefix):
            key = self._sorted[position]
            cut = key.find("/", len(prefix)) + 1 if delimiter else 0
            name = key[:cut] or key
            if name > after:
                yield name if cut else self._objects[key].info
            # All below a prefix sorts before that prefix with its final `/` raised by one.
            position = self._position(name[:-1] + "0") if cut else position + 1

    def _position(self, key: str) -> int:
        return bisect.bisect_left(self._sorted, key)

    def _find(self, key: str) -> _Object:
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound(f"no such object. key={key!r}") from None


def _name(entry: ObjectInfo | str) -> str:
    return entry if isinstance(entry, str) else entry.key
