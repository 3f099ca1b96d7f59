"""Read and write the files of the volume: unsaved bytes over committed ones over zeros.

Concurrency: several reads and writes of one file are under way at once. What a read shows is
planned in one moment; the bytes that the plan names stay where they are until it is done.
"""

from dataclasses import dataclass

from blobfs.env import Env
from blobfs.errors import Changed, Damaged
from blobfs.formats.rows import FileContent, InodeRow
from blobfs.formats.version import parse_version
from blobfs.formats.wire import covered_bytes
from blobfs.model.changes import DirentKey, LocalInode
from blobfs.model.nodes import Node, as_local
from blobfs.model.settling import Settling
from blobfs.model.spans import FromBase, Piece, ReadPart
from blobfs.model.tree_rules_attributes import row_after_write
from blobfs.types import ByteRange, InodeNo, Seq
from blobfs.vfs.atimes import AccessTimes
from blobfs.vfs.attributes import BadHandle, state_of
from blobfs.vfs.old_versions import OldVersions
from blobfs.volume.content import ContentReader, Contents
from blobfs.volume.namespace import Namespace
from blobfs.volume.orphans import Orphans
from blobfs.volume.unsaved import Unsaved


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """What the unsaved bytes of a file lie over. Equal ones are the same content."""

    version: Seq | FileContent
    """The commit that brought it, or the content of a file that no commit has."""
    size_bytes: int
    content: FileContent

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Base) and self.version == other.version

    def __hash__(self) -> int:
        return hash(self.version)


class VolumeFiles:
    """The open files of the volume."""

    def __init__(
        self,
        namespace: Namespace,
        unsaved: Unsaved,
        orphans: Orphans,
        contents: Contents,
        settling: Settling,
        versions: OldVersions,
        atimes: AccessTimes,
        env: Env,
    ) -> None:
        self._namespace = namespace
        self._unsaved = unsaved
        self._orphans = orphans
        self._contents = contents
        self._settling = settling
        self._versions = versions
        self._atimes = atimes
        self._env = env

    def open(self, inode: InodeNo, *, for_writing: bool) -> "VolumeFile":
        """Open a file, a native one for writing. It costs no request."""
        if for_writing:
            self._settling.opened(inode)
        return VolumeFile(inode, self, for_writing=for_writing)

    async def write(self, file: "VolumeFile", offset: int, data: bytes) -> None:
        """Take in bytes, once there is room for them; a row is planned after the last await.

        The first write to a native file makes it one of the volume; one to a version that others
        replaced makes it a conflict copy.
        """
        await self._unsaved.wait_for_room(len(data))
        inode = file.inode  # it may have been another while we waited
        self._versions.give_name(inode)
        if self._unsaved.holdings.left_bytes is not None:
            node = self._namespace.node(inode)
            self._check_taking_over(node, max(node.row.size_bytes, offset + len(data)))
        row = self._namespace.adopt(inode).row
        row = row_after_write(row, offset + len(data), self._env.now_ns())
        self._unsaved.write(inode, row, offset, data)
        self.note_touched(inode)

    def check_length(self, inode: InodeNo, size_bytes: int) -> None:
        """Make sure that a file of another tool may be made one of the volume of this length.

        Raises:
            NoRoom: the volume would exceed its quota.
        """
        node = self._namespace.node(inode)
        if size_bytes != node.row.size_bytes:
            self._check_taking_over(node, size_bytes)

    async def read(self, file: "VolumeFile", span: ByteRange) -> bytes | memoryview:
        """Return what a file shows in one moment."""
        inode = file.inode
        row, base = self._rows(inode)
        self._atimes.note_read(inode, row.mtime_ns, row.ctime_ns, self._env.now_ns())
        spans = self._unsaved.spans(inode)
        plan = spans.plan_read(span, row.size_bytes, row.base_limit_bytes)
        reader = None
        if any(isinstance(part, FromBase) for part in plan):
            reader = file.follow(base or self._base(inode, row), self._contents)
        with self._unsaved.pinned():
            parts = [await self._read_part(part, reader) for part in plan]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def note_removed(self, inode: InodeNo) -> None:
        """Keep what was committed of a file that lost its last name and is still held.

        The log forgets it with the next commit; its unsaved bytes lie over what it was just now.
        """
        self._orphans.hold(inode)

    def note_dropped(self, inode: InodeNo) -> None:
        """Forget a file that nobody holds any more."""
        self._orphans.drop(inode)
        self._versions.drop(inode)
        self._settling.saved(inode)

    async def xattr(self, inode: InodeNo, name: bytes) -> bytes | None:
        """Return what `user.blobfs.<name>` says of a file; None: no such attribute."""
        base = self._base(inode, self._namespace.node(inode).row)
        if name == b"cached_bytes":
            return b"%d" % (0 if base is None else await self._contents.cached_bytes(base.content))
        if name == b"etag":
            bound = self._namespace.bound(inode)
            return None if bound is None else parse_version(bound.version).etag.encode()
        if name != b"state":
            return None
        if base is None or self._unsaved.inode(inode) is not None:
            return b"unsaved"
        cached_bytes = await self._contents.cached_bytes(base.content)
        return state_of(cached_bytes, base.size_bytes)

    def renumber(self, old: InodeNo, new: InodeNo, place: DirentKey | None) -> None:
        """Let what is known of an open file follow its number; `place` is where it was found last.

        One that lost its name by that is an old version from now on, unless a program here had
        removed it before.
        """
        self._settling.renumber(old, new)
        self._atimes.renumber(old, new)
        was_removed_here = self._orphans.renumber(old, new)
        if self.is_removed(new) and not was_removed_here:
            self._versions.keep(new, old, place)

    def is_removed(self, inode: InodeNo) -> bool:
        """Return whether an inode has no name any more; such a one is not saved."""
        row = self._unsaved.inode(inode)
        return isinstance(row, LocalInode) and not row.nlink

    def is_old(self, inode: InodeNo) -> bool:
        """Return whether a file is an old version that only open handles lead to."""
        return inode in self._versions

    def give_name(self, inode: InodeNo) -> None:
        """Make an old version a conflict copy, since it is about to change. Raises as
        `OldVersions.give_name`."""
        self._versions.give_name(inode)

    def holds(self, inode: InodeNo) -> bool:
        """Return whether a file is the volume's, and no native one (any more)."""
        try:
            return self._namespace.node(inode).native is None
        except Changed:
            return False

    def note_touched(self, inode: InodeNo) -> None:
        """Note a write or an fsync: whoever saves lets the file settle."""
        if self._unsaved.inode(inode) is not None:
            self._settling.touched(inode, self._env.monotonic_s())

    def note_closed(self, inode: InodeNo) -> None:
        """Note that a handle for writing is gone."""
        self._settling.closed(inode, self._env.monotonic_s())
        if self._unsaved.inode(inode) is None:
            self._settling.saved(inode)

    def _check_taking_over(self, node: Node, size_bytes: int) -> None:
        # The first change of content brings in all that is not written anew: that is what the
        # volume grows by, and not what is written.
        is_bound = self._namespace.bound(node.inode) is not None
        if is_bound or node.native is not None:
            counted_bytes = node.row.size_bytes if is_bound else 0
            self._unsaved.holdings.require_taking_over(size_bytes, counted_bytes=counted_bytes)

    def _rows(self, inode: InodeNo) -> tuple[LocalInode, Base | None]:
        """Return the row as programs see it, and what it was made from, if that is all of it.

        A committed row of a large file takes a while to decode, so it is asked for once a read.
        """
        self._unsaved.require_still(inode)
        if self._unsaved.inode(inode) is None:
            committed = self._namespace.committed(inode)
            if committed is not None:
                return as_local(committed), _base_of(committed)
        node = self._namespace.node(inode)
        if node.native is None:
            return node.row, None
        bound = node.native.object
        return node.row, Base(bound, bound.size_bytes, bound)

    def _base(self, inode: InodeNo, row: LocalInode) -> Base | None:
        """Return what was committed of a file, or the object that it was taken over from."""
        committed = self._orphans.committed(inode)
        if committed is not None:
            return _base_of(committed)
        bound = row.bound
        return None if bound is None else Base(bound, covered_bytes(bound), bound)

    async def _read_part(self, part: ReadPart, base: ContentReader | None) -> bytes | memoryview:
        if isinstance(part, Piece):
            return await self._unsaved.read(part)
        if not isinstance(part, FromBase):
            return bytes(len(part.span))
        if base is None:
            raise Damaged(f"the committed content of a file is gone. bytes={part.span}")
        found = await base.read(part.span)
        if len(found) == len(part.span):
            return found
        return bytes(found) + bytes(len(part.span) - len(found))


