"""Saving, end to end: what programs did is in the bucket, whole, and in no other way."""

import random
import shutil
from pathlib import Path

import pytest
import trio

from blobfs.errors import Changed, Damaged, ReadOnly
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from blobfs.sync.binding import TREE
from tests.sync.place import opened_place

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


async def test_a_fresh_client_sees_what_was_saved(store: FaultyStore, tmp_path: Path) -> None:
    """Everything would be for nothing."""
    body = random.Random(1).randbytes(700 * KIB)
    async with opened_place(store, tmp_path / "one") as place:
        await place.mkdir("d")
        await place.write("d/big", body)
        await place.write("d/small", b"small")
        await place.write("empty", b"")
        await place.save()
        expected = await place.tree()

    async with opened_place(store, tmp_path / "other") as other:
        assert await other.tree() == expected
        assert expected == {"d": None, "d/big": body, "d/small": b"small", "empty": b""}


async def test_numbers_that_the_tree_does_not_know_yet(store: FaultyStore, tmp_path: Path) -> None:
    """The same where somebody else's commit comes before it, and needs a number for a copy."""
    async with opened_place(store, tmp_path) as place:
        await place.write("old", b"old")
        await place.save()
    before = shutil.copytree(tmp_path / "state" / TREE, tmp_path / "before")
    async with opened_place(store, tmp_path / "other") as other:
        await other.write("old", b"theirs")
        await other.save()
    async with opened_place(store, tmp_path) as place:
        saved = await place.write("saved", b"saved")
        await place.save()
        await place.write("old", b"mine")
    shutil.rmtree(tmp_path / "state" / TREE)
    before.rename(tmp_path / "state" / TREE)
    async with opened_place(store, tmp_path) as place:
        assert await place.find("saved") == saved
        copies = [name for name in await place.tree() if "conflict" in name]
        made = [await place.find(name) for name in copies]
        made.append(await place.write("new", b"new"))
        assert saved not in made


async def test_what_was_not_saved_is_there_after_a_remount(
    store: FaultyStore, tmp_path: Path
) -> None:
    """A reboot before the upload would lose the work of the day."""
    async with opened_place(store, tmp_path) as place:
        await place.write("f", b"unsaved")
    assert not await _keys(store)

    async with opened_place(store, tmp_path) as place:
        assert await place.tree() == {"f": b"unsaved"}
        await place.save()
    async with opened_place(store, tmp_path / "other") as other:
        assert await other.tree() == {"f": b"unsaved"}


async def test_a_bucket_is_not_touched_before_something_is_saved(
    store: FaultyStore, tmp_path: Path
) -> None:
    """To look at a bucket would change it."""
    async with opened_place(store, tmp_path) as place:
        await place.tree()
    assert not await _keys(store)


async def test_asked_for_writing_a_volume_is_made_at_once(
    store: FaultyStore, tmp_path: Path
) -> None:
    """That nothing can be written would be noticed only with the first file."""
    async with opened_place(store, tmp_path, read_write=True):
        assert ".blobfs/volume" in await _keys(store)


async def test_only_what_changed_is_sent(store: FaultyStore, tmp_path: Path) -> None:
    """A change of 4 KiB in a large file would upload all of it."""
    body = random.Random(2).randbytes(4000 * KIB)
    async with opened_place(store, tmp_path) as place:
        await place.write("f", body)
        await place.save()
        before = place.engine.uploads.sent_bytes
        await place.write("f", b"x" * 4096, offset=1024 * KIB)
        await place.save()
        assert 0 < place.engine.uploads.sent_bytes - before <= 300 * KIB
        changed = body[: 1024 * KIB] + b"x" * 4096 + body[1028 * KIB :]
        assert await place.tree() == {"f": changed}
    async with opened_place(store, tmp_path / "other") as other:
        assert await other.tree() == {"f": changed}


async def test_a_file_that_dies_young_is_never_sent(store: FaultyStore, tmp_path: Path) -> None:
    """Every compilation would upload its temporary files."""
    async with opened_place(store, tmp_path) as place:
        await place.write("kept", b"1")
        await place.save()
        sent, seq = place.engine.uploads.sent_bytes, place.engine.tree.state.seq
        await place.write("temporary", random.Random(3).randbytes(5000))
        await place.unlink("temporary")
        await place.save()
        assert place.engine.uploads.sent_bytes == sent
        assert place.engine.tree.state.seq <= seq + 1  # the directory's times changed


async def test_a_rename_of_a_saved_file_sends_no_content(
    store: FaultyStore, tmp_path: Path
) -> None:
    """Renaming a film would upload it again."""
    async with opened_place(store, tmp_path) as place:
        await place.write("a", random.Random(4).randbytes(500 * KIB))
        await place.write("b", b"replaced")
        await place.save()
        sent = place.engine.uploads.sent_bytes
        await place.rename("a", "b")
        await place.save()
        assert place.engine.uploads.sent_bytes == sent
        expected = await place.tree()
    async with opened_place(store, tmp_path / "other") as other:
        assert await other.tree() == expected
        assert list(expected) == ["b"]


async def test_equal_content_is_sent_once(store: FaultyStore, tmp_path: Path) -> None:
    """A copy of a directory would cost as much as the directory."""
    body = random.Random(5).randbytes(512 * KIB)
    async with opened_place(store, tmp_path) as place:
        await place.write("a", body)
        await place.save()
        sent = place.engine.uploads.sent_bytes
        await place.write("b", body)
        await place.save()
        assert place.engine.uploads.sent_bytes == sent
        assert await place.tree() == {"a": body, "b": body}


