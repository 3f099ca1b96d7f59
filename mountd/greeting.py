"""Connect a directory to the kernel, and agree on one thing more than libfuse has words for.

Before each write(2) the kernel asks for the file's `security.capability`, which is half of all
requests of a program that writes small pieces. Who says FUSE_HANDLE_KILLPRIV_V2 (linux/fuse.h,
protocol 7.33) is asked once a file: it takes setuid and setgid away itself when a file is written
to, cut or given away (`model.tree_rules_attributes`). libfuse before 3.17 cannot say it. So
libfuse is given a socket as its connection, the greeting (FUSE_INIT) passes through us, and then
the socket's place is taken by the connection itself.

Concurrency: nobody but `greet` serves the session before it returns.
"""

import contextlib
import os
import select
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import trio

from blobfs.control.mounts import detach, detach_tool
from blobfs.errors import BlobfsError, LocalFault

_CONNECT_WITHIN_S = 5.0
_MOST_BYTES = 1 << 17
"""More than any greeting has, and than the kernel wants to see offered for one."""

_INIT = 26
_IN_OPCODE = struct.Struct("=4xI")
_IN_FLAGS = struct.Struct("=52xI")
"""Behind the header of a request (40 bytes): major, minor, max_readahead, flags."""
_OUT_ERROR = struct.Struct("=4xi")
_OUT_FLAGS_AT = 28
"""Behind the header of an answer (16 bytes): major, minor, max_readahead, flags."""
_HANDLE_KILLPRIV_V2 = 1 << 28


def connect(mountpoint: Path, options: Collection[str]) -> int:
    """Mount; return the connection to the kernel, which waits for its greeting to be answered.

    Raises:
        LocalFault: fusermount3 is not there, or refused; nothing is mounted.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        refusal = _ask_to_mount(mountpoint, options, theirs.fileno())
        kernel = _received(ours)
    if kernel is not None and refusal is None:
        return kernel
    if kernel is not None:  # it is mounted, whatever became of fusermount3
        os.close(kernel)
        with contextlib.suppress(BlobfsError):
            detach(os.fspath(mountpoint), lazy=True)
    why = refusal or "fusermount3 gave no connection"
    raise LocalFault(f"cannot mount: {why}. mountpoint={str(mountpoint)!r}")


def _ask_to_mount(mountpoint: Path, options: Collection[str], answer_to: int) -> str | None:
    """Run fusermount3; return why it failed, None if it did not."""
    command = [detach_tool(), "-o", ",".join(sorted(options)), "--", os.fspath(mountpoint)]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "_FUSE_COMMFD": str(answer_to)},
            pass_fds=(answer_to,),
            capture_output=True,
            text=True,
            timeout=_CONNECT_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "fusermount3 takes too long"
    if not done.returncode:
        return None
    return " ".join(done.stderr.split()) or f"fusermount3 ended with {done.returncode}"


def _received(ours: socket.socket) -> int | None:
    """Return the descriptor that was sent to us, without waiting for one."""
    ours.setblocking(False)
    try:
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    except BlockingIOError:
        return None
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return descriptors[0] if descriptors else None


class Connection:
    """What kernel and libfuse talk through: `session` is the descriptor that libfuse is given.

    Before the greeting it is the end of a socket, behind it the connection itself. libfuse closes
    it.
    """

    def __init__(self, kernel: int) -> None:
        """`kernel` is what `connect` returned; from now on it is closed by us."""
        self._kernel = kernel
        self._relay, session = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.session = session.detach()

    async def greet(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Let kernel and libfuse greet each other.

        `serve` answers what comes to `session`, until it is told that this is about to be closed.

        Raises:
            OSError: the directory was unmounted meanwhile.
        """
        await trio.lowlevel.wait_readable(self._kernel)
        request = os.read(self._kernel, _MOST_BYTES)
        self._relay.send(request)
        os.write(self._kernel, agreed(request, await self._answered(serve)))
        os.dup2(self._kernel, self.session, inheritable=False)
        self.close()

    async def _answered(self, serve: Callable[[], Awaitable[None]]) -> bytes:
        """Return the answer to the greeting, once nobody waits for `session` any more."""
        served = trio.Event()

        async def answer() -> None:
            await serve()
            served.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            await trio.lowlevel.wait_readable(self._relay)
            while not served.is_set():  # it hears us only while it waits
                trio.lowlevel.notify_closing(self.session)
                await trio.sleep(0.001)
        return self._relay.recv(_MOST_BYTES)

    @property
    def is_mounted(self) -> bool:
        """Whether the kernel still has the directory mounted."""
        poll = select.poll()
        poll.register(self.session if self._kernel < 0 else self._kernel, 0)
        return not poll.poll(0)

    def close(self) -> None:
        """Close all but `session`."""
        self._relay.close()
        if self._kernel >= 0:
            os.close(self._kernel)
            self._kernel = -1


def agreed(request: bytes, reply: bytes) -> bytes:
    """Return the answer to a greeting, with FUSE_HANDLE_KILLPRIV_V2 if the kernel knows it."""
    is_greeting = _IN_OPCODE.unpack_from(request)[0] == _INIT
    is_good = _OUT_ERROR.unpack_from(reply)[0] == 0 and len(reply) >= _OUT_FLAGS_AT + 4
    if (
        not is_greeting
        or not is_good
        or not _IN_FLAGS.unpack_from(request)[0] & _HANDLE_KILLPRIV_V2
    ):
        return reply
    (flags,) = struct.unpack_from("=I", reply, _OUT_FLAGS_AT)
    changed = bytearray(reply)
    struct.pack_into("=I", changed, _OUT_FLAGS_AT, flags | _HANDLE_KILLPRIV_V2)
    return bytes(changed)
