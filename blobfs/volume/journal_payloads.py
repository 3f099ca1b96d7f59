"""Read the bytes that programs wrote back from the journal, verified.

Concurrency: blocking calls for any thread; the segments that are read must be pinned.
"""

from collections.abc import Iterator, Sequence

from blobfs.errors import Damaged
from blobfs.model.spans import Piece
from blobfs.types import KIB, MIB
from blobfs.volume.journal_records import BLOCK_BYTES, blocks_verify
from blobfs.volume.journal_segments import SegmentFiles, read_at, read_if_cached

NEAR_BYTES = 4 * KIB
"""Between the payloads of two records lies the head of the second."""
MOST_READ_BYTES = MIB


def read_piece(files: SegmentFiles, piece: Piece) -> bytes | memoryview:
    """Return the bytes of `piece`.

    Raises:
        Damaged: they are not what was written.
    """
    offset, length = _blocks_of(piece)
    try:
        found = read_at(files.path(piece.written.segment), offset, length)
    except OSError:
        found = b""
    return _verified(piece, found)


def read_pieces(files: SegmentFiles, pieces: Sequence[Piece]) -> list[bytes | memoryview]:
    """Return the bytes of each of `pieces`, those that lie side by side in one read.

    Raises: as above.
    """
    found: list[bytes | memoryview] = []
    for group in _neighbours(pieces):
        if len(group) == 1:
            found.append(read_piece(files, group[0]))
            continue
        (start, _), (last, length) = _blocks_of(group[0]), _blocks_of(group[-1])
        try:
            data = read_at(files.path(group[0].written.segment), start, last + length - start)
        except OSError:
            data = b""
        view = memoryview(data)
        for piece in group:
            offset, length = _blocks_of(piece)
            found.append(_verified(piece, view[offset - start : offset - start + length]))
    return found


def _neighbours(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Yield `pieces` in order, in groups that one read brings."""
    group: list[Piece] = []
    for piece in pieces:
        if group and not _adjoins(group, piece):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _adjoins(group: Sequence[Piece], piece: Piece) -> bool:
    """Whether `piece` lies so near behind a group that reading on costs less than reading anew."""
    (first, _), (last, last_length) = _blocks_of(group[0]), _blocks_of(group[-1])
    offset, length = _blocks_of(piece)
    return (
        piece.written.segment == group[0].written.segment
        and 0 <= offset - (last + last_length) <= NEAR_BYTES
        and offset + length - first <= MOST_READ_BYTES
    )


def read_piece_if_cached(files: SegmentFiles, piece: Piece) -> bytes | memoryview | None:
    """Return the bytes of `piece` if that needs no wait for the disk, else None.

    Raises: as above.
    """
    offset, length = _blocks_of(piece)
    found = read_if_cached(files.path(piece.written.segment), offset, length)
    return None if found is None else _verified(piece, found)


def _blocks_of(piece: Piece) -> tuple[int, int]:
    """Return offset and length, in the segment, of the blocks that hold a piece."""
    written = piece.written
    start = (piece.start - written.start) // BLOCK_BYTES * BLOCK_BYTES
    stop = -(-(piece.stop - written.start) // BLOCK_BYTES) * BLOCK_BYTES
    return written.offset + start, min(stop, written.length_bytes) - start


def _verified(piece: Piece, found: bytes | memoryview) -> bytes | memoryview:
    """Return the bytes of `piece` out of those of its blocks."""
    written = piece.written
    first_block, skip = divmod(piece.start - written.start, BLOCK_BYTES)
    whole = len(found) == _blocks_of(piece)[1] and not written.is_lost
    if not whole or not blocks_verify(memoryview(found), written.checksums, first_block):
        raise Damaged(
            f"unsaved bytes cannot be read back from the local disk. start={piece.start} "
            f"stop={piece.stop} segment={written.segment}",
            hint="overwrite or remove the file; `blobfs status` names it",
        )
    return found[skip : skip + piece.length_bytes]
