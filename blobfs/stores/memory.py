"""Keep objects in memory: the store that tests of everything above run on.

It passes the same contract suite as the real ones, so what holds on it holds on them.
"""

import bisect
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from blobfs.env import Env
from blobfs.errors import AlreadyExists, BlobfsError, Changed, NotFound
from blobfs.stores.base import MAX_PAGE_KEYS, Fetched, ListPage, ObjectInfo, Store, StoreTraits
from blobfs.types import ByteRange


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
        default=StoreTraits(put_if_absent=True, put_if_match=True, delete_batch=1000, parallel=64)
    )
    _objects: dict[str, _Object] = field(default_factory=dict)
    _sorted: list[tuple[bytes, str]] = field(default_factory=list)
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
        objects: list[ObjectInfo] = []
        prefixes: list[str] = []
        last = token or start_after
        raw_prefix = prefix.encode()
        position = bisect.bisect_left(self._sorted, (max(raw_prefix, last.encode()), ""))
        while position < len(self._sorted):
            raw, key = self._sorted[position]
            if not raw.startswith(raw_prefix):
                break
            cut = key.find("/", len(prefix)) if delimiter else -1
            folded = key[: cut + 1] if cut >= 0 else ""
            if key <= last or (folded and folded == last):
                position += 1
                continue
            if len(objects) + len(prefixes) == max_keys:
                return ListPage(tuple(objects), tuple(prefixes), last)
            if folded:
                prefixes.append(folded)
                # Everything below this prefix sorts before the prefix with its `/` raised by one.
                behind = folded[:-1].encode() + b"0"
                position = bisect.bisect_left(self._sorted, (behind, ""))
            else:
                objects.append(self._objects[key].info)
                position += 1
            last = folded or key
        return ListPage(tuple(objects), tuple(prefixes), None)

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
            bisect.insort(self._sorted, (key.encode(), key))
        return etag

    async def delete_many(self, keys: Iterable[str]) -> dict[str, BlobfsError]:
        await trio.lowlevel.checkpoint()
        for key in keys:
            if self._objects.pop(key, None) is not None:
                del self._sorted[bisect.bisect_left(self._sorted, (key.encode(), key))]
        return {}

    def _find(self, key: str) -> _Object:
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound(f"no such object. key={key!r}") from None
