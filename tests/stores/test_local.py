"""Hold the folder store to the contract, and to what is particular to folders on disk."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from blobfs.errors import (
    AccessDenied,
    BlobfsError,
    Changed,
    Damaged,
    NotFound,
    StoreFull,
    Unreachable,
    Unsupported,
)
from blobfs.stores import local
from blobfs.stores.base import Store
from blobfs.stores.local import LocalStore
from tests.contracts.store_contract import ContainerContract, StoreContract, list_all


class TestLocalStore(StoreContract, ContainerContract):
    prefix_may_be_object = False
    slash_may_hold_content = False

    @pytest.fixture
    async def store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path)

    @pytest.fixture
    async def homeless_store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "no such folder")

    async def peek(self, store: Store, key: str) -> bytes:
        assert isinstance(store, LocalStore)
        return (store.root / key).read_bytes()


@pytest.fixture
async def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


async def keys(store: Store, prefix: str = "", *, delimiter: bool = False) -> list[str]:
    found = await list_all(store, prefix, delimiter=delimiter)
    return sorted([*found.keys, *found.prefixes], key=os.fsencode)


# -- which files are objects ---------------------------------------------------------------


async def test_empty_folders_are_markers(store: LocalStore) -> None:
    """Or a folder without files would not be there."""
    (store.root / "empty/inner").mkdir(parents=True)
    (store.root / "full").mkdir()
    (store.root / "full/file").write_bytes(b"x")
    assert await keys(store) == ["empty/inner/", "full/file"]
    assert await keys(store, delimiter=True) == ["empty/", "full/"]
    assert await keys(store, "empty/inner/", delimiter=True) == ["empty/inner/"]
    listed = (await store.list("empty/")).objects
    assert (await store.head("empty/inner/")) == listed[0]
    for absent in ("empty/", "full/", "empty"):
        with pytest.raises(NotFound):
            await store.head(absent)


async def test_names_that_are_not_utf8_travel(store: LocalStore) -> None:
    """Or a file with an old name could not be listed, or not be opened."""
    raw = b"caf\xe9 \xff"
    (store.root / os.fsdecode(raw)).write_bytes(b"x")
    await store.put("caf\u00e9", b"y")
    (name, other) = await keys(store)
    assert {os.fsencode(key) for key in (name, other)} == {raw, "caf\u00e9".encode()}
    odd = raw.decode("utf-8", "surrogateescape")
    assert bytes((await store.get(odd)).data) == b"x"
    assert (await list_all(store, start_after="caf\u00e9", max_keys=1)).keys == [odd]
    await store.put(odd, b"z")
    assert await store.delete_many([odd]) == {}
    with pytest.raises(Unsupported):
        await store.put("lone \ud800 surrogate", b"x")


async def test_links_inside_are_followed_and_others_are_nothing(
    store: LocalStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Or a link would show files of the machine that nobody shared, or never end."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_bytes(b"secret")
    (store.root / "dir/sub").mkdir(parents=True)
    (store.root / "dir/file").write_bytes(b"content")
    links = {
        "to-file": "dir/file",
        "to-dir": "dir",
        "dir/loop": "..",
        "dir/sub/up": "../../dir",
        "itself": "itself",
        "dangling": "nowhere",
        "out-file": str(outside / "secret"),
        "out-dir": str(outside),
    }
    for name, target in links.items():
        (store.root / name).symlink_to(target)
    os.mkfifo(store.root / "pipe")
    assert await keys(store) == ["dir/file", "dir/sub/", "to-dir/file", "to-dir/sub/", "to-file"]
    assert bytes((await store.get("to-dir/file")).data) == b"content"
    assert (await store.head("to-file")).size_bytes == 7
    nothing = ["out-file", "out-dir/secret", "dangling", "pipe", "itself", "dir/loop/to-file"]
    for name in (*nothing, "../outside", "dir/../to-file", "/etc/passwd", "", "n" * 300):
        with pytest.raises(NotFound):
            await store.get(name)
        assert await keys(store, name + "/") == []
    for name in ("out-file", "dangling", "pipe", "out-dir/new", "dir/loop/new"):
        with pytest.raises(Unsupported, match="key"):
            await store.put(name, b"x")
    assert await store.delete_many(["out-file", "out-dir/secret", "dangling", "pipe"]) == {}
    assert (outside / "secret").read_bytes() == b"secret"
    assert (store.root / "dangling").is_symlink()


async def test_what_is_staged_is_hidden(store: LocalStore) -> None:
    """Or half-written files would appear, and could be deleted."""
    await store.put("file", b"x")
    (staging,) = (found for found in store.root.iterdir() if found.name != "file")
    (store.root / "link").symlink_to(staging.name)
    assert await keys(store) == ["file"]
    assert await keys(store, f"{staging.name}/") == []
    with pytest.raises(NotFound):
        await store.head(f"{staging.name}/lock")
    with pytest.raises(Unsupported):
        await store.put(f"{staging.name}/x", b"x")
    assert await store.delete_many([f"{staging.name}/lock"]) == {}


async def test_what_a_dead_writer_left_is_swept(store: LocalStore) -> None:
    """Or each killed writer would leave a hidden file behind for ever."""
    await store.put("file", b"x")
    (staging,) = (found for found in store.root.iterdir() if found.name != "file")
    (staging / "0dead").write_bytes(b"half a bo")
    await LocalStore(store.root).put("other", b"x")
    assert [found.name for found in staging.iterdir()] == ["lock"]


# -- changing ------------------------------------------------------------------------------


async def test_a_folder_goes_with_its_last_object(store: LocalStore) -> None:
    """Or folders would stay that are in no bucket; or the root would go, and the mount with it."""
    await store.put("a/b/c/file", b"x")
    await store.put("a/other", b"x")
    await store.delete_many(["a/b/c/file"])
    assert not (store.root / "a/b").exists()
    await store.delete_many(["a/other"])
    assert await keys(store) == []
    assert store.root.is_dir()
    await store.put("m/n/", b"")
    await store.delete_many(["m/n/"])
    assert not (store.root / "m").exists()


async def test_a_folder_that_holds_something_is_not_deleted(store: LocalStore) -> None:
    """Or deleting a marker would take files along."""
    await store.put("dir/file", b"x")
    assert await store.delete_many(["dir/", "dir"]) == {}
    assert await keys(store) == ["dir/file"]


async def test_a_file_changed_by_others_has_another_version(store: LocalStore) -> None:
    """Or an open file would read one block of the old and one of the new."""
    etag = await store.put("file", b"content")
    path = store.root / "file"
    os.utime(path, ns=(1, 1))
    with pytest.raises(Changed):
        await store.get("file", if_match=etag)
    with pytest.raises(Changed):
        await store.put("file", b"mine", if_match=etag)
    assert path.read_bytes() == b"content"


async def test_a_file_that_changes_under_the_read_is_never_mixed(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or bytes of two versions would be returned as one."""
    etag = await store.put("file", b"content")
    preadv = os.preadv

    def read_and_change(fd: int, buffers: list[memoryview], offset: int) -> int:
        count = preadv(fd, buffers, offset)
        (store.root / "file").write_bytes(b"other")
        return count

    monkeypatch.setattr(os, "preadv", read_and_change)
    with pytest.raises(Changed):
        await store.get("file", if_match=etag)
    with pytest.raises(Damaged):
        await store.get("file")


