"""Start the daemon of a mount as a new process, and hear from it whether it worked.

Whatever goes wrong on the way, no process, no mount and no socket stay behind.
"""

import os
import select
import signal
import subprocess
import sys
from typing import BinaryIO, NoReturn

from blobfs.config import MountSettings, encode_settings
from blobfs.control.deadline import Deadline
from blobfs.control.messages import Failure, StartReport, as_error, decode_start_report
from blobfs.control.mounts import FILE_SYSTEM_TYPE, detach, find_mount
from blobfs.control.registry import forget, registrations
from blobfs.errors import BlobfsError, LocalFault, Unreachable
from blobfs.folders import make
from blobfs.types import MIB

DAEMON = (sys.executable, "-P", "-m", "mountd")
"""`-P`: never run a `mountd` that happens to lie in the folder where the user stands."""

ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * MIB),
    "MALLOC_TRIM_THRESHOLD_": str(128 * MIB),
}
"""How glibc is to manage the daemon's memory (mallopt(3)); the user's own variables win."""

READY_WITHIN_S = 8.4
"""With the two below, `blobfs mount` ends within 10 s, come what may."""
_ENDS_WITHIN_S = 1.0
_KILLED_WITHIN_S = 0.2


def start(settings: MountSettings) -> str | None:
    """Start the daemon of `settings`; return once its mount can be used.

    What is returned is why nothing can be written, where nobody asked for `--read-only`.

    Raises:
        BlobfsError: it could not be mounted, and nothing of it is left.
    """
    deadline = Deadline(READY_WITHIN_S)
    receive, send = os.pipe()
    with os.fdopen(receive, "rb", buffering=0) as reports:
        try:
            process = _launch(settings, send)
        finally:
            os.close(send)
        try:
            report = _wait_report(reports, process, deadline, settings)
            if isinstance(report, Failure):
                raise as_error(report)
        except BaseException:
            _clear_away(process, settings)
            raise
    # It lives on without us: Popen need not warn that nobody waited for it.
    process.returncode = 0
    return report.read_only_reason


def become(settings: MountSettings) -> NoReturn:
    """Turn this process into the daemon of `settings`: what runs in the foreground."""
    receive, send = os.pipe()
    os.write(send, encode_settings(settings))  # a few KiB; a pipe takes 64 without a reader
    os.close(send)
    os.dup2(receive, 0)
    os.execve(DAEMON[0], DAEMON, _environment())


def _environment() -> dict[str, str]:
    """Return our variables, and what makes the memory allocator use buffers again.

    With an arena for each thread, glibc keeps buffers that have long been freed; with a
    mapping for each large buffer, every read pays for fresh pages.
    """
    return {**ALLOCATOR, **os.environ}


def _launch(settings: MountSettings, report: int) -> "subprocess.Popen[bytes]":
    make(settings.state_dir)
    try:
        with open(settings.log_path or os.devnull, "ab") as output:  # noqa: PTH123 - a name or a path
            process = subprocess.Popen(
                [*DAEMON, str(report)],
                stdin=subprocess.PIPE,
                # Until the daemon has set up its logs, and for what goes past them.
                stdout=output,
                stderr=output,
                env=_environment(),
                cwd="/",  # so that no folder is kept busy
                pass_fds=[report],
                start_new_session=True,
            )
    except OSError as error:
        raise LocalFault(
            f"cannot start the daemon: {error.strerror}. file={error.filename!r}"
        ) from error
    assert process.stdin is not None
    try:
        with process.stdin as stdin:
            stdin.write(encode_settings(settings))
    except BrokenPipeError:
        pass  # it has ended already; waiting for its report will tell
    return process


def _wait_report(
    reports: BinaryIO,
    process: "subprocess.Popen[bytes]",
    deadline: Deadline,
    settings: MountSettings,
) -> StartReport:
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([reports], [], [], deadline.remaining_s())
        if not readable:
            raise Unreachable(
                f"the daemon was not ready in time and was stopped. source={settings.source} "
                f"waited_s={READY_WITHIN_S:g}",
                hint=f"check the network and the endpoint; the log is {settings.log_path}",
            )
        part = reports.read(1 << 16)
        if not part:
            raise _ended_early(process, settings)
        line += part
    return decode_start_report(line)


def _ended_early(process: "subprocess.Popen[bytes]", settings: MountSettings) -> BlobfsError:
    try:
        code = str(process.wait(_ENDS_WITHIN_S))
    except subprocess.TimeoutExpired:
        code = "none"
    return BlobfsError(
        f"the daemon ended before it was ready. source={settings.source} exit_code={code}",
        hint=f"the log says why: {settings.log_path}",
    )


def _clear_away(process: "subprocess.Popen[bytes]", settings: MountSettings) -> None:
    """End the daemon, with its mount and its socket."""
    for number, within_s in ((signal.SIGTERM, _ENDS_WITHIN_S), (signal.SIGKILL, _KILLED_WITHIN_S)):
        process.send_signal(number)
        try:
            process.wait(within_s)
            break
        except subprocess.TimeoutExpired:
            continue
    mountpoint = str(settings.mountpoint)
    mounted = find_mount(mountpoint)
    if mounted is not None and mounted.kind == FILE_SYSTEM_TYPE:
        detach(mountpoint, lazy=True)
    for row in registrations(settings.runtime_dir):
        if row.pid == process.pid and not row.alive:
            forget(settings.runtime_dir, row)
