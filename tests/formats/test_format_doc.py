"""docs/format.md says what is: its bytes, its limits and its tables are those of the code."""

import re
from pathlib import Path

import msgspec
import pytest

from blobfs.formats import (
    blocks,
    checkpoint,
    checkpoint_blocks,
    chunk,
    entry,
    extent_list,
    json_object,
    rows,
)
from blobfs.formats.client import _Client
from blobfs.formats.commit import Operation
from blobfs.formats.head import DEFAULT_TRASH_S, _Head, _Settings, decode_head
from blobfs.formats.json_object import Marked
from blobfs.formats.keys import CHECKPOINTS
from blobfs.formats.rows import DirentRow, InodeRow
from blobfs.formats.tables import ClientState, GrantedRange, HiddenRow, Table
from blobfs.formats.volume import _KNOWN, _Volume
from tests.formats import golden, independent

DOC = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
OBJECTS = golden.read_golden()

LIMITS = {
    "pack": rows.MOST_PACK_BYTES,
    "chunk, plain": rows.MOST_CHUNK_BYTES,
    "log entry, as stored": entry.MOST_ENTRY_BYTES,
    "log entry, plain body": entry.MOST_BODY_BYTES,
    "block of a long list, plain": blocks.MOST_BLOCK_BYTES,
    "part of an extent list, plain": extent_list.MOST_PART_BYTES,
    "manifest of a checkpoint, as stored and plain": checkpoint.MOST_MANIFEST_BYTES,
    "block of refs, plain": checkpoint_blocks.MOST_REFS_BYTES,
    "key of a row": checkpoint_blocks.MOST_KEY_BYTES,
    "JSON object": json_object.MOST_JSON_BYTES,
    "content inside of a row": rows.MOST_INLINE_BYTES,
    "window of a zstd frame": chunk.MOST_WINDOW_BYTES,
}

SPELLED_OTHERWISE = {"size_bytes": "size"}


def examples_of(language: str) -> dict[str, str]:
    """Return the blocks of the page by what they show."""
    return dict(re.findall(rf"^```{language} (.+)\n((?:.*\n)*?)```$", DOC, re.MULTILINE))


def section(title: str) -> str:
    """Return the text below a heading, up to the next."""
    return DOC.split(f"# {title}\n", 1)[1].split("\n#", 1)[0]


def table(text: str) -> list[list[str]]:
    """Return the cells of all tables in the text, without their heads."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in cells] for cells in lines]


HEX = examples_of("hex")
JSON = examples_of("json")


def test_every_object_is_shown() -> None:
    """Readers of the page would have to guess at an object. One entry is shown inside only."""
    inside = {title.removesuffix(" body") for title in HEX if title.endswith(" body")}
    assert JSON.keys() | HEX.keys() | inside == OBJECTS.keys() | {f"{key} body" for key in inside}


@pytest.mark.parametrize("title", HEX)
def test_bytes_are_those_of_the_volume(title: str) -> None:
    """Readers of the page would write a reader of something else."""
    shown = bytes.fromhex("".join(line.partition("|")[0] for line in HEX[title].splitlines()))
    key = title.removesuffix(" body")
    is_body = title != key
    magic = b"BLOBCKPT" if key.startswith(CHECKPOINTS) else b"BLOBLOG\0"
    assert shown == (independent.open_entry(OBJECTS[key], magic) if is_body else OBJECTS[key])


@pytest.mark.parametrize("key", JSON)
def test_json_is_that_of_the_volume(key: str) -> None:
    """Readers of the page would look for fields that are not there."""
    assert JSON[key].encode() == OBJECTS[key]


def test_limits_are_those_of_the_code() -> None:
    """Somebody else's writer would make objects that we refuse."""
    shown = {name: int(limit) for name, limit in table(section("Conventions"))[2:]}
    assert shown == LIMITS


def test_operations_are_those_of_the_code() -> None:
    """Somebody else's reader would refuse our volumes, or read them wrongly."""
    found = [cells for cells in table(section("Operations")) if cells[0].isdigit()]
    shown = {int(number): (name, fields) for number, name, fields, _ in found}
    assert shown == {
        kind.__struct_config__.tag: (
            kind.__name__,
            ", ".join(SPELLED_OTHERWISE.get(name, name) for name in kind.__struct_fields__),
        )
        for kind in Operation.__args__
    }


def test_fields_of_entries_are_those_of_the_code() -> None:
    """Somebody else's reader would take one field for another."""
    found = [cells[0] for cells in table(section("The log")) if len(cells) == 3]
    assert found[2:] == list(entry._Body.__struct_fields__)


def test_fields_of_manifests_are_those_of_the_code() -> None:
    """Somebody else's reader would take one field for another."""
    found = [cells[0] for cells in table(section("Checkpoints")) if len(cells) == 3]
    assert found[2:] == list(checkpoint._Body.__struct_fields__)


def test_tables_are_those_of_the_code() -> None:
    """Somebody else's reader would look for a row in another table, or under another key."""
    found = [cells for cells in table(section("Rows")) if cells[0].isdigit()]
    assert [(int(number), name) for number, name, _, _ in found] == [
        (each.value, each.name.lower()) for each in Table
    ]


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("inodes", InodeRow),
        ("dirents", DirentRow),
        ("clients", ClientState),
        ("ranges", GrantedRange),
        ("hidden", HiddenRow),
    ],
)
def test_fields_of_rows_are_those_of_the_code(title: str, kind: type[msgspec.Struct]) -> None:
    """Somebody else's reader would take one field of a row for another."""
    (row,) = (cells[3] for cells in table(section("Rows")) if cells[1] == title)
    shown = row[row.index("[") + 1 : row.index("]")].split(", ")
    fields = [SPELLED_OTHERWISE.get(name, name) for name in kind.__struct_fields__]
    assert shown == fields


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("volume", _Volume),
        ("head", _Head),
        ("Settings of a volume", _Settings),
        ("clients/&lt;id&gt;", _Client),
    ],
)
def test_json_fields_are_those_of_the_code(title: str, kind: type[msgspec.Struct]) -> None:
    """Somebody else's writer would leave out what we need."""
    shown = {cells[0] for cells in table(section(title))[2:]}
    assert shown == set(kind.__struct_fields__) - set(Marked.__struct_fields__)


def test_the_settings_shown_can_be_read() -> None:
    """Somebody else's writer would set what we take for damage."""
    (shown,) = re.findall(r"^```json\n((?:.*\n)*?)```$", section("Settings of a volume"), re.M)
    end = JSON[".blobfs/head"].rindex("\n}")
    whole = JSON[".blobfs/head"][:end] + ",\n" + shown + "}\n"
    settings = decode_head(whole.encode(), key="head").settings
    assert (settings.quota_bytes, settings.trash_s) == (10 << 30, 7 * 86_400)


def test_the_default_trash_time_is_that_of_the_code() -> None:
    """Somebody else's client would remove what ours promise to keep."""
    (row,) = [cells for cells in table(section("Settings of a volume")) if cells[0] == "trash_s"]
    assert row[2].split(":")[0] == str(DEFAULT_TRASH_S)


def test_known_values_are_those_of_the_code() -> None:
    """Somebody else's writer would make volumes that we refuse."""
    shown = {cells[0]: cells[2] for cells in table(section("volume"))[2:] if cells[2]}
    assert shown == {
        field: ", ".join(f'"{value}"' for value in known) for field, known in _KNOWN.items()
    }
