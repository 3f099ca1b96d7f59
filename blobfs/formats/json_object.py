"""Spell the objects of a volume that are few and that people may want to read: as JSON.

Each says what it is (`format`), in which version, and what a reader has to know beyond that
(`needs`).
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from blobfs.errors import BlobfsError
from blobfs.formats.refusal import damaged, newer, refuse_unknown_needs
from blobfs.types import KIB

MOST_JSON_BYTES = 64 * KIB

Value = TypeVar("Value")
Wire = TypeVar("Wire", bound="Marked")

HexId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""16 bytes, in hex."""


class Marked(msgspec.Struct, frozen=True, kw_only=True):
    """What every object says in every version."""

    format: str
    version: Annotated[int, Meta(ge=1)]
    needs: tuple[str, ...] = ()


def encode_json(wire: Marked, value: Value, decode: Callable[[bytes], Value]) -> bytes:
    """Return one indented JSON object, fields in their order, a newline at its end.

    Raises ValueError when `decode` would not make `value` of it again.
    """
    data = msgspec.json.format(msgspec.json.encode(wire), indent=2) + b"\n"
    try:
        again = decode(data)
    except BlobfsError as error:
        raise ValueError(f"no reader would take this: {error}") from error
    if again != value:
        raise ValueError(f"it would not be read as it is. value={value}")
    return data


def decode_json(data: bytes, kind: type[Wire], version: int, *, what: str, key: str) -> Wire:
    """Return the object, whose `format` is "blobfs `what`", in the one version that is known.

    Raises Damaged, Unsupported.
    """
    marks = _decode(data, Marked, what, key)
    if marks.format != f"blobfs {what}":
        raise damaged(what, f"its format is {marks.format[:64]!r}", key)
    if marks.version != version:
        raise newer(what, f"version {marks.version}", key)
    refuse_unknown_needs(what, marks.needs, key)
    return _decode(data, kind, what, key)


def refuse_unknown_fields(
    data: bytes, kind: type[msgspec.Struct], *, what: str, key: str, inside: str | None = None
) -> None:
    """Refuse an object with fields beyond those of `kind`. Raises Damaged, Unsupported.

    With `inside` it is about the object that this field of it holds.
    """
    found = _decode(data, dict[str, Any], what, key)
    unknown = (found if inside is None else found[inside]).keys() - set(kind.__struct_fields__)
    if unknown:
        raise newer(what, f"it has a field {min(unknown)[:64]!r}", key)


def _decode(data: bytes, kind: type[Value], what: str, key: str) -> Value:
    if len(data) > MOST_JSON_BYTES:
        raise damaged(what, f"it has {len(data)} bytes", key)
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        raise damaged(what, str(error), key) from error
