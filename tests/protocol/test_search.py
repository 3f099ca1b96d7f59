"""The search finds what is broken, by the shortest way, and says when it has seen everything."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.protocol.search import Broken, Move, Search, TooLarge


class Walk(NamedTuple):
    """Somebody who walks on a line, and may fall off it."""

    at: int
    broken: str = ""


def walk(state: Walk) -> Iterator[tuple[Move, Walk]]:
    yield Move("A", "goes", "right"), Walk((state.at + 1) % 6)
    yield Move("A", "goes", "left"), Walk((state.at - 1) % 6)


def walk_to_an_edge(state: Walk) -> Iterator[tuple[Move, Walk]]:
    for move, after in walk(state):
        yield move, after._replace(broken="fell" if after.at == 4 else "")


def test_every_state_is_visited_once() -> None:
    """A search that stops early, or never, says nothing of what it did not see."""
    report = Search(Walk(0), walk).run()
    assert report.is_sound
    assert (report.states, report.moves, report.depth) == (6, 12, 3)
    assert report.taken == {("goes", "right"): 6, ("goes", "left"): 6}


def test_the_shortest_way_is_told() -> None:
    """Among a hundred thousand steps nobody finds the two that matter."""
    report = Search(Walk(0), walk_to_an_edge).run()
    left = Move("A", "goes", "left")
    assert report.broken == Broken("fell", (left, left))
    assert str(report.broken).splitlines()[0] == "after 2 steps: fell"


def test_a_world_that_is_too_large_is_no_success() -> None:
    """Somebody who widens a bound would get a test that has no end, or one that means nothing."""
    with pytest.raises(TooLarge):
        Search(Walk(0), walk, most_states=4).run()
