"""The database keeps what it committed, and a failing change takes no other with it."""

import contextlib
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from blobfs.database import (
    Database,
    NoRoom,
    Sync,
    Writer,
    open_database,
    open_or_begin_anew,
)
from blobfs.errors import Damaged, LocalFault

MIB = 1024 * 1024


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(
        tmp_path / "db", tables=["rows"], map_bytes=8 * MIB, sync=Sync.NONE
    ) as opened:
        yield opened


def put(key: bytes, value: bytes) -> object:
    return lambda writer: writer.put("rows", key, value)


async def test_what_was_written_is_there_after_a_reopen(tmp_path: Path) -> None:
    """Without it every remount would start from nothing."""
    for sync in Sync:
        path = tmp_path / sync.name
        async with open_database(path, tables=["rows"], map_bytes=MIB, sync=sync) as database:
            await database.write(put(b"k", b"v"))
        async with open_database(path, tables=["rows"], map_bytes=MIB, sync=sync) as database:
            with database.read() as reader:
                assert reader.get("rows", b"k") == b"v"
                assert reader.get("rows", b"absent") is None


async def test_a_range_is_half_open_and_sorted(database: Database) -> None:
    """A listing that lost or repeated its edge would hide a file."""
    for name in (b"c", b"a", b"b", b"d"):
        await database.write(put(name, name.upper()))
    with database.read() as reader:
        assert list(reader.range("rows", b"b", b"d")) == [(b"b", b"B"), (b"c", b"C")]
        assert [key for key, _ in reader.range("rows")] == [b"a", b"b", b"c", b"d"]
        assert list(reader.keys("rows", b"b", b"d")) == [b"b", b"c"]
        assert list(reader.keys("rows", b"bb", b"z")) == [b"c", b"d"]
        assert list(reader.keys("rows", b"e", b"z")) == []
    assert await database.write(lambda w: w.delete_range("rows", b"a", b"c")) == 2
    assert await database.write(lambda w: w.delete_range("rows", b"a", b"z", at_most=1)) == 1
    with database.read() as reader:
        assert [key for key, _ in reader.range("rows")] == [b"d"]


async def test_many_keys_are_found_at_once(database: Database) -> None:
    """A directory would be shown without the files that one of its names leads to nowhere for."""
    for name in (b"a", b"b", b"d"):
        await database.write(put(name, name.upper()))
    with database.read() as reader:
        found = reader.get_many("rows", [b"d", b"c", b"a", b"z"])
        assert found == [(b"d", b"D"), (b"a", b"A")]
        assert reader.get_many("rows", []) == []


async def test_the_row_at_a_key_or_before_it_is_found(database: Database) -> None:
    """What covers a key is found by where it begins: one too far, and a file would be missing."""
    with database.read() as reader:
        assert reader.at_or_before("rows", b"a") is None
    for name in (b"b", b"d"):
        await database.write(put(name, name.upper()))
    with database.read() as reader:
        found = [reader.at_or_before("rows", key) for key in (b"a", b"b", b"c", b"d", b"e")]
    assert found == [None, (b"b", b"B"), (b"b", b"B"), (b"d", b"D"), (b"d", b"D")]


async def test_rows_are_put_where_there_are_none(database: Database) -> None:
    """What is newer must not be taken back by what is read later."""
    await database.write(put(b"b", b"newer"))
    await database.write(lambda w: w.put_absent("rows", [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]))
    with database.read() as reader:
        assert list(reader.range("rows")) == [(b"a", b"1"), (b"b", b"newer"), (b"c", b"3")]
    await database.write(lambda w: w.clear("rows"))
    with database.read() as reader:
        assert list(reader.range("rows")) == []


async def test_a_failing_change_takes_no_other_with_it(database: Database) -> None:
    """Changes share a commit: one caller's bug must not lose another caller's rows."""

    def broken(writer: Writer) -> None:
        writer.put("rows", b"half", b"done")
        raise ZeroDivisionError

    outcomes: list[str] = []

    async def write(key: bytes | None) -> None:
        try:
            await database.write(broken if key is None else put(key, b"v"))
            outcomes.append("kept")
        except ZeroDivisionError:
            outcomes.append("failed")

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(write, None if number == 20 else b"%d" % number)
    assert sorted(outcomes) == ["failed"] + ["kept"] * 39
    with database.read() as reader:
        assert reader.get("rows", b"half") is None
        assert len(list(reader.range("rows"))) == 39


async def test_a_full_map_is_enospc_and_leaves_the_rows(database: Database) -> None:
    """A full disk must be an error to the writer, with everything before it intact."""
    await database.write(put(b"before", b"v"))
    with pytest.raises(NoRoom) as caught:
        await database.write(put(b"big", b"x" * 16 * MIB))
    assert caught.value.errno == errno.ENOSPC
    await database.write(put(b"after", b"v"))
    with database.read() as reader:
        assert [key for key, _ in reader.range("rows")] == [b"after", b"before"]


async def test_a_reader_sees_one_moment(database: Database) -> None:
    """A directory read across two transactions could show half of a refresh."""
    await database.write(put(b"k", b"old"))
    with database.read() as reader:
        await database.write(put(b"k", b"new"))
        assert reader.get("rows", b"k") == b"old"


async def test_a_cancelled_writer_still_gets_its_commit(database: Database) -> None:
    """A write under way either happens or does not: never half, never forgotten."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, put(b"k", b"v"))
            await trio.lowlevel.checkpoint()
            scope.cancel()
    with database.read() as reader:
        assert reader.get("rows", b"k") in (b"v", None)


async def test_garbage_is_called_damaged(tmp_path: Path) -> None:
    """A torn file must be recognised, not crash the daemon."""
    path = tmp_path / "db"
    path.mkdir()
    (path / "data.mdb").write_bytes(b"\xff" * 65536)
    with pytest.raises(Damaged):
        async with open_database(path, tables=["rows"], map_bytes=MIB, sync=Sync.FULL):
            pass


async def test_a_path_that_cannot_be_a_folder_is_a_local_fault(tmp_path: Path) -> None:
    """The user learns which path is in the way."""
    (tmp_path / "file").touch()
    with pytest.raises(LocalFault, match="file"):
        async with open_database(tmp_path / "file", tables=["rows"], map_bytes=MIB, sync=Sync.FULL):
            pass


async def test_damaged_tables_are_begun_anew_once(tmp_path: Path) -> None:
    """A torn cache would be the end of every mount; or be thrown away again and again."""
    opened: list[bool] = []

    @contextlib.asynccontextmanager
    async def opening() -> AsyncIterator[str]:
        opened.append(left.exists())
        if left.exists():
            raise Damaged("torn")
        yield "tables"

    (left := tmp_path / "left").touch()
    async with open_or_begin_anew(opening, left.unlink, "it") as tables:
        assert (tables, opened) == ("tables", [True, False])

    left.touch()
    with pytest.raises(Damaged):
        async with open_or_begin_anew(opening, lambda: None, "it"):
            pass
    left.unlink()
    with pytest.raises(Damaged):
        async with open_or_begin_anew(opening, left.touch, "it"):
            raise Damaged("a row, while it was in use")
    assert not left.exists()
