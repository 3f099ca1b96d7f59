"""What a writable directory must do once a kernel stands in front of it.

Mappings, direct I/O, locks, permissions and the length of paths are the kernel's own work, as
long as we answer it rightly. Runs on a plain folder and on real mounts.
"""

import errno
import fcntl
import mmap
import os
import subprocess
import sys
import threading
from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.contracts.files import MIB, failing
from tests.contracts.kernel_files import KernelFiles, in_thread
from tests.contracts.vfs_content_contract import WritableContract

MAPPING_PROGRAM = Path(__file__).with_name("mapping_program.py")
PAGE = 4096
NOBODY = 65534


class KernelContract(WritableContract):
    """Subclass it, and pytest runs all of it."""

    @abstractmethod
    def writable(self, folder: Path) -> AbstractAsyncContextManager[KernelFiles]: ...

    async def test_a_shared_mapping_is_the_file(self, tmp_path: Path) -> None:
        """sqlite's WAL index, lmdb and linkers write through mappings."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", bytes(3 * PAGE))
            assert await _mapping(files, "write_mapped") == b"done"
            content = await files.read(b"f")
            assert content == bytes(PAGE + 5) + b"mapped" + bytes(2 * PAGE - 11)

    async def test_a_mapping_shows_what_is_written_later(self, tmp_path: Path) -> None:
        """And two mappings show the same."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"a" * PAGE)
            assert await _mapping(files, "watch_mapped") == b"abcc"

    async def test_a_mapping_of_a_file_that_was_removed(self, tmp_path: Path) -> None:
        """Shared memory between processes is often made so."""
        async with self.writable(tmp_path) as files:
            assert await _mapping(files, "map_unlinked") == b"kept"

    async def test_a_mapping_that_was_never_flushed(self, tmp_path: Path) -> None:
        """Programs forget msync, and others still see what they left."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", bytes(PAGE))
            before = await files.stat(b"f")
            assert await _mapping(files, "leave_mapped") == b"done"
            assert await files.read(b"f") == b"left" + bytes(PAGE - 4)
            handle = await files.open(b"f")
            await handle.sync()
            await handle.close()
            assert (await files.stat(b"f")).mtime_ns > before.mtime_ns

    async def test_direct_io(self, tmp_path: Path) -> None:
        """Databases go past the page cache, and others read what they wrote."""
        async with self.writable(tmp_path) as files:
            content = os.urandom(MIB)
            path = files.path(b"f")
            assert await in_thread(lambda: _write_direct(path, content)) == content
            assert await files.read(b"f") == content
            handle = await files.open(b"f", os.O_WRONLY)
            await handle.write(0, b"buffered")
            await handle.close()
            assert (await in_thread(lambda: _read_direct(path, PAGE)))[:8] == b"buffered"

    async def test_a_handle_does_what_it_was_opened_for(self, tmp_path: Path) -> None:
        """EBADF, as everywhere."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"x")
            writer = await files.open(b"f", os.O_WRONLY)
            with failing(errno.EBADF):
                await writer.read(0, 1)
            reader = await files.open(b"f")
            with failing(errno.EBADF):
                await reader.write(0, b"y")
            await writer.close()
            await reader.close()

    async def test_paths_of_4095_bytes(self, tmp_path: Path) -> None:
        """As long as a path can be; one byte more is an error."""
        async with self.writable(tmp_path) as files:
            path = b""
            while len(files.path(path)) < 4095 - 100:
                path = os.path.join(path, b"d" * 99)
                await files.mkdir(path)
            path += b"/" + b"f" * (4095 - len(files.path(path)) - 1)
            assert len(files.path(path)) == 4095
            await files.write(path, b"far")
            assert await files.read(path) == b"far"
            with failing(errno.ENAMETOOLONG):
                await files.write(path + b"f")
            await files.rename(path.split(b"/")[0], b"e")

    async def test_locks_keep_others_out(self, tmp_path: Path) -> None:
        """flock and fcntl: sqlite and dpkg count on them."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"x")
            with failing(errno.EWOULDBLOCK):
                await in_thread(lambda: _lock_twice(files.path(b"f")))

    async def test_room_can_be_asked_for_beforehand(self, tmp_path: Path) -> None:
        """Downloaders do, with posix_fallocate."""
        async with self.writable(tmp_path) as files:
            await files.write(b"f", b"x")
            await in_thread(lambda: _allocate(files.path(b"f"), 100_000))
            assert await files.read(b"f") == b"x" + bytes(99_999)

    async def test_a_pipe_connects(self, tmp_path: Path) -> None:
        """mkfifo: the bytes pass inside the kernel."""
        async with self.writable(tmp_path) as files:
            await in_thread(lambda: os.mkfifo(files.path(b"p")))
            assert await in_thread(lambda: _through_pipe(files.path(b"p"), b"hello")) == b"hello"

    async def test_symbolic_links_are_followed(self, tmp_path: Path) -> None:
        """Relative to where they lie; a circle is an error."""
        async with self.writable(tmp_path) as files:
            await files.mkdir(b"d")
            await files.symlink(b"../f", b"d/l")
            await files.write(b"d/l", b"through")
            assert await files.read(b"f") == b"through"
            await files.symlink(b"round", b"round")
            with failing(errno.ELOOP):
                await files.read(b"round")
            with failing(errno.ENOENT):
                await files.symlink(b"", b"empty")

    async def test_others_may_what_modes_allow(self, tmp_path: Path) -> None:
        """A private file is private, a shared one is shared."""
        async with self.writable(tmp_path) as files:
            await files.chmod(b"", 0o755)
            for name, permissions in ((b"private", 0o600), (b"shared", 0o644), (b"open", 0o666)):
                await files.write(name, b"x")
                await files.chmod(name, permissions)
            assert not await _as_nobody(files, "cat private")
            assert await _as_nobody(files, "cat shared")
            assert not await _as_nobody(files, "echo y >shared")
            assert await _as_nobody(files, "echo y >open")
            assert not await _as_nobody(files, "mkdir d")
            await files.chmod(b"", 0o777)
            assert await _as_nobody(files, "mkdir d && echo x >d/f")
            assert (await files.stat(b"d/f")).uid == NOBODY

    async def test_sticky_folders_protect_from_each_other(self, tmp_path: Path) -> None:
        """Everybody's temporary folder."""
        async with self.writable(tmp_path) as files:
            await files.chmod(b"", 0o1777)
            await files.write(b"mine", b"x")
            await files.chmod(b"mine", 0o666)
            assert not await _as_nobody(files, "rm -f mine")
            assert not await _as_nobody(files, "mv mine theirs")
            assert await _as_nobody(files, "echo x >theirs && rm -f theirs")

    async def test_who_writes_a_program_takes_its_privilege(self, tmp_path: Path) -> None:
        """Else anybody who may write to a setuid program becomes its owner."""
        async with self.writable(tmp_path) as files:
            await files.chmod(b"", 0o755)
            await files.write(b"f", b"x")
            await files.chmod(b"f", 0o6777)
            assert await _as_nobody(files, "echo y >>f")
            assert oct((await files.stat(b"f")).permissions) == oct(0o777)

    async def test_user_attributes_of_links_and_pipes_are_refused(self, tmp_path: Path) -> None:
        """xattr(7): only files and directories have them."""
        async with self.writable(tmp_path) as files:
            await files.symlink(b"x", b"l")
            with failing(errno.EPERM):
                await files.setxattr(b"l", "user.a", b"x")

    async def test_many_at_once(self, tmp_path: Path) -> None:
        """A parallel build writes from all sides."""
        async with self.writable(tmp_path) as files:
            await in_thread(lambda: _write_in_parallel(files.path(b"")))
            for number in range(8):
                assert await files.read(b"%d/19" % number) == b"%d" % number * 5000


