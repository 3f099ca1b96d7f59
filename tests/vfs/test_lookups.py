"""What the kernel holds is kept, and nothing else."""

from blobfs.types import NodeNo
from blobfs.vfs.lookups import ROOT_NODE, Lookups

FILE = NodeNo(7)


def test_a_node_is_held_as_often_as_it_was_counted() -> None:
    """Forgotten too early, a removed file would vanish under its reader."""
    lookups = Lookups()
    for _ in range(3):
        lookups.count(FILE, None)
    assert not lookups.forget(FILE, 2)
    assert FILE in lookups
    assert lookups.forget(FILE, 1)
    assert FILE not in lookups


def test_forgetting_what_is_not_held_is_no_last_time() -> None:
    """Else it would be dropped twice."""
    assert not Lookups().forget(FILE, 1)


def test_the_root_is_always_held() -> None:
    """No kernel ever looks it up."""
    lookups = Lookups()
    assert ROOT_NODE in lookups
    assert not lookups.forget(ROOT_NODE, 1)
    assert ROOT_NODE in lookups
