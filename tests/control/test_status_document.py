"""docs/status.md is what other programs are written against: it has to be true."""

import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from blobfs.control.messages import STATUS_SCHEMA, State, StatusDocument

TEXT = (Path(__file__).parents[2] / "docs" / "status.md").read_text()


def fields_of(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every field below `kind`."""
    for field in msgspec.structs.fields(kind):
        name = f"{prefix}{field.name}"
        yield name
        for struct in structs_in(field.type):
            yield from fields_of(struct, f"{name}.")


def structs_in(kind: Any) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) in (tuple, dict):
        return [struct for part in typing.get_args(kind) for struct in structs_in(part)]
    return []


def test_every_field_is_described_and_no_other() -> None:
    """Programs would rely on fields that are not there, or miss those that are."""
    described = re.findall(r"^\| `([a-z0-9_.]+)` \|", TEXT, re.MULTILINE)
    assert sorted(described) == sorted(fields_of(StatusDocument))


def test_every_state_is_described() -> None:
    """A program would meet a state that it never heard of."""
    (row,) = re.findall(r"^\| `mounts.state` .*$", TEXT, re.MULTILINE)
    assert set(re.findall(r"`([a-z]+)`", row)) == set(typing.get_args(State))


def test_the_example_is_a_status() -> None:
    """Whoever starts from the example would start wrong."""
    (example,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    document = msgspec.json.decode(example, type=StatusDocument)
    assert document.schema == STATUS_SCHEMA
    assert json.loads(msgspec.json.encode(document)) == json.loads(example)
