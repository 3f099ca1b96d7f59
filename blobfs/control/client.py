"""Ask daemons through their control sockets, each within a deadline.

Concurrency: plain sockets and threads. The command line has no event loop, because loading
one would take longer than asking.
"""

import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from blobfs.control.deadline import Deadline
from blobfs.control.messages import (
    MAX_REPLY_BYTES,
    DescribeRequest,
    Description,
    Failure,
    HeedSettingsRequest,
    MountStatus,
    Reply,
    Request,
    SettingsHeeded,
    State,
    StatusReply,
    StatusRequest,
    SyncReply,
    SyncRequest,
    Unmounted,
    UnmountRequest,
    as_error,
    decode_reply,
    encode,
)
from blobfs.control.mounts import find_mount
from blobfs.control.registry import Registration, forget, place_of
from blobfs.errors import BlobfsError, NotFound, Unreachable, Unsupported

STATUS_WITHIN_S = 2.0
_UNMOUNT_WITHIN_S = 8.0

_LOOK_WITHIN_S = 10.0
"""For a request to the store, where that answers at all."""

T = TypeVar("T", Description, SettingsHeeded, SyncReply, Unmounted)


def mount_statuses(
    runtime: Path, mounts: Sequence[Registration], within_s: float = STATUS_WITHIN_S
) -> tuple[MountStatus, ...]:
    """Return the status of each of `mounts`, asking all daemons at the same time.

    A daemon that does not answer is told of by its state and delays nobody. What a dead one
    left behind is removed, except while its mount is still there: `unmount` needs it then.
    """
    answers: list[MountStatus] = [_unanswered(mount, _state_unasked(mount)) for mount in mounts]

    def ask(index: int) -> None:
        answers[index] = _status_of(runtime, mounts[index], within_s)

    threads = [
        threading.Thread(target=ask, args=(index,), daemon=True) for index in range(len(mounts))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tuple(answers)


def request_unmount(runtime: Path, mount: Registration) -> None:
    """Ask the daemon to detach its mount and to end. It may still be ending on return.

    Raises:
        Unreachable: the daemon does not answer.
        BlobfsError: what the daemon met, for example files that are open.
    """
    try:
        reply = ask(runtime, mount.mountpoint, UnmountRequest(), _UNMOUNT_WITHIN_S)
    except NotFound:
        return  # it ended before it could answer, or was ending already
    _expect(reply, Unmounted)


def request_description(runtime: Path, mount: Registration) -> Description:
    """Ask the daemon what it has mounted, and how.

    Raises:
        Unreachable: the daemon does not answer.
        NotFound: the daemon has ended.
    """
    return _expect(ask(runtime, mount.mountpoint, DescribeRequest(), STATUS_WITHIN_S), Description)


def request_sync(runtime: Path, mount: Registration, upto: int | None = None) -> SyncReply:
    """Ask the daemon to save what it has, up to `upto` (None: up to now), and how far it is.

    Raises:
        Unreachable: the daemon does not answer.
        NotFound: the daemon has ended.
        BlobfsError: what the daemon met, for example that the mount is read-only.
    """
    reply = ask(runtime, mount.mountpoint, SyncRequest(upto=upto), STATUS_WITHIN_S)
    return _expect(reply, SyncReply)


def request_heed_settings(runtime: Path, mount: Registration) -> None:
    """Ask the daemon to look at the settings of its volume, and to heed them.

    Raises:
        Unreachable: the daemon does not answer, or has no answer of the store.
        NotFound: the daemon has ended.
        BlobfsError: what the daemon met.
    """
    reply = ask(runtime, mount.mountpoint, HeedSettingsRequest(), _LOOK_WITHIN_S)
    _expect(reply, SettingsHeeded)


def ask(runtime: Path, mountpoint: str, request: Request, within_s: float) -> Reply:
    """Send `request` to the daemon of `mountpoint` and return its answer.

    Raises:
        NotFound: nobody listens there, or the daemon hung up.
        Unreachable: no whole answer within `within_s`.
        Unsupported: the daemon speaks another protocol.
    """
    deadline = Deadline(within_s)
    path = place_of(runtime, mountpoint).socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(within_s)
            connection.connect(str(path))
            connection.sendall(encode(request))
            return decode_reply(_receive_line(connection, deadline))
    except TimeoutError as error:
        raise Unreachable(
            f"the daemon does not answer. mountpoint={mountpoint!r} waited_s={within_s:g}"
        ) from error
    except OSError as error:
        raise NotFound(f"no daemon listens. mountpoint={mountpoint!r}") from error


def _expect(reply: Reply, kind: type[T]) -> T:
    """Return the reply, which has to be of that kind; raise the error that it is instead."""
    if isinstance(reply, Failure):
        raise as_error(reply)
    if not isinstance(reply, kind):
        raise Unsupported(f"the daemon answered something else. reply={type(reply).__name__}")
    return reply


def _receive_line(connection: socket.socket, deadline: Deadline) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        remaining_s = deadline.remaining_s()
        if not remaining_s or len(line) > MAX_REPLY_BYTES:
            raise TimeoutError
        connection.settimeout(remaining_s)
        part = connection.recv(1 << 16)
        if not part:
            raise ConnectionResetError
        line += part
    return bytes(line)


def _status_of(runtime: Path, mount: Registration, within_s: float) -> MountStatus:
    state = _state_unasked(mount)
    if state == "dead" and find_mount(mount.mountpoint) is None:
        forget(runtime, mount)
    if state != "mounted":
        return _unanswered(mount, state)
    try:
        reply = ask(runtime, mount.mountpoint, StatusRequest(), within_s)
    except NotFound:
        return _unanswered(mount, "stopping" if mount.alive else "dead")
    except BlobfsError as error:
        return _unanswered(mount, "unresponsive", str(error))
    if isinstance(reply, StatusReply):
        return reply.mount
    said = reply.message if isinstance(reply, Failure) else "it answered something else"
    return _unanswered(mount, "unresponsive", said)


def _state_unasked(mount: Registration) -> State:
    if not mount.alive:
        return "dead"
    return "mounted" if mount.ready else "starting"


_PROBLEMS = {
    "dead": "its daemon has ended",
    "starting": "its daemon is starting",
    "stopping": "its daemon is ending",
}


def _unanswered(mount: Registration, state: State, problem: str | None = None) -> MountStatus:
    return MountStatus(
        mountpoint=mount.mountpoint,
        source=mount.source,
        pid=mount.pid,
        read_only=mount.read_only,
        state=state,
        problem=problem or _PROBLEMS.get(state),
    )
