"""Open and read native objects: one version each, however the bucket changes meanwhile.

Concurrency: several reads of one file are under way at once, because kernels send them so.
"""

from weakref import WeakSet

from blobfs.cache.reading import Reader, Reading
from blobfs.env import Env
from blobfs.errors import Changed, NotFound
from blobfs.model.listing import Entry
from blobfs.model.nodes import NativeNode, content_of
from blobfs.model.walk import NAMES_LOOKED_AHEAD, RunDetector
from blobfs.types import MIB, ByteRange, InodeNo
from blobfs.vfs.atimes import AccessTimes
from blobfs.vfs.attributes import BadHandle, state_of
from blobfs.vfs.volume_files import VolumeFile, VolumeFiles
from blobfs.volume.native import NativeTree

SMALL_FILE_BYTES = MIB
"""Files up to this size are fetched ahead for a program that reads one after the other."""


class NativeFile:
    """An open native object; it keeps the version that it was opened on.

    Once a program changes the file it is the volume's, and shows what that holds; what others made
    of it does not show.
    """

    def __init__(self, native: NativeNode, reader: Reader, files: "NativeFiles") -> None:
        self.inode: InodeNo = native.number
        self._native = native
        self._reader = reader
        self._files = files
        self._was_read = False
        self._is_parted = False
        self._adopted: VolumeFile | None = None

    async def read(self, span: ByteRange) -> bytes | memoryview:
        """Return the bytes of `span`, shorter only at the end of the file.

        Raises:
            Changed: the store holds another version by now: never a mixture of two.
        """
        if (adopted := self._as_adopted()) is not None:
            return await adopted.read(span)
        if not self._was_read:
            self._was_read = True
            self._files.note_read(self._native)
        try:
            return await self._reader.read(span)
        except (Changed, NotFound) as error:
            self._files.note_outdated(self._native)
            raise Changed(f"the object was replaced or removed while open: {error}") from error

    async def write(self, offset: int, data: bytes) -> None:
        """Refuse: it was opened for reading.

        Raises:
            BadHandle: always.
        """
        raise BadHandle(f"opened for reading only. inode={self.inode}")

    def renumber(self, inode: InodeNo) -> None:
        """Go on with what was opened: it is called `inode` from now on."""
        self.inode = inode
        if self._adopted is not None:
            self._adopted.renumber(inode)

    def part(self) -> None:
        """Go on with the object alone, whatever the volume's file of this number holds."""
        self._is_parted = True
        if self._adopted is not None:
            self._adopted.part()

    def close(self) -> None:
        self._reader.close()
        if self._adopted is not None:
            self._adopted.close()

    def _as_adopted(self) -> VolumeFile | None:
        if self._adopted is None and not self._is_parted:
            self._adopted = self._files.open_adopted(self.inode)
        return self._adopted


class NativeFiles:
    """The native objects that are open, and those that are likely to be opened next."""

    def __init__(
        self,
        native: NativeTree,
        volume: VolumeFiles,
        reading: Reading,
        atimes: AccessTimes,
        env: Env,
    ) -> None:
        self._native = native
        self._volume = volume
        self._reading = reading
        self._atimes = atimes
        self._env = env
        self._outdated: WeakSet[NativeNode] = WeakSet()
        self._runs = RunDetector()
        self._fetched_ahead: tuple[str, bytes] = ("", b"")

    def open(self, native: NativeNode) -> NativeFile:
        """Open an object for reading.

        Raises:
            Changed: the store is known to hold another version; look the name up again.
        """
        if native in self._outdated:
            raise Changed(f"the object was replaced. key={native.content.key!r}")
        self._fetch_neighbours(native)
        return NativeFile(native, self._reading.open(native.content), self)

    def open_adopted(self, inode: InodeNo) -> VolumeFile | None:
        """Open what was a native file for reading; None: it still is."""
        return self._volume.open(inode, for_writing=False) if self._volume.holds(inode) else None

    def note_read(self, native: NativeNode) -> None:
        """Note that a program read an object that it opened."""
        mtime_ns = native.entry.mtime_ns
        self._atimes.note_read(native.number, mtime_ns, mtime_ns, self._env.now_ns())

    def note_outdated(self, native: NativeNode) -> None:
        """Note that the store holds another version: the name has to be looked up anew."""
        self._outdated.add(native)
        self._native.forget(native.prefix, native.entry.name)

    async def xattr(self, native: NativeNode, name: bytes) -> bytes | None:
        """Return what `user.blobfs.<name>` says of an object; None: no such attribute."""
        match name:
            case b"etag":
                return native.entry.etag.encode("utf-8", "surrogateescape")
            case b"cached_bytes":
                return b"%d" % await self._reading.cached_bytes(native.content)
            case b"state":
                return await self._state(native)
            case _:
                return None

    async def _state(self, native: NativeNode) -> bytes:
        cached_bytes = await self._reading.cached_bytes(native.content)
        return state_of(cached_bytes, native.entry.size_bytes)

    def _fetch_neighbours(self, native: NativeNode) -> None:
        """Fetch the next small files for a program that reads a directory in order."""
        prefix, name = native.prefix, native.entry.name
        if native.entry.size_bytes > SMALL_FILE_BYTES:
            return
        following = self._native.following(prefix, name, NAMES_LOOKED_AHEAD)
        first = self._native.is_first_file(prefix, name)
        count = self._runs.opened(prefix, name, [entry.name for entry in following], first=first)
        if not count:
            return
        ahead_prefix, ahead_name = self._fetched_ahead
        if ahead_prefix != prefix or ahead_name < name:
            ahead_name = name
        window = self._native.following(prefix, name, count)
        wanted = [entry for entry in window if entry.name > ahead_name and _is_small(entry)]
        if wanted:
            self._fetched_ahead = (prefix, wanted[-1].name)
            self._reading.prefetch([content_of(prefix, entry) for entry in wanted])


def _is_small(entry: Entry) -> bool:
    return not entry.is_folder and 0 < entry.size_bytes <= SMALL_FILE_BYTES
