"""Add up what a volume comes to once everything is saved, and hold it against its quota.

What counts are the sizes of files, as in the counters of a commit: a hole is as good as the bytes
that may be written into it. What has no name any more counts nothing. The sum is a running one:
what the replayed tree holds, and what the unsaved rows add to it.

Concurrency: nothing here awaits.
"""

from collections.abc import Iterable, Mapping

from blobfs.model.changes import GONE, LocalInode
from blobfs.types import InodeNo
from blobfs.volume.known_settings import KnownSettings
from blobfs.volume.unsaved_rows import Rows
from blobfs.volume.unsaved_state import Saved


class Holdings:
    """The sum for one mount; `rows` lie over the tree `saved`."""

    def __init__(self, rows: Rows, saved: Saved, settings: KnownSettings) -> None:
        self._rows = rows
        self._saved = saved
        self._settings = settings
        self._saved_bytes = saved.counters().content_bytes

    @property
    def held_bytes(self) -> int:
        """What the contents of the volume come to once everything is saved."""
        return self._saved_bytes + self._rows.growth_bytes

    @property
    def left_bytes(self) -> int | None:
        """How much more the quota lets in; negative when the volume holds too much already, None
        where it has no quota."""
        quota_bytes = self._settings.now.quota_bytes
        return None if quota_bytes is None else quota_bytes - self.held_bytes

    def require_quota(self, inodes: Mapping[InodeNo, LocalInode | None]) -> None:
        """Refuse new values of rows, None for one that goes, that the quota does not let in.

        Raises:
            NoRoom: the volume would grow, and exceed it.
        """
        if self._settings.now.quota_bytes is not None:
            growth = (self._rows.growth_by(inode, row or GONE) for inode, row in inodes.items())
            self._settings.require_quota(self.held_bytes, sum(growth))

    def require_taking_over(self, size_bytes: int, *, counted_bytes: int) -> None:
        """Refuse that content of another tool's object becomes the volume's own, where the quota
        does not let it in: `size_bytes` then, of which `counted_bytes` are in the sum already,
        since a file that merely refers to its object counts as any other.

        Raises:
            NoRoom: the volume would exceed it.
        """
        self._settings.require_quota(self.held_bytes - counted_bytes, size_bytes)

    def follow_tree(self, inodes: Iterable[InodeNo]) -> None:
        """Note, before anything else happens, that the tree is another: `inodes` may differ from
        what they were in it."""
        self._saved_bytes = self._saved.counters().content_bytes
        for inode in inodes:
            self._rows.rebase(inode)
