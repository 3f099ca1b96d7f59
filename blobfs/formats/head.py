"""Spell `head`, the one object of a volume that changes: where reading the log may begin.

Unlike others it is rewritten by whoever makes a checkpoint or changes a setting, so a field that
is not known is refused: an older client that dropped it would take it from everybody.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

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

DEFAULT_TRASH_S = 30 * 86_400

_WHAT = "head"

SettingField = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class VolumeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every client of a volume heeds, and anybody who may write to it can change."""

    quota_bytes: int | None = None
    """What all contents together may come to; None: nobody set a limit."""
    trash_s: int | None = None
    """How long the bytes of removed objects that other tools wrote are kept; None: nobody said,
    so `DEFAULT_TRASH_S`."""

    @property
    def trash_time_s(self) -> int:
        return DEFAULT_TRASH_S if self.trash_s is None else self.trash_s


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Where reading begins. Both `floor` and `checkpoint` only grow."""

    floor: Seq = Seq(0)
    """The last commit whose entry may have been removed; all later ones lie in the log."""
    checkpoint: str | None = None
    """The newest checkpoint by its name (`keys.checkpoint_name`), made at `floor` or later."""
    owner: ClientId | None = None
    """The one client that writes, where the store cannot keep several apart (L8)."""
    settings: VolumeSettings = VolumeSettings()


class _Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    quota_bytes: SettingField | UnsetType = UNSET
    trash_s: SettingField | UnsetType = UNSET


class _Head(Marked, frozen=True, kw_only=True):
    floor: Annotated[int, Meta(ge=0, le=MOST_SEQ)]
    checkpoint: str | None
    owner: HexId | None
    settings: _Settings | UnsetType = UNSET
    """Left out where nothing is set: so did all writers before there were settings."""


def encode_head(head: Head) -> bytes:
    """Return the bytes of `head`. Raises ValueError for what no reader would take."""
    wire = _Head(
        format=f"blobfs {_WHAT}",
        version=VERSION,
        floor=head.floor,
        checkpoint=head.checkpoint,
        owner=None if head.owner is None else head.owner.hex(),
        settings=_spell_settings(head.settings),
    )
    return encode_json(wire, head, lambda data: decode_head(data, key=""))


def decode_head(data: bytes, *, key: str) -> Head:
    """Return what `head` says. Raises Damaged, Unsupported."""
    wire = decode_json(data, _Head, VERSION, what=_WHAT, key=key)
    refuse_unknown_fields(data, _Head, what=_WHAT, key=key)
    if wire.settings is not UNSET:
        refuse_unknown_fields(data, _Settings, what=_WHAT, key=key, inside="settings")
    made_at = Seq(0) if wire.checkpoint is None else parse_checkpoint_name(wire.checkpoint)
    if made_at is None:
        raise damaged(_WHAT, "its checkpoint is not named like one", key)
    if wire.floor > made_at:
        raise damaged(_WHAT, f"its floor {wire.floor} is above its checkpoint {made_at}", key)
    owner = None if wire.owner is None else ClientId(bytes.fromhex(wire.owner))
    return Head(
        floor=Seq(wire.floor),
        checkpoint=wire.checkpoint,
        owner=owner,
        settings=_read_settings(wire.settings),
    )


def _spell_settings(settings: VolumeSettings) -> _Settings | UnsetType:
    if settings == VolumeSettings():
        return UNSET
    return _Settings(
        quota_bytes=UNSET if settings.quota_bytes is None else settings.quota_bytes,
        trash_s=UNSET if settings.trash_s is None else settings.trash_s,
    )


def _read_settings(wire: _Settings | UnsetType) -> VolumeSettings:
    if wire is UNSET:
        return VolumeSettings()
    return VolumeSettings(
        quota_bytes=None if wire.quota_bytes is UNSET else wire.quota_bytes,
        trash_s=None if wire.trash_s is UNSET else wire.trash_s,
    )
