"""What every mounted directory must do, whatever stands in front of the core.

A front-end joins with a class that provides `opened`: a context manager that mounts a store
and yields a `Files`, the operations of a program on paths. One suite, so that the core
alone and the core behind a kernel cannot drift apart.
"""

import errno
import os
import random
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from blobfs.errors import Unreachable
from blobfs.formats.volume import VolumeInfo, encode_volume
from blobfs.model.listing import OBJECT_SUFFIX
from blobfs.stores.base import Store
from blobfs.stores.faulty import FaultyStore
from blobfs.stores.memory import MemoryStore
from tests.contracts.files import MIB, Files, failing


class VfsContract(ABC):
    """Subclass it, and pytest runs all of it."""

    @abstractmethod
    def opened(
        self, store: Store, folder: Path, *, ttl_s: float = 60, read_only: bool = True
    ) -> AbstractAsyncContextManager[Files]:
        """Mount `store`, with local state below `folder`."""

    async def bucket(self, **objects: bytes) -> MemoryStore:
        store = MemoryStore()
        for key, content in objects.items():
            await store.put(key, content)
        return store

    async def fails(self, number: int, files: Files, path: bytes) -> None:
        with failing(number):
            await files.read(path)

    async def test_a_tree_is_listed_and_read(self, tmp_path: Path) -> None:
        """The least that a mount must do."""
        store = await self.bucket(**{"a/b/c.txt": b"deep", "a/d": b"", "top": b"x" * 5000})
        async with self.opened(store, tmp_path) as files:
            assert await files.listdir(b"") == [b"a", b"top"]
            assert await files.listdir(b"a") == [b"b", b"d"]
            assert await files.listdir(b"a/b") == [b"c.txt"]
            assert await files.read(b"a/b/c.txt") == b"deep"
            assert await files.read(b"a/d") == b""
            assert await files.read(b"top") == b"x" * 5000

    async def test_stat_tells_kind_size_and_time(self, tmp_path: Path) -> None:
        """rsync and make decide by these."""
        store = await self.bucket(**{"d/f": b"12345"})
        info = await store.head("d/f")
        async with self.opened(store, tmp_path) as files:
            file, folder = await files.stat(b"d/f"), await files.stat(b"d")
            assert (file.is_folder, file.size_bytes, file.mtime_ns) == (False, 5, info.mtime_ns)
            assert folder.is_folder
            assert (await files.stat(b"")).is_folder

    async def test_numbers_are_the_same_after_a_remount(self, tmp_path: Path) -> None:
        """Programs that remember inode numbers must not take all files for new ones."""
        store = await self.bucket(**{"d/f": b"12345"})
        numbers = []
        for _ in range(2):
            async with self.opened(store, tmp_path) as files:
                numbers.append([(await files.stat(path)).inode for path in (b"", b"d", b"d/f")])
        assert numbers[0] == numbers[1]
        assert len(set(numbers[0])) == 3

    async def test_what_is_not_there_is_enoent(self, tmp_path: Path) -> None:
        """And a file is no directory."""
        store = await self.bucket(f=b"x")
        async with self.opened(store, tmp_path) as files:
            for path, number in (
                (b"absent", errno.ENOENT),
                (b"absent/x", errno.ENOENT),
                (b"f/x", errno.ENOTDIR),
            ):
                await self.fails(number, files, path)

    async def test_names_of_any_bytes(self, tmp_path: Path) -> None:
        """Spaces, percent signs, emoji, newlines: all are names."""
        names = ["a b", "100%", "#1", "q?x=1", "\U0001f600", "new\nline", "é", "-rf", "n" * 255]
        store = await self.bucket(**{f"d/{name}": name.encode() for name in names})
        async with self.opened(store, tmp_path) as files:
            assert await files.listdir(b"d") == sorted(name.encode() for name in names)
            for name in names:
                assert await files.read(b"d/" + name.encode()) == name.encode()

    async def test_an_object_that_is_a_directory_too_stays_readable(self, tmp_path: Path) -> None:
        """Neither of the two hides the other."""
        store = await self.bucket(**{"x": b"object", "x/y": b"below"})
        async with self.opened(store, tmp_path) as files:
            substitute = b"x" + OBJECT_SUFFIX.encode()
            assert await files.read(substitute) == b"object"  # before any listing
            assert await files.listdir(b"") == [b"x", substitute]
            assert await files.listdir(b"x") == [b"y"]
            assert await files.read(substitute) == b"object"

    async def test_the_volume_folder_is_hidden(self, tmp_path: Path) -> None:
        """What blobfs keeps for itself is nobody's file (volume format, N7)."""
        volume = encode_volume(VolumeInfo(id=b"v" * 16, created_ns=1))
        store = await self.bucket(**{".blobfs/volume": volume, "d/.blobfs/volume": b"v", "f": b"x"})
        async with self.opened(store, tmp_path) as files:
            assert await files.listdir(b"") == [b"d", b"f"]
            assert await files.listdir(b"d") == []
            await self.fails(errno.EPERM, files, b".blobfs/volume")
            await self.fails(errno.EPERM, files, b"d/.blobfs")

    async def test_a_large_directory_is_listed_whole(self, tmp_path: Path) -> None:
        """Pages, buffers and cookies must not lose or repeat an entry."""
        names = [f"file-{number:05}" for number in range(3500)]
        store = await self.bucket(**{f"d/{name}": b"" for name in names})
        async with self.opened(store, tmp_path) as files:
            for _ in range(2):
                assert await files.listdir(b"d") == [name.encode() for name in names]

    async def test_any_part_of_a_file_can_be_read(self, tmp_path: Path) -> None:
        """Databases and video players jump about."""
        content = random.Random(1).randbytes(3 * MIB + 17)
        store = await self.bucket(big=content)
        async with self.opened(store, tmp_path) as files:
            handle = await files.open(b"big")
            chance = random.Random(2)
            for _ in range(60):
                offset = chance.randrange(len(content) + 1000)
                size = chance.choice([1, 4096, 100_000, MIB])
                assert await handle.read(offset, size) == content[offset : offset + size]
            await handle.close()
            assert await files.read(b"big") == content

    async def test_it_is_read_only(self, tmp_path: Path) -> None:
        """Nothing is acknowledged that could not be kept."""
        store = await self.bucket(f=b"x")
        async with self.opened(store, tmp_path) as files:
            for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
                with failing(errno.EROFS):
                    await files.open(b"f", flags)

    async def test_a_replaced_object_is_estale_never_a_mixture(self, tmp_path: Path) -> None:
        """Half of the old and half of the new version is no version at all (promise P6)."""
        old, new = (random.Random(seed).randbytes(8 * MIB) for seed in (1, 2))
        store = await self.bucket(f=old)
        async with self.opened(store, tmp_path) as files:
            handle = await files.open(b"f")
            assert await handle.read(0, 100) == old[:100]
            await store.put("f", new)
            with failing(errno.ESTALE):
                for offset in range(0, 8 * MIB, MIB):
                    part = await handle.read(offset, MIB)
                    assert part == old[offset : offset + MIB]
            await handle.close()
            assert await files.read(b"f") == new

    async def test_a_new_version_shows_within_the_time_to_live(self, tmp_path: Path) -> None:
        """And the handle from before keeps to its own version."""
        store = await self.bucket(f=b"old")
        async with self.opened(store, tmp_path, ttl_s=0) as files:
            handle = await files.open(b"f")
            assert await handle.read(0, 10) == b"old"
            before = await files.stat(b"f")
            await store.put("f", b"newer")
            assert await files.read(b"f") == b"newer"
            after = await files.stat(b"f")
            assert (before.size_bytes, after.size_bytes) == (3, 5)
            assert before.inode != after.inode
            assert await handle.read(0, 10) == b"old"
            await handle.close()

    async def test_a_removed_object_is_estale_for_who_has_it_open(self, tmp_path: Path) -> None:
        """A program sees an error, not an empty file."""
        store = await self.bucket(f=b"x" * MIB)
        async with self.opened(store, tmp_path) as files:
            handle = await files.open(b"f")
            await store.delete_many(["f"])
            with failing(errno.ESTALE):
                await handle.read(0, 10)
            await handle.close()

    async def test_an_unreachable_store_is_eio_and_passes(self, tmp_path: Path) -> None:
        """An outage is an error while it lasts, not a reason to mount anew."""
        faulty = FaultyStore(await self.bucket(**{"f": b"content", "d/x": b""}))
        async with self.opened(faulty, tmp_path) as files:
            faulty.fail("any", Unreachable("gone"), times=None)
            for path in (b"f", b"d/x"):
                await self.fails(errno.EIO, files, path)
            with failing(errno.EIO):
                await files.listdir(b"")
            faulty.heal()
            assert await files.read(b"f") == b"content"
            assert await files.listdir(b"") == [b"d", b"f"]

    async def test_wrong_bytes_are_never_shown(self, tmp_path: Path) -> None:
        """A body that is too short is an error, not a shorter file."""
        faulty = FaultyStore(await self.bucket(f=b"content" * 1000))
        async with self.opened(faulty, tmp_path) as files:
            faulty.shorten("get", times=None)
            await self.fails(errno.EIO, files, b"f")
            faulty.heal()
            assert await files.read(b"f") == b"content" * 1000

    async def test_others_go_on_while_one_waits(self, tmp_path: Path) -> None:
        """One slow object must not stop the whole mount."""
        faulty = FaultyStore(await self.bucket(slow=b"s", fast=b"f"))
        async with self.opened(faulty, tmp_path) as files:
            await files.listdir(b"")
            faulty.slow("get", 1.0, key="slow")
            slow_is_done = trio.Event()

            async def read_slow() -> None:
                assert await files.read(b"slow") == b"s"
                slow_is_done.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_slow)
                for _ in range(20):
                    assert await files.read(b"fast") == b"f"
                assert await files.listdir(b"") == [b"fast", b"slow"]
                assert not slow_is_done.is_set()

    async def test_extended_attributes_can_be_read_but_are_not_listed(self, tmp_path: Path) -> None:
        """`cp -a` and `rsync -X` would otherwise try to copy them elsewhere."""
        store = await self.bucket(**{"d/f": b"x" * 1000})
        info = await store.head("d/f")
        async with self.opened(store, tmp_path) as files:
            assert await files.getxattr(b"d/f", "user.blobfs.etag") == info.etag.encode()
            assert await files.getxattr(b"d/f", "user.blobfs.state") == b"remote"
            await files.read(b"d/f")
            assert await files.getxattr(b"d/f", "user.blobfs.state") == b"cached"
            assert await files.getxattr(b"d/f", "user.blobfs.cached_bytes") == b"1000"
            assert await files.listxattr(b"d/f") == []
            for path, name in ((b"d/f", "user.other"), (b"d", "user.blobfs.etag")):
                with failing(errno.ENODATA):
                    await files.getxattr(path, name)

    async def test_a_large_file_read_in_part_is_partial(self, tmp_path: Path) -> None:
        """What is here and what is not can be asked."""
        store = await self.bucket(f=bytes(8 * MIB))
        async with self.opened(store, tmp_path) as files:
            handle = await files.open(b"f")
            await handle.read(4 * MIB, 10)
            await handle.close()
            assert await files.getxattr(b"f", "user.blobfs.state") == b"partial"
            assert 0 < int(await files.getxattr(b"f", "user.blobfs.cached_bytes")) <= MIB

    async def test_the_disk_cache_serves_after_a_remount(self, tmp_path: Path) -> None:
        """What was fetched once is not fetched again."""
        content = random.Random(3).randbytes(3 * MIB)
        faulty = FaultyStore(await self.bucket(f=content))
        async with self.opened(faulty, tmp_path) as files:
            assert await files.read(b"f") == content
        before = faulty.calls.total()
        async with self.opened(faulty, tmp_path) as files:
            assert await files.read(b"f") == content
            assert await files.getxattr(b"f", "user.blobfs.state") == b"cached"
        assert faulty.calls["get"] + faulty.calls["list"] <= before + 2

    async def test_df_tells_what_is_known(self, tmp_path: Path) -> None:
        """No fictitious petabyte."""
        store = await self.bucket(**{"a": bytes(MIB), "b": bytes(MIB)})
        async with self.opened(store, tmp_path) as files:
            await files.listdir(b"")
            assert (await files.space()).used_bytes == 2 * MIB