class VolumeFile:
    """An open file of the volume: the version that it was opened on, and what was written since.

    Own commits move the base of that; a version that others replace goes on under another number
    (`renumber`), and is shown to the end (C2).
    """

    def __init__(self, inode: InodeNo, files: VolumeFiles, *, for_writing: bool) -> None:
        self.inode = inode
        self._files = files
        self._for_writing = for_writing
        self._is_parted = False
        self._followed: Base | None = None
        self._reader: ContentReader | None = None

    async def read(self, span: ByteRange) -> bytes | memoryview:
        """Return the bytes of `span`, shorter only at the end of the file.

        Raises:
            Changed: it was replaced, and its version is kept by nobody: never a mixture of two.
            Damaged: unsaved bytes cannot be read back from the local disk.
            BlobfsError: the store did not give what was committed.
        """
        self._check_whole()
        return await self._files.read(self, span)

    async def write(self, offset: int, data: bytes) -> None:
        """Take in bytes; they survive a kill of this process from then on (P1).

        Raises:
            BadHandle: it was opened for reading.
            Changed: as `read`.
            NoRoom: there is no room for unsaved data, and none can be made (P7).
            Refused: EFBIG.
        """
        if not self._for_writing:
            raise BadHandle(f"opened for reading only. inode={self.inode}")
        self._check_whole()
        await self._files.write(self, offset, data)

    def renumber(self, inode: InodeNo) -> None:
        """Go on with what was opened: it is called `inode` from now on."""
        self.inode = inode

    def part(self) -> None:
        """Have nothing more to do with what the inode holds: it is of others, by now."""
        self._is_parted = True

    def follow(self, base: Base | None, contents: Contents) -> ContentReader | None:
        """Return a reader of the committed content; another one after each commit of it."""
        if base is None or base != self._followed:
            self._leave()
            self._followed = base
            self._reader = None if base is None else contents.open(base.size_bytes, base.content)
        return self._reader

    def close(self) -> None:
        self._leave()
        if self._for_writing:
            self._files.note_closed(self.inode)

    def _check_whole(self) -> None:
        if self._is_parted:
            raise Changed(f"the file was replaced while open: open it anew. inode={self.inode}")

    def _leave(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _base_of(row: InodeRow) -> Base:
    return Base(row.content_seq, row.size_bytes, row.content)