async def test_many_small_files_are_one_pack_and_one_commit(
    store: FaultyStore, tmp_path: Path
) -> None:
    """A thousand files would be a thousand requests, and a bill to go with them."""
    chance = random.Random(6)
    async with opened_place(store, tmp_path) as place:
        for number in range(300):
            await place.write(f"{number}", chance.randbytes(4096))
        await place.save()
        assert place.engine.tree.state.seq == 1
    keys = await _keys(store)
    assert sum(key.startswith(".blobfs/packs/") for key in keys) == 1
    assert sum(key.startswith(".blobfs/log/") for key in keys) == 1


async def test_a_read_only_mount_saves_what_an_earlier_one_left(
    store: FaultyStore, tmp_path: Path
) -> None:
    """A mount with other flags would strand the work of the one before."""
    async with opened_place(store, tmp_path, read_write=True) as place:
        await place.write("f", b"left")
    async with opened_place(store, tmp_path, read_only=True) as place:
        with pytest.raises(ReadOnly):
            await place.write("g", b"")
        assert await place.tree() == {"f": b"left"}
        await place.save()
    async with opened_place(store, tmp_path / "other") as other:
        assert await other.tree() == {"f": b"left"}


async def test_a_volume_that_is_gone_is_not_an_empty_bucket(tmp_path: Path) -> None:
    """A bucket that was wiped would be filled by a volume that forgot everything."""
    async with opened_place(MemoryStore(), tmp_path) as place:
        await place.write("f", b"1")
        await place.save()

    with pytest.RaisesGroup(Damaged, flatten_subgroups=True, allow_unwrapped=True):
        async with opened_place(MemoryStore(), tmp_path):
            pass


async def test_unsaved_changes_never_go_into_another_volume(tmp_path: Path) -> None:
    """What was written for one bucket would appear in another."""
    async with opened_place(MemoryStore(), tmp_path) as place:
        await place.write("f", b"1")
        await place.save()
        await place.write("f", b"2")
    other = MemoryStore()
    async with opened_place(other, tmp_path / "other") as place:
        await place.write("g", b"3")
        await place.save()

    with pytest.RaisesGroup(Changed, flatten_subgroups=True, allow_unwrapped=True):
        async with opened_place(other, tmp_path):
            pass


async def test_who_meets_a_volume_made_meanwhile_brings_its_changes_along(tmp_path: Path) -> None:
    """Two people who begin at the same time would have to throw one's work away."""
    store = MemoryStore()
    async with opened_place(store, tmp_path / "late") as place:
        await place.write("mine", b"1")
    async with opened_place(store, tmp_path / "early") as place:
        await place.write("theirs", b"2")
        await place.save()
    async with opened_place(store, tmp_path / "late") as place:
        await place.save()
        assert await place.tree() == {"mine": b"1", "theirs": b"2"}


async def _keys(store: FaultyStore) -> list[str]:
    return [found.key for found in (await store.list()).objects]


async def test_a_large_file_is_uploaded_while_it_is_being_written(
    store: FaultyStore, tmp_path: Path
) -> None:
    """Whoever writes a film would wait for all of it when it is closed."""
    chance = random.Random(7)
    async with opened_place(store, tmp_path) as place:
        inode = await place.write("film", b"")
        place.engine.settling.opened(inode)
        body = b""
        for _ in range(20):
            body += (part := chance.randbytes(MIB))
            await place.write("film", part, offset=len(body) - MIB)
        with trio.fail_after(20):
            while place.engine.uploads.sent_bytes < 15 * MIB:  # noqa: ASYNC110 - nothing says it
                await trio.sleep(0.01)
        assert place.engine.tree.state.seq == 0  # nothing is committed yet
        body = b"changed" + body[7:]
        await place.write("film", b"changed")
        place.engine.settling.closed(inode, place.env.monotonic_s())
        before = place.engine.uploads.sent_bytes
        await place.save()
        assert place.engine.uploads.sent_bytes - before < 8 * MIB
        assert await place.tree() == {"film": body}
    async with opened_place(store, tmp_path / "other") as other:
        assert await other.tree() == {"film": body}


async def test_a_fault_of_ours_is_no_end_of_the_mount(
    store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wrong assertion would take the mount away from everybody who uses it."""
    faults = iter([RuntimeError("a bug")])
    async with opened_place(store, tmp_path) as place:
        await place.write("f", b"1")
        select = place.engine.pusher._select

        def select_with_a_fault() -> object:
            for fault in faults:
                raise fault
            return select()

        monkeypatch.setattr(place.engine.pusher, "_select", select_with_a_fault)
        await place.save()
    async with opened_place(store, tmp_path / "other") as other:
        assert await other.tree() == {"f": b"1"}


async def test_a_power_cut_between_a_commit_and_its_last_page(
    store: FaultyStore, tmp_path: Path
) -> None:
    """A new file would get the number of one that was just saved, and be the same file (M1)."""
    async with opened_place(store, tmp_path) as place:
        await place.write("old", b"old")
        await place.save()
    before = shutil.copytree(tmp_path / "state" / TREE, tmp_path / "before")
    async with opened_place(store, tmp_path) as place:
        await place.write("saved", b"saved")
        await place.save()
    # The tree's last transaction may be taken back, though the journal has let go of its rows.
    shutil.rmtree(tmp_path / "state" / TREE)
    before.rename(tmp_path / "state" / TREE)
    async with opened_place(store, tmp_path) as place:
        await place.write("new", b"new")
        with trio.fail_after(10):
            await place.save()
    async with opened_place(store, tmp_path / "other") as other:
        assert await other.tree() == {"old": b"old", "saved": b"saved", "new": b"new"}
