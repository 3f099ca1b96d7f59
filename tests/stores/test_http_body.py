"""Large bodies arrive in the memory that was given for them, whole, or with an error."""

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from blobfs.errors import BlobfsError, Damaged, Unreachable
from blobfs.stores.answers import Call
from blobfs.stores.http import KEPT_FOR_S, MOST_KEPT, Endpoint, Reply
from blobfs.stores.http_body import MOST_REFUSAL_BYTES, BodyConnections, Download
from blobfs.stores.trust import tls_context
from tests.certificates import make_certificates
from tests.stores.http_server import Server, answer, serve_tls, serving

CALL = Call("get", "s3://bucket", "key")
PATIENCE_S = 0.05
BODY = bytes(range(256)) * 1024
PART = "206 Partial Content"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with serving(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


@pytest.fixture
async def connections(server: Server) -> AsyncIterator[BodyConnections]:
    connections = BodyConnections(Endpoint(server.url, None, 5, 5))
    yield connections
    connections.close()


def take(
    download: Download, url: str, size_bytes: int = len(BODY), step: int = 100_000
) -> tuple[Reply, bytes]:
    """Return an answer and its body, taken in steps."""
    buffer = memoryview(bytearray(size_bytes))
    with download.asked(f"{url}/a%20key", {"host": "example"}) as reply:
        if reply.status == 206:
            for start in range(0, size_bytes, step):
                download.fill(buffer[start : start + step])
            download.end()
    return reply, bytes(buffer)


async def taken(
    connections: BodyConnections, server: Server, *, now_s: float = 0, size_bytes: int = len(BODY)
) -> tuple[Reply, bytes]:
    download = Download(connections, CALL, now_s)
    return await trio.to_thread.run_sync(take, download, server.url, size_bytes)


CHUNKED = f"HTTP/1.1 {PART}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
IN_CHUNKS = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize("sent", [answer(BODY, status=PART), IN_CHUNKS], ids=["length", "chunks"])
async def test_a_body_comes_whole_and_its_connection_is_kept(
    server: Server, connections: BodyConnections, sent: bytes
) -> None:
    """Or a file would hold other bytes, or each request would wait for a new connection."""
    server.answers = [sent, sent]
    for _ in range(2):
        assert (await taken(connections, server))[1] == BODY
    assert server.connections == 1


async def test_a_request_says_what_is_asked_of_whom(
    server: Server, connections: BodyConnections
) -> None:
    """Or a signature would not fit, or the bytes would come compressed."""
    server.answers = [answer(BODY, status=PART)]
    await taken(connections, server)
    (asked,) = server.asked
    first, *headers = asked.decode().lower().strip().split("\r\n")
    assert first == "get /a%20key http/1.1"
    assert sorted(headers) == ["accept-encoding: identity", "host: example"]


async def test_a_refusal_is_told_in_its_own_words(
    server: Server, connections: BodyConnections
) -> None:
    """Or nobody would hear why a file cannot be read, nor for how long to wait."""
    server.answers = [answer(b"<Code>SlowDown</Code>", "Retry-After: 7", status="503 Busy")]
    reply, _ = await taken(connections, server)
    assert (reply.status, reply.body) == (503, b"<Code>SlowDown</Code>")
    assert reply.headers["retry-after"] == "7"


async def test_a_long_refusal_fills_no_memory(server: Server, connections: BodyConnections) -> None:
    """Or a muddled server could fill it, with what nobody reads (P10)."""
    server.answers = [answer(bytes(2 * MOST_REFUSAL_BYTES)), answer(BODY, status=PART)]
    reply, _ = await taken(connections, server)
    assert len(reply.body) == MOST_REFUSAL_BYTES
    assert (await taken(connections, server))[1] == BODY
    assert server.connections == 2


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", Unreachable),
        (f"HTTP/1.1 {PART}\r\nContent-Le".encode(), Damaged),
        (answer(BODY, status=PART)[:-1], Damaged),
        (answer(BODY + b"x", status=PART), Damaged),
        (answer(BODY[:-1], status=PART), Damaged),
        (IN_CHUNKS[:-100], Damaged),
        (CHUNKED + b"%x\r\n%b\r\n1\r\nx\r\n0\r\n\r\n" % (len(BODY), BODY), Damaged),
        (CHUNKED + b"yes\r\n", Damaged),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Unreachable),
        (f"HTTP/1.1 {PART}\r\n".encode() + b"Name: text\r\n" * 10_000, Unreachable),
    ],
)
async def test_what_is_no_whole_body_is_an_error(
    server: Server, connections: BodyConnections, sent: bytes, error: type[BlobfsError]
) -> None:
    """Or half of a file would be read as all of it (P6)."""
    server.answers, server.hangs_up_after = [sent, answer(BODY, status=PART)], 1
    with pytest.raises(error, match="store=s3://bucket"):
        await taken(connections, server)
    assert (await taken(connections, server))[1] == BODY
    assert server.connections == 2


