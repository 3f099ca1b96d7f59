"""Programs go on with the versions that they opened, whatever others commit meanwhile."""

import errno
from pathlib import Path

import pytest

from blobfs.errors import Changed
from blobfs.model.rebase import Foreign
from blobfs.model.tree_rules_attributes import Wanted
from blobfs.types import ByteRange, InodeNo
from blobfs.vfs.attributes import Absent, Attributes
from blobfs.vfs.lookups import ROOT_NODE
from blobfs.vfs.node_ids import FIRST_FRESH_NODE
from tests.contracts.core_files import MAKER, CoreFiles, CoreHandle
from tests.contracts.files import failing
from tests.core import Core
from tests.vfs.foreign import NEW, OLD, Two, put, two_clients

ALL = ByteRange(0, 1 << 20)


async def look_up(core: Core, name: bytes = b"f") -> Attributes:
    found = await core.vfs.lookup(ROOT_NODE, name)
    assert not isinstance(found, Absent)
    return found


async def opened(core: Core, *, for_writing: bool = False) -> CoreHandle:
    """Open `f` as the kernel would, which keeps its lookup."""
    found = await look_up(core)
    handle = core.vfs.open(found.inode, for_writing=for_writing)
    return CoreHandle(core.vfs, found.inode, handle)


async def replaced(two: Two, handle: CoreHandle) -> InodeNo:
    """Let the other client replace `f`, which is open; return what the old version is called."""
    inode = InodeNo(handle.inode)
    await put(two.theirs, b"f", NEW)
    return (await two.take_in(keep=[inode], contents=[inode]))[inode]


async def content_of(core: Core, name: bytes = b"f") -> bytes:
    async with CoreFiles(core).at(name) as found:
        handle = core.vfs.open(found.inode, for_writing=False)
        try:
            return bytes(await core.vfs.read(handle, ALL))
        finally:
            core.vfs.release(handle)


async def names(core: Core) -> list[bytes]:
    return await CoreFiles(core).listdir(b"")


async def test_a_reader_sees_the_version_that_it_opened_to_its_end(tmp_path: Path) -> None:
    """A program in the middle of a file would get a mixture of two (C2)."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine)
        assert await handle.read(0, 10) == OLD[:10]
        await replaced(two, handle)
        assert await handle.read(10, 1 << 20) == OLD[10:]
        assert (await handle.stat()).size_bytes == len(OLD)
        assert await content_of(two.mine) == NEW
        await handle.close()


async def test_the_new_version_has_a_node_of_its_own(tmp_path: Path) -> None:
    """The kernel would show it with the size and the pages of the old one (S3)."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine)
        await replaced(two, handle)
        found = await look_up(two.mine)
        assert found.inode >= FIRST_FRESH_NODE
        assert found.size_bytes == len(NEW)
        assert two.mine.vfs.getattr(found.inode) == found
        listed = [stat async for stat in CoreFiles(two.mine).scan(b"")]
        assert listed == [b"f"]
        await handle.close()
        two.mine.vfs.forget(handle.inode, 1)
        assert (await look_up(two.mine)).inode == found.inode
        two.mine.vfs.forget(found.inode, 2)
        assert (await look_up(two.mine)).inode == handle.inode


async def test_an_old_version_goes_with_its_last_handle(tmp_path: Path) -> None:
    """Each replacement would leave a row behind until the next mount."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine)
        old = await replaced(two, handle)
        assert two.mine.engine.unsaved.inode(old) is not None
        await handle.close()
        two.mine.vfs.forget(handle.inode, 1)
        assert two.mine.engine.unsaved.inode(old) is None


async def test_a_name_that_still_leads_to_the_old_node_is_looked_up_again(tmp_path: Path) -> None:
    """Who opens a file just after it was replaced would get what it was before."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine)
        await replaced(two, handle)
        vfs, node = two.mine.vfs, handle.inode
        for ask in (
            lambda: vfs.open(node, for_writing=False),
            lambda: vfs.setattr(node, Wanted(mode=0o600)),
            lambda: vfs.setattr(node, Wanted(size_bytes=0)),
            lambda: vfs.setxattr(node, b"user.a", b"b"),
            lambda: vfs.removexattr(node, b"user.a"),
        ):
            with pytest.raises(Changed):
                ask()
        with pytest.raises(Changed):
            await vfs.link(node, ROOT_NODE, b"g")
        assert await names(two.mine) == [b"f"]
        await handle.close()


