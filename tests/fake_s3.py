"""Speak S3's protocol to the letter over a dict, and go wrong on demand.

SeaweedFS keeps keys in folders, so it cannot show what S3 does with `//`, with keys that
are object and prefix, or with the order of a listing; and no real server answers with a
login page when asked to. This one does both. It checks no signature: SeaweedFS does.
"""

import contextlib
import hashlib
import re
import ssl
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True)
class Request:
    """What arrived: header names in lower case, the key as the server understands it."""

    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class Reply:
    """What goes out. `cut_to` closes the connection after so many bytes of the body."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_to: int | None = None
    hang_up: bool = False


@dataclass
class FakeS3:
    """The objects, what was asked, and what to answer in place of the truth."""

    endpoint_url: str = ""
    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    """Each is given once, in order, to the next requests."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request, bucket: str, body: bytes) -> Reply:
        with self.lock:
            self.requests.append(request)
            if self.replies:
                return self.replies.pop(0)
            if bucket != BUCKET:
                return _error(404, "NoSuchBucket")
            if request.method == "POST":
                return self._delete_many(body)
            if not request.key:
                return self._list(request.query) if request.method == "GET" else Reply(200)
            reply: Reply = getattr(self, f"_{request.method.lower()}")(request, body)
            return reply

    def _get(self, request: Request, body: bytes) -> Reply:
        if request.key not in self.objects:
            return _error(404, "NoSuchKey")
        data, when = self.objects[request.key]
        if request.headers.get("if-match", _etag(data)) != _etag(data):
            return _error(412, "PreconditionFailed")
        headers = {"ETag": _etag(data), "Last-Modified": formatdate(when, usegmt=True)}
        if not (found := re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))):
            return Reply(200, data, headers)
        start, stop = int(found[1]), min(int(found[2]) + 1, len(data))
        if start >= len(data):
            return _error(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return Reply(206, data[start:stop], headers)

    _head = _get

    def _put(self, request: Request, body: bytes) -> Reply:
        current = self.objects.get(request.key)
        if "if-none-match" in request.headers and current is not None:
            return _error(412, "PreconditionFailed")
        if wanted := request.headers.get("if-match"):
            if current is None:
                return _error(404, "NoSuchKey")
            if wanted != _etag(current[0]):
                return _error(412, "PreconditionFailed")
        self.objects[request.key] = (body, time.time())
        return Reply(200, b"", {"ETag": _etag(body)})

    def _delete(self, request: Request, body: bytes) -> Reply:
        current = self.objects.get(request.key)
        wanted = request.headers.get("if-match")
        if wanted is not None and current is not None and wanted != _etag(current[0]):
            return _error(412, "PreconditionFailed")
        self.objects.pop(request.key, None)
        return Reply(204)

    def _delete_many(self, body: bytes) -> Reply:
        found = ElementTree.fromstring(body).iterfind(f".//{{{NAMESPACE}}}Key")
        keys = [element.text or "" for element in found]
        if len(keys) > 1000:
            return _error(400, "MalformedXML")
        for key in keys:
            self.objects.pop(key, None)
        return Reply(200, f'<DeleteResult xmlns="{NAMESPACE}"/>'.encode())

    def _list(self, query: dict[str, str]) -> Reply:
        after = query.get("continuation-token") or query.get("start-after", "")
        entries = self._entries(query.get("prefix", ""), "delimiter" in query, after)
        limit = int(query.get("max-keys", "1000"))
        page, more = entries[:limit], len(entries) > limit
        body = "".join(self._entry(name, name_is_prefix) for name, name_is_prefix in page)
        if more:
            body += f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>"
        return listing(f"<IsTruncated>{str(more).lower()}</IsTruncated>{body}")

    def _entries(self, prefix: str, delimiter: bool, after: str) -> list[tuple[str, bool]]:
        names: set[tuple[str, bool]] = set()
        for key in self.objects:
            if key.startswith(prefix):
                head, slash, _ = key[len(prefix) :].partition("/")
                folded = delimiter and bool(slash)
                names.add((prefix + head + slash if folded else key, folded))
        return sorted((name for name in names if name[0] > after), key=lambda n: n[0].encode())

    def _entry(self, name: str, is_prefix: bool) -> str:
        if is_prefix:
            return f"<CommonPrefixes><Prefix>{_url(name)}</Prefix></CommonPrefixes>"
        data, when = self.objects[name]
        at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(when))
        return (
            f"<Contents><Key>{_url(name)}</Key><LastModified>{at}</LastModified>"
            f"<ETag>{escape(_etag(data))}</ETag><Size>{len(data)}</Size></Contents>"
        )


def listing(inside: str) -> Reply:
    """Return a page of a listing that holds `inside`."""
    start = f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="{NAMESPACE}">'
    body = f"{start}<EncodingType>url</EncodingType>{inside}</ListBucketResult>"
    return Reply(200, body.encode(), {"Content-Type": "application/xml"})


def _url(name: str) -> str:
    """Encode as S3 does for `encoding-type=url`, with `+` for a space."""
    return quote(name, safe="/ ").replace(" ", "+")


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _error(status: int, code: str) -> Reply:
    return Reply(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeS3

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        bucket, _, key = url.path.removeprefix("/").partition("/")
        query = parse_qs(url.query, keep_blank_values=True)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        request = Request(
            self.command, unquote(key), {name: each[0] for name, each in query.items()}, headers
        )
        self._send(self.fake.answer(request, unquote(bucket), body))

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _send(self, reply: Reply) -> None:
        """Send all in one piece: two would wait for each other's acknowledgement."""
        self.close_connection = reply.hang_up or reply.cut_to is not None
        if reply.hang_up:
            return
        headers = {"Content-Length": str(len(reply.body)), **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Said", *(f"{n}: {v}" for n, v in headers.items())]
        head = "\r\n".join([*lines, "", ""]).encode()
        body = b"" if self.command == "HEAD" else reply.body[: reply.cut_to]
        self.wfile.write(head + body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests do."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextlib.contextmanager
def fake_s3(certificate: Path | None = None) -> Iterator[FakeS3]:
    """Serve an empty bucket named `BUCKET`, over TLS where there is a certificate."""
    fake = FakeS3()
    handler = type("Handler", (_Handler,), {"fake": fake})
    with _Server(("127.0.0.1", 0), handler) as server:
        scheme = "http"
        if certificate is not None:
            scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake waits for the thread of its connection.
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        fake.endpoint_url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