@pytest.mark.parametrize("closed_by", ["Connection: Close", None])
async def test_a_connection_that_is_closed_is_not_used_again(
    server: Server, connections: BodyConnections, closed_by: str | None
) -> None:
    """Or the next request would fail, and wait before another try."""
    headers = () if closed_by is None else (closed_by,)
    server.answers = [answer(BODY, *headers, status=PART), answer(BODY, status=PART)]
    server.hangs_up_after = 1
    for _ in range(2):
        assert (await taken(connections, server))[1] == BODY
        await trio.testing.wait_all_tasks_blocked()
    assert server.connections == 2


@pytest.mark.parametrize(("idle_s", "made"), [(KEPT_FOR_S - 1, 1), (KEPT_FOR_S, 2)])
async def test_a_connection_that_was_idle_for_long_is_not_used_again(
    server: Server, connections: BodyConnections, idle_s: float, made: int
) -> None:
    """Or a router on the way, which has forgotten it, would swallow the next request."""
    server.answers = [answer(BODY, status=PART)] * 2
    await taken(connections, server, now_s=0)
    await taken(connections, server, now_s=idle_s)
    assert server.connections == made


async def test_a_few_connections_are_kept(server: Server, connections: BodyConnections) -> None:
    """Or a burst of requests would hold on to a descriptor each, for ever."""
    together = MOST_KEPT + 4
    server.answers = [answer(BODY, status=PART)] * (2 * together)
    for _ in range(2):
        meeting = threading.Barrier(together)
        async with trio.open_nursery() as nursery:
            for _ in range(together):
                download = Download(connections, CALL, 0)
                nursery.start_soon(trio.to_thread.run_sync, meet, meeting, download, server.url)
        await trio.testing.wait_all_tasks_blocked()
    assert server.connections == together + 4


def meet(meeting: threading.Barrier, download: Download, url: str) -> None:
    """Take a body, and hold the connection until all others have one."""
    with download.asked(f"{url}/key", {"host": "example"}):
        meeting.wait(5)
        download.fill(memoryview(bytearray(len(BODY))))


async def test_a_server_that_does_not_answer_is_given_up(server: Server) -> None:
    """Or a program would hang for as long as the server does (P8)."""
    connections = BodyConnections(Endpoint(server.url, None, 5, PATIENCE_S))
    for sent in (b"HTTP/1.1 206 OK\r\n", answer(BODY, status=PART)[:-1]):
        server.answers = [sent]
        with pytest.raises(Unreachable, match="no answer in time"):
            await taken(connections, server)


async def test_a_dead_connection_takes_its_like_with_it(server: Server) -> None:
    """Or after a laptop's sleep each try would meet another dead one, until the deadline."""
    connections = BodyConnections(Endpoint(server.url, None, 5, PATIENCE_S))
    meeting = threading.Barrier(2)
    server.answers = [answer(BODY, status=PART)] * 2
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            download = Download(connections, CALL, 0)
            nursery.start_soon(trio.to_thread.run_sync, meet, meeting, download, server.url)
    server.answers = [b"HTTP/1.1 206 OK\r\n", answer(BODY, status=PART)]
    with pytest.raises(Unreachable):
        await taken(connections, server)
    assert (await taken(connections, server))[1] == BODY
    assert server.connections == 3
    connections.close()


# -- giving up ------------------------------------------------------------------------


async def ends_with(error: type[BlobfsError], work: Callable[[], object]) -> None:
    with pytest.raises(error):
        await trio.to_thread.run_sync(work)


async def test_whoever_waits_is_released_when_it_is_given_up(server: Server) -> None:
    """Or reads that programs gave up would fill all threads, until nobody could read (P8)."""
    connections = BodyConnections(Endpoint(server.url, None, 5, 1000))
    server.answers = [answer(BODY, status=PART)[:-1]]
    download = Download(connections, CALL, 0)
    buffer = memoryview(bytearray(len(BODY)))
    waiting = trio.Event()
    loop = trio.lowlevel.current_trio_token()

    def take_all() -> None:
        with download.asked(f"{server.url}/key", {"host": "example"}):
            download.fill(buffer[:-1])
            loop.run_sync_soon(waiting.set)
            download.fill(buffer[-1:])

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends_with, Damaged, take_all)
            await waiting.wait()
            download.give_up()


