"""Remember which unsaved bytes cannot be read back, for as long as a file shows them.

Concurrency: nothing here awaits.
"""

from collections.abc import Iterable

from blobfs.model.spans import Piece
from blobfs.types import ByteRange, InodeNo
from blobfs.volume.journal_recovery import Damage
from blobfs.volume.unsaved_rows import Rows


class Damages:
    """What was found when the journal was opened, and what reading found since."""

    def __init__(self, found: Iterable[Damage], rows: Rows) -> None:
        self._rows = rows
        self._unnamed = [damage for damage in found if damage.inode is None]
        self._named: dict[Damage, None] = {}
        for inode, spans in rows.spans.items():
            for piece in spans:
                if piece.written.is_lost:
                    self._named[_damage(inode, piece)] = None

    def note(self, piece: Piece) -> None:
        """Remember a piece whose bytes did not verify."""
        for inode, spans in self._rows.spans.items():
            for each in spans.inside(piece.start, piece.stop):
                if each.written is piece.written:
                    self._named[_damage(inode, each)] = None

    def current(self) -> tuple[Damage, ...]:
        """Return all damage, less what was overwritten or removed."""
        return (*self._unnamed, *(damage for damage in self._named if self._shows(damage)))

    def _shows(self, damage: Damage) -> bool:
        if damage.inode is None or damage.lost is None:
            return True
        pieces = self._rows.spans_of(damage.inode).inside(damage.lost.start, damage.lost.stop)
        return any(piece.written.serial == damage.serial for piece in pieces)


def _damage(inode: InodeNo, piece: Piece) -> Damage:
    written = piece.written
    begin = written.offset + piece.start - written.start
    span = ByteRange(begin, begin + piece.length_bytes)
    lost = ByteRange(piece.start, piece.stop)
    return Damage(written.segment, span, inode, lost, written.serial)
