"""Say how the entries of a log follow one another. Pure.

An entry counts only in its place: its seq is the next one, and it names the hash of the entry
before, so that a log with a slot that was swapped, lost or forked is noticed by whoever reads it
(volume format, L4).
"""

from dataclasses import dataclass

from blobfs.errors import Damaged
from blobfs.formats.commit import Entry
from blobfs.types import Seq

HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a volume's log: the last entry that was taken in, by seq and hash.

    Before the first entry that is seq 0, and the hash of the object `volume`.
    """

    seq: Seq
    chain: bytes

    def is_cut_off(self, floor: Seq) -> bool:
        """Whether a log with this floor may lack what follows: then its slots prove nothing (L4).

        They may be empty although they were filled, or filled again, by a put that came very late.
        """
        return floor > self.seq


@dataclass(frozen=True, slots=True)
class Landed:
    """An entry that lies in its slot, and the SHA-256 of its exact bytes."""

    entry: Entry
    hash: bytes

    @property
    def position(self) -> Position:
        """Where a reader is who has taken it in."""
        return Position(self.entry.seq, self.hash)


def follow(before: Position, landed: Landed) -> Position:
    """Return the place behind `landed`, which is the entry that follows `before`.

    Raises:
        Damaged: it does not follow, so the log is not the one that was read so far.
    """
    entry = landed.entry
    if entry.seq != before.seq + 1:
        raise Damaged(
            f"an entry of the log lies in the wrong slot. expected={before.seq + 1} "
            f"found={entry.seq}",
            hint=_HINT,
        )
    if entry.previous != before.chain:
        raise Damaged(
            f"an entry of the log does not continue the one before it. slot={entry.seq} "
            f"expected={before.chain.hex()} found={entry.previous.hex()}",
            hint=_HINT,
        )
    return landed.position


_HINT = "the bucket's log was changed from outside, or is a copy: run `blobfs check`"
