"""Visit every state that a small world can come to, the near ones first.

A world is a value; what can happen to it next is a function. States that were seen are not visited
again, so the search ends when there is nothing new, and the first broken state that it meets has a
shortest way from the beginning, which can be told.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar


class Move(NamedTuple):
    """One step of a way: who does what, and what comes of it."""

    who: str
    what: str
    answer: str = ""
    about: str = ""
    """Which slot, which operation: what makes no other kind of move of it."""

    def __str__(self) -> str:
        told = ": ".join(filter(None, (self.about, self.answer)))
        return f"{self.who:<6} {self.what:<26} {told}".rstrip()


class Breakable(Protocol):
    """A state that says what is wrong with it; empty: nothing."""

    @property
    def broken(self) -> str: ...


S = TypeVar("S", bound=Breakable)
Next = Callable[[S], Iterable[tuple[Move, S]]]


@dataclass(frozen=True, slots=True)
class Broken:
    """What was found to be wrong, and a shortest way to it."""

    what: str
    way: tuple[Move, ...]

    def __str__(self) -> str:
        steps = (f"{number:>3}  {move}" for number, move in enumerate(self.way, 1))
        return "\n".join((f"after {len(self.way)} steps: {self.what}", *steps))


@dataclass(frozen=True, slots=True)
class Report:
    """What a search went through."""

    states: int
    moves: int
    depth: int
    """Steps to the state that is furthest from the beginning."""
    taken: Counter[tuple[str, str]]
    """How often each kind of move was tried, by what is done and what comes of it."""
    broken: Broken | None

    @property
    def is_sound(self) -> bool:
        return self.broken is None


class TooLarge(Exception):
    """There are more states than were allowed: a bound of the world is too wide."""


class Search(Generic[S]):
    """A search in breadth, from `begin`, among at most `most_states`."""

    def __init__(self, begin: S, following: Next[S], *, most_states: int = 1_000_000) -> None:
        self._following = following
        self._most_states = most_states
        self._numbers: dict[S, int] = {begin: 0}
        self._came: list[tuple[int, Move] | None] = [None]
        self._taken: Counter[tuple[str, str]] = Counter()

    def run(self) -> Report:
        """Visit all states, or those up to the first that is broken.

        Raises:
            TooLarge: there are more than `most_states`.
        """
        depth, level = 0, list(self._numbers)
        while level:
            following: list[S] = []
            for state in level:
                for found in self._new_after(state):
                    if found.broken:
                        return self._report(depth + 1, found)
                    following.append(found)
            level = following
            depth += bool(level)
        return self._report(depth, None)

    def way_to(self, state: S) -> tuple[Move, ...]:
        """Return a shortest way to a state that was visited."""
        way = []
        came = self._came[self._numbers[state]]
        while came is not None:
            way.append(came[1])
            came = self._came[came[0]]
        return tuple(reversed(way))

    def _new_after(self, state: S) -> Iterator[S]:
        number = self._numbers[state]
        for move, found in self._following(state):
            self._taken[move.what, move.answer] += 1
            if found in self._numbers:
                continue
            if len(self._numbers) == self._most_states:
                raise TooLarge(f"more than {self._most_states} states")
            self._numbers[found] = len(self._came)
            self._came.append((number, move))
            yield found

    def _report(self, depth: int, state: S | None) -> Report:
        broken = None if state is None else Broken(state.broken, self.way_to(state))
        moves = self._taken.total()
        return Report(len(self._numbers), moves, depth, self._taken, broken)
