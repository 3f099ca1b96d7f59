"""Several clients write to one volume at once, and nothing acknowledged is gone (P4, P5)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from blobfs.env import Env
from blobfs.errors import NoRoom
from blobfs.formats.rows import Kind
from blobfs.model.rebase import Rebased
from blobfs.stores.memory import MemoryStore
from blobfs.types import ROOT_INODE, Seq
from blobfs.volume.unsaved import Moving
from tests.sync.place import MAKER, Place, opened_place


@dataclass
class Two:
    """Two machines with one bucket."""

    here: Place
    there: Place

    async def settle(self) -> None:
        """Save on both, until both have seen all of it."""
        for place in (self.here, self.there, self.here, self.there):
            await place.sync()

    async def same(self) -> dict[str, bytes | None]:
        """Return the tree, which both show alike once they are settled."""
        await self.settle()
        tree = await self.here.tree()
        assert tree == await self.there.tree()
        difference = self.here.engine.tree.first_difference(self.there.engine.tree)
        assert difference is None
        return tree


@asynccontextmanager
async def two_places(store: MemoryStore, folder: Path) -> AsyncIterator[Two]:
    async with (
        opened_place(store, folder / "here") as here,
        opened_place(store, folder / "there") as there,
    ):
        yield Two(here, there)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    """Two machines that know one file and one directory."""
    store = MemoryStore()
    async with opened_place(store, tmp_path / "first") as first:
        await first.write("f", b"old")
        await first.mkdir("d")
        await first.write("d/g", b"in d")
        await first.save()
    async with two_places(store, tmp_path) as two:
        yield two


OLD: dict[str, bytes | None] = {"f": b"old", "d": None, "d/g": b"in d"}


def copies(tree: dict[str, bytes | None]) -> list[bytes | None]:
    return [content for path, content in tree.items() if "(conflict " in path]


class TestWhatGoesTogether:
    async def test_different_files(self, two: Two) -> None:
        """Two people who work in one directory would get in each other's way."""
        await two.here.write("mine", b"1")
        await two.there.write("theirs", b"2")
        assert await two.same() == {**OLD, "mine": b"1", "theirs": b"2"}

    async def test_a_rename_and_an_edit(self, two: Two) -> None:
        """An edit would stay behind under a name that is gone."""
        await two.here.rename("f", "renamed")
        await two.there.write("f", b"edited")
        assert await two.same() == {"d": None, "d/g": b"in d", "renamed": b"edited"}

    async def test_a_directory_moves_with_what_others_put_into_it(self, two: Two) -> None:
        """A new file would be lost with the old place of its directory."""
        await two.here.rename("d", "moved")
        await two.there.write("d/new", b"new")
        assert await two.same() == {
            "f": b"old",
            "moved": None,
            "moved/g": b"in d",
            "moved/new": b"new",
        }

    async def test_the_same_directory(self, two: Two) -> None:
        """`mkdir -p` on two machines would make two directories of one name."""
        await two.here.mkdir("both")
        await two.here.write("both/mine", b"1")
        await two.there.mkdir("both")
        await two.there.write("both/theirs", b"2")
        assert await two.same() == {**OLD, "both": None, "both/mine": b"1", "both/theirs": b"2"}

    @pytest.mark.parametrize("size", [10, 100_000])
    async def test_equal_files(self, two: Two, size: int) -> None:
        """Who copies one thing to both machines would have a conflict with himself (C1)."""
        await two.here.write("same", b"s" * size)
        await two.there.write("same", b"s" * size)
        assert await two.same() == {**OLD, "same": b"s" * size}

    @pytest.mark.parametrize("size", [10, 100_000])
    async def test_equal_edits(self, two: Two, size: int) -> None:
        """The same, of a file that was there."""
        await two.here.write("f", b"s" * size)
        await two.there.write("f", b"s" * size)
        assert await two.same() == {**OLD, "f": b"s" * size}


