"""Kernel and libfuse greet each other through us, and agree on what costs half the requests."""

import os
import shutil
import struct
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyfuse3
import pytest
import trio

from blobfs.control.mounts import detach, find_mount
from blobfs.env import Env
from blobfs.errors import LocalFault
from blobfs.stores.memory import MemoryStore
from mountd import greeting
from mountd.fuse3 import Front, open_mount
from mountd.greeting import agreed, connect
from mountd.mount_options import MountOptions
from tests.core import opened_core
from tests.mountd.mounted import mounted

INIT, LOOKUP = 26, 1
KILLPRIV_V2 = 1 << 28
OTHERS = 0b1011


def request(flags: int, opcode: int = INIT) -> bytes:
    """Return a greeting of the kernel (linux/fuse.h: fuse_in_header, fuse_init_in)."""
    header = struct.pack("=IIQQIIIHH", 104, opcode, 2, 0, 0, 0, 0, 0, 0)
    return header + struct.pack("=IIIII", 7, 45, 131072, flags, 0) + bytes(44)


def reply(flags: int, error: int = 0) -> bytes:
    """Return an answer to it (fuse_out_header, fuse_init_out)."""
    return (
        struct.pack("=IiQ", 80, error, 2) + struct.pack("=IIII", 7, 38, 131072, flags) + bytes(48)
    )


def test_the_kernel_is_told_what_libfuse_has_no_word_for() -> None:
    """Each small write would cost two requests."""
    assert agreed(request(KILLPRIV_V2 | OTHERS), reply(OTHERS)) == reply(OTHERS | KILLPRIV_V2)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (request(OTHERS), reply(OTHERS)),
        (request(KILLPRIV_V2), reply(OTHERS, error=-71)),
        (request(KILLPRIV_V2), reply(0)[:16]),
        (request(KILLPRIV_V2, opcode=LOOKUP), reply(OTHERS)),
    ],
    ids=["older kernel", "refused", "short", "no greeting"],
)
def test_other_answers_pass_as_they_are(asked: bytes, answer: bytes) -> None:
    """A kernel that does not know the word would refuse the mount."""
    assert agreed(asked, answer) == answer


async def test_the_kernel_asks_once_whether_a_write_takes_privileges_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever writes small pieces, as tar and databases do, would take nearly twice as long."""
    asked: list[bytes] = []
    ask = Front.getxattr

    async def getxattr(self: Front, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        asked.append(name)
        return await ask(self, inode, name, ctx)

    monkeypatch.setattr(Front, "getxattr", getxattr)

    def write(path: Path) -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(50):
                file.write(b"x" * 100)

    async with mounted(MemoryStore(), tmp_path, read_only=False):
        await trio.to_thread.run_sync(write, tmp_path / "mountpoint" / "f")
    assert asked.count(b"security.capability") <= 1


async def test_a_directory_unmounted_before_it_is_served(tmp_path: Path) -> None:
    """The daemon would wait for a kernel that has forgotten it."""
    mountpoint = tmp_path / "mountpoint"
    mountpoint.mkdir()
    options = MountOptions("memory://test", allow_other=False, read_only=True)
    with trio.fail_after(10):
        async with (
            opened_core(MemoryStore(), tmp_path, Env(), 60) as core,
            open_mount(Front(core.vfs, options, core.engine.tree.load), mountpoint) as mount,
        ):
            unmount = ["fusermount3", "-u", "-z", str(mountpoint)]
            await trio.to_thread.run_sync(lambda: subprocess.run(unmount, check=True))
            await mount.serve()
    assert find_mount(str(mountpoint)) is None


def connections() -> set[str]:
    """Return the sockets and the connections to the kernel that this process holds."""
    links = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            links.add(str(descriptor.readlink()))
    return {link for link in links if link.startswith("socket:") or "fuse" in link}


async def test_a_mount_that_cannot_be_served_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory would stay that answers nobody, and has to be unmounted by hand (P8)."""

    def refuse(*_: object) -> None:
        raise RuntimeError("fuse_session_mount failed")

    mountpoint = tmp_path / "mountpoint"
    mountpoint.mkdir()
    options = MountOptions("memory://test", allow_other=False, read_only=True)
    async with opened_core(MemoryStore(), tmp_path, Env(), 60) as core:
        front = Front(core.vfs, options, core.engine.tree.load)
        before = connections()
        monkeypatch.setattr(pyfuse3, "init", refuse)
        with pytest.raises(LocalFault, match="fuse_session_mount failed"):
            async with open_mount(front, mountpoint):
                pytest.fail("nobody could serve it")
        assert find_mount(str(mountpoint)) is None
        assert connections() == before
    monkeypatch.undo()
    async with mounted(MemoryStore(), tmp_path, read_only=False):
        await trio.to_thread.run_sync((mountpoint / "f").write_bytes, b"served")


async def test_what_was_mounted_there_since_stays(tmp_path: Path) -> None:
    """The end of a daemon would take away the mount of another."""
    mountpoint = tmp_path / "mountpoint"
    in_thread = trio.to_thread.run_sync
    with trio.fail_after(30):
        async with mounted(MemoryStore(), tmp_path, read_only=True):
            used = await in_thread(os.open, mountpoint, os.O_RDONLY)
            await in_thread(partial(detach, str(mountpoint), lazy=True))
            kernel = await in_thread(connect, mountpoint, {"fsname=another"})
    os.close(used)
    found = find_mount(str(mountpoint))
    os.close(kernel)
    assert found is not None
    assert found.source == "another"
    detach(str(mountpoint), lazy=True)


def test_what_fusermount3_says_is_passed_on(tmp_path: Path) -> None:
    """Users would not know why their directory cannot be mounted."""
    with pytest.raises(LocalFault, match=r"cannot mount: .*no-such-directory"):
        connect(tmp_path / "no-such-directory", {"rw"})


def test_a_fusermount3_that_hangs_is_not_waited_for(
    tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`blobfs mount` would hang with it."""
    monkeypatch.setattr(greeting, "_CONNECT_WITHIN_S", 0.05)
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(LocalFault, match="takes too long"):
        connect(tool.parent, {"rw"})


def test_a_fusermount3_that_gives_no_connection_is_not_waited_for(tool: Path) -> None:
    """`blobfs mount` would hang, where a wrapper of it passes nothing on."""
    tool.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(LocalFault, match="no connection"):
        connect(tool.parent, {"rw"})


def test_a_fusermount3_that_mounts_and_fails_leaves_nothing_mounted(tool: Path) -> None:
    """A directory would stay that only says "Transport endpoint is not connected" (P8)."""
    mountpoint = tool.parent / "mountpoint"
    mountpoint.mkdir()
    tool.write_text(f'#!/bin/sh\n"{shutil.which("fusermount3")}" "$@"\nexit 3\n')
    with pytest.raises(LocalFault, match="ended with 3"):
        connect(mountpoint, {"rw"})
    assert find_mount(str(mountpoint)) is None


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where to put what is run as fusermount3."""
    tool = tmp_path / "fusermount3"
    tool.touch(mode=0o755)
    monkeypatch.setattr(greeting, "detach_tool", lambda: str(tool))
    return tool
