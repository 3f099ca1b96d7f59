"""Count what a store is asked for, and how long it takes to answer.

Concurrency: counters change between two awaits only, so any task may take a snapshot.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["get", "head", "list", "put", "delete"]
KINDS: tuple[Kind, ...] = ("get", "head", "list", "put", "delete")

BUCKET_BOUNDS_S: tuple[float, ...] = tuple(0.001 * 2**step for step in range(16))
"""Upper bounds of the latency buckets: 1 ms, 2 ms, 4 ms ... 33 s; one more lies behind."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store was asked for since it was opened. Durations run until the answer is whole.

    `latency_counts[kind][i]` are requests that took at most `BUCKET_BOUNDS_S[i]`, and more
    than the bound before; the last count is of those that took longer than all bounds.
    """

    requests: dict[Kind, int]
    errors: int
    retries: int
    bytes_received: int
    bytes_sent: int
    latency_counts: dict[Kind, tuple[int, ...]]

    def latency_s(self, kind: Kind, quantile: float) -> float | None:
        """Return a bound that this share of the requests stayed below; None without requests."""
        counts = self.latency_counts[kind]
        wanted = quantile * sum(counts)
        seen = 0
        for count, bound_s in zip(counts, BUCKET_BOUNDS_S, strict=False):
            seen += count
            if seen and seen >= wanted:
                return bound_s
        return BUCKET_BOUNDS_S[-1] if sum(counts) else None


@dataclass(slots=True)
class Meter:
    """The counters. A request that is tried again counts each time."""

    errors: int = 0
    retries: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    _requests: Counter[Kind] = field(default_factory=Counter)
    _latency_counts: dict[Kind, list[int]] = field(
        default_factory=lambda: {kind: [0] * (len(BUCKET_BOUNDS_S) + 1) for kind in KINDS}
    )

    def start(self, kind: Kind) -> None:
        """Count a request that goes out."""
        self._requests[kind] += 1

    def finish(self, kind: Kind, duration_s: float) -> None:
        """Count how long an answer took, good or bad."""
        self._latency_counts[kind][bucket_of(duration_s)] += 1

    def snapshot(self) -> Usage:
        """Return the counters as they are now."""
        return Usage(
            requests={kind: self._requests[kind] for kind in KINDS},
            errors=self.errors,
            retries=self.retries,
            bytes_received=self.bytes_received,
            bytes_sent=self.bytes_sent,
            latency_counts={kind: tuple(found) for kind, found in self._latency_counts.items()},
        )


def bucket_of(duration_s: float) -> int:
    """Return the number of the latency bucket that `duration_s` belongs to."""
    return next(
        (number for number, bound_s in enumerate(BUCKET_BOUNDS_S) if duration_s <= bound_s),
        len(BUCKET_BOUNDS_S),
    )
