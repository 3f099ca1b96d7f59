"""A store as some are: it takes conditions, and does not care about them."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from blobfs.stores.layers import Ask, Layer

T = TypeVar("T")


class Careless(Layer):
    """`inner`, where every put overwrites whatever lies there."""

    async def _through(self, ask: Ask, call: Callable[[], Awaitable[T]]) -> T:
        return await call()

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        return await self.inner.put(key, data)
