"""Put retries, deadlines, a limit, a meter and a prefix around a store, one concern each.

    with_layers(raw): Deadlined( Retrying( Limited( Metered( raw ) ) ) )

so that a wait for a turn counts towards the deadline, a wait before another try holds no
turn, and the meter sees each request that really goes out. `Prefixed` goes around it all.

Concurrency: every layer may be called from any task, and keeps nothing between calls but
counters and the queue for a turn.
"""

import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError, OutcomeUnknown, Throttled, Unreachable
from blobfs.stores.base import MAX_PAGE_KEYS, Fetched, Inbox, Store
from blobfs.stores.metering import Kind, Meter
from blobfs.types import MIB, ByteRange, ListPage, ObjectInfo

logger = logging.getLogger("blobfs.store")

T = TypeVar("T")

DEADLINE_S = 30.0
FIRST_PAUSE_S = 0.1
FIRST_PAUSE_WHEN_BUSY_S = 1.0
"""A store that asks for a pause without saying how long needs more than a moment. It may have
said so all the same: obstore, which gets and puts, hides the header `Retry-After`."""
LONGEST_PAUSE_S = 5.0
SLOWEST_UPLOAD_BYTES_PER_S = MIB // 4
LOOKUP_RESERVE = 8


@dataclass(frozen=True, slots=True)
class Ask:
    """What a layer may know of a call: its kind, what it concerns, and how it may be treated."""

    kind: Kind
    keys: tuple[str, ...]
    """Of a listing: its prefix."""
    sent_bytes: int = 0
    conditional: bool = False
    """A put whose repetition would meet its own success."""

    @property
    def what(self) -> str:
        """What it concerns, in words."""
        return f"{len(self.keys)} keys" if self.kind == "delete" else self.keys[0]


