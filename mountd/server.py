"""Answer on the control socket.

Concurrency: one task a client, a bounded number of them. A client that says nothing,
or nothing sensible, is let go; none can keep the daemon from serving files.
"""

import logging
from typing import Protocol

import trio

from blobfs.control.messages import (
    MAX_REQUEST_BYTES,
    DescribeRequest,
    Description,
    Failure,
    HeedSettingsRequest,
    MountStatus,
    Reply,
    Request,
    SettingsHeeded,
    StatusReply,
    StatusRequest,
    SyncReply,
    SyncRequest,
    Unmounted,
    as_failure,
    decode_request,
    encode,
)
from blobfs.errors import BlobfsError

log = logging.getLogger("mountd.server")

_CLIENTS = 16
"""More than anybody needs: a command asks once and goes."""
_IDLE_S = 10.0
_SEND_WITHIN_S = 5.0


class Control(Protocol):
    """What can be asked of a mount."""

    def status(self) -> MountStatus: ...

    def sync(self, upto: int | None) -> SyncReply:
        """Hurry saving what was changed up to `upto` (None: up to now); say how far it is.

        Raises:
            ReadOnly: nothing can be saved through this mount.
        """
        ...

    def describe(self) -> Description: ...

    async def heed_settings(self) -> None:
        """Look at the settings of the volume, and heed them from now on.

        Raises:
            BlobfsError: they cannot be read.
        """
        ...

    async def unmount(self) -> None:
        """Detach the mount, unless it is busy.

        Raises:
            InUse: files are open in it.
        """
        ...


async def serve_control(listener: trio.SocketListener, control: Control) -> None:
    """Answer clients of `listener` until cancelled."""
    limit = trio.CapacityLimiter(_CLIENTS)

    async def serve_client(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                limit.acquire_nowait()
            except trio.WouldBlock:
                log.warning("too many clients at once; one was turned away")
                return
            try:
                await _converse(stream, control)
            except trio.BrokenResourceError:
                log.debug("a client hung up before its answer")
            finally:
                limit.release()

    await trio.serve_listeners(serve_client, [listener])


async def _converse(stream: trio.SocketStream, control: Control) -> None:
    """Answer line by line, until the client hangs up, is idle or talks nonsense."""
    unread = bytearray()
    while (line := await _receive_line(stream, unread)) is not None:
        try:
            request = decode_request(line)
        except BlobfsError as error:
            await _send(stream, encode(as_failure(error)))
            return
        await _send(stream, await _answer(request, control))


async def _receive_line(stream: trio.SocketStream, unread: bytearray) -> bytes | None:
    """Return the next line, taking it off `unread`; None: there will not be one."""
    with trio.move_on_after(_IDLE_S):
        while b"\n" not in unread and len(unread) <= MAX_REQUEST_BYTES:
            part = await stream.receive_some(MAX_REQUEST_BYTES)
            if not part:
                return None
            unread += part
    line, end, rest = bytes(unread).partition(b"\n")
    if not end:
        log.debug("let go of a client that sent no whole line. bytes=%d", len(line))
        return None
    unread[:] = rest
    return line


async def _answer(request: Request, control: Control) -> bytes:
    """Return the answer as a line. Whatever goes wrong with it ends nothing but the request."""
    try:
        return encode(await _reply(request, control))
    except BlobfsError as error:
        return encode(as_failure(error))
    except Exception:
        log.exception("a request on the control socket failed. request=%r", request)
        return encode(Failure(message="the daemon failed to answer", hint="see its log"))


async def _reply(request: Request, control: Control) -> Reply:
    if isinstance(request, StatusRequest):
        return StatusReply(mount=control.status())
    if isinstance(request, SyncRequest):
        return control.sync(request.upto)
    if isinstance(request, DescribeRequest):
        return control.describe()
    if isinstance(request, HeedSettingsRequest):
        await control.heed_settings()
        return SettingsHeeded()
    await control.unmount()
    return Unmounted()


async def _send(stream: trio.SocketStream, line: bytes) -> None:
    with trio.move_on_after(_SEND_WITHIN_S):
        await stream.send_all(line)
