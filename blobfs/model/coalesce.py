"""Join neighbouring blocks into runs that one request can bring. Pure: values in, values out."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block lies on disk: `length` bytes at `offset` of a segment file."""

    segment: int
    offset: int
    length: int
    checksum: int
    """XXH3-64 of the bytes."""

    @property
    def stop(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Run:
    """Blocks `first` up to, not including, `stop`, all from one source.

    `places` names them one by one where they are on disk, without a gap between them; it is
    empty where they have to come from the store.
    """

    first: int
    stop: int
    places: tuple[Place, ...]


def join(blocks: Iterable[tuple[int, Place | None]], at_most: int) -> list[Run]:
    """Return the runs of `blocks` (ascending numbers), of `at_most` blocks each."""
    runs: list[Run] = []
    group: list[tuple[int, Place | None]] = []
    for block in blocks:
        if group and (len(group) == at_most or not _adjoin(group[-1], block)):
            runs.append(_run(group))
            group = []
        group.append(block)
    if group:
        runs.append(_run(group))
    return runs


def _adjoin(before: tuple[int, Place | None], after: tuple[int, Place | None]) -> bool:
    number, place = before
    next_number, next_place = after
    if number + 1 != next_number:
        return False
    if place is None or next_place is None:
        return place is next_place
    return place.segment == next_place.segment and place.stop == next_place.offset


def _run(group: list[tuple[int, Place | None]]) -> Run:
    places = tuple(place for _, place in group if place is not None)
    return Run(group[0][0], group[-1][0] + 1, places)
