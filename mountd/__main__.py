"""Run the daemon of one mount: `python -m mountd`, started by `blobfs mount`.

The settings come as JSON on stdin. In the background the outcome of the start, one line,
goes to the pipe whose number is the only argument; in the foreground, to the terminal.
"""

import contextlib
import faulthandler
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from blobfs.config import MountSettings, decode_settings
from blobfs.control.messages import Failure, Ready, as_failure, encode
from blobfs.errors import BlobfsError, LocalFault, Unreachable
from mountd.logs import Redactor, set_up_logs

if TYPE_CHECKING:
    from mountd.app import OpenFileSystem

log = logging.getLogger("mountd")

_INTERRUPTED = 130
"""What shells use for a command that Ctrl-C ended."""


class Reporter:
    """Tells whoever started us, once, what became of the start."""

    def __init__(self, pipe: int | None) -> None:
        self._pipe = pipe
        self.is_ready = False

    def ready(self, settings: MountSettings, read_only_reason: str | None = None) -> None:
        """Say so, and why nothing can be written, if nobody asked for that.

        Raises:
            Unreachable: nobody listens any more, so nobody would know of the mount.
        """
        if self._pipe is None:
            print(settings.describe_mounted(read_only_reason), flush=True)
        else:
            self._send(self._pipe, encode(Ready(read_only_reason=read_only_reason)))
            os.close(self._pipe)
        self.is_ready = True

    def failed(self, failure: Failure) -> None:
        """Say why; later than the start there is nobody to tell, except in the foreground."""
        if self._pipe is None:
            hint = f"\nhint: {failure.hint}" if failure.hint else ""
            print(f"blobfs: {failure.message}{hint}", file=sys.stderr, flush=True)
            return
        log.error("%s", failure.message)
        if not self.is_ready:
            with contextlib.suppress(Unreachable):
                self._send(self._pipe, encode(failure))

    @staticmethod
    def _send(pipe: int, line: bytes) -> None:
        try:
            os.write(pipe, line)
        except BrokenPipeError:
            raise Unreachable("whoever asked for the mount has gone") from None


def main(argv: Sequence[str], open_file_system: "OpenFileSystem | None" = None) -> int:
    """Serve the one mount that stdin describes; return the exit code."""
    reporter = Reporter(int(argv[0]) if argv else None)
    redactor = Redactor(os.environ)
    os.umask(0o077)  # what we keep on disk is the user's alone
    try:
        settings = _read_settings()
        set_up_logs(settings, redactor)
        faulthandler.enable()
        _serve(settings, reporter, open_file_system)
        if reporter.is_ready:
            return 0
        failure = Failure(message="stopped before it was mounted", exit_code=_INTERRUPTED)
    except BaseException as error:
        failure = explain(error, redactor)
    reporter.failed(failure)
    return failure.exit_code


def explain(error: BaseException, redactor: Redactor) -> Failure:
    """Return what to tell the user of `error`, without secrets."""
    cause = _cause(error)
    if isinstance(cause, KeyboardInterrupt):
        return Failure(message="stopped before it was mounted", exit_code=_INTERRUPTED)
    if not isinstance(cause, BlobfsError):
        log.error("a fault in blobfs itself", exc_info=error)
        cause = BlobfsError(
            f"a fault in blobfs itself: {type(cause).__name__}: {cause}",
            hint="the log has the details; please report it",
        )
    failure = as_failure(cause)
    return Failure(
        message=redactor.clean(failure.message),
        hint=redactor.clean(failure.hint),
        exit_code=failure.exit_code,
    )


def _read_settings() -> MountSettings:
    settings = decode_settings(sys.stdin.buffer.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return settings


def _serve(
    settings: MountSettings, reporter: Reporter, open_file_system: "OpenFileSystem | None"
) -> None:
    # Late, so that a library that does not load (libfuse3) is reported like anything else.
    try:
        import trio

        from mountd import app, filesystem
    except ImportError as error:
        raise LocalFault(
            f"a library cannot be loaded: {error}",
            hint="install the package libfuse3-3, or install blobfs again",
        ) from error
    opener = open_file_system or filesystem.open_file_system
    trio.run(app.run, settings, partial(reporter.ready, settings), opener)


def _cause(error: BaseException) -> BaseException:
    """Return what matters in a group of errors: ours before others, the first before later."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_cause(inner) for inner in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, BlobfsError)), causes[0])


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    # Not sys.exit: it would wait for threads of the SDKs, which may wait for a dead server.
    os._exit(code)
