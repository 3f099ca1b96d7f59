"""Make chosen calls of a store go wrong, so that what must survive it can be shown to.

    store = FaultyStore(MemoryStore())
    store.fail("get", Unreachable("gone"), nth=2)       # the second get from now on
    store.lose_reply("put", OutcomeUnknown("lost"))     # it happens, and nobody hears of it
    store.throttle("list", retry_after_s=2, times=3)    # three times in a row
    store.shorten("get"), store.flip_bit("get")         # a short, a corrupted body
    store.slow("any", 0.5), store.hang("head")
    store.repeat_late(behind=1)                         # a put arrives again after the next call
    assert store.calls["get"] == 2

A rule counts the calls of its kind from the moment when it was made, and fires on the
`nth` of them (1 is the next) and on those that follow, `times` in all; None is for ever.
With `key`, only calls for that key count. Of several rules that fire on one call, the one
made first stands next to the caller. Rules that do not fire change nothing.

Concurrency: calls are counted when they start, in the order in which tasks make them.
"""

import copy
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypedDict, TypeVar, Unpack

import trio

from blobfs.errors import BlobfsError, Throttled
from blobfs.stores.base import Fetched, Store
from blobfs.stores.layers import Ask, Layer

KindOrAny = Literal["get", "head", "list", "put", "delete", "any"]

T = TypeVar("T")
Call = Callable[[], Awaitable[Any]]
Effect = Callable[[Call], Awaitable[Any]]
"""What a rule does: it is given the call, and answers in its place."""


class When(TypedDict, total=False):
    """Which calls a rule fires on; see the head of this module."""

    nth: int
    times: int | None
    key: str | None


@dataclass(slots=True)
class _Rule:
    kind: KindOrAny
    effect: Effect
    nth: int = 1
    times: int | None = 1
    key: str | None = None
    seen: int = 0

    def fires(self, ask: Ask) -> bool:
        """Count a call if it is one of ours, and say whether to act on it."""
        is_other_kind = self.kind not in ("any", ask.kind)
        if is_other_kind or (self.key is not None and self.key not in ask.keys):
            return False
        self.seen += 1
        last = None if self.times is None else self.nth + self.times - 1
        return self.nth <= self.seen and (last is None or self.seen <= last)


@dataclass(slots=True)
class _LatePut:
    """A put that is under way a second time, and arrives when `calls` more have ended."""

    calls: int
    put: Call


class FaultyStore(Layer):
    """`inner`, with rules for what goes wrong. `calls` counts what was asked, by kind."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self._rules: list[_Rule] = []
        self._late: list[_LatePut] = []

    # -- rules -----------------------------------------------------------------------

    def fail(self, kind: KindOrAny, error: BlobfsError, **when: Unpack[When]) -> None:
        """The call does not happen, and the caller gets `error`."""
        self._rules.append(_Rule(kind, partial(_fail, error), **when))

    def lose_reply(self, kind: KindOrAny, error: BlobfsError, **when: Unpack[When]) -> None:
        """The call happens, and the caller gets `error` whatever came of it."""
        self._rules.append(_Rule(kind, partial(_lose_reply, error), **when))

    def throttle(
        self, kind: KindOrAny, *, retry_after_s: float | None = None, **when: Unpack[When]
    ) -> None:
        """The call is refused with a request to pause (429, `Retry-After`)."""
        error = Throttled("asked to slow down, by a rule", retry_after_s=retry_after_s)
        self.fail(kind, error, **when)

    def shorten(
        self, kind: Literal["get"] = "get", *, by_bytes: int = 1, **when: Unpack[When]
    ) -> None:
        """The last `by_bytes` of the body are missing; the description is as it was."""
        effect = partial(_change_body, lambda data: data[: max(0, len(data) - by_bytes)])
        self._rules.append(_Rule(kind, effect, **when))

    def flip_bit(self, kind: Literal["get"] = "get", *, bit: int = 0, **when: Unpack[When]) -> None:
        """Bit `bit` of the body is the other one; a body too short for it is as it was."""
        self._rules.append(_Rule(kind, partial(_change_body, partial(_flip, bit)), **when))

    def slow(self, kind: KindOrAny, delay_s: float, **when: Unpack[When]) -> None:
        """The call happens `delay_s` later, by trio's clock."""
        self._rules.append(_Rule(kind, partial(_delay, delay_s), **when))

    def hang(self, kind: KindOrAny, **when: Unpack[When]) -> None:
        """The call does not happen, and no answer ever comes."""
        self._rules.append(_Rule(kind, _hang, **when))

    def repeat_late(self, *, behind: int = 1, **when: Unpack[When]) -> None:
        """The put happens, and once more after `behind` more calls; nobody hears of that."""
        self._rules.append(_Rule("put", partial(self._put_twice, behind), **when))

    def heal(self) -> None:
        """Let all calls from now on go through: the rules made so far are dropped."""
        self._rules.clear()

    # -- the store -------------------------------------------------------------------

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        # A copy, because a late duplicate is sent when the caller may use its buffer again.
        return await super().put(key, bytes(data), if_absent=if_absent, if_match=if_match)

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[ask.kind] += 1
        late = tuple(self._late)
        answer: Callable[[], Awaitable[T]] = call
        firing = [rule for rule in self._rules if rule.fires(ask)]
        for rule in reversed(firing):
            answer = partial(rule.effect, answer)
        try:
            return await answer()
        finally:
            await self._deliver(late)

    async def _put_twice(self, behind: int, call: Call) -> Any:
        etag = await call()
        self._late.append(_LatePut(behind, call))
        return etag

    async def _deliver(self, waiting: tuple[_LatePut, ...]) -> None:
        """Count a call that ended for the puts that wait, and let those arrive that are due."""
        for late in waiting:
            late.calls -= 1
            if late.calls == 0:
                self._late.remove(late)
                await _lose_outcome(late.put)


async def _fail(error: BlobfsError, call: Call) -> Any:
    await trio.lowlevel.checkpoint()
    raise copy.copy(error)


async def _lose_reply(error: BlobfsError, call: Call) -> Any:
    await _lose_outcome(call)
    raise copy.copy(error)


async def _lose_outcome(call: Call) -> None:
    try:
        await call()
    except BlobfsError:
        return  # an error that nobody is there to hear


async def _change_body(change: Callable[[bytes], bytes], call: Call) -> Any:
    fetched: Fetched = await call()
    return replace(fetched, data=memoryview(change(bytes(fetched.data))))


def _flip(bit: int, data: bytes) -> bytes:
    changed = bytearray(data)
    if bit // 8 < len(changed):
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


async def _delay(delay_s: float, call: Call) -> Any:
    await trio.sleep(delay_s)
    return await call()


async def _hang(call: Call) -> Any:
    await trio.sleep_forever()
