"""Answer like Azure on the loopback, with recorded answers, for what no emulator does.

Tokens travel over TLS only, so the blob endpoint has a certificate, which its clients are
told to trust by the variables that every TLS library here reads.
"""

import contextlib
import datetime
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

EMPTY_LISTING = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<EnumerationResults ServiceEndpoint="https://account.blob.core.windows.net/" '
    b'ContainerName="container"><Blobs /><NextMarker /></EnumerationResults>'
)

BLOB_HEADERS = {
    "Content-Type": "application/octet-stream",
    "ETag": '"0x8DE2900000000001"',
    "Last-Modified": "Sat, 21 Nov 2026 12:00:00 GMT",
    "x-ms-blob-type": "BlockBlob",
}


@dataclass(frozen=True)
class Request:
    """One request as it came; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """One answer. `cut` sends no more of the body than so many bytes, then hangs up."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


Answerer = Callable[[Request], Reply]


@dataclass(frozen=True)
class Fake:
    """A running server, and what was asked of it."""

    url: str
    requests: list[Request]


def listing(*entries: str, marker: str = "") -> Reply:
    """Return the answer to List Blobs that holds `entries`, each a piece of XML."""
    text = (
        '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="container">'
        f"<Blobs>{''.join(entries)}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    )
    return Reply(200, text.encode(), {"Content-Type": "application/xml"})


def blob(name: str, *, size_bytes: int = 1, metadata: str = "", encoded: bool = False) -> str:
    """Return the XML of one blob in a listing."""
    attribute = ' Encoded="true"' if encoded else ""
    return (
        f"<Blob><Name{attribute}>{name}</Name><Properties>"
        "<Last-Modified>Sat, 21 Nov 2026 12:00:00 GMT</Last-Modified><Etag>0x8DE29</Etag>"
        f"<Content-Length>{size_bytes}</Content-Length></Properties>"
        f"<Metadata>{metadata}</Metadata></Blob>"
    )


def blob_service(request: Request) -> Reply:
    """Answer as a container whose every blob holds `content`, and that lists nothing."""
    if "comp=list" in request.path:
        return Reply(200, EMPTY_LISTING, {"Content-Type": "application/xml"})
    return Reply(200, b"content", BLOB_HEADERS)


def identity_service(token: str) -> Answerer:
    """Return an answerer like App Service's identity endpoint (2019-08-01)."""
    answer = {
        "access_token": token,
        "expires_on": str(int(datetime.datetime.now().timestamp()) + 86_400),
        "resource": "https://storage.azure.com",
        "token_type": "Bearer",
    }
    body = json.dumps(answer).encode()
    return lambda request: Reply(200, body, {"Content-Type": "application/json"})


def entra_service(token: str) -> Answerer:
    """Return an answerer like an authority of Microsoft Entra ID, of any tenant (v2.0)."""

    def answer(request: Request) -> Reply:
        tenant = f"https://{request.headers['host']}/{request.path.split('/')[1]}"
        said: dict[str, object] = {
            "issuer": f"{tenant}/v2.0",
            "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{tenant}/oauth2/v2.0/token",
        }
        if request.method == "POST":
            said = {"token_type": "Bearer", "expires_in": 86_399, "access_token": token}
        return Reply(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    return answer


def write_fake_az(folder: Path, token: str) -> None:
    """Put an `az` into `folder` that answers `az account get-access-token`."""
    answer = {
        "accessToken": token,
        "expiresOn": "2099-01-01 00:00:00.000000",
        "expires_on": 4_070_908_800,
        "tenant": "00000000-0000-0000-0000-000000000000",
        "tokenType": "Bearer",
    }
    script = folder / "az"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    script.chmod(0o755)


@contextlib.contextmanager
def serving(answer: Answerer, *, certificate: Path | None = None) -> Iterator[Fake]:
    """Serve `answer` on a free port of the loopback until the block ends."""
    requests: list[Request] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answer, requests))
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield Fake(f"{scheme}://127.0.0.1:{server.server_port}", requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(answer: Answerer, requests: list[Request]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                body,
            )
            requests.append(request)
            reply = answer(request)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: reply.cut])
            self.close_connection = reply.cut is not None

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    return Handler
