"""Read the committed content of files: what lies in rows, in chunks, or nowhere (holes).

    Inline       in the row itself; costs nothing
    Extents      chunks and holes in order; read through the cache
    ExtentList   the extents lie in chunks of their own, fetched when a read first needs them
    Native       in an object that another tool wrote: one version of it, and no other (N2)

Concurrency: several reads of one reader may be under way at once.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, count

import trio

from blobfs.cache.chunks import ChunkSource
from blobfs.cache.reading import Reader, Reading
from blobfs.errors import BlobfsError, Changed, Damaged, NotFound
from blobfs.formats.extent_list import decode_extent_list
from blobfs.formats.rows import Extent, Extents, FileContent, Inline, ListPart, Native
from blobfs.formats.version import parse_version
from blobfs.model.listing import to_segment
from blobfs.types import ByteRange, Content

PARTS_AT_ONCE = 64
"""Parts of a list that are fetched together: some 400 KB that describe 2 to 32 GiB. Reading ahead
starts anew behind each such group, so they should be far apart."""


class Gone(BlobfsError):
    """The object that a file is bound to was replaced or removed: its bytes are lost (N2)."""

    exit_code = 7

    def __init__(self, message: str, *, is_replaced: bool) -> None:
        """`is_replaced`: another version lies under its key by now."""
        super().__init__(message)
        self.is_replaced = is_replaced


class ContentReader(ABC):
    """The committed content of one open file."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    async def read(self, span: ByteRange) -> bytes | memoryview:
        """Return the bytes of `span`, shorter only at the end of the content.

        Raises:
            Damaged: a pack is missing or damaged; the message names it.
            Gone: another tool replaced or removed the object that holds it.
            Unsupported: a newer version wrote a list of extents.
            AccessDenied, Unreachable: the store failed us.
        """
        span = span.clamp(self.size_bytes)
        if not span:
            await trio.lowlevel.checkpoint()
            return b""
        return await self._read(span)

    @abstractmethod
    async def _read(self, span: ByteRange) -> bytes | memoryview:
        """Return the bytes of `span`, which is not empty and inside the content."""

    @abstractmethod
    def close(self) -> None:
        """Give up what reading ahead holds. Reads under way still end well."""


