"""What the kernel keeps of a version never meets another one."""

import pytest

from blobfs.errors import Changed
from blobfs.types import InodeNo, NodeNo
from blobfs.vfs.node_ids import FIRST_FRESH_NODE, NodeIds

FILE = InodeNo(7)
COPY = InodeNo(100)
OWN = NodeNo(7)


class Kernel:
    """A kernel that knows some nodes."""

    def __init__(self, *known: NodeNo) -> None:
        self.known = set(known)
        self.ids = NodeIds(self.known)

    def look_up(self, inode: InodeNo) -> NodeNo:
        node = self.ids.node(inode)
        self.known.add(node)
        return node

    def forget(self, node: NodeNo) -> InodeNo | None:
        self.known.discard(node)
        return self.ids.forgotten(node)


def test_a_node_has_the_number_of_its_inode() -> None:
    """Every file would take memory here, for as long as the kernel knows it."""
    kernel = Kernel(OWN)
    assert kernel.ids.node(FILE) == OWN
    assert kernel.ids.inode(OWN) == FILE
    assert len(kernel.ids) == 0


def test_a_replaced_file_gets_a_fresh_node_and_its_old_one_stands_for_nothing() -> None:
    """The new content would be cut to the old size, and shown with old pages between (S3)."""
    kernel = Kernel(OWN)
    kernel.ids.follow({}, [FILE])
    with pytest.raises(Changed):
        kernel.ids.inode(OWN)
    fresh = kernel.look_up(FILE)
    assert fresh >= FIRST_FRESH_NODE
    assert kernel.ids.inode(fresh) == FILE
    assert kernel.ids.node(FILE) == fresh


def test_a_node_goes_on_with_the_version_that_is_open() -> None:
    """A program in the middle of a file would read on in another one (C2)."""
    kernel = Kernel(OWN)
    kernel.ids.follow({FILE: COPY}, [FILE])
    assert kernel.ids.inode(OWN) == COPY
    assert kernel.ids.node(COPY) == OWN
    assert kernel.look_up(FILE) >= FIRST_FRESH_NODE


def test_a_file_that_is_replaced_again_gets_another_fresh_node() -> None:
    """The second replacement would show pages of the first."""
    kernel = Kernel(OWN)
    kernel.ids.follow({FILE: COPY}, [FILE])
    first = kernel.look_up(FILE)
    kernel.ids.follow({FILE: InodeNo(101)}, [FILE])
    second = kernel.look_up(FILE)
    assert len({OWN, first, second}) == 3
    assert [kernel.ids.inode(node) for node in (OWN, first, second)] == [COPY, 101, FILE]


def test_what_the_kernel_does_not_know_is_not_remembered() -> None:
    """A million files that others replace would each take memory."""
    kernel = Kernel()
    kernel.ids.follow({FILE: COPY}, [FILE, InodeNo(8)])
    assert len(kernel.ids) == 0
    assert kernel.ids.node(FILE) == OWN


@pytest.mark.parametrize("first", [0, 1])
def test_all_is_as_before_once_the_kernel_forgot_both_nodes(first: int) -> None:
    """Numbers would change for ever, and the table would grow with each replacement."""
    kernel = Kernel(OWN)
    kernel.ids.follow({FILE: COPY}, [FILE])
    nodes = [OWN, kernel.look_up(FILE)]
    assert kernel.forget(nodes.pop(first)) == (FILE if first else COPY)
    assert kernel.look_up(FILE) != OWN
    for node in sorted(kernel.known, reverse=True):
        kernel.forget(node)
    assert len(kernel.ids) == 0
    assert kernel.ids.node(FILE) == OWN


def test_a_fresh_node_that_was_never_told_goes_with_the_old_one() -> None:
    """A listing that had no room for its last entry would leave a number behind."""
    kernel = Kernel(OWN)
    kernel.ids.follow({}, [FILE])
    kernel.ids.node(FILE)
    assert kernel.forget(OWN) is None
    assert len(kernel.ids) == 0


def test_a_directory_that_was_made_twice_keeps_its_node() -> None:
    """Whoever stands in it would be in a directory that is gone."""
    kernel = Kernel(OWN)
    kernel.ids.follow({FILE: COPY}, [])
    assert kernel.ids.inode(OWN) == COPY
    assert kernel.ids.node(COPY) == OWN
    assert kernel.ids.known_node(COPY) == OWN
    assert kernel.ids.known_node(FILE) is None


def test_numbers_that_follow_each_other_do_so_at_once() -> None:
    """A file that takes the number of another would take its pages, too."""
    other = NodeNo(8)
    kernel = Kernel(OWN, other)
    kernel.ids.follow({FILE: InodeNo(8), InodeNo(8): COPY}, [])
    assert kernel.ids.inode(OWN) == 8
    assert kernel.ids.inode(other) == COPY
    assert kernel.ids.node(InodeNo(8)) == OWN
