"""Keep track of the mounts of this user: a socket and a record beside it for each daemon.

Both are named by a hash of the mountpoint. The record says which process serves the mount,
so that what a killed daemon left behind is recognised without asking anybody.

Concurrency: daemons that start at the same time take turns by a lock on the folder.
"""

import contextlib
import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from blobfs.control.deadline import Deadline
from blobfs.control.processes import is_running
from blobfs.errors import InUse, LocalFault
from blobfs.folders import contains, make, require_private

_TURN_WITHIN_S = 2.0
_TURN_STEP_S = 0.005
_LONGEST_SOCKET_PATH = 107
"""Bytes of `sun_path`, less the closing NUL (unix(7))."""
_WAITING_CLIENTS = 16


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """Who serves a mount."""

    mountpoint: str
    source: str
    read_only: bool
    pid: int
    process_started: int
    """As `processes.started_at` gives it."""
    ready: bool = False
    log: str | None = None
    """Where the daemon writes what it does."""

    @property
    def alive(self) -> bool:
        return is_running(self.pid, self.process_started)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the daemon of one mountpoint is found."""

    socket: Path
    record: Path


def place_of(runtime: Path, mountpoint: str) -> Place:
    name = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]
    return Place(runtime / f"{name}.sock", runtime / f"{name}.json")


def registrations(runtime: Path) -> list[Registration]:
    """Return all that are recorded, alive or not, in order of their mountpoints."""
    found = [_read(path) for path in runtime.glob("*.json")]
    return sorted((row for row in found if row is not None), key=lambda row: row.mountpoint)


def find_registration(runtime: Path, path: str) -> Registration | None:
    """Return the mount that `path` is, or is inside of; the innermost, should they nest."""
    around = [row for row in registrations(runtime) if contains(row.mountpoint, path)]
    return max(around, key=lambda row: len(row.mountpoint), default=None)


def forget(runtime: Path, registration: Registration) -> None:
    """Remove what `registration` left, unless another daemon has taken its place."""
    with _turn(runtime):
        place = place_of(runtime, registration.mountpoint)
        if _read(place.record) in (registration, None):
            _remove(place)


class Claim:
    """A mountpoint that this process alone serves. Made by `claim`."""

    def __init__(self, place: Place, registration: Registration, listener: socket.socket) -> None:
        self._place = place
        self._registration = registration
        self.listener = listener

    def announce_ready(self) -> None:
        """Let everybody know that requests are answered from now on."""
        _write(self._place.record, msgspec.structs.replace(self._registration, ready=True))


@contextlib.contextmanager
def claim(runtime: Path, registration: Registration) -> Iterator[Claim]:
    """Take the mountpoint for this process, and hold a listening socket for it.

    Raises:
        InUse: a living daemon has it.
        LocalFault: the folder of the sockets cannot be used.
    """
    require_private(make(runtime))
    place = place_of(runtime, registration.mountpoint)
    with contextlib.ExitStack() as cleanup:
        with _turn(runtime):
            _make_room(place)
            cleanup.callback(_remove, place)
            listener = cleanup.enter_context(_listen(place.socket))
            _write(place.record, registration)
        yield Claim(place, registration, listener)


def _make_room(place: Place) -> None:
    """Remove what a dead daemon left."""
    earlier = _read(place.record)
    if earlier is not None and earlier.alive:
        raise InUse(
            f"the mountpoint is taken. mountpoint={earlier.mountpoint!r} "
            f"source={earlier.source} pid={earlier.pid}",
            hint=f"see `blobfs status`, or free it with: blobfs unmount {earlier.mountpoint}",
        )
    _remove(place)


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise LocalFault(
            f"the path of the control socket is too long. path={str(path)!r}",
            hint="set XDG_RUNTIME_DIR to a folder with a shorter name",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_WAITING_CLIENTS)
    except OSError as error:
        listener.close()
        raise LocalFault(
            f"cannot open the control socket: {error.strerror}. path={str(path)!r}"
        ) from error
    return listener


def _read(path: Path) -> Registration | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Registration)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write(path: Path, registration: Registration) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(registration))
    new.replace(path)


def _remove(place: Place) -> None:
    place.record.unlink(missing_ok=True)
    place.socket.unlink(missing_ok=True)


@contextlib.contextmanager
def _turn(runtime: Path) -> Iterator[None]:
    """Wait for one's turn to change the folder; turns last for microseconds.

    Raises:
        InUse: whoever has it does not come to an end: a process that was stopped, perhaps.
    """
    handle = os.open(runtime, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(handle, Deadline(_TURN_WITHIN_S), runtime)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, deadline: Deadline, runtime: Path) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not deadline.remaining_s():
                raise InUse(
                    f"another blobfs process holds the sockets' folder. path={str(runtime)!r}",
                    hint="look for a stopped one with: pgrep -a blobfs",
                ) from None
            time.sleep(_TURN_STEP_S)
        else:
            return
