"""Remember when files were read, as relatime does: in memory, never in the bucket.

A volume keeps no access times, since every read would then be a write. What programs set or
expect to see change is kept for as long as the mount lasts, for the newest of many files.
"""

from collections import OrderedDict

from blobfs.types import InodeNo

MOST_REMEMBERED = 100_000
"""About 15 MiB. What is forgotten shows its mtime instead."""

STALE_AFTER_NS = 24 * 3600 * 10**9
"""relatime: an access time older than a day is renewed at the next read."""


class AccessTimes:
    """The access times that differ from the mtime."""

    def __init__(self) -> None:
        self._times: OrderedDict[InodeNo, int] = OrderedDict()

    def get(self, inode: InodeNo, mtime_ns: int) -> int:
        """Return when an inode was last read, as far as anybody needs to know."""
        return self._times.get(inode, mtime_ns)

    def set(self, inode: InodeNo, atime_ns: int) -> None:
        """Keep what a program set, or what a read made of it."""
        self._times[inode] = atime_ns
        self._times.move_to_end(inode)
        if len(self._times) > MOST_REMEMBERED:
            self._times.popitem(last=False)

    def forget(self, inode: InodeNo) -> None:
        """Drop what is known of an inode that is gone."""
        self._times.pop(inode, None)

    def renumber(self, old: InodeNo, new: InodeNo) -> None:
        """Note that who had one inode open has another."""
        if (atime_ns := self._times.pop(old, None)) is not None:
            self.set(new, atime_ns)

    def note_read(self, inode: InodeNo, mtime_ns: int, ctime_ns: int, now_ns: int) -> None:
        """Note a read if it is the first one since the file changed, or since a day."""
        atime_ns = self._times.get(inode, mtime_ns)
        if atime_ns <= max(mtime_ns, ctime_ns) or now_ns - atime_ns >= STALE_AFTER_NS:
            self.set(inode, now_ns)
