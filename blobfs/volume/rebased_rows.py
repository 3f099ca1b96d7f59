"""Spell what unsaved rows become over a later moment of the log, to keep it beside the tree.

The tree and the journal cannot change in one step. So the tree takes the decision in together with
the entries that made it necessary; the journal takes it over after that, and whoever was killed in
between does so at the next mount.
"""

import msgspec

from blobfs.errors import Damaged
from blobfs.model.changes import DirentKey, Gone, LocalDirent, LocalInode
from blobfs.model.rebase import Rebased
from blobfs.types import InodeNo, Seq


class RebasedAt(msgspec.Struct, frozen=True, array_like=True):
    """What unsaved rows are over the tree at `seq`."""

    seq: Seq
    numbers: tuple[tuple[InodeNo, InodeNo], ...]
    inodes: tuple[tuple[InodeNo, LocalInode | Gone | None], ...]
    dirents: tuple[tuple[DirentKey, LocalDirent | Gone | None], ...]
    unedited: tuple[InodeNo, ...]


def encode_rebased(seq: Seq, rebased: Rebased) -> bytes:
    return _encode(
        RebasedAt(
            seq,
            tuple(rebased.numbers.items()),
            tuple(rebased.inodes.items()),
            tuple(rebased.dirents.items()),
            tuple(sorted(rebased.unedited)),
        )
    )


def decode_rebased(data: bytes) -> tuple[Seq, Rebased]:
    """Return the seq, and what the rows are over it.

    Raises:
        Damaged: the bytes are none that `encode_rebased` made.
    """
    try:
        found = _decode(data)
    except msgspec.DecodeError as error:
        raise Damaged(f"what became of unsaved changes cannot be read: {error}") from error
    rebased = Rebased(
        numbers=dict(found.numbers),
        inodes=dict(found.inodes),
        dirents=dict(found.dirents),
        unedited=frozenset(found.unedited),
    )
    return found.seq, rebased


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RebasedAt).decode
