"""Spell operations as MessagePack, and tell those of a newer version from damage.

An operation is an array: its tag, then its fields in the order in which `formats.commit` names
them. Nothing is optional and nothing may be added, because a reader that passed something over
would hold another tree than the rest.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from blobfs.formats.commit import (
    AddLinks,
    Detach,
    DropDirent,
    DropFolder,
    DropNative,
    Grant,
    Hide,
    MoveFolder,
    NewInode,
    Operation,
    PutDirent,
    SetAttributes,
    SetContent,
    SetXattr,
    UnlinkNative,
)
from blobfs.formats.rows import InodeField, Kind, SeqField, SizeField
from blobfs.formats.wire import (
    CONTENT_FIELDS,
    Malformed,
    WireContent,
    number_packs,
    read_content,
    spell_content,
)
from blobfs.types import FIRST_NATIVE_INODE, PackName


class WireSetContent(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3
):
    """`SetContent` with packs as numbers."""

    inode: InodeField
    size_bytes: SizeField
    content: WireContent
    base: SeqField


WireOperation = (
    Grant
    | NewInode
    | WireSetContent
    | SetAttributes
    | SetXattr
    | AddLinks
    | PutDirent
    | DropDirent
    | DropFolder
    | MoveFolder
    | Hide
    | UnlinkNative
    | Detach
    | DropNative
)

_FIELDS: dict[int, int] = {
    kind.__struct_config__.tag: 1 + len(kind.__struct_fields__) for kind in WireOperation.__args__
}
"""How many elements each operation has, its tag included."""

_CONTENT_AT = 3
_KIND_AT = {2: 2, 7: 4}
"""Where an operation says what kind of inode it means."""


def spell_operations(
    operations: Iterable[Operation], packs: Sequence[PackName]
) -> list[WireOperation]:
    """Return what the encoder takes. Raises ValueError when `packs` lacks one."""
    numbers = number_packs(packs)
    return [
        WireSetContent(op.inode, op.size_bytes, spell_content(op.content, numbers), op.base)
        if isinstance(op, SetContent)
        else op
        for op in operations
    ]


def read_operations(
    wire: Iterable[WireOperation], packs: Sequence[PackName]
) -> tuple[Operation, ...]:
    """Return what the decoder gave. Raises Malformed."""
    return tuple(_read(op, packs) for op in wire)


def _read(op: WireOperation, packs: Sequence[PackName]) -> Operation:
    if isinstance(op, WireSetContent):
        content = read_content(op.content, op.size_bytes, packs)
        return SetContent(op.inode, op.size_bytes, content, op.base)
    check = _CHECKS.get(type(op))
    if check is not None:
        check(op)
    return op


def _check_name(op: PutDirent | DropDirent) -> None:
    if b"/" in op.name or b"\0" in op.name or op.name in (b".", b".."):
        raise Malformed(f"an entry of a directory cannot be called {op.name!r}")


def _check_xattr(op: SetXattr) -> None:
    if b"\0" in op.name:
        raise Malformed(f"an attribute cannot be called {op.name!r}")


def _check_grant(op: Grant) -> None:
    if not op.first < op.stop <= FIRST_NATIVE_INODE:
        raise Malformed(f"inode numbers {op.first} to {op.stop} cannot be granted")


_CHECKS: dict[type, Callable[[Any], None]] = {
    PutDirent: _check_name,
    DropDirent: _check_name,
    SetXattr: _check_xattr,
    Grant: _check_grant,
}
"""What the types of the fields do not say."""


def unknown_operation(operations: Any) -> str | None:
    """Say which of the decoded `operations`, whatever they are, this version does not know."""
    if not isinstance(operations, list):
        return None
    found = (_unknown(op) for op in operations if isinstance(op, list) and op)
    return next(filter(None, found), None)


def _unknown(op: list[Any]) -> str | None:
    tag = op[0]
    if not isinstance(tag, int):
        return None
    if tag not in _FIELDS:
        return f"operation {tag}"
    if len(op) > _FIELDS[tag]:
        return f"operation {tag} of {len(op)} elements"
    if tag == WireSetContent.__struct_config__.tag and len(op) > _CONTENT_AT:
        return _unknown_content(op[_CONTENT_AT])
    return _unknown_kind(op[_KIND_AT[tag]]) if len(op) > _KIND_AT.get(tag, len(op)) else None


def _unknown_content(content: Any) -> str | None:
    if not isinstance(content, list) or not content or not isinstance(content[0], int):
        return None
    if len(content) > CONTENT_FIELDS.get(content[0], 0):
        return f"content of kind {content[0]}, {len(content)} elements"
    return None


def _unknown_kind(kind: Any) -> str | None:
    if isinstance(kind, int) and kind not in set(Kind):
        return f"an inode of kind {kind}"
    return None
