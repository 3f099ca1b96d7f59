"""Decide who goes first when clients race for the slots of a log (L7). Pure.

A client that is slow, or far away, could lose every race. So after five slots in a row it asks
for its turn, and the others hold back for a while.
"""

from collections.abc import Iterable

from blobfs.formats.client import ClientRecord
from blobfs.types import ClientId

LOST_BEFORE_ASKING = 5
"""Slots lost in a row."""

HELD_BACK_NS = 10 * 10**9
"""For how long others hold back, at the most: who asked may have died since."""


def asks_for_turn(lost_in_a_row: int) -> bool:
    """Return whether a client that lost so many slots asks the others to hold back."""
    return lost_in_a_row > 0 and lost_in_a_row % LOST_BEFORE_ASKING == 0


def holds_back_ns(records: Iterable[ClientRecord], me: ClientId, now_ns: int) -> int:
    """Return how long `me` lets others go first, by what they announced.

    A clock that is wrong cannot make it longer than `HELD_BACK_NS`. Of two that ask, the one
    whose turn ends sooner asked first, and does not wait for the other.
    """
    asking = {each.id: each.waiting_until_ns for each in records if each.waiting_until_ns > now_ns}
    mine = asking.pop(me, None)
    before = [until for until in asking.values() if mine is None or until < mine]
    return min(max(before, default=now_ns) - now_ns, HELD_BACK_NS)
