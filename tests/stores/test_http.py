"""Small questions to a server are answered in full, or not at all."""

import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import trio
import trio.testing

from blobfs.errors import BlobfsError, Damaged, Unreachable
from blobfs.stores.answers import Call
from blobfs.stores.http import MOST_BODY_BYTES, MOST_KEPT, Connections, Endpoint, Reply
from blobfs.stores.trust import tls_context
from tests.certificates import make_certificates
from tests.stores.http_server import Server, answer, serve_tls, serving

CALL = Call("list", "s3://bucket")
PATIENCE_S = 0.05


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with serving(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


@pytest.fixture
async def connections(server: Server) -> AsyncIterator[Connections]:
    connections = Connections(Endpoint(server.url, None, 5, 5))
    yield connections
    connections.close()


async def ask(connections: Connections, server: Server, path: str = "key") -> Reply:
    url = f"{server.url}/{path}"
    return await connections.ask("GET", url, {"host": "example"}, CALL)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        answer(),
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" + answer(),
        CHUNKED + b"1;name=value\r\ny\r\n2\r\nes\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nyes\r\n0\r\nTrailer: text\r\n\r\n",
    ],
    ids=["length", "continue", "hints", "chunks", "trailers"],
)
async def test_an_answer_comes_whole_and_its_connection_is_kept(
    server: Server, connections: Connections, sent: bytes
) -> None:
    """Or a folder would lose its files, or each lookup would wait for a new connection."""
    server.answers = [sent, answer(b"again")]
    first = await ask(connections, server)
    second = await ask(connections, server)
    assert (first.status, first.body, second.body) == (200, b"yes", b"again")
    assert server.connections == 1


async def test_a_request_says_what_is_asked_of_whom(
    server: Server, connections: Connections
) -> None:
    """Or a signature would not fit, and every lookup would be refused."""
    server.answers = [answer()]
    await ask(connections, server, "a%20key?max-keys=1")
    assert server.asked == [b"GET /a%20key?max-keys=1 HTTP/1.1\r\nhost: example\r\n\r\n"]


async def test_an_answer_without_a_body_has_none(server: Server, connections: Connections) -> None:
    """Or a HEAD would wait for the bytes of the object until its deadline."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    server.answers = [head, b"HTTP/1.1 204 No Content\r\n\r\n", answer()]
    found = await connections.ask("HEAD", f"{server.url}/key", {"host": "example"}, CALL)
    assert (found.headers["content-length"], found.body) == ("1000", b"")
    assert (await ask(connections, server)).status == 204
    assert (await ask(connections, server)).body == b"yes"
    assert server.connections == 1


async def test_an_answer_may_end_with_its_connection(
    server: Server, connections: Connections
) -> None:
    """Or servers that do not know the length beforehand could not be mounted."""
    server.answers = [b"HTTP/1.1 200 OK\r\n\r\nyes", answer(b"again")]
    server.hangs_up_after = 1
    assert (await ask(connections, server)).body == b"yes"
    assert (await ask(connections, server)).body == b"again"
    assert server.connections == 2


@pytest.mark.parametrize(
    "sent",
    [answer(b"yes", "Connection: Close"), b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes"],
    ids=["said", "1.0"],
)
async def test_a_connection_that_is_given_up_is_not_used_again(
    server: Server, connections: Connections, sent: bytes
) -> None:
    """Or every other lookup would fail, and wait before another try."""
    server.answers = [sent, answer()]
    for _ in range(2):
        assert (await ask(connections, server)).body == b"yes"
    assert server.connections == 2


async def test_a_connection_that_was_closed_meanwhile_is_not_used_again(
    server: Server, connections: Connections
) -> None:
    """Or the first lookup after a pause would fail, and wait before another try."""
    server.answers = [answer(), answer()]
    server.hangs_up_after = 1
    await ask(connections, server)
    await trio.testing.wait_all_tasks_blocked()
    await ask(connections, server)
    assert server.connections == 2


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Unreachable),
        (answer(b"yes")[:-1], Damaged),
        (CHUNKED + b"5\r\nyes", Damaged),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Unreachable),
        (b"HTTP/1.1 OK\r\n\r\n", Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", Unreachable),
        (CHUNKED + b"yes\r\n", Unreachable),
        (CHUNKED + b"%x\r\n" % (MOST_BODY_BYTES + 1), Unreachable),
        (b"HTTP/1.1 200 OK\r\n" + b"Name: text\r\n" * 10_000, Unreachable),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MOST_BODY_BYTES + 1), Unreachable),
    ],
)
async def test_what_is_no_whole_answer_is_an_error(
    server: Server, connections: Connections, sent: bytes, error: type[BlobfsError]
) -> None:
    """Or half a listing would be taken for all of it (P5), or fill the memory (P10)."""
    server.answers, server.hangs_up_after = [sent], 1
    with pytest.raises(error, match="store=s3://bucket"):
        await ask(connections, server)


async def test_many_chunks_are_too_much_as_well(server: Server, connections: Connections) -> None:
    """Or a muddled server could fill the memory bit by bit (P10)."""
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    server.answers = [CHUNKED + chunk * (MOST_BODY_BYTES // 0x100000 + 1)]
    with pytest.raises(Unreachable):
        await ask(connections, server)


async def test_a_server_that_does_not_answer_is_given_up(server: Server) -> None:
    """Or a program would hang for as long as the server does (P8)."""
    connections = Connections(Endpoint(server.url, None, 5, PATIENCE_S))
    server.answers = [b"HTTP/1.1 200 OK\r\n"]
    with pytest.raises(Unreachable, match="no answer in time"):
        await ask(connections, server)


async def test_a_dead_connection_takes_its_like_with_it(server: Server) -> None:
    """Or after a laptop's sleep each try would meet another dead one, until the deadline."""
    connections = Connections(Endpoint(server.url, None, 5, PATIENCE_S))
    await connections.warm_up(2)
    server.answers = [b"HTTP/1.1 200 OK\r\n", answer()]
    with pytest.raises(Unreachable):
        await ask(connections, server)
    assert (await ask(connections, server)).body == b"yes"
    assert server.connections == 3
    connections.close()