async def test_a_node_that_nobody_has_open_is_looked_up_again(tmp_path: Path) -> None:
    """`stat` would show the size that the file had before, for as long as it is known."""
    async with two_clients(tmp_path) as two:
        found = await look_up(two.mine)
        await put(two.theirs, b"f", NEW)
        await two.take_in(contents=[InodeNo(found.inode)])
        with pytest.raises(Changed):
            two.mine.vfs.getattr(found.inode)
        assert (await look_up(two.mine)).size_bytes == len(NEW)


async def test_a_write_through_an_old_handle_makes_a_conflict_copy(tmp_path: Path) -> None:
    """It would vanish with the handle, or overwrite what its writer never saw (C2, P4)."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine, for_writing=True)
        await replaced(two, handle)
        await handle.write(4, b"edit")
        await handle.write(len(OLD), b"end")
        edited = OLD[:4] + b"edit" + OLD[8:] + b"end"
        original, copy = sorted(await names(two.mine), key=len)
        assert original == b"f"
        assert copy.startswith(b"f (conflict ")
        assert await content_of(two.mine) == NEW
        assert await content_of(two.mine, copy) == edited
        assert await handle.read(0, 1 << 20) == edited
        mark = await CoreFiles(two.mine).getxattr(copy, "user.blobfs.conflict_of")
        assert mark == b"f"
        assert (await look_up(two.mine, copy)).inode == handle.inode
        await handle.close()
        await CoreFiles(two.mine).save()
        assert await content_of(two.mine, copy) == edited
        assert await content_of(two.mine) == NEW


async def test_cutting_an_old_version_makes_a_conflict_copy(tmp_path: Path) -> None:
    """A program that writes a file anew, by a handle that it had, would empty another one."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine, for_writing=True)
        await replaced(two, handle)
        await handle.truncate(5)
        copy = max(await names(two.mine), key=len)
        assert await content_of(two.mine, copy) == OLD[:5]
        assert await content_of(two.mine) == NEW
        await handle.close()


async def test_reading_an_old_version_makes_no_copy(tmp_path: Path) -> None:
    """Everybody who reads while others save would fill the volume with copies."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine, for_writing=True)
        await replaced(two, handle)
        await handle.read(0, 10)
        await handle.sync()
        await handle.close()
        assert await names(two.mine) == [b"f"]


async def test_a_file_that_was_removed_elsewhere_comes_back_when_it_is_written(
    tmp_path: Path,
) -> None:
    """The edit would go with the removal, though its author never saw that (C4)."""
    async with two_clients(tmp_path) as two:
        await CoreFiles(two.mine).mkdir(b"d")
        await CoreFiles(two.mine).rename(b"f", b"d/f")
        await CoreFiles(two.mine).save()
        folder = await look_up(two.mine, b"d")
        found = await two.mine.vfs.lookup(folder.inode, b"f")
        assert not isinstance(found, Absent)
        handle = two.mine.vfs.open(found.inode, for_writing=True)
        await two.theirs.core.engine.tree.replay(
            (
                await two.theirs.core.engine.volume_log.newer(two.theirs.core.engine.tree.position)
            ).landed
        )
        await two.theirs.unlink(b"d/f")
        await two.take_in(keep=[InodeNo(found.inode)])
        assert await CoreFiles(two.mine).listdir(b"d") == []
        await two.mine.vfs.write(handle, 0, b"OLD")
        assert await CoreFiles(two.mine).listdir(b"d") == [b"f"]
        assert await content_of(two.mine, b"d/f") == b"OLD" + OLD[3:]
        assert await CoreFiles(two.mine).listxattr(b"d/f") == []
        two.mine.vfs.release(handle)


async def test_a_file_removed_here_needs_no_name_when_it_is_replaced(tmp_path: Path) -> None:
    """A temporary file that its program removed and goes on to use would appear again."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine, for_writing=True)
        await CoreFiles(two.mine).unlink(b"f")
        await replaced(two, handle)
        await handle.write(0, b"scratch")
        assert not any(b"conflict" in name for name in await names(two.mine))
        await handle.close()