class Contents:
    """Opens committed contents. One for each mount."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def open(self, size_bytes: int, content: FileContent) -> ContentReader:
        """Return a reader of the content of a file of `size_bytes`. It costs no request.

        Raises:
            Damaged: the row contradicts itself.
        """
        if isinstance(content, Inline):
            _check_size(size_bytes, len(content.data))
            return _InlineReader(content.data)
        if isinstance(content, Extents):
            return self.open_extents(size_bytes, content.extents)
        if isinstance(content, Native):
            _check_size(size_bytes, content.size_bytes)
            return _NativeReader(content, self._reading.open(content_of(content)))
        return _ListReader(self, size_bytes, content.parts)

    async def extents(self, content: FileContent) -> tuple[Extent, ...]:
        """Return all extents of a content; none of one that lies in its row, or in an object.

        Raises:
            Damaged, Unsupported, AccessDenied, Unreachable: as reading does.
        """
        if isinstance(content, Inline | Native):
            return ()
        return content.extents if isinstance(content, Extents) else await self.load(content.parts)

    async def load(self, parts: Sequence[ListPart]) -> tuple[Extent, ...]:
        """Return the extents that parts of a list hold. Raises what `extents` does."""
        found: list[Extent] = []
        for start in range(0, len(parts), PARTS_AT_ONCE):
            some = parts[start : start + PARTS_AT_ONCE]
            plain = await self._reading.chunks.load([part.chunk for part in some])
            for part, data in zip(some, plain, strict=True):
                key = f"list {part.chunk.chunk.hex()}"
                found += decode_extent_list(data, covered_bytes=part.covered_bytes, key=key)
        return tuple(found)

    async def cached_bytes(self, content: FileContent) -> int:
        """Return how many bytes of a content a read would find here: in the row, or on disk.

        Of a long list only what is known without a request is counted.
        """
        if isinstance(content, Inline):
            return len(content.data)
        if isinstance(content, Extents):
            return await self._reading.chunks.cached_bytes(_data(content.extents))
        if isinstance(content, Native):
            return await self._reading.cached_bytes(content_of(content))
        lists = [part.chunk for part in content.parts]
        if await self._reading.chunks.cached_bytes(lists) < sum(e.length_bytes for e in lists):
            return 0
        return await self._reading.chunks.cached_bytes(_data(await self.load(content.parts)))

    def open_extents(self, size_bytes: int, extents: Sequence[Extent]) -> ContentReader:
        """Return a reader of extents. Raises Damaged if they do not come to `size_bytes`."""
        _check_size(size_bytes, sum(extent.length_bytes for extent in extents))
        return _ExtentsReader(self._reading, size_bytes, extents)


class _InlineReader(ContentReader):
    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self._data = data

    async def _read(self, span: ByteRange) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._data[span.start : span.stop]

    def close(self) -> None:
        pass


class _NativeReader(ContentReader):
    """One version of an object, which another tool may replace at any time."""

    def __init__(self, native: Native, reader: Reader) -> None:
        super().__init__(native.size_bytes)
        self._native = native
        self._reader = reader

    async def _read(self, span: ByteRange) -> bytes | memoryview:
        try:
            return await self._reader.read(span)
        except (Changed, NotFound) as error:
            raise Gone(
                f"another tool replaced or removed the object that holds a file's content. "
                f"key={self._native.key!r} version={self._native.version!r}",
                is_replaced=isinstance(error, Changed),
            ) from error

    def close(self) -> None:
        self._reader.close()


class _ExtentsReader(ContentReader):
    """Extents in order. The reader below knows chunks alone; holes are made here."""

    def __init__(self, reading: Reading, size_bytes: int, extents: Sequence[Extent]) -> None:
        super().__init__(size_bytes)
        self._extents = extents
        self._starts = list(accumulate((e.length_bytes for e in extents), initial=0))
        source = reading.chunks.source(_data(extents))
        self._inside = list(_places(extents, source))
        """Where each chunk begins in the source below, None for a hole."""
        self._reader = reading.open_source(source)

    async def _read(self, span: ByteRange) -> bytes | memoryview:
        wanted = list(self._pieces(span))
        if len(wanted) == 1:
            return await self._piece(wanted[0])
        return b"".join([await self._piece(each) for each in wanted])

    def close(self) -> None:
        self._reader.close()

    async def _piece(self, wanted: ByteRange | int) -> bytes | memoryview:
        """Return bytes of chunks, or so many zeros."""
        if isinstance(wanted, int):
            await trio.lowlevel.checkpoint()
            return bytes(wanted)
        return await self._reader.read(wanted)

    def _pieces(self, span: ByteRange) -> Iterator[ByteRange | int]:
        """Yield what `span` consists of: spans of the reader below, and lengths of holes."""
        pending = ByteRange(0, 0)
        index = bisect_right(self._starts, span.start) - 1
        start = span.start
        while start < span.stop:
            stop = min(self._starts[index + 1], span.stop)
            place = self._inside[index]
            if place is None:
                yield from filter(None, (pending, stop - start))
                pending = ByteRange(0, 0)
            else:
                base = place - self._starts[index]
                piece = ByteRange(start + base, stop + base)
                if pending.stop == piece.start and pending:
                    piece = ByteRange(pending.start, piece.stop)
                elif pending:
                    yield pending
                pending = piece
            start, index = stop, index + 1
        if pending:
            yield pending


class _ListReader(ContentReader):
    """Extents that lie in chunks of their own: loaded a group of parts at a time, when needed."""

    def __init__(self, contents: Contents, size_bytes: int, parts: Sequence[ListPart]) -> None:
        super().__init__(size_bytes)
        self._contents = contents
        self._groups = [
            parts[at : at + PARTS_AT_ONCE] for at in range(0, len(parts), PARTS_AT_ONCE)
        ]
        covered = (sum(part.covered_bytes for part in group) for group in self._groups)
        self._starts = list(accumulate(covered, initial=0))
        _check_size(size_bytes, self._starts[-1])
        self._readers: dict[int, ContentReader] = {}
        self._loading = trio.Lock()

    async def _read(self, span: ByteRange) -> bytes | memoryview:
        first = bisect_right(self._starts, span.start) - 1
        if span.stop <= self._starts[first + 1]:
            return await self._read_in(first, span)
        middle = self._starts[first + 1]
        head = await self._read_in(first, ByteRange(span.start, middle))
        return b"".join((head, await self._read(ByteRange(middle, span.stop))))

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    async def _read_in(self, group: int, span: ByteRange) -> bytes | memoryview:
        reader = self._readers.get(group) or await self._load(group)
        base = self._starts[group]
        return await reader.read(ByteRange(span.start - base, span.stop - base))

    async def _load(self, group: int) -> ContentReader:
        async with self._loading:  # several first reads come at once
            if group not in self._readers:
                extents = await self._contents.load(self._groups[group])
                size = self._starts[group + 1] - self._starts[group]
                self._readers[group] = self._contents.open_extents(size, extents)
        return self._readers[group]


def content_of(native: Native) -> Content:
    """Return what is read of an object that a row refers to."""
    etag = parse_version(native.version).etag
    return Content(to_segment(native.key), etag, native.size_bytes)


def _places(extents: Sequence[Extent], source: ChunkSource) -> Iterator[int | None]:
    number = count()
    for extent in extents:
        yield None if extent.is_hole else source.start(next(number))


def _data(extents: Sequence[Extent]) -> list[Extent]:
    return [extent for extent in extents if not extent.is_hole]


def _check_size(size_bytes: int, found_bytes: int) -> None:
    if size_bytes != found_bytes:
        raise Damaged(
            "a file's content does not come to its size; `blobfs check` tells which it is. "
            f"size={size_bytes} content={found_bytes}"
        )
