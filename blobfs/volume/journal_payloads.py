"""Read the bytes that programs wrote back from the journal, verified.

Concurrency: blocking calls for any thread; the segments that are read must be pinned.
"""

from blobfs.errors import Damaged
from blobfs.model.spans import Piece
from blobfs.volume.journal_records import BLOCK_BYTES, blocks_verify
from blobfs.volume.journal_segments import SegmentFiles, read_at, read_if_cached


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
