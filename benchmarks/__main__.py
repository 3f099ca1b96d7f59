"""Run the benchmarks that were asked for and print their figures as they come."""

import argparse
import json
import sys
import traceback
from pathlib import Path

# Imported for what they register.
import benchmarks.big
import benchmarks.clients
import benchmarks.listing
import benchmarks.native
import benchmarks.reading
import benchmarks.writing  # noqa: F401
from benchmarks.figures import Outcome, as_json, rows, summary
from benchmarks.lab import Lab, open_lab
from benchmarks.machine import NotMeasurable
from benchmarks.registry import BENCHMARKS, Benchmark


def main() -> int:
    """Return 0 when all was measured, met or not; 1 when something could not be."""
    asked = _parse_arguments()
    outcomes = []
    with open_lab(_say) as lab:
        for chosen in _chosen(asked.only):
            print(f"\n{chosen.name}: {chosen.title}", flush=True)
            outcomes.append(_measured(chosen, lab))
            print("\n".join(rows(outcomes[-1])), flush=True)
    print(f"\n{summary(outcomes)}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(as_json(outcomes), indent=2) + "\n")
    return int(any(outcome.problem is not None for outcome in outcomes))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        metavar="NAME[,NAME...]",
        type=lambda text: text.split(","),
        default=list(BENCHMARKS),
        help="one or more of " + ", ".join(BENCHMARKS),
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results to FILE, too")
    return parser.parse_args()


def _chosen(names: list[str]) -> list[Benchmark]:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(unknown)}\nthere are: {', '.join(BENCHMARKS)}")
    return [BENCHMARKS[name] for name in names]


def _measured(chosen: Benchmark, lab: Lab) -> Outcome:
    """Run one benchmark. That one fails is no reason not to run the others."""
    try:
        return Outcome(chosen.name, tuple(chosen.measure(lab)))
    except NotMeasurable as error:
        return Outcome(chosen.name, (), str(error))
    except Exception as error:
        traceback.print_exc()
        return Outcome(chosen.name, (), f"{type(error).__name__}: {error}")


def _say(what: str) -> None:
    print(f"  ({what})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
