"""Nobody loses every race for a slot, and nobody waits for somebody who is gone."""

import pytest

from blobfs.formats.client import ClientRecord
from blobfs.model.turns import HELD_BACK_NS, asks_for_turn, holds_back_ns
from blobfs.types import ClientId

ME, A, B = (ClientId(letter * 16) for letter in (b"m", b"a", b"b"))
NOW = 10**18
S = 10**9


def asking(client: ClientId, until_ns: int) -> ClientRecord:
    return ClientRecord(id=client, host="h", waiting_until_ns=until_ns)


def test_a_client_asks_after_five_losses() -> None:
    """Asking after each would be a request for each; never asking, a push that never ends (L7)."""
    assert [lost for lost in range(12) if asks_for_turn(lost)] == [5, 10]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], 0),
        ([asking(A, 0)], 0),
        ([asking(A, NOW)], 0),
        ([asking(A, NOW + 4 * S)], 4 * S),
        ([asking(A, NOW + 4 * S), asking(B, NOW + 7 * S)], 7 * S),
        ([asking(A, NOW + 999 * S)], HELD_BACK_NS),
        ([asking(ME, NOW + 4 * S)], 0),
        ([asking(ME, NOW + 4 * S), asking(A, NOW + 7 * S)], 0),
        ([asking(ME, NOW + 7 * S), asking(A, NOW + 4 * S)], 4 * S),
    ],
)
def test_others_hold_back(records: list[ClientRecord], expected: int) -> None:
    """The one who asked gets its turn, and a clock that is wrong stops nobody for long (L7)."""
    assert holds_back_ns(records, ME, NOW) == expected