async def _mapping(files: KernelFiles, function: str) -> bytes:
    """Run a function of the program that maps files, on the file `f`."""
    command = [sys.executable, "-I", "-S", str(MAPPING_PROGRAM), function]
    path = os.fsdecode(files.path(b"f"))
    done = await in_thread(lambda: subprocess.run([*command, path], capture_output=True))
    assert done.returncode == 0, done.stderr
    return done.stdout


def _write_direct(path: bytes, content: bytes) -> bytes:
    """Write past the page cache, and read it back the same way."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    try:
        with mmap.mmap(-1, len(content)) as aligned:  # direct I/O wants aligned memory
            aligned[:] = content
            assert os.pwritev(descriptor, [aligned], 0) == len(content)
    finally:
        os.close(descriptor)
    return _read_direct(path, len(content))


def _read_direct(path: bytes, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, size) as aligned:
            assert os.preadv(descriptor, [aligned], 0) == size
            return aligned[:]
    finally:
        os.close(descriptor)


def _lock_twice(path: bytes) -> None:
    with open(path, "r+b") as one, open(path, "r+b") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _allocate(path: bytes, size: int) -> None:
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def _through_pipe(path: bytes, data: bytes) -> bytes:
    def send() -> None:
        with open(path, "wb") as pipe:
            pipe.write(data)

    sender = threading.Thread(target=send)
    sender.start()
    with open(path, "rb") as pipe:
        received = pipe.read()
    sender.join()
    return received


def _write_in_parallel(root: bytes) -> None:
    def work(number: int) -> None:
        folder = os.path.join(root, b"%d" % number)
        os.mkdir(folder)
        for step in range(20):
            with open(os.path.join(folder, b"new"), "wb") as file:
                file.write(b"%d" % number * 5000)
            os.rename(os.path.join(folder, b"new"), os.path.join(folder, b"%d" % step))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


async def _as_nobody(files: KernelFiles, command: str) -> bool:
    """Run a command in the directory as another user; say whether it went well."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    done = await in_thread(
        lambda: subprocess.run(
            ["/bin/sh", "-c", f"umask 022; {command}"],
            cwd=files.root,  # entered before the user changes: folders above may be closed
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
    )
    return done.returncode == 0