# -- what cannot be read -------------------------------------------------------------------


async def test_a_root_that_goes_away_is_an_outage(store: LocalStore) -> None:
    """Or unplugging a drive would look as if all files had been deleted (P5)."""
    await store.put("file", b"x")
    moved = store.root.with_name("moved")
    store.root.rename(moved)
    for bare in (False, True):
        if bare:
            store.root.mkdir()  # the empty folder that a drive was mounted on
        for call in (store.list(), store.head("file"), store.get("file"), store.put("a", b"x")):
            with pytest.raises(Unreachable) as caught:
                await call
            assert caught.value.hint
        with pytest.raises(Unreachable):
            await store.delete_many(["file"])
    assert list(store.root.iterdir()) == []
    store.root.rmdir()
    moved.rename(store.root)
    assert await keys(store) == ["file"]


async def test_a_root_that_is_a_file_is_no_container(tmp_path: Path) -> None:
    """Or a mistyped path would mount as an empty folder."""
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NotFound, match="not a folder"):
        await LocalStore(tmp_path / "file").list()


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.EACCES, AccessDenied), (errno.EIO, Unreachable), (errno.ESTALE, Unreachable)],
)
async def test_a_folder_that_cannot_be_read_is_not_empty(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, error: type[BlobfsError]
) -> None:
    """Or a defect of the disk would look as if files had been deleted (P5)."""
    await store.put("dir/sub/file", b"x")
    scandir = os.scandir

    def refuse(path: bytes) -> Iterator[os.DirEntry[bytes]]:
        if path.endswith(b"/sub"):
            raise OSError(number, os.strerror(number))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for prefix in ("", "dir/sub/"):
        with pytest.raises(error):
            await store.list(prefix)
    assert await keys(store, "dir/", delimiter=True) == ["dir/sub/"]


