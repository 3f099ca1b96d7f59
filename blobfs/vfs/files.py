"""Open files, whichever layer holds their bytes."""

import errno
from typing import Protocol

from blobfs.formats.rows import Kind
from blobfs.model.changes import DirentKey
from blobfs.model.nodes import Node
from blobfs.model.refusal import Refused
from blobfs.types import ByteRange, InodeNo
from blobfs.vfs.attributes import IsAFolder
from blobfs.vfs.durability import Sync
from blobfs.vfs.native_files import NativeFiles
from blobfs.vfs.volume_files import VolumeFiles


class OpenFile(Protocol):
    """A file that a program has open."""

    inode: InodeNo

    async def read(self, span: ByteRange) -> bytes | memoryview:
        """Return the bytes of `span`, shorter only at the end of the file."""

    async def write(self, offset: int, data: bytes) -> None:
        """Take in bytes; they survive a kill of this process from then on (P1)."""

    def renumber(self, inode: InodeNo) -> None:
        """Go on with what was opened: it is called `inode` from now on."""

    def part(self) -> None:
        """Show nothing of what the inode holds from now on, which is another content (C2)."""

    def close(self) -> None: ...


class Files:
    """All files that can be opened."""

    def __init__(self, natives: NativeFiles, volume: VolumeFiles, sync: Sync) -> None:
        self._natives = natives
        self._volume = volume
        self._sync = sync

    def open(self, node: Node, *, for_writing: bool) -> OpenFile:
        """Open a file.

        Raises:
            IsAFolder: it is a directory.
            Refused: ENXIO (a pipe or the like, which the kernel opens itself).
            Changed: it is a native object that was replaced; look the name up again.
        """
        if node.is_folder:
            raise IsAFolder(f"a directory cannot be opened as a file. inode={node.inode}")
        if node.kind is not Kind.FILE:
            raise Refused(errno.ENXIO, f"not a file. inode={node.inode}")
        if node.native is None or for_writing:
            return self._volume.open(node.inode, for_writing=for_writing)
        return self._natives.open(node.native)

    def check_length(self, inode: InodeNo, size_bytes: int) -> None:
        """Make sure that a file may be made this long, whatever it has to take over for that.

        Raises:
            NoRoom: the volume would exceed its quota.
        """
        self._volume.check_length(inode, size_bytes)

    def note_touched(self, inode: InodeNo) -> None:
        """Note that a program cut a file or synced it."""
        self._volume.note_touched(inode)

    def note_removed(self, inode: InodeNo) -> None:
        """Note that a file lost its last name, and is still held."""
        self._volume.note_removed(inode)

    def note_dropped(self, inode: InodeNo) -> None:
        """Note that nobody holds a removed file any more."""
        self._volume.note_dropped(inode)

    def renumber(self, old: InodeNo, new: InodeNo, place: DirentKey | None) -> None:
        """Let what is known of a file follow its number; `place` is where it was found last."""
        self._volume.renumber(old, new, place)

    def is_removed(self, inode: InodeNo) -> bool:
        """Return whether a file or a directory has no name any more."""
        return self._volume.is_removed(inode)

    def is_old(self, inode: InodeNo) -> bool:
        """Return whether a file is an old version that only open handles lead to."""
        return self._volume.is_old(inode)

    def give_name(self, inode: InodeNo) -> None:
        """Make an old version a conflict copy, since it is about to change; nothing else.

        Raises:
            NoRoom: there is no room for another file.
            LocalFault: it cannot be written down.
        """
        self._volume.give_name(inode)

    async def sync(self) -> None:
        """Return when everything done so far is as safe as an fsync promises."""
        await self._sync()

    async def own_xattr(self, node: Node, name: bytes) -> bytes | None:
        """Return what `user.blobfs.<name>` says of a file; None: no such attribute."""
        if node.kind is not Kind.FILE:
            return None
        if node.native is not None:
            return await self._natives.xattr(node.native, name)
        return await self._volume.xattr(node.inode, name)
