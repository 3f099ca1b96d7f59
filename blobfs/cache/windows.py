"""Fetch a stretch of a pack at once for programs that read one small file after the other.

Files that were written together lie together in a pack, in the order in which they were made.
Who reads a third one of the same stretch, or one behind a stretch that was fetched, is likely to
want the rest: one request then brings what would have taken hundreds. A window holds raw bytes
of the pack: whoever takes a chunk out of it verifies it, as if it had come alone.

Concurrency: a window is fetched once, however many wait for it.
"""

from collections import Counter, OrderedDict

import trio

from blobfs.cache.memory import MemoryBudget
from blobfs.errors import BlobfsError
from blobfs.formats.keys import pack_key
from blobfs.stores.base import Store
from blobfs.types import MIB, ByteRange, PackName

WINDOW_BYTES = 2 * MIB
MOST_WINDOWS = 8
BUDGET_SHARE = 8
"""All windows together take at most one part in eight of the memory."""
ENOUGH_ASKED = 3
"""Small reads of one stretch that make all of it worth fetching."""
MOST_COUNTED = 256
"""Stretches whose reads are counted at one time."""

Stretch = tuple[PackName, int]


class _Window:
    """A stretch of a pack: under way, or here."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._arrived = trio.Event()
        self._data: memoryview | None = None

    async def part(self, span: ByteRange) -> memoryview | None:
        """Return these bytes of the pack; None: they could not be had this way."""
        await self._arrived.wait()
        if self._data is None or span.stop - self._start > len(self._data):
            return None
        return self._data[span.start - self._start : span.stop - self._start]

    def arrive(self, data: memoryview | None) -> None:
        self._data = data
        self._arrived.set()


class PackWindows:
    """The stretches of packs that are held."""

    def __init__(self, store: Store, budget: MemoryBudget) -> None:
        self._store = store
        self._budget = budget
        self._most = min(MOST_WINDOWS, budget.limit_bytes // BUDGET_SHARE // WINDOW_BYTES)
        self._windows: OrderedDict[Stretch, _Window] = OrderedDict()
        self._asked: Counter[Stretch] = Counter()

    async def find(self, pack: PackName, span: ByteRange) -> memoryview | None:
        """Return bytes of a pack if a window brings them; None: they have to be asked for alone."""
        number = span.start // WINDOW_BYTES
        if span.stop > (number + 1) * WINDOW_BYTES:
            return None
        stretch = pack, number
        window = self._windows.get(stretch)
        if window is None and self._is_worth_it(stretch):
            return await self._fetch(stretch, span)
        if window is None:
            return None
        self._windows.move_to_end(stretch)
        return await window.part(span)

    def close(self) -> None:
        """Let go of everything."""
        while self._windows:
            self._drop_oldest()

    def _is_worth_it(self, stretch: Stretch) -> bool:
        if not self._most:
            return False
        if len(self._asked) >= MOST_COUNTED:
            self._asked.clear()
        self._asked[stretch] += 1
        pack, number = stretch
        return self._asked[stretch] >= ENOUGH_ASKED or (pack, number - 1) in self._windows

    async def _fetch(self, stretch: Stretch, span: ByteRange) -> memoryview | None:
        while len(self._windows) >= self._most:
            self._drop_oldest()
        if not self._budget.try_take(WINDOW_BYTES):
            return None
        pack, number = stretch
        whole = ByteRange(number * WINDOW_BYTES, (number + 1) * WINDOW_BYTES)
        window = self._windows[stretch] = _Window(whole.start)
        data = None
        try:
            data = (await self._store.get(pack_key(pack), span=whole)).data
        except BlobfsError:
            # Whoever needs bytes of it asks for them alone, and hears what is wrong.
            return None
        finally:
            if data is None and self._windows.get(stretch) is window:
                self._drop(stretch)
            window.arrive(data)
        return await window.part(span)

    def _drop_oldest(self) -> None:
        self._drop(next(iter(self._windows)))

    def _drop(self, stretch: Stretch) -> None:
        del self._windows[stretch]
        self._asked.pop(stretch, None)
        self._budget.give_back(WINDOW_BYTES)