async def test_a_question_given_up_takes_its_connection_with_it(
    server: Server, connections: Connections
) -> None:
    """Or the next lookup would get the answer to the last one."""
    server.answers = [b"HTTP/1.1 200 OK\r\n", answer(b"mine")]
    with trio.move_on_after(PATIENCE_S):
        await ask(connections, server)
    assert (await ask(connections, server)).body == b"mine"
    assert server.connections == 2


async def test_questions_at_the_same_time_have_their_own_connections(
    server: Server, connections: Connections
) -> None:
    """Or lookups would wait for each other, or get each other's answers; or fill the table."""
    together = MOST_KEPT + 4
    server.answers = [answer()] * (2 * together)
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            for _ in range(together):
                nursery.start_soon(ask, connections, server)
        await trio.testing.wait_all_tasks_blocked()
    assert server.connections == together + 4


async def test_a_pair_of_connections_is_opened_beforehand(
    server: Server, connections: Connections
) -> None:
    """Or the first file that is opened would wait for connections to be made."""
    server.answers = [answer()] * 2
    await connections.warm_up(2)
    await trio.testing.wait_all_tasks_blocked()
    assert server.connections == 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, connections, server)
        nursery.start_soon(ask, connections, server)
    assert server.connections == 2


class NoNames(trio.abc.HostnameResolver):
    """A resolver that knows nobody, so that no network is asked."""

    async def getaddrinfo(self, *_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_: object) -> NoReturn:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://127.0.0.1:1", "cannot connect"), ("http://nobody.invalid", "cannot be resolved")],
)
async def test_a_server_that_is_not_there_is_said_to_be(url: str, words: str) -> None:
    """Or a typing error in the endpoint would look like an empty bucket."""
    trio.socket.set_custom_hostname_resolver(NoNames())
    connections = Connections(Endpoint(url, None, 5, 5))
    await connections.warm_up(2)
    with pytest.raises(Unreachable, match=words):
        await connections.ask("GET", f"{url}/", {"host": "example"}, CALL)


async def test_a_connection_that_cannot_be_made_in_time_is_given_up() -> None:
    """Or a firewall that swallows packets would hold up each lookup for minutes (P8)."""

    async def wait(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with serving(wait) as port:
        url = f"https://127.0.0.1:{port}"  # no handshake will come
        tls = ssl.create_default_context()
        connections = Connections(Endpoint(url, tls, PATIENCE_S, 5))
        with pytest.raises(Unreachable, match="cannot connect"):
            await connections.ask("GET", f"{url}/", {"host": "example"}, CALL)


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_only_a_server_with_a_trusted_certificate_is_asked(
    tmp_path: Path, is_trusted: bool
) -> None:
    """Or somebody on the way could show us files of his own, and learn our token."""
    made = make_certificates(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    trusted = made if is_trusted else make_certificates(other)
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(made.server)
    server = Server(answers=[answer(b"yes")])
    async with serving(partial(serve_tls, server, inside)) as port:
        server.url = f"https://127.0.0.1:{port}"
        tls = tls_context(str(trusted.authority))
        connections = Connections(Endpoint(server.url, tls, 5, 5))
        if is_trusted:
            assert (await ask(connections, server)).body == b"yes"
        else:
            with pytest.raises(Unreachable, match="certificate is not trusted"):
                await ask(connections, server)
        connections.close()