class Layer(Store):
    """A store that hands each call to the one inside, through `_through`."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.url = inner.url
        self.traits = inner.traits

    @abstractmethod
    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        """Do `call`, in the way that this layer is there for."""

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        call = partial(self.inner.get, key, span=span, if_match=if_match)
        return await self._through(Ask("get", (key,)), call)

    async def get_into(
        self, key: str, inbox: Inbox, *, span: ByteRange, if_match: str | None
    ) -> Fetched:
        call = partial(self.inner.get_into, key, inbox, span=span, if_match=if_match)
        return await self._through(Ask("get", (key,)), call)

    async def head(self, key: str) -> ObjectInfo:
        return await self._through(Ask("head", (key,)), partial(self.inner.head, key))

    async def list(
        self,
        prefix: str = "",
        *,
        delimiter: bool = False,
        start_after: str = "",
        max_keys: int = MAX_PAGE_KEYS,
        token: str | None = None,
    ) -> ListPage:
        call = partial(
            self.inner.list,
            prefix,
            delimiter=delimiter,
            start_after=start_after,
            max_keys=max_keys,
            token=token,
        )
        return await self._through(Ask("list", (prefix,)), call)

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        size_bytes = memoryview(data).nbytes
        ask = Ask("put", (key,), size_bytes, conditional=if_absent or if_match is not None)
        call = partial(self.inner.put, key, data, if_absent=if_absent, if_match=if_match)
        return await self._through(ask, call)

    async def delete_many(self, keys: Iterable[str]) -> dict[str, BlobfsError]:
        wanted = tuple(keys)  # a retry has to see them again
        return await self._through(Ask("delete", wanted), partial(self.inner.delete_many, wanted))

    async def delete_if_match(self, key: str, etag: str) -> None:
        call = partial(self.inner.delete_if_match, key, etag)
        await self._through(Ask("delete", (key,)), call)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Deadlined(Layer):
    """End each call after a time, whatever goes on below."""

    def __init__(self, inner: Store, deadline_s: float) -> None:
        super().__init__(inner)
        self._deadline_s = deadline_s

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        allowed_s = allowed_time_s(self._deadline_s, ask)
        with trio.move_on_after(allowed_s):
            return await call()
        text = f"no answer within {allowed_s:g} s. request={ask.kind} store={self.url}"
        if ask.conditional:
            raise OutcomeUnknown(f"{text} key={ask.what!r}")
        raise Unreachable(f"{text} key={ask.what!r}", hint="check the network")


def allowed_time_s(deadline_s: float, ask: Ask) -> float:
    """Return how long a call may take: an upload needs time for its bytes as well."""
    return deadline_s + ask.sent_bytes / SLOWEST_UPLOAD_BYTES_PER_S


class Retrying(Layer):
    """Try again what may work next time, after a pause that grows, until time is up."""

    def __init__(self, inner: Store, deadline_s: float, env: Env, meter: Meter) -> None:
        super().__init__(inner)
        self._deadline_s = deadline_s
        self._env = env
        self._meter = meter

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        gives_up_at = self._env.monotonic_s() + allowed_time_s(self._deadline_s, ask)
        attempt = 0
        while True:
            try:
                return await call()
            except BlobfsError as error:
                remaining_s = gives_up_at - self._env.monotonic_s()
                pause_s = pause_before_retry_s(error, attempt, remaining_s, self._env.chance())
                if pause_s is None:
                    raise
            attempt += 1
            self._meter.retries += 1
            await trio.sleep(pause_s)


def pause_before_retry_s(
    error: BlobfsError, attempt: int, remaining_s: float, chance: float
) -> float | None:
    """Return how long to wait before the next try; None says to give up.

    Full jitter: anything from nothing up to a bound that doubles with each attempt, so that
    clients that failed together do not come back together. `attempt` counts from 0.
    """
    if not error.transient:
        return None
    asked_s = error.retry_after_s if isinstance(error, Throttled) else None
    is_guess = isinstance(error, Throttled) and asked_s is None
    first_s = FIRST_PAUSE_WHEN_BUSY_S if is_guess else FIRST_PAUSE_S
    pause_s = (asked_s or 0) + chance * min(LONGEST_PAUSE_S, first_s * 2**attempt)
    return pause_s if pause_s < remaining_s else None


class Limited(Layer):
    """Let at most so many requests be under way, first come, first served.

    Heads and lists have a few turns of their own: someone waits for them, and they would
    otherwise queue behind all the blocks that are read ahead.
    """

    def __init__(self, inner: Store, parallel: int, reserve: int = LOOKUP_RESERVE) -> None:
        super().__init__(inner)
        self._turns = trio.CapacityLimiter(parallel)
        self._lookup_turns = trio.CapacityLimiter(reserve)

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        async with self._turn(ask):
            return await call()

    @asynccontextmanager
    async def _turn(self, ask: Ask) -> AsyncIterator[None]:
        # One call may be under way twice in one task group, so the turn is the borrower.
        turn = object()
        limiter = self._limiter(ask)
        await limiter.acquire_on_behalf_of(turn)
        try:
            yield
        finally:
            limiter.release_on_behalf_of(turn)

    def _limiter(self, ask: Ask) -> trio.CapacityLimiter:
        if ask.kind in ("head", "list") and self._turns.available_tokens <= 0:
            return self._lookup_turns
        return self._turns


class Metered(Layer):
    """Count each request, and write a line about it to the log at DEBUG.

    The log's own format adds on whose behalf it was (`blobfs.trace`).
    """

    def __init__(self, inner: Store, env: Env, meter: Meter) -> None:
        super().__init__(inner)
        self._env = env
        self._meter = meter

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        self._meter.start(ask.kind)
        began_s = self._env.monotonic_s()
        outcome = "cancelled"
        try:
            answer = await call()
            outcome = "ok"
        except BlobfsError as error:
            outcome = type(error).__name__
            self._meter.errors += counts_as_error(error)
            raise
        finally:
            duration_s = self._env.monotonic_s() - began_s
            self._meter.finish(ask.kind, duration_s)
            self._log(ask, outcome, duration_s)
        self._meter.bytes_sent += ask.sent_bytes
        self._meter.bytes_received += answer.data.nbytes if isinstance(answer, Fetched) else 0
        return answer

    def _log(self, ask: Ask, outcome: str, duration_s: float) -> None:
        logger.debug(
            "%s %r: %s in %.1f ms. store=%s",
            ask.kind,
            ask.what,
            outcome,
            duration_s * 1000,
            self.url,
        )


def counts_as_error(error: BlobfsError) -> bool:
    """Say whether an answer means that something is wrong, rather than "no"."""
    return error.exit_code not in (3, 7)


@dataclass(slots=True)
class Prefixed(Store):
    """Show the keys below `prefix` as if there were no others."""

    inner: Store
    prefix: str
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"{self.inner.url}/{self.prefix}".removesuffix("/")
        self.traits = self.inner.traits

    async def get(
        self, key: str, *, span: ByteRange | None = None, if_match: str | None = None
    ) -> Fetched:
        fetched = await self.inner.get(self.prefix + key, span=span, if_match=if_match)
        return replace(fetched, info=self._relative(fetched.info))

    async def get_into(
        self, key: str, inbox: Inbox, *, span: ByteRange, if_match: str | None
    ) -> Fetched:
        key = self.prefix + key
        fetched = await self.inner.get_into(key, inbox, span=span, if_match=if_match)
        return replace(fetched, info=self._relative(fetched.info))

    async def head(self, key: str) -> ObjectInfo:
        return self._relative(await self.inner.head(self.prefix + key))

    async def list(
        self,
        prefix: str = "",
        *,
        delimiter: bool = False,
        start_after: str = "",
        max_keys: int = MAX_PAGE_KEYS,
        token: str | None = None,
    ) -> ListPage:
        page = await self.inner.list(
            self.prefix + prefix,
            delimiter=delimiter,
            start_after=self.prefix + start_after if start_after else "",
            max_keys=max_keys,
            token=token,
        )
        return ListPage(
            tuple(self._relative(found) for found in page.objects),
            tuple(found.removeprefix(self.prefix) for found in page.prefixes),
            page.next_token,
        )

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        return await self.inner.put(self.prefix + key, data, if_absent=if_absent, if_match=if_match)

    async def delete_many(self, keys: Iterable[str]) -> dict[str, BlobfsError]:
        failed = await self.inner.delete_many(self.prefix + key for key in keys)
        return {key.removeprefix(self.prefix): error for key, error in failed.items()}

    async def delete_if_match(self, key: str, etag: str) -> None:
        await self.inner.delete_if_match(self.prefix + key, etag)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _relative(self, info: ObjectInfo) -> ObjectInfo:
        # Of a listing there are thousands: `replace` would cost as much as all else about them.
        key = info.key.removeprefix(self.prefix)
        return ObjectInfo(key, info.size_bytes, info.etag, info.mtime_ns)


def with_layers(
    raw: Store, *, env: Env, prefix: str = "", deadline_s: float = DEADLINE_S
) -> tuple[Store, Meter]:
    """Return `raw` with all layers around it, showing the keys below `prefix`, and its meter."""
    meter = Meter()
    limited = Limited(Metered(raw, env, meter), raw.traits.parallel)
    store: Store = Deadlined(Retrying(limited, deadline_s, env, meter), deadline_s)
    return (Prefixed(store, prefix) if prefix else store), meter