async def test_a_full_disk_is_said_to_be_full(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a full disk would look like a network that may come back; or half a file stay."""
    await store.put("file", b"old")

    def refuse(fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(StoreFull, match="file"):
        await store.put("file", b"new")
    monkeypatch.undo()
    assert bytes((await store.get("file")).data) == b"old"
    assert await keys(store) == ["file"]


# -- large folders -------------------------------------------------------------------------


async def test_the_first_page_does_not_wait_for_a_large_folder(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or mounting a folder of a million files would take as long as reading it."""
    monkeypatch.setattr(local, "FIRST_SCAN", 10)
    wanted = [f"{number:02}" for number in range(25)]
    for key in wanted:
        (store.root / key).write_bytes(b"")
    page = await store.list(max_keys=1)
    assert page.objects == ()
    assert page.next_token is not None
    assert (await list_all(store, max_keys=4)).keys == wanted
    assert (await list_all(store, start_after="07")).keys == wanted[8:]


async def test_the_pages_of_a_listing_share_a_scan(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a listing of a million files would read the folder a thousand times."""
    for number in range(30):
        (store.root / f"{number:02}").write_bytes(b"")
    scans: list[bytes] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (scans.append(path), scandir(path))[1])
    assert len((await list_all(store, max_keys=3)).keys) == 30
    assert len(scans) == 1
    await store.list()
    assert len(scans) == 2, "a new listing sees the folder as it is"


async def test_a_page_reads_only_the_folders_that_it_shows(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one page of a bucket of many folders would hold all of it in memory."""
    for number in range(20):
        (store.root / f"{number:02}").mkdir()
        (store.root / f"{number:02}/file").write_bytes(b"")
    scans: list[bytes] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (scans.append(path), scandir(path))[1])
    await store.list(max_keys=2)
    assert len(scans) <= 4
    scans.clear()
    await store.list(delimiter=True)
    assert len(scans) == 1


async def test_what_vanishes_between_two_pages_is_left_out(store: LocalStore) -> None:
    """Or a file that somebody deletes meanwhile would end the listing with an error."""
    for key in ("a/1", "b/1", "b/2", "c/1"):
        await store.put(key, b"x")
    page = await store.list(max_keys=1)
    shutil.rmtree(store.root / "b")
    (store.root / "c/1").unlink()
    page = await store.list(token=page.next_token)
    assert [found.key for found in page.objects] == ["c/"]