class TestConflicts:
    async def test_both_edit_one_file(self, two: Two) -> None:
        """One of two edits would be gone (C1)."""
        await two.here.write("f", b"mine")
        await two.there.write("f", b"theirs")
        tree = await two.same()
        assert tree["f"] == b"mine"
        assert copies(tree) == [b"theirs"]

    async def test_both_make_one_file(self, two: Two) -> None:
        await two.here.write("new", b"mine")
        await two.there.write("new", b"theirs")
        tree = await two.same()
        assert tree["new"] == b"mine"
        assert copies(tree) == [b"theirs"]

    async def test_a_save_by_rename_against_an_edit(self, two: Two) -> None:
        """An editor that writes a temporary file would throw the other's edit away (C3)."""
        await two.here.write("f", b"theirs, in place")
        await two.there.write("f.tmp", b"mine, by rename")
        await two.there.rename("f.tmp", "f")
        tree = await two.same()
        assert tree["f"] == b"theirs, in place"
        assert copies(tree) == [b"mine, by rename"]

    async def test_an_edit_of_what_others_removed(self, two: Two) -> None:
        """The edit would be gone with the file (C4)."""
        await two.here.unlink("f")
        await two.there.write("f", b"edited")
        assert await two.same() == {**OLD, "f": b"edited"}

    async def test_an_edit_in_a_tree_that_others_removed(self, two: Two) -> None:
        """Likewise, with its directory (C4)."""
        await two.here.unlink("d/g")
        node = await two.here.namespace.rmdir(ROOT_INODE, b"d")
        two.here.namespace.drop(node.inode)
        await two.there.write("d/g", b"edited")
        assert await two.same() == {**OLD, "d/g": b"edited"}

    async def test_a_removal_of_what_others_edited(self, two: Two) -> None:
        await two.here.write("f", b"edited")
        await two.there.unlink("f")
        assert await two.same() == {**OLD, "f": b"edited"}

    async def test_two_moves_of_one_directory(self, two: Two) -> None:
        """It would be in two places (C5)."""
        await two.here.rename("d", "there")
        await two.there.rename("d", "elsewhere")
        assert await two.same() == {"f": b"old", "there": None, "there/g": b"in d"}

    async def test_a_large_file_is_not_sent_again_for_its_copy(self, two: Two) -> None:
        """A changed byte in a large file would cost its whole upload, for nothing but a name."""
        await two.here.write("big", b"b" * 3_000_000)
        await two.settle()
        await two.here.write("big", b"1", 10)
        await two.there.write("big", b"2", 2_000_000)
        await two.here.sync()
        before = two.there.engine.uploads.sent_bytes
        tree = await two.same()
        assert two.there.engine.uploads.sent_bytes - before < 600_000
        (copy,) = copies(tree)
        assert copy == b"b" * 2_000_000 + b"2" + b"b" * 999_999


class TestKills:
    @pytest.mark.parametrize("point", ["replay.replayed", "replay.journaled", "commit.noted"])
    async def test_killed_while_rows_are_moved(self, tmp_path: Path, point: str) -> None:
        """A conflict would be forgotten, and one of the edits with it, or made twice."""
        store = MemoryStore()
        async with opened_place(store, tmp_path / "there") as there:
            await there.write("f", b"old")
            await there.save()
        async with opened_place(store, tmp_path / "here") as here:
            assert (await here.tree())["f"] == b"old"

        class Killed(BaseException):
            pass

        def kill(name: str) -> None:
            if name == point:
                raise Killed

        async with opened_place(store, tmp_path / "here") as here:
            await here.write("f", b"mine")
            async with opened_place(store, tmp_path / "there") as there:
                await there.write("f", b"theirs")
                await there.save()
        try:
            async with opened_place(store, tmp_path / "here", env=Env(crash_point=kill)) as here:
                await here.sync()
        except* Killed:
            pass
        async with opened_place(store, tmp_path / "here") as here:
            await here.sync()
            tree = await here.tree()
        assert tree["f"] == b"theirs"
        assert copies(tree) == [b"mine"]


async def test_a_disk_that_refuses_while_rows_are_moved(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the wrong moment would cost an edit, or stop saving for good."""
    await two.here.write("f", b"mine")
    await two.there.write("f", b"theirs")
    await two.here.sync()
    unsaved = two.there.engine.unsaved
    refused: list[Seq] = []
    rebase = unsaved.rebase

    async def refuse_once(seq: Seq, rebased: Rebased) -> None:
        if not refused:
            refused.append(seq)
            raise NoRoom("the disk is full")
        await rebase(seq, rebased)

    monkeypatch.setattr(unsaved, "rebase", refuse_once)
    tree = await two.same()
    assert refused
    assert tree["f"] == b"mine"
    assert copies(tree) == [b"theirs"]


async def test_programs_wait_while_rows_are_moved(two: Two) -> None:
    """What a program changes in between would be planned over one tree and lie over another."""
    inode = await two.here.find("f")
    assert inode is not None
    unsaved = two.here.engine.unsaved
    async with unsaved.held([inode]):
        with pytest.raises(Moving) as moving:
            await two.here.namespace.make(ROOT_INODE, b"new", Kind.FILE, 0o644, MAKER)
        with pytest.raises(Moving):
            two.here.namespace.node(inode)
        assert (await two.here.find("d")) is not None
    with trio.fail_after(1):
        await moving.value.wait()
    assert two.here.namespace.node(inode).inode == inode
