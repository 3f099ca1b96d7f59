"""Say when a file that is being changed is worth saving. No clock: times are given.

A file is *settled* a moment after its last close, since programs often write it again at once. One
that stays open is saved as it is when nobody wrote to it for a while, and even a file that
is written without a pause does not wait for ever.

Concurrency: nothing here awaits.
"""

from collections.abc import Callable
from dataclasses import dataclass

from blobfs.types import InodeNo

SETTLE_S = 0.5
"""After the last close."""
OPEN_S = 30.0
"""After the last write or fsync of a file that stays open."""
MOST_S = 300.0
"""After the first unsaved change, whatever is going on."""


@dataclass(slots=True)
class _Use:
    writers: int = 0
    last_s: float = 0.0
    """The last write, fsync or close."""


class Settling:
    """Who writes to which file, and since when nobody does. Times are of one monotonic clock."""

    def __init__(
        self,
        *,
        settle_s: float = SETTLE_S,
        open_s: float = OPEN_S,
        most_s: float = MOST_S,
        on_closed: Callable[[InodeNo], None] = lambda _: None,
    ) -> None:
        """`on_closed` is called at each close: the file may be due sooner than it was."""
        self._on_closed = on_closed
        self._settle_s = settle_s
        self._open_s = open_s
        self._most_s = most_s
        self._uses: dict[InodeNo, _Use] = {}
        self.being_written: set[InodeNo] = set()
        """Those with a handle that may write."""

    def opened(self, inode: InodeNo) -> None:
        """Note one more handle that may write."""
        self._uses.setdefault(inode, _Use()).writers += 1
        self.being_written.add(inode)

    def touched(self, inode: InodeNo, now_s: float) -> None:
        """Note a write or an fsync."""
        self._uses.setdefault(inode, _Use()).last_s = now_s

    def closed(self, inode: InodeNo, now_s: float) -> None:
        """Note that a handle of `opened` is gone."""
        use = self._uses[inode]
        use.writers -= 1
        use.last_s = now_s
        if not use.writers:
            self.being_written.discard(inode)
        self._on_closed(inode)

    def renumber(self, old: InodeNo, new: InodeNo) -> None:
        """Note that the handles of one inode are of another from now on."""
        use = self._uses.pop(old, None)
        if use is None:
            return
        self._uses[new] = use
        if old in self.being_written:
            self.being_written.discard(old)
            self.being_written.add(new)

    def writers(self, inode: InodeNo) -> int:
        """Return how many handles may write."""
        use = self._uses.get(inode)
        return 0 if use is None else use.writers

    def due_s(self, inode: InodeNo, since_s: float) -> float:
        """Return when an inode that is unsaved since `since_s` is to be saved."""
        use = self._uses.get(inode)
        if use is None:
            return since_s + self._settle_s
        wait_s = self._open_s if use.writers else self._settle_s
        return min(max(use.last_s, since_s) + wait_s, since_s + self._most_s)

    def calm_s(self, since_s: float, touched_s: float) -> float:
        """Return when a directory is worth saving for its own sake, unsaved since `since_s`.

        Its times change with each entry that is made in it, `touched_s` last; those entries take
        it along with them, so a round of its own would be one too many until nobody makes any.
        """
        return min(touched_s + self._settle_s, since_s + max(self._open_s, self._settle_s))

    def saved(self, inode: InodeNo) -> None:
        """Forget what need not be remembered of an inode that has nothing unsaved."""
        use = self._uses.get(inode)
        if use is not None and not use.writers:
            del self._uses[inode]
