"""Remember under which names a kernel found files lately.

Nothing leads from a file to its names, and twice that is wanted: the kernel is told of names that
lead to a replaced version, and a version that is written to nevertheless gets a name beside the
file. It asks anew for a name after 30 s at the latest, so the latest names are enough.

Concurrency: nothing here awaits.
"""

from collections import OrderedDict

from blobfs.model.changes import DirentKey
from blobfs.types import InodeNo

MOST_REMEMBERED = 20_000
"""About 5 MiB."""


class Places:
    """The name of each file by which it was found last."""

    def __init__(self) -> None:
        self._places: OrderedDict[InodeNo, DirentKey] = OrderedDict()

    def note(self, inode: InodeNo, place: DirentKey) -> None:
        """Note that a file was found by a name."""
        self._places[inode] = place
        self._places.move_to_end(inode)
        if len(self._places) > MOST_REMEMBERED:
            self._places.popitem(last=False)

    def get(self, inode: InodeNo) -> DirentKey | None:
        """Return by which name a file was found last, right or wrong by now; None: long ago."""
        return self._places.get(inode)

    def forget(self, inode: InodeNo) -> None:
        """Drop what is known of a file that the kernel forgot."""
        self._places.pop(inode, None)
