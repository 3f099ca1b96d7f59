"""Ask an HTTP server small questions from the event loop, over connections that are kept.

For answers that somebody waits for: a thread, and an SDK's way through it, cost 1.5 ms more
a question than this does (2 cores, Python 3.11). It speaks HTTP/1.1 to the server itself, so
who has a proxy asks in another way.

Concurrency: any number of questions at once, each on a connection of its own. A question that
is cancelled closes its connection, because its answer may still be on the way.
"""

import math
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import trio

from blobfs.stores.answers import Call, Fault, error_of_fault

MOST_KEPT = 16
"""Connections that are kept when nobody asks; more are closed after their answer."""

KEPT_FOR_S = 60.0
"""Servers say when they close one that is idle; routers on the way just forget it, later on."""

WARM_UP_WITHIN_S = 1.0

MOST_HEAD_BYTES = 64 * 1024
MOST_BODY_BYTES = 4 * 1024 * 1024

_DEFAULT_PORTS = {"http": 80, "https": 443}
_KEEPS_OPEN = {"HTTP/1.1": "keep-alive", "HTTP/1.0": "close"}
"""What each version does where the server does not say."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server sent, whatever its status. Header names are found in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect to; `tls` None speaks in the clear. Timeouts in seconds."""

    url: str
    tls: ssl.SSLContext | None
    connect_within_s: float
    answer_within_s: float


