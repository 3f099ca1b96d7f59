"""Hand out inode numbers, each once for all time (volume format, M1).

They come from the ranges that the log grants to this client. Where it has none with room, it takes
the next one that nobody was granted, provisionally: the first commit that uses a number
of it carries the grant of `model.numbers.range_of` that number.

Concurrency: nothing here awaits.
"""

from collections.abc import Callable, Iterable

from blobfs.formats.tables import GrantedRange
from blobfs.model.numbers import is_native, range_of
from blobfs.types import ROOT_INODE, InodeNo


class Numbers:
    """The numbers that this client may use.

    `last_used` is the highest one that it ever used, in the log or unsaved; None if it never
    did. `granted_to` returns the lowest number that no client was granted, nor any above it.
    `look` is asked for the row of each number before it is given away: what lies below an unsaved
    row has to be loaded.
    """

    def __init__(
        self,
        last_used: int | None,
        granted_to: Callable[[], int],
        look: Callable[[InodeNo], object],
    ) -> None:
        self._granted_to = granted_to
        self._look = look
        self._next = granted_to() if last_used is None else last_used + 1
        self._range = range_of(self._next if last_used is None else last_used)

    def take(self) -> InodeNo:
        """Return a number that nothing else has, or ever had.

        Raises:
            NotLoaded: load what may say so first.
        """
        if self._next not in self._range:
            self._next = max(self._next, self._granted_to())
            self._range = range_of(self._next)
        number = InodeNo(self._next)
        self._look(number)
        self._next += 1
        return number


def last_used(granted: Iterable[GrantedRange], unsaved: Iterable[InodeNo]) -> int | None:
    """Return the highest number that this client ever used; None: it never used one.

    `granted` are its own ranges, `unsaved` the inodes that it made and that no commit has yet.
    """
    used = [each.unused - 1 for each in granted if each.unused > each.first]
    used += [number for number in unsaved if number != ROOT_INODE and not is_native(number)]
    return max(used, default=None)
