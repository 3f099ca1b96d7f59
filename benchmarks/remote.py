"""Run a real object store that answers as late as a distant one, and fill its bucket."""

import os
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

from benchmarks.machine import run, seconds
from blobfs.types import ByteRange

DELAY_MS = 20
PARALLEL_GETS = 16
PARALLEL_PUTS = 16
PARALLEL_PIECES = 8
ROUND_TRIPS = 20
LISTENS_WITHIN_S = 5.0
_RELAY_SOURCE = Path(__file__).parent / "slowlink.c"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and the two ways to it: `near` for filling it, `far` for measuring."""

    name: str
    near: str
    far: str
    env: dict[str, str]

    @property
    def source(self) -> str:
        return f"s3://{self.name}"

    @property
    def options(self) -> tuple[str, ...]:
        return ("--endpoint-url", self.far)

    def client(self, endpoint: str) -> S3Store:
        """Return a client that has no connection yet."""
        return S3Store(
            self.name,
            endpoint=endpoint,
            region=self.env["AWS_DEFAULT_REGION"],
            access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def put_many(self, keys: Iterable[str], body: bytes) -> None:
        """Put `body` under each of `keys`."""
        store = self.client(self.near)
        with ThreadPoolExecutor(PARALLEL_PUTS) as threads:
            for _ in threads.map(lambda key: obstore.put(store, key, body), keys):
                pass

    def put_objects(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Put each object under its key."""
        store = self.client(self.near)
        with ThreadPoolExecutor(PARALLEL_PUTS) as threads:
            for _ in threads.map(lambda each: obstore.put(store, *each), objects):
                pass

    def get(self, key: str) -> bytes:
        """Return what lies under a key."""
        return bytes(obstore.get(self.client(self.near), key).bytes())

    def put_random(self, key: str, size_bytes: int) -> None:
        """Put an object of bytes that nothing can compress."""
        obstore.put(self.client(self.near), key, os.urandom(size_bytes))

    def put_in_parallel(self, key: str, body: bytes, piece_bytes: int) -> float:
        """Put `body` as objects of `piece_bytes`, 8 at a time; return how long it took."""
        store = self.client(self.far)
        pieces = [body[start : start + piece_bytes] for start in range(0, len(body), piece_bytes)]
        put = partial(obstore.put, store, use_multipart=False)
        with ThreadPoolExecutor(PARALLEL_PIECES) as threads:
            keys = [f"{key}/{number}" for number in range(len(pieces))]
            return seconds(lambda: list(threads.map(put, keys, pieces)))

    def list_all(self, prefix: str) -> int:
        """List all keys below a prefix, page after page; return how many there are."""
        return sum(len(page) for page in obstore.list(self.client(self.far), prefix))

    def get_in_parallel(self, key: str, size_bytes: int) -> None:
        """Fetch an object by 16 ranged GETs at a time: the most that a client can hope for."""
        store = self.client(self.far)
        pieces = list(ByteRange(0, size_bytes).split(-(-size_bytes // PARALLEL_GETS)))
        with ThreadPoolExecutor(PARALLEL_GETS) as threads:
            fetched = sum(threads.map(partial(_get_piece, store, key), pieces))
        if fetched != size_bytes:
            raise RuntimeError(f"the server sent {fetched} bytes of {size_bytes}")

    def round_trips_s(self, key: str) -> list[float]:
        """Return how long single HEAD requests take on a connection that is open already."""
        store = self.client(self.far)
        obstore.head(store, key)
        return [seconds(obstore.head, store, key) for _ in range(ROUND_TRIPS)]


def _get_piece(store: S3Store, key: str, piece: ByteRange) -> int:
    return len(obstore.get_range(store, key, start=piece.start, end=piece.stop))


@contextmanager
def delayed(endpoint_url: str, folder: Path) -> Iterator[str]:
    """Relay to a local endpoint with 20 ms to the first byte; yields the endpoint to use."""
    relay = folder / "slowlink"
    run(["cc", "-O2", "-pthread", "-o", relay, _RELAY_SOURCE])
    port = _free_port()
    process = subprocess.Popen([relay, str(port), str(urlsplit(endpoint_url).port), str(DELAY_MS)])
    try:
        _wait_until_listening(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_listening(port: int) -> None:
    give_up = time.monotonic() + LISTENS_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return
