"""Spell `head`, the one object of a volume that changes: where reading the log may begin.

Unlike others it is rewritten by whoever makes a checkpoint, so a field that is not known is
refused: an older client that dropped it would take it from everybody.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from blobfs.formats.json_object import (
    HexId,
    Marked,
    decode_json,
    encode_json,
    refuse_unknown_fields,
)
from blobfs.formats.keys import MOST_SEQ, parse_checkpoint_name
from blobfs.formats.refusal import damaged
from blobfs.types import ClientId, Seq

VERSION = 1

_WHAT = "head"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Where reading begins. Both `floor` and `checkpoint` only grow."""

    floor: Seq = Seq(0)
    """The last commit whose entry may have been removed; all later ones lie in the log."""
    checkpoint: str | None = None
    """The newest checkpoint by its name (`keys.checkpoint_name`), made at `floor` or later."""
    owner: ClientId | None = None
    """The one client that writes, where the store cannot keep several apart (L8)."""


class _Head(Marked, frozen=True, kw_only=True):
    floor: Annotated[int, Meta(ge=0, le=MOST_SEQ)]
    checkpoint: str | None
    owner: HexId | None


def encode_head(head: Head) -> bytes:
    """Return the bytes of `head`. Raises ValueError for what no reader would take."""
    wire = _Head(
        format=f"blobfs {_WHAT}",
        version=VERSION,
        floor=head.floor,
        checkpoint=head.checkpoint,
        owner=None if head.owner is None else head.owner.hex(),
    )
    return encode_json(wire, head, lambda data: decode_head(data, key=""))


def decode_head(data: bytes, *, key: str) -> Head:
    """Return what `head` says. Raises Damaged, Unsupported."""
    wire = decode_json(data, _Head, VERSION, what=_WHAT, key=key)
    refuse_unknown_fields(data, _Head, what=_WHAT, key=key)
    made_at = Seq(0) if wire.checkpoint is None else parse_checkpoint_name(wire.checkpoint)
    if made_at is None:
        raise damaged(_WHAT, "its checkpoint is not named like one", key)
    if wire.floor > made_at:
        raise damaged(_WHAT, f"its floor {wire.floor} is above its checkpoint {made_at}", key)
    owner = None if wire.owner is None else ClientId(bytes.fromhex(wire.owner))
    return Head(floor=Seq(wire.floor), checkpoint=wire.checkpoint, owner=owner)
