"""Answer HTTP requests as a test says, whatever it says."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio


@dataclass
class Server:
    """Answers each request with the next of `answers`; "" closes the connection."""

    url: str = ""
    answers: list[bytes] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0
    hangs_up_after: int | None = None
    answered: int = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        async with stream:
            while (request := await _request(stream)) and self.answers:
                self.asked.append(request)
                with suppress(trio.BrokenResourceError):  # who heard enough hangs up
                    await stream.send_all(self.answers.pop(0))
                self.answered += 1
                if self.answered == self.hangs_up_after:
                    return


async def _request(stream: trio.abc.Stream) -> bytes:
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        try:
            data = await stream.receive_some()
        except trio.BrokenResourceError:
            return b""
        if not data:
            return b""
        received += data
    return received


Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    """Serve on a free port of the loopback until the block ends."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def answer(body: bytes = b"yes", *headers: str, status: str = "200 OK") -> bytes:
    """Return an answer that says how long it is."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def serve_tls(server: Server, inside: ssl.SSLContext, stream: trio.SocketStream) -> None:
    """Serve over TLS, with the certificate of `inside`."""
    secured = trio.SSLStream(stream, inside, server_side=True, https_compatible=True)
    try:
        await server.serve(secured)
    except trio.BrokenResourceError:
        await trio.aclose_forcefully(stream)  # who does not trust us hangs up
