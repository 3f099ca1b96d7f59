"""Hold what was measured beside what was promised, and print it.

A `Figure` without a target is context: what another figure was compared with.
"""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

JSON_SCHEMA = 1
_TITLE_WIDTH = 62


@dataclass(frozen=True, slots=True)
class Target:
    """The promise: `value` is the least or the most that the figure may be."""

    bound: Literal["at least", "at most"]
    value: float

    def is_met_by(self, measured: float) -> bool:
        return measured >= self.value if self.bound == "at least" else measured <= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; `samples` are the single runs that it is the median of."""

    title: str
    value: float
    unit: str
    target: Target | None = None
    samples: tuple[float, ...] = ()

    @property
    def is_met(self) -> bool | None:
        """None: there is no target."""
        return None if self.target is None else self.target.is_met_by(self.value)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one benchmark came to: figures, or the reason why there are none."""

    benchmark: str
    figures: tuple[Figure, ...]
    problem: str | None = None


def at_least(value: float) -> Target:
    return Target("at least", value)


def at_most(value: float) -> Target:
    return Target("at most", value)


def median_of(samples: Sequence[float]) -> float:
    """Return the middle sample; of two in the middle the lower."""
    return sorted(samples)[(len(samples) - 1) // 2]


def timed_figure(
    title: str, samples: Sequence[float], target: Target | None = None, unit: str = "s"
) -> Figure:
    """Make a figure of several runs: their median."""
    return Figure(title, median_of(samples), unit, target, tuple(samples))


def rows(outcome: Outcome) -> list[str]:
    """Return the lines of the table for one benchmark, at most 100 columns wide."""
    lines = [_row(figure) for figure in outcome.figures]
    if outcome.problem is not None:
        lines.append(f"  {outcome.benchmark}: not measured: {outcome.problem}"[:100])
    return lines


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return one line that counts what was met, missed and not measured."""
    verdicts = [figure.is_met for outcome in outcomes for figure in outcome.figures]
    problems = sum(outcome.problem is not None for outcome in outcomes)
    return (
        f"{verdicts.count(True)} met, {verdicts.count(False)} missed, "
        f"{problems} benchmarks not measured"
    )


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return all of it for `--json`, with the machine that it was measured on."""
    return {
        "schema": JSON_SCHEMA,
        "machine": {
            "processors": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "benchmarks": [
            {
                "name": outcome.benchmark,
                "problem": outcome.problem,
                "figures": [_figure_json(figure) for figure in outcome.figures],
            }
            for outcome in outcomes
        ],
    }


def _figure_json(figure: Figure) -> dict[str, Any]:
    target = figure.target
    return {
        "title": figure.title,
        "value": figure.value,
        "unit": figure.unit,
        "target": None if target is None else {"bound": target.bound, "value": target.value},
        "met": figure.is_met,
        "samples": list(figure.samples),
    }


def _row(figure: Figure) -> str:
    measured = f"{_number(figure.value)} {figure.unit}"
    if figure.target is None:
        return f"  {figure.title:<{_TITLE_WIDTH}} {measured:>12}"
    sign = "≥" if figure.target.bound == "at least" else "≤"
    promised = f"{sign} {_number(figure.target.value)}"
    word = "met" if figure.is_met else "MISSED"
    return f"  {figure.title:<{_TITLE_WIDTH}} {measured:>12} {promised:>9}  {word}"


def _number(value: float) -> str:
    """Print about three digits that count."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