class _NoAnswer(Exception):
    """There is no answer, or none that makes sense."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(slots=True)
class _Connection:
    socket: trio.SocketStream
    stream: trio.abc.Stream
    kept_at_s: float = -math.inf
    received: bytearray = field(default_factory=bytearray)

    def is_usable(self) -> bool:
        """Whether another question may be sent. Bytes nobody asked for mean its end."""
        young = trio.current_time() - self.kept_at_s < KEPT_FOR_S
        return young and not self.received and not self.socket.socket.is_readable()

    def close(self) -> None:
        self.socket.socket.close()

    async def until(self, end: bytes) -> bytes:
        """Take what comes before `end`, and `end` itself away.

        Raises:
            _NoAnswer: the connection ended, or `MOST_HEAD_BYTES` came without `end`.
        """
        searched = 0
        while (found := self.received.find(end, searched)) < 0:
            if len(self.received) > MOST_HEAD_BYTES:
                raise _NoAnswer(Fault.NOT_A_STORE)
            searched = max(0, len(self.received) - len(end) + 1)
            await self._receive(Fault.BROKEN)
        taken = bytes(self.received[:found])
        del self.received[: found + len(end)]
        return taken

    async def exactly(self, size_bytes: int) -> bytes:
        """Take the next `size_bytes`.

        Raises:
            _NoAnswer: the connection ended before.
        """
        while len(self.received) < size_bytes:
            await self._receive(Fault.SHORT)
        taken = bytes(self.received[:size_bytes])
        del self.received[:size_bytes]
        return taken

    async def rest(self) -> bytes:
        """Take all that comes until the server ends the connection."""
        while data := await self.stream.receive_some():
            self.received += data
            if len(self.received) > MOST_BODY_BYTES:
                raise _NoAnswer(Fault.NOT_A_STORE)
        taken = bytes(self.received)
        self.received.clear()
        return taken

    async def _receive(self, fault: Fault) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise _NoAnswer(fault)
        self.received += data


class Connections:
    """The connections to one server."""

    def __init__(self, endpoint: Endpoint) -> None:
        parts = urlsplit(endpoint.url)
        self._endpoint = endpoint
        self._host = parts.hostname or ""
        self._port = parts.port or _DEFAULT_PORTS[parts.scheme]
        self._kept: list[_Connection] = []

    async def ask(
        self, method: Literal["GET", "HEAD"], url: str, headers: Mapping[str, str], call: Call
    ) -> Reply:
        """Ask for `url`, which is one of this server. `headers` tell it the host, too.

        Raises:
            Unreachable: there was no answer in time, or none that makes sense.
            Damaged: the answer is not whole.
        """
        with _translated(call):
            connection = self._take() or await self._connect()
            try:
                with _timeout(self._endpoint.answer_within_s, Fault.TIMEOUT):
                    await connection.stream.send_all(_request(method, url, headers))
                    reply = await _reply(connection, has_body=method != "HEAD")
            except trio.Cancelled:
                connection.close()
                raise
            except BaseException:
                connection.close()
                self.close()  # after a sleep, or in another network, the others are dead, too
                raise
        self._give_back(connection, reply)
        return reply

    async def warm_up(self, count: int) -> None:
        """Open `count` connections at once, for questions that will be asked side by side.

        One that cannot be had in time is no error: who asks will be told.
        """
        with trio.move_on_after(WARM_UP_WITHIN_S):
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(self._keep_another)

    async def _keep_another(self) -> None:
        with suppress(_NoAnswer, OSError, trio.BrokenResourceError):
            self._keep(await self._connect())

    def close(self) -> None:
        """Close what is kept."""
        while self._kept:
            self._kept.pop().close()

    def _take(self) -> _Connection | None:
        """Return the connection used last, which is the one most likely to be alive."""
        while self._kept:
            connection = self._kept.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    def _give_back(self, connection: _Connection, reply: Reply) -> None:
        ends = reply.headers.get("connection", "").lower() == "close"
        if ends or len(self._kept) >= MOST_KEPT:
            connection.close()
        else:
            self._keep(connection)

    def _keep(self, connection: _Connection) -> None:
        connection.kept_at_s = trio.current_time()
        self._kept.append(connection)

    async def _connect(self) -> _Connection:
        with _timeout(self._endpoint.connect_within_s, Fault.CONNECT):
            plain = await trio.open_tcp_stream(self._host, self._port)
            if self._endpoint.tls is None:
                return _Connection(plain, plain)
            secured = trio.SSLStream(
                plain, self._endpoint.tls, server_hostname=self._host, https_compatible=True
            )
            try:
                await secured.do_handshake()
            except BaseException:
                plain.socket.close()
                raise
            return _Connection(plain, secured)


def _request(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    target = url.split("/", 3)[3]
    lines = [f"{method} /{target} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _reply(connection: _Connection, *, has_body: bool) -> Reply:
    status, headers = await _head(connection)
    while 100 <= status < 200:  # "Continue", or a hint: the answer comes after it
        status, headers = await _head(connection)
    if not has_body or status in (204, 304):
        return Reply(status, headers, b"")
    return Reply(status, headers, await _body(connection, headers))


async def _head(connection: _Connection) -> tuple[int, dict[str, str]]:
    first, *rest = (await connection.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    version, _, said = first.partition(" ")
    status = said[:3]
    if version not in _KEEPS_OPEN or not (status.isascii() and status.isdigit()):
        raise _NoAnswer(Fault.NOT_A_STORE)
    fields = [("connection", ":", _KEEPS_OPEN[version]), *(line.partition(":") for line in rest)]
    return int(status), {name.strip().lower(): text.strip() for name, _, text in fields}


async def _body(connection: _Connection, headers: Mapping[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _chunks(connection)
    if "content-length" in headers:
        return await connection.exactly(_size(headers["content-length"], 10))
    return await connection.rest()


async def _chunks(connection: _Connection) -> bytes:
    body = bytearray()
    while size_bytes := _size((await connection.until(b"\r\n")).partition(b";")[0], 16):
        body += await connection.exactly(size_bytes)
        await connection.exactly(len(b"\r\n"))
        if len(body) > MOST_BODY_BYTES:
            raise _NoAnswer(Fault.NOT_A_STORE)
    while await connection.until(b"\r\n"):
        pass  # trailers, which nobody asked for
    return bytes(body)


def _size(text: str | bytes, base: int) -> int:
    """Return the length that the server announced, looked at before memory is taken."""
    try:
        size_bytes = int(text, base)
    except ValueError:
        raise _NoAnswer(Fault.NOT_A_STORE) from None
    if not 0 <= size_bytes <= MOST_BODY_BYTES:
        raise _NoAnswer(Fault.NOT_A_STORE)
    return size_bytes


@contextmanager
def _timeout(seconds: float, fault: Fault) -> Iterator[None]:
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise _NoAnswer(fault)


@contextmanager
def _translated(call: Call) -> Iterator[None]:
    """Raise what goes wrong on the way as one of our errors."""
    try:
        yield
    except _NoAnswer as error:
        fault = error.fault
    except (OSError, trio.BrokenResourceError) as error:
        fault = _fault(error)
    else:
        return
    raise error_of_fault(fault, call)


def _fault(error: Exception) -> Fault:
    if isinstance(error, socket.gaierror):
        return Fault.NAME
    if isinstance(error.__cause__, ssl.SSLError):
        return Fault.TLS
    return Fault.CONNECT if isinstance(error, OSError) else Fault.BROKEN
