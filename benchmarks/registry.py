"""Collect the benchmarks, so that a new one is one function under a decorator."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.figures import Figure
from benchmarks.lab import Lab

Measure = Callable[[Lab], list[Figure]]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A named measurement; its first line of documentation says what it measures."""

    name: str
    measure: Measure

    @property
    def title(self) -> str:
        return (self.measure.__doc__ or "").partition("\n")[0].rstrip(".")


BENCHMARKS: dict[str, Benchmark] = {}
"""By name, in the order in which they are defined and run."""


def benchmark(name: str) -> Callable[[Measure], Measure]:
    """Register the function below under `name`."""

    def register(measure: Measure) -> Measure:
        BENCHMARKS[name] = Benchmark(name, measure)
        return measure

    return register
