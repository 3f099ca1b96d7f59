"""Check that the table of `make bench` says what was measured."""

import json

import pytest

from benchmarks.figures import (
    Figure,
    Outcome,
    Target,
    as_json,
    at_least,
    at_most,
    median_of,
    rows,
    summary,
)


@pytest.mark.parametrize(
    ("target", "measured", "is_met"),
    [
        (at_least(70), 70, True),
        (at_least(70), 69.9, False),
        (at_most(0.3), 0.3, True),
        (at_most(0.3), 0.301, False),
        (None, 1, None),
    ],
)
def test_a_target_is_met_up_to_its_bound(
    target: Target | None, measured: float, is_met: bool | None
) -> None:
    """A missed promise would be printed as kept."""
    assert Figure("share", measured, "%", target).is_met is is_met


@pytest.mark.parametrize(("samples", "middle"), [([3.0, 1.0, 2.0], 2.0), ([2.0, 1.0], 1.0)])
def test_the_median_is_a_sample(samples: list[float], middle: float) -> None:
    """One slow run would decide what is printed."""
    assert median_of(samples) == middle


def test_rows_fit_into_100_columns_and_name_the_verdict() -> None:
    """The table would wrap, and a missed target would be overlooked."""
    figures = (
        Figure("x" * 62, 12345.678, "MiB/s", at_least(99999)),
        Figure("requests of a find after it", 0, "", at_most(0)),
    )
    missed, met = rows(Outcome("walk", figures))
    assert len(missed) <= 100
    assert missed.endswith("MISSED")
    assert met.endswith("met")


def test_what_was_not_measured_is_said() -> None:
    """A benchmark that could not run would look like one that has nothing to say."""
    outcomes = [
        Outcome("reread", (), "dropping the page cache needs root"),
        Outcome("walk", (Figure("ls", 1.0, "s", at_most(0.3)), Figure("find", 0, "", at_most(0)))),
    ]
    assert "needs root" in rows(outcomes[0])[0]
    assert summary(outcomes) == "1 met, 1 missed, 1 benchmarks not measured"


def test_json_holds_value_target_and_samples() -> None:
    """A program that follows the figures over time would have nothing to follow."""
    figure = Figure("ls", 0.2, "s", at_most(0.3), (0.1, 0.2, 0.4))
    document = json.loads(json.dumps(as_json([Outcome("walk", (figure,))])))
    assert document["schema"] == 1
    (written,) = document["benchmarks"][0]["figures"]
    assert written["value"] == 0.2
    assert written["target"] == {"bound": "at most", "value": 0.3}
    assert written["met"] is True
    assert written["samples"] == [0.1, 0.2, 0.4]
