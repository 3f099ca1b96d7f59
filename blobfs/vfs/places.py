"""Remember under which names a kernel found files lately.

Nothing leads from a file to its names, and twice that is wanted: the kernel is told of names that
lead to a replaced version, and a version that is written to nevertheless gets a name beside the
file. It asks anew for a name after 30 s at the latest, so the latest names are enough.

Concurrency: nothing here awaits.
"""

from blobfs.model.changes import DirentKey
from blobfs.types import InodeNo

LEAST_REMEMBERED = 10_000
"""Up to twice as many are: about 5 MiB."""


class Places:
    """The name of each file by which it was found last.

    In two generations, since to keep all in the order of their finding would be a tenth of what
    a listing costs: when there are enough younger ones, the older ones go.
    """

    def __init__(self) -> None:
        self._younger: dict[InodeNo, DirentKey] = {}
        self._older: dict[InodeNo, DirentKey] = {}

    def note(self, inode: InodeNo, place: DirentKey) -> None:
        """Note that a file was found by a name."""
        self._younger[inode] = place
        if len(self._younger) >= LEAST_REMEMBERED:
            self._younger, self._older = {}, self._younger

    def get(self, inode: InodeNo) -> DirentKey | None:
        """Return by which name a file was found last, right or wrong by now; None: long ago."""
        return self._younger.get(inode) or self._older.get(inode)

    def forget(self, inode: InodeNo) -> None:
        """Drop what is known of a file that the kernel forgot."""
        self._younger.pop(inode, None)
        self._older.pop(inode, None)
