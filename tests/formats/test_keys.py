"""Keys are spelled one way, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobfs.formats import keys
from blobfs.types import ClientId, PackName, Seq

NAME = PackName(bytes(range(40)))
SPELLED = bytes(range(40)).hex()


def test_slots_sort_like_their_numbers() -> None:
    """Users would see a listing of the log in a wrong order."""
    seqs = [Seq(9), Seq(10), Seq(keys.MOST_SEQ)]
    assert sorted(map(keys.log_key, seqs)) == [keys.log_key(seq) for seq in seqs]


def test_keys_are_below_what_is_reserved() -> None:
    """Users would find our objects among their files."""
    made = [
        keys.volume_key(),
        keys.head_key(),
        keys.log_key(Seq(1)),
        keys.pack_key(NAME),
        keys.client_key(ClientId(bytes(16))),
        keys.checkpoint_key(keys.checkpoint_name(Seq(1), bytes(32))),
    ]
    assert all(key.startswith(keys.RESERVED) for key in made)
    assert len(set(made)) == len(made)


@given(st.integers(1, keys.MOST_SEQ))
def test_slots_are_read_back(seq: int) -> None:
    """Users would have commits that nobody finds."""
    assert keys.parse_log_key(keys.log_key(Seq(seq))) == seq


def test_packs_clients_and_checkpoints_are_read_back() -> None:
    """Users would have content that garbage collection does not know."""
    client = ClientId(bytes(range(16)))
    assert keys.parse_pack_key(keys.pack_key(NAME)) == NAME
    assert keys.parse_client_key(keys.client_key(client)) == client
    assert keys.parse_checkpoint_name(keys.checkpoint_name(Seq(7), bytes(32))) == 7


@pytest.mark.parametrize(
    "key",
    [
        ".blobfs/log/1",
        ".blobfs/log/00000000000000000000",
        ".blobfs/log/99999999999999999999",
        ".blobfs/log/0000000000000000000x",
        ".blobfs/log/00000000000000000001\n",
        ".blobfs/log/\u0661" + "0" * 19,
        "x.blobfs/log/00000000000000000001",
    ],
)
def test_other_keys_are_no_slots(key: str) -> None:
    """Users would see a foreign object taken for a commit."""
    assert keys.parse_log_key(key) is None


@pytest.mark.parametrize(
    "key",
    [
        f".blobfs/packs/00/{SPELLED[:-1]}",
        f".blobfs/packs/01/{SPELLED}",
        f".blobfs/packs/00/{SPELLED.upper()}",
        f".blobfs/packs/{SPELLED}",
    ],
)
def test_other_keys_are_no_packs(key: str) -> None:
    """Users would see a foreign object counted, or collected, as a pack."""
    assert keys.parse_pack_key(key) is None