async def test_a_handle_whose_version_nobody_kept_fails(tmp_path: Path) -> None:
    """It would read on in another version: right bytes, or an error (P6)."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine, for_writing=True)
        await put(two.theirs, b"f", NEW)
        await two.take_in(contents=[InodeNo(handle.inode)])
        with failing(errno.ESTALE):
            await handle.read(0, 10)
        with failing(errno.ESTALE):
            await handle.write(0, b"x")
        await handle.close()
        assert await content_of(two.mine) == NEW


async def test_equal_edits_leave_a_handle_as_it_is(tmp_path: Path) -> None:
    """A program would fail though what it wrote is what everybody has (C1)."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine, for_writing=True)
        await handle.write(0, NEW)
        await put(two.theirs, b"f", NEW)
        await two.seen()
        assert await names(two.mine) == [b"f"]
        assert await handle.read(0, 1 << 20) == NEW
        await handle.write(0, b"NEW")
        assert await content_of(two.mine) == b"NEW" + NEW[3:]
        await handle.close()


async def test_a_write_that_waited_for_room_goes_to_the_version_of_its_handle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would land in the file that came meanwhile, and mix two versions (C2)."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine, for_writing=True)

        async def wait(_: int) -> None:
            monkeypatch.undo()
            await replaced(two, handle)

        monkeypatch.setattr(two.mine.engine.unsaved, "wait_for_room", wait)
        await handle.write(0, b"OLD")
        assert await content_of(two.mine) == NEW
        assert await handle.read(0, 1 << 20) == b"OLD" + OLD[3:]
        await handle.close()


async def test_an_object_that_others_take_over_is_read_to_its_end(tmp_path: Path) -> None:
    """Its number goes on as theirs: pages and size of the object would meet their bytes (S3)."""
    async with two_clients(tmp_path, native=OLD) as two:
        found = await look_up(two.mine, b"object")
        handle = CoreHandle(
            two.mine.vfs, found.inode, two.mine.vfs.open(found.inode, for_writing=False)
        )
        assert await handle.read(0, 10) == OLD[:10]
        await put(two.theirs, b"object", NEW)
        await two.seen()
        assert await handle.read(0, 1 << 20) == OLD
        again = await look_up(two.mine, b"object")
        assert again.inode != found.inode
        assert again.size_bytes == len(NEW)
        assert await content_of(two.mine, b"object") == NEW
        await handle.close()


async def test_it_is_known_which_files_are_open(tmp_path: Path) -> None:
    """What nobody has open would be kept, or what somebody has would not."""
    async with two_clients(tmp_path) as two:
        handle = await opened(two.mine)
        assert two.mine.vfs.held_inodes() == {handle.inode}
        assert two.mine.vfs.place(InodeNo(handle.inode)) == (1, b"f")
        old = await replaced(two, handle)
        assert two.mine.vfs.held_inodes() == {old}
        await handle.close()
        assert not two.mine.vfs.held_inodes()


async def test_an_open_directory_goes_on_under_the_number_of_the_others(tmp_path: Path) -> None:
    """Who made the same directory as another client would look into one that is gone."""
    async with two_clients(tmp_path) as two:
        made = await two.mine.vfs.mkdir(ROOT_NODE, b"d", 0o755, MAKER)
        handle = await two.mine.vfs.opendir(made.inode)
        mine = InodeNo(made.inode)
        await two.theirs.mkdir(b"d")
        await put(two.theirs, b"d/g", b"content")
        async with two.theirs.at(b"d") as found:
            theirs = InodeNo(found.inode)
        await two.take_in()
        two.mine.vfs.note_foreign(Foreign(numbers={mine: theirs}))
        dirents = await two.mine.vfs.readdir(handle, 0)
        assert dirents is not None
        assert [dirent.name for dirent in dirents] == [b"g"]
        assert not isinstance(await two.mine.vfs.lookup(made.inode, b"g"), Absent)
        two.mine.vfs.releasedir(handle)
