"""Keep the versions of files that others replaced while programs have them open here.

Whoever has such a file open goes on with the version that it had (C2), which has no name, and goes
with the last handle. The first write through an old handle makes it a conflict copy beside the
file: what that writer had seen was not what the file holds by now, so neither gives way (P4).

Concurrency: nothing here awaits.
"""

from collections.abc import Callable
from dataclasses import dataclass

from blobfs.model.changes import DirentKey
from blobfs.types import InodeNo
from blobfs.volume.conflicts import Conflicts


@dataclass(frozen=True, slots=True)
class _Kept:
    of: InodeNo
    place: DirentKey | None


class OldVersions:
    """The versions without a name. `named` is told of each name that one is given."""

    def __init__(self, conflicts: Conflicts, named: Callable[[DirentKey], None]) -> None:
        self._conflicts = conflicts
        self._named = named
        self._kept: dict[InodeNo, _Kept] = {}

    def __contains__(self, inode: InodeNo) -> bool:
        return inode in self._kept

    def keep(self, inode: InodeNo, of: InodeNo, place: DirentKey | None) -> None:
        """Note that `inode` is an old version of the file `of`, last found at `place`."""
        self._kept[inode] = _Kept(of, place)

    def drop(self, inode: InodeNo) -> None:
        """Forget a version that nobody holds any more."""
        self._kept.pop(inode, None)

    def give_name(self, inode: InodeNo) -> None:
        """Give an old version a name, since it is about to be changed; nothing else needs one.

        Raises:
            NoRoom: there is no room for another file.
            LocalFault: it cannot be written down.
        """
        kept = self._kept.get(inode)
        if kept is not None:
            place = self._conflicts.keep(inode, kept.of, kept.place)
            del self._kept[inode]
            self._named(place)