async def test_what_was_given_up_at_once_asks_for_nothing(
    server: Server, connections: BodyConnections
) -> None:
    """Or a thread that began late would work for nobody."""
    server.answers = [answer(BODY, status=PART)]
    download = Download(connections, CALL, 0)
    download.give_up()
    await ends_with(Unreachable, partial(take, download, server.url))
    assert not server.asked


async def test_giving_up_too_late_harms_nobody(
    server: Server, connections: BodyConnections
) -> None:
    """Or one read that was cancelled would break off another's request."""
    server.answers = [answer(BODY, status=PART)] * 2
    download = Download(connections, CALL, 0)
    await trio.to_thread.run_sync(take, download, server.url)
    download.give_up()
    assert (await taken(connections, server))[1] == BODY
    assert server.connections == 1


# -- who it asks ----------------------------------------------------------------------


def refuse_to_resolve(*_: object) -> NoReturn:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://127.0.0.1:1", "cannot connect"), ("http://nobody.invalid", "cannot be resolved")],
)
async def test_a_server_that_is_not_there_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch, url: str, words: str
) -> None:
    """Or a typing error in the endpoint would look like a lost file."""
    if "nobody" in url:
        monkeypatch.setattr(socket, "getaddrinfo", refuse_to_resolve)
    connections = BodyConnections(Endpoint(url, None, 5, 5))
    with pytest.raises(Unreachable, match=words):
        await trio.to_thread.run_sync(take, Download(connections, CALL, 0), url)


async def test_a_connection_that_cannot_be_made_in_time_is_given_up() -> None:
    """Or a firewall that swallows packets would hold up each read for minutes (P8)."""

    async def wait(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with serving(wait) as port:
        url = f"https://127.0.0.1:{port}"  # no handshake will come
        endpoint = Endpoint(url, ssl.create_default_context(), PATIENCE_S, 5)
        download = Download(BodyConnections(endpoint), CALL, 0)
        with pytest.raises(Unreachable, match="cannot connect"):
            await trio.to_thread.run_sync(take, download, url)


@pytest.fixture
async def tls_server(tmp_path: Path) -> AsyncIterator[tuple[Server, ssl.SSLContext]]:
    """A server with a certificate, and what trusts it."""
    made = make_certificates(tmp_path)
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(made.server)
    server = Server(answers=[answer(BODY, status=PART)] * 2)
    async with serving(partial(serve_tls, server, inside)) as port:
        server.url = f"https://127.0.0.1:{port}"
        yield server, tls_context(str(made.authority))


async def test_a_body_comes_whole_over_tls(tls_server: tuple[Server, ssl.SSLContext]) -> None:
    """Or nothing could be read from most of the stores that there are."""
    server, trusted = tls_server
    connections = BodyConnections(Endpoint(server.url, trusted, 5, 5))
    for _ in range(2):
        assert (await taken(connections, server))[1] == BODY
    assert server.connections == 1
    connections.close()


async def test_nobody_else_is_trusted(tls_server: tuple[Server, ssl.SSLContext]) -> None:
    """Or somebody on the way could show us files of his own, and learn our token."""
    server, _ = tls_server
    endpoint = Endpoint(server.url, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), 5, 5)
    with pytest.raises(Unreachable, match="certificate is not trusted"):
        await taken(BodyConnections(endpoint), server)
    assert not server.asked


async def test_nothing_that_is_still_encrypted_counts_as_arrived(
    tls_server: tuple[Server, ssl.SSLContext],
) -> None:
    """Or bytes that came while a read was given up would be other bytes (P6)."""
    server, trusted = tls_server
    download = Download(BodyConnections(Endpoint(server.url, trusted, 5, 5)), CALL, 0)
    buffer = memoryview(bytearray(len(BODY)))

    def take_the_rest_after_giving_up() -> None:
        with download.asked(f"{server.url}/key", {"host": "example"}):
            download.fill(buffer[:1000])
            download.give_up()
            for start in range(1000, len(BODY), 100):
                download.fill(buffer[start : start + 100])

    await ends_with(Damaged, take_the_rest_after_giving_up)
    arrived = bytes(buffer).rstrip(b"\0")
    assert BODY.startswith(arrived)
